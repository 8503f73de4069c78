"""The first request to an app that sleeps, at the client: frozen and stopped. Beside them the same request
to the app awake, and how long the app itself takes to boot. And a rollback, from the command to its end:
to the predecessor that was kept frozen, and to one that was not.

Starts a Wharf of its own, writes docs/benchmarks/sleep.md, and takes everything away again.
"""

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles

import machine
import wharf
from alone import Alone
from docker import free_port
from examples import EXAMPLES, TREE, Repository
from memory import wait_for

DATA = Path("/var/lib/wharf-bench-sleep")
# A tmpfs, as /run is on Debian; here it may be a disk's.
VOLATILE = Path("/run/wharf-bench-sleep")
APPS = ("static-site", "node-web", "python-web")
# Between requests to an app awake, as long as those to a sleeper are apart.
PAUSE = 4.0
CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


def say(text: str) -> None:
    print(f"-----> {text}", flush=True)


def request(port: int, app: str) -> float:
    """Milliseconds from the connect to the last byte of a good answer."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), 30) as stream:
        stream.sendall(f"GET / HTTP/1.1\r\nHost: {app}.localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: stream.recv(65536), b""))
    took = (time.perf_counter() - began) * 1000
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer[:300])
    return took


def disk_reads() -> int:
    """KiB that disks have read since the machine began."""
    rows = (line.split() for line in Path("/proc/diskstats").read_text().splitlines())
    return sum(int(row[5]) for row in rows if not row[2].startswith(("loop", "ram", "zram"))) // 2


def unmount() -> None:
    if VOLATILE.is_mount():
        subprocess.run(["umount", VOLATILE], check=True)
    if VOLATILE.exists():
        VOLATILE.rmdir()


class Bench:
    def __init__(self, options, stack: ExitStack):
        self.options = options
        self.wharf = wharf.Wharf(DATA / "wharf", VOLATILE / "run", free_port(), free_port())
        stack.callback(shutil.rmtree, DATA, ignore_errors=True)
        # Also what a run before this one left.
        self.wharf.stop()
        unmount()
        VOLATILE.mkdir(exist_ok=True)
        stack.callback(unmount)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "wharf-bench", VOLATILE], check=True)
        shutil.rmtree(DATA, ignore_errors=True)
        stack.callback(self.wharf.stop)
        self.wharf.data.mkdir(parents=True)
        for name in ("layers", "images", "keys") if options.warm else ():
            words = ["cp", "-al", Path(options.warm) / name, self.wharf.data]
            subprocess.run(words, check=True)
        say("Starting a Wharf")
        self.wharf.start()

        self.folder = DATA / "sources"
        self.folder.mkdir()

    def status(self, app: str) -> dict:
        return json.loads(self.wharf.call("ps", "-a", app, "--json").stdout)[0]

    def wait(self, app: str, status: str) -> dict:
        wait_for(f"{app} to be {status}", lambda: self.status(app)["status"] == status, 60, 0.1)
        return self.status(app)

    def memory(self, replica: str) -> int:
        """Bytes its cgroup has, the cache of files among them."""
        for root in CGROUPS:
            for name in ("memory.usage_in_bytes", "memory.current"):
                file = root / wharf.NAME / replica / name
                if file.exists():
                    return int(file.read_text())
        return 0

    def warm(self) -> None:
        """Has the images' files in the page cache: a machine that gives its memory back (DAMON) pages them
        out within half a minute, and then it is the disk that is measured."""
        for file in (self.wharf.data / "layers").rglob("*"):
            if file.is_file() and not file.is_symlink():
                with file.open("rb", buffering=0) as content:
                    while content.read(1 << 20):
                        pass

    def measure(self, name: str) -> dict:
        example = next(one for one in EXAMPLES if one.name == name)
        repository = Repository(example, self.folder / name)
        self.wharf.create(repository, name)
        say(f"Pushing {name}")
        boots = []
        for marker in ("cold", *(f"boot {number}" for number in range(5))):
            (repository.folder / "marker").write_text(marker)
            repository.git("add", "-A")
            repository.git("commit", "-q", "-m", marker)
            phases = wharf.parse_phases(self.wharf.push(repository)[2])
            boots.append((phases["boot"] + phases["health"]) * 1000)
        port, rounds = self.wharf.port, self.options.rounds
        ask = lambda: request(port, name)
        result = {"awake": [ask() for _ in range(rounds + 5)][5:], "boot": boots[1:]}
        result["after a pause"] = []
        say(f"{name}: awake, {rounds} rounds")
        for _ in range(rounds):
            time.sleep(PAUSE)
            result["after a pause"].append(ask())
        result["memory"] = self.memory(self.status(name)["id"])
        self.wharf.call("sleep:set", "--freeze-after", "1s", "-a", name)
        say(f"{name}: frozen, {rounds} rounds")
        result["frozen"] = []
        for _ in range(rounds):
            self.wait(name, "frozen")
            result["frozen"].append(ask())
        say(f"{name}: stopped, and its program alone, {rounds} rounds")
        result["stopped"], result["alone"], result["read"] = [], [], []
        for _ in range(rounds):
            self.wharf.call("sleep:set", "--freeze-after", "never", "--stop-after", "1s", "-a", name)
            self.wait(name, "asleep")
            # The kernel takes a container apart for a while after its end, on the same two cores.
            time.sleep(PAUSE)
            self.warm()
            before = disk_reads()
            result["stopped"].append(ask())
            result["read"].append(disk_reads() - before)
            self.wharf.call("sleep:off", name)
            result["alone"].append(self.boot_alone(name))
        result["rollback"] = [self.roll_back(name) for _ in range(rounds)]
        say(f"{name}: rollbacks to what is kept, {rounds} rounds")
        self.wharf.call("sleep:set", "--keep-previous", "1h", "-a", name)
        self.roll_back(name)
        result["thaw"] = []
        for _ in range(rounds):
            wait_for("the predecessor to be frozen", lambda: self.kept(name), 60, 0.1)
            result["thaw"].append(self.roll_back(name))
        self.wharf.call("sleep:off", name)
        return result

    def boot_alone(self, app: str) -> float:
        """As cold as what wakes from stopped: nobody ran it for as long."""
        seen = json.loads(self.wharf.call("inspect", "web.1", "-a", app, "--json").stdout)
        program = Alone(seen["container"]["pids"]["app"]["host"], "8080", free_port())
        try:
            time.sleep(PAUSE)
            self.warm()
            return program.boot()
        finally:
            program.end()

    def kept(self, app: str) -> bool:
        replicas = json.loads(self.wharf.call("ps", "-a", app, "--json").stdout)
        return any("kept_until" in replica for replica in replicas)

    def roll_back(self, app: str) -> float:
        """Milliseconds of a rollback to what served before, which the next one undoes."""
        began = time.perf_counter()
        self.wharf.call("rollback", "-a", app)
        return (time.perf_counter() - began) * 1000


ROWS = (
    ("awake", "awake, one request after the other"),
    ("after a pause", f"awake, {PAUSE:g} s after the last request"),
    ("frozen", "frozen"),
    ("boot", "a deploy's boot: container, program, health"),
    ("alone", f"the program alone, {PAUSE:g} s after the last: exec to answer"),
    ("stopped", "stopped"),
    ("rollback", "a rollback, the command to its end"),
    ("thaw", "the same to the predecessor kept frozen"),
)


def render(on: dict, results: dict, rounds: int) -> str:
    lines = [
        "# The first request to an app that sleeps",
        "",
        "Written by `make bench-sleep`.",
        "",
        f"{on['date']}, commit {on['commit']}. {on['cores']} cores ({on['processor']}), "
        f"{on['memory_gib']} GiB, kernel {on['kernel']}.",
        f"Other work took {on['busy_before']:.0%} of the cores before and {on['busy_after']:.0%} after.",
        "",
        f"Milliseconds at the client, from the connect to the last byte, {rounds} rounds: median, and the",
        "ninth of ten. What a wake costs is what it takes longer than a request to the same app awake that",
        "nobody asked for as long: its pages and the kernel's are as cold then. What a start costs is what",
        "it takes longer than the app's own boot: the same program in the same files, without container,",
        f"filter or Wharf, from its exec to its first answer. Both take turns and begin {PAUSE:g} s after the last",
        "stop or start, for a program that ran a moment ago boots faster (a deploy's boot is that), and a",
        "container that ended a moment ago is still being taken apart. Before both, the images' files are read",
        "once, so that no disk is measured; the containers' state is on a tmpfs, as Debian's /run is.",
        "",
    ]
    for name, result in results.items():
        lines += [f"## {name} ({result['memory'] / 2**20:.1f} MiB, with its files in the cache)", "",
                  "| | median ms | p90 ms |", "| --- | --- | --- |"]
        for key, text in ROWS:
            values = result[key]
            ninth = quantiles(values, n=10)[8]
            lines.append(f"| {text} | {median(values):.2f} | {ninth:.2f} |")
        lines += ["", f"While it started, disks read {median(result['read']):.0f} KiB."]
        cost = median(result["frozen"]) - median(result["after a pause"])
        more = median(result["stopped"]) - median(result["alone"])
        lines += ["", f"Waking it costs {cost:.2f} ms (goal: 2), starting it {more:.1f} ms more than its own boot (goal: 15).",
                  ""]
    lines.append((TREE / "bench/sleep_profile.md").read_text().rstrip())
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--warm")
    parser.add_argument("--only", default=",".join(APPS))
    parser.add_argument("--out", type=Path, default=TREE / "docs/benchmarks/sleep.md")
    options = parser.parse_args()
    if options.binary:
        wharf.BINARY = options.binary.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    on = machine.describe()
    with ExitStack() as stack:
        bench = Bench(options, stack)
        on["busy_before"] = machine.busy(3)
        results = {name: bench.measure(name) for name in options.only.split(",")}
        on["busy_after"] = machine.busy(3)
    options.out.write_text(render(on, results, options.rounds))
    print(options.out.read_text())


main()
