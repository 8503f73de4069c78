"""Many small apps on one Wharf: what a change costs at 10, 100 and 1,000 of them, and what they take."""

import argparse
import fcntl
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import machine
import wharf
from density_page import PAGE, page
from memory import available_kib, pss_kib, wait_for
from probe import ask
from wharf import Wharf

APPLETS = ("sh", "sleep", "httpd", "cat", "echo", "mkdir", "cp", "rm", "ls", "true", "id", "adduser", "addgroup")
PROCFILE = """\
web: exec httpd -f -p $PORT -h /app
idle: exec sleep 1000000
"""
# So many pushes of new apps, or changes of counts, are under way at once.
AT_ONCE = 4
# Short, for sockets. The same for every run, so that what a killed one left is found.
PLACE = Path("/var/tmp/wharf-bd")
NAME, RANGE = "wharf-density", "10.216.0.0/16"
TICK = os.sysconf("SC_CLK_TCK")


class Small(Wharf):
    """On a base of busybox alone, spoken to without a command line in between."""

    def __init__(self, place: Path, port: int, api_port: int, own: tuple[str, str]):
        super().__init__(place / "data", place / "run", port, api_port)
        name, span = own
        words = ["--cgroup", name, "--outbound-range", span, "--base", str(place / "base")]
        self.settings = [*self.settings[:4], *words[:4]]
        self.base = words[4:]
        self.tokens: dict[str, str] = {}

    def begin(self) -> float:
        """Starts the daemon; the seconds until it answers."""
        self.data.mkdir(parents=True, exist_ok=True)
        self.run.mkdir(parents=True, exist_ok=True)
        words = [
            *(wharf.BINARY, "daemon", *self.settings, *self.base, "--listen", f"127.0.0.1:{self.port}"),
            *("--api-listen", f"127.0.0.1:{self.api_port}"),
        ]
        began = time.monotonic()
        with (self.data / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_for("the daemon", self._is_up, limit=300, every=0.005)
        return time.monotonic() - began

    def _is_up(self) -> bool:
        if (code := self.daemon.poll()) is not None:
            raise RuntimeError(f"the daemon ended with {code}: {(self.data / 'daemon.log').read_text()[-2000:]}")
        try:
            return self.ask("GET", "/apps?limit=1")[0] in (200, 206)
        except OSError:
            return False

    def ask(self, method: str, path: str, body: dict | None = None) -> tuple[int, object]:
        token = (self.data / "token").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", self.api_port, timeout=120)
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/vnd.heroku+json; version=3",
            "Content-Type": "application/json",
        }
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if text else None

    def demand(self, method: str, path: str, body: dict | None = None) -> object:
        status, answer = self.ask(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer

    def scale(self, app: str, kind: str, count: int) -> None:
        """Returns when so many run."""
        body = {"updates": [{"type": kind, "quantity": count}]}
        self.demand("PATCH", f"/apps/{app}/formation", body)
        wait_for(f"{count} {kind} of {app}", lambda: self.count_up(app, kind) == count, limit=120, every=0.05)

    def count_up(self, app: str, kind: str) -> int:
        dynos = self.demand("GET", f"/apps/{app}/dynos")
        return sum(one["type"] == kind and one["state"] in ("up", "idle") for one in dynos)


class Progress:
    """Says every ten seconds how far it is."""

    def __init__(self, what: str, count):
        self.what, self.count, self.over = what, count, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while not self.over.wait(10):
            print(f"       {self.count()} {self.what}", flush=True)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_) -> None:
        self.over.set()
        self.thread.join()


