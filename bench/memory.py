"""What memory costs: proportional set sizes of processes, and what the machine has left."""

import re
import statistics
import time
from pathlib import Path


def pss_kib(pid: int) -> int | None:
    """None when it ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    return int(re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)[1])


def command_lines() -> dict[int, list[str]]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found[int(path.parent.name)] = words[:-1]
    return found


def parents() -> dict[int, int]:
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def descendants(pid: int) -> list[int]:
    """With the process itself."""
    of = parents()
    found = [pid]
    for one in found:
        found.extend(child for child, parent in of.items() if parent == one)
    return found


def available_kib(seconds: float = 3.0) -> float:
    """The median of many looks at MemAvailable, since others breathe too."""
    looks = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = Path("/proc/meminfo").read_text()
        looks.append(int(re.search(r"^MemAvailable:\s+(\d+)", text, re.MULTILINE)[1]))
        time.sleep(0.05)
    return statistics.median(looks)


def wait_for(what: str, is_so, limit: float = 60.0, every: float = 0.02):
    """What `is_so` returned when it was first true."""
    end = time.monotonic() + limit
    while not (result := is_so()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {limit:.0f} s in vain: {what}")
        time.sleep(every)
    return result
