"""A Wharf of its own from this tree's release binary, beside any other on the machine."""

import base64
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from examples import TREE
from memory import command_lines, descendants, parents, pss_kib, wait_for
from probe import Prober

BINARY = TREE / "target/x86_64-unknown-linux-gnu/release/wharf"
NAME = "wharf-bench"
RANGE = "10.217.0.0/16"


class Wharf:
    def __init__(self, data: Path, run: Path, port: int, api_port: int):
        self.data, self.run, self.port, self.api_port = data, run, port, api_port
        self.settings = [
            *("--data-dir", str(data), "--run-dir", str(run)),
            *("--cgroup", NAME, "--outbound-range", RANGE),
        ]
        self.env = os.environ | {"WHARF_API": f"unix:{run}/wharf.sock", "NO_COLOR": "1"}
        self.daemon: subprocess.Popen | None = None

    # --- life ---

    def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self.run.mkdir(parents=True, exist_ok=True)
        words = [
            *(BINARY, "daemon", *self.settings, "--listen", f"127.0.0.1:{self.port}"),
            *("--api-listen", f"127.0.0.1:{self.api_port}"),
        ]
        with (self.data / "daemon.log").open("ab") as log:
            self.daemon = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_for("the daemon", self._answers)

    def _answers(self) -> bool:
        if (code := self.daemon.poll()) is not None:
            log = (self.data / "daemon.log").read_text()[-2000:]
            raise RuntimeError(f"the daemon ended with {code}:\n{log}")
        return self.call("status", check=False).returncode == 0

    def stop(self) -> None:
        """Also what a run before this one may have left."""
        self._end_daemon()
        words = [BINARY, "teardown", *self.settings, "--with-data"]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"teardown left something:\n{done.stdout}{done.stderr}")

    def _end_daemon(self) -> None:
        """A build that is under way keeps a daemon from ending in peace; nobody waits for it here."""
        try:
            pid = int((self.data / "lock").read_text())
            words = command_lines()[pid]
        except (OSError, ValueError, KeyError):
            return
        if str(self.data) not in words:
            return
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 12
        while time.monotonic() < end and command_lines().get(pid):
            time.sleep(0.05)
        if command_lines().get(pid):
            os.kill(pid, signal.SIGKILL)
        if self.daemon:
            self.daemon.wait()

    # --- use ---

    def call(self, *words, check=True, **options) -> subprocess.CompletedProcess:
        done = subprocess.run([BINARY, *words], env=self.env, capture_output=True, text=True, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"wharf {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
        return done

    def create(self, repository, name: str) -> None:
        self.call("create", name, cwd=repository.folder)
        remotes = subprocess.run(
            ["git", "remote"], cwd=repository.folder, check=True, capture_output=True, text=True
        )
        if "wharf" in remotes.stdout.split():
            repository.git("remote", "remove", "wharf")
        repository.git("remote", "add", "wharf", f"http://127.0.0.1:{self.api_port}/{name}.git")

    def push(self, repository) -> tuple[float, float, str]:
        """When `git push` was started, when it returned, and what it said."""
        token = (self.data / "token").read_text().strip()
        login = base64.b64encode(f"bench:{token}".encode()).decode()
        header = f"http.extraHeader=Authorization: Basic {login}"
        words = ["git", "-c", header, "push", "wharf", "main"]
        began = time.monotonic()
        done = subprocess.run(words, cwd=repository.folder, capture_output=True, text=True)
        returned = time.monotonic()
        if done.returncode != 0:
            raise RuntimeError(f"the push failed:\n{done.stderr[-3000:]}")
        return began, returned, done.stderr

    def image(self, app: str) -> tuple[list[Path], list[str]]:
        """The layers that an app's newest image has below its own (base, runtime, static server), the
        lowest first, and its environment."""
        images = sorted((self.data / "images").iterdir(), key=lambda path: path.stat().st_mtime)
        for path in reversed(images):
            file = path / "config.json" if path.is_dir() else path
            config = json.loads(file.read_text())
            env = config["config"].get("Env", [])
            found = [self.data / "layers" / one.removeprefix("sha256:")
                     for one in config["rootfs"]["diff_ids"]]
            if any(marks_app(layer, app) for layer in found):
                return [layer for layer in found if not is_own(layer)], env
        raise RuntimeError(f"no image of {app} in {self.data}/images")

    # --- what it costs ---

    def roles(self) -> dict[str, list[int]]:
        """Process ids by role; only those of this very Wharf."""
        found: dict[str, list[int]] = {"daemon": [self.daemon.pid], "proxy": []}
        shims, of = [], parents()
        for pid, words in command_lines().items():
            if len(words) < 2 or not any(str(self.run) in word for word in words):
                continue
            if words[1] == "shim":
                shims.append(pid)
            elif words[1] == "proxy":
                # The holder of the sockets, with the worker below it.
                found["proxy"] = descendants(pid)
        # The init in a container is its shim's fork, with the same command line.
        found["shim"] = [pid for pid in shims if of.get(pid) not in shims]
        return found

    def daemons_pss(self) -> dict[str, int]:
        roles = self.roles()
        holder, *workers = roles["proxy"]
        return {
            "daemon": pss_kib(roles["daemon"][0]),
            "proxy holder": pss_kib(holder),
            "proxy worker": sum(size for pid in workers if (size := pss_kib(pid))),
        }

    def replicas_pss(self) -> dict[str, list[int]]:
        """Of each shim, of the init below it and of the app below that."""
        sizes: dict[str, list[int]] = {"shim": [], "init": [], "app": []}
        for shim in self.roles()["shim"]:
            for role, pid in zip(sizes, descendants(shim)):
                if size := pss_kib(pid):
                    sizes[role].append(size)
        return sizes

    def wait_for_replicas(self, count: int, limit: float = 120.0) -> None:
        """Until so many shims are there, and nothing is being drained or removed any more."""
        wait_for(f"{count} replicas", lambda: len(self.roles()["shim"]) == count, limit, 0.1)


def marks_app(layer: Path, app: str) -> bool:
    """Whether it is the source layer of that example."""
    mark = {"node-web": "page.js", "python-web": "app.py", "static-site": "404.html"}[app]
    return (layer / "app" / mark).exists()


def is_own(layer: Path) -> bool:
    """Whether it holds an app's dependencies or source, which Docker is to make by itself."""
    places = [layer / "app", layer / "opt/venv"]
    return any(place.is_dir() and any(place.iterdir()) for place in places)


PHASES = re.compile(r"live in ([\d.]+) s \(([^)]*)\)")


def parse_phases(said: str) -> dict[str, float]:
    """`live in 0.31 s (receive 0.02, build 0.05, …)` as numbers."""
    if not (match := PHASES.search(said)):
        return {}
    phases = {}
    for part in match[2].split(","):
        name, seconds = part.split()[:2]
        phases[name] = float(seconds.rstrip("s"))
    return phases | {"in all": float(match[1])}


class WharfApp:
    """One example on Wharf."""

    def __init__(self, wharf: Wharf, repository):
        self.wharf, self.repository = wharf, repository
        self.name = repository.example.name
        wharf.create(repository, self.name)

    def deploy(self, marker: str, limit: float = 60.0) -> dict:
        """`git push`, and when the page showed it."""
        self.repository.change(marker)
        prober = Prober.start(self.wharf.port, f"{self.name}.localhost", marker, limit)
        try:
            began, returned, said = self.wharf.push(self.repository)
            live, others = prober.result()
        finally:
            prober.stop()
        return {"live": live - began, "returned": returned - began, "not_200": others,
                "phases": parse_phases(said), "said": said}