def cpu(pids: list[int]) -> float:
    """Seconds of processor time those have taken themselves."""
    total = 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def make_base(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "bin")
    for applet in APPLETS:
        (folder / "bin" / applet).symlink_to("busybox")
    for name, mode in (("tmp", 0o1777), ("etc", 0o755), ("dev", 0o755), ("proc", 0o755), ("sys", 0o755),
                       ("usr", 0o755), ("app", 0o755), ("home", 0o755), ("var", 0o755), ("root", 0o700)):
        (folder / name).mkdir()
        (folder / name).chmod(mode)
    (folder / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\n")


class Source:
    """One small repository that is pushed to every app, with another line each time."""

    def __init__(self, folder: Path):
        self.folder, self.number = folder, 0
        folder.mkdir(parents=True)
        (folder / "Procfile").write_text(PROCFILE)
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("config", "user.name", "bench")
        self.git("config", "user.email", "bench@localhost")

    def git(self, *words: str) -> None:
        subprocess.run(["git", *words], cwd=self.folder, check=True, capture_output=True)

    def change(self) -> None:
        self.number += 1
        (self.folder / "index.html").write_text(f"hello {self.number}\n")
        self.git("add", "-A")
        self.git("commit", "--quiet", "--message", "change")

    def push(self, wharf: Small, app: str) -> float:
        token = (wharf.data / "token").read_text().strip()
        url = f"http://bench:{token}@127.0.0.1:{wharf.api_port}/{app}.git"
        began = time.monotonic()
        done = subprocess.run(["git", "push", "--force", url, "main"], cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"the push to {app} failed:\n{done.stderr[-3000:]}")
        return time.monotonic() - began


class Run:
    def __init__(self, wharf: Small, source: Source):
        self.wharf, self.source, self.apps = wharf, source, 0

    def daemon(self) -> list[int]:
        return [self.wharf.daemon.pid]

    def proxy(self) -> list[int]:
        return self.wharf.roles()["proxy"]

    def add(self, count: int) -> None:
        def one(number: int) -> None:
            self.wharf.demand("POST", "/apps", {"name": f"app{number}"})
            self.source.push(self.wharf, f"app{number}")

        # What fails is raised at once: nobody begins what is left.
        with ThreadPoolExecutor(AT_ONCE) as pool, Progress("apps", lambda: self.apps):
            try:
                for _ in pool.map(one, range(self.apps, self.apps + count)):
                    self.apps += 1
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def timed(self, doing, times: int) -> dict:
        """Median seconds, and milliseconds of the daemon's and the proxy's processor time, each."""
        proxy, seconds = self.proxy(), []
        before = cpu(self.daemon()), cpu(proxy)
        for _ in range(times):
            began = time.monotonic()
            doing()
            seconds.append(time.monotonic() - began)
        after = cpu(self.daemon()), cpu(proxy)
        daemon, worker = ((late - early) / times * 1000 for early, late in zip(before, after))
        return {"seconds": median(seconds), "daemon_ms": daemon, "proxy_ms": worker}

    def push_again(self) -> None:
        self.source.change()
        self.source.push(self.wharf, "app0")

    def scale_up_and_down(self) -> None:
        self.wharf.scale("app1", "idle", 1)
        self.wharf.scale("app1", "idle", 0)

    def idle(self) -> dict:
        """With many, as long as it takes until each replica's disk was looked at."""
        seconds = 20.0 if self.apps < 500 else 60.0
        proxy = self.proxy()
        before = cpu(self.daemon()), cpu(proxy)
        time.sleep(seconds)
        after = cpu(self.daemon()), cpu(proxy)
        daemon, worker = ((late - early) / seconds * 100 for early, late in zip(before, after))
        return {"daemon_percent": daemon, "proxy_percent": worker}

    def answering(self) -> int:
        def is_well(number: int) -> bool:
            return ask(self.wharf.port, f"app{number}.localhost")[0] == 200

        with ThreadPoolExecutor(16) as pool:
            return sum(pool.map(is_well, range(self.apps)))

    def restart(self) -> dict:
        """Kills the daemon and starts another: until it answers, and until it has nothing left to do."""
        proxy = cpu(self.proxy())
        self.wharf.daemon.kill()
        self.wharf.daemon.wait()
        ready = self.wharf.begin()
        began = time.monotonic()

        def is_calm() -> bool:
            before = cpu(self.daemon())
            time.sleep(1.0)
            return cpu(self.daemon()) - before < 0.1

        wait_for("the daemon to be done", is_calm, limit=300, every=0)
        return {
            "ready_seconds": ready,
            "calm_seconds": ready + time.monotonic() - began - 1.0,
            "daemon_seconds": cpu(self.daemon()),
            "proxy_ms": (cpu(self.proxy()) - proxy) * 1000,
        }

    def memory(self) -> dict:
        worker = self.proxy()
        return {
            "daemon_mib": (pss_kib(self.daemon()[0]) or 0) / 1024,
            "proxy_mib": sum(pss_kib(pid) or 0 for pid in worker) / 1024,
        }

    def commands(self) -> dict:
        def seconds(*words: str) -> float:
            began = time.monotonic()
            self.wharf.call(*words)
            return time.monotonic() - began

        return {
            "ps": seconds("ps", "-a", "app0"),
            "apps": seconds("apps"),
            "status": seconds("status"),
            "disk": seconds("disk"),
        }

    def look(self) -> dict:
        seen = {"apps": self.apps, "answering": self.answering(), **self.memory()}
        seen["push"] = self.timed(self.push_again, 5)
        seen["scale"] = self.timed(self.scale_up_and_down, 5)
        seen["idle"] = self.idle()
        seen["restart"] = self.restart()
        seen["commands"] = self.commands()
        return seen


def measure(run: Run, steps: list[int], idle: int) -> dict:
    result: dict = {"steps": []}
    run.source.change()
    run.add(2)
    free = available_kib()
    held = 2
    for step in steps:
        began, before, count = time.monotonic(), cpu(run.daemon()), step - run.apps
        run.add(count)
        took = time.monotonic() - began
        each = {"seconds": took / count, "daemon_ms": (cpu(run.daemon()) - before) / count * 1000}
        print(f"-----> {step} apps: {each['seconds']:.3f} s each", flush=True)
        memory = (free - available_kib()) / (step - held)
        result["steps"].append({**run.look(), "new_app": each, "kib_each": memory})
        print(json.dumps(result["steps"][-1]), flush=True)
    if idle:
        result["idle"] = crowd(run, idle)
        print(json.dumps(result["idle"]), flush=True)
    return result


def crowd(run: Run, idle: int) -> dict:
    """So many replicas that do nothing, spread over the apps."""
    each = idle // run.apps
    free, began, before = available_kib(), time.monotonic(), cpu(run.daemon())
    names = [f"app{number}" for number in range(run.apps)]
    folder = run.wharf.run / "containers"

    def scale(name: str) -> None:
        body = {"updates": [{"type": "idle", "quantity": each}]}
        run.wharf.demand("PATCH", f"/apps/{name}/formation", body)

    # Whoever changes a count is answered when it is so: a few ask at once.
    with ThreadPoolExecutor(16) as pool, Progress("containers", lambda: sum(1 for _ in folder.iterdir())):
        list(pool.map(scale, names))
        count = lambda: sum(pool.map(lambda name: run.wharf.count_up(name, "idle"), names))
        wait_for("the idle ones", lambda: count() >= each * run.apps, limit=300, every=1.0)
    took = time.monotonic() - began
    started = cpu(run.daemon()) - before
    memory = free - available_kib()
    seen = {
        "replicas": each * run.apps, "seconds": took, "daemon_seconds": started,
        "mib": memory / 1024, "kib_each": memory / (each * run.apps),
        "answering": run.answering(), **run.memory(), **run.idle(),
    }
    seen["push"] = run.timed(run.push_again, 5)
    seen["restart"] = run.restart()
    return seen


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--apps", type=int, default=1000)
    options.add_argument("--idle", type=int, default=2000)
    options.add_argument("--own", nargs=2, default=(NAME, RANGE), metavar=("CGROUP", "RANGE"))
    options.add_argument("--no-page", action="store_true")
    options.add_argument("--binary", type=Path)
    options.add_argument("--hold", action="store_true", help="to look with tools of one's own")
    options = options.parse_args()
    if options.binary:
        wharf.BINARY = options.binary.resolve()
    steps = [step for step in (10, 100) if step < options.apps] + [options.apps]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit("interrupted"))
    with ExitStack() as stack:
        claim = stack.enter_context(PLACE.with_suffix(".lock").open("w"))
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        own = Small(PLACE, 8290, 8289, tuple(options.own))
        if PLACE.exists():
            print("-----> Clearing away what a run before this one left", flush=True)
            own.stop()
            shutil.rmtree(PLACE)
        PLACE.mkdir()
        stack.callback(shutil.rmtree, PLACE, ignore_errors=True)
        make_base(PLACE / "base")
        stack.callback(clear, own)
        result = {"machine": machine.describe() | {"busy_before": machine.busy(3)}}
        own.begin()
        result |= measure(Run(own, Source(PLACE / "source")), steps, options.idle)
        if options.hold:
            print("-----> All stays until the next line or interrupt", flush=True)
            sys.stdin.readline()
    result["machine"]["busy_after"] = machine.busy(3)
    if options.no_page:
        return
    PAGE.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    PAGE.write_text(page(result))
    print(PAGE.read_text())


def clear(own: Small) -> None:
    print("-----> Clearing away", flush=True)
    # Who loses patience now leaves a thousand containers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    began = time.monotonic()
    own.stop()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"       {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
