"""Where everything of a run is: folders, programs, cores, and what a process tree used."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target"))
BUILT = BUILT / "x86_64-unknown-linux-gnu/release"
DATA = Path("/run/wharf-bench-proxy")
# The proxies have one core for themselves; who asks and who answers share the other.
PROXY_CORE, OTHER_CORE = (1, 0) if (os.cpu_count() or 1) > 1 else (0, 0)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def program(name: str) -> str:
    found = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if not found:
        raise SystemExit(f"{name} is not there: scripts/needs.sh bench-proxy")
    return found


def start(core: int, words: list[str], log: Path, **extra) -> subprocess.Popen:
    with log.open("ab") as out:
        pinned = ["taskset", "-c", str(core), *words]
        return subprocess.Popen(pinned, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **extra)


def tree(pid: int) -> list[int]:
    """A process and all that came of it."""
    found, open_ = [], [pid]
    while open_:
        one = open_.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                open_ += [int(word) for word in task.read_text().split()]
            except OSError:
                continue
    return found


def cpu_ns(pid: int) -> int:
    """The CPU time a process tree has used, of all its threads, in ns."""
    total = 0
    for one in tree(pid):
        for task in Path(f"/proc/{one}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                continue
    return total


def pss_kib(pid: int) -> int:
    """The memory of a process tree; what it shares with others counts by its share."""
    total = 0
    for one in tree(pid):
        try:
            rows = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
    return total
