"""What the figures were taken on."""

import os
import re
import subprocess
import time
from pathlib import Path

from docker import cli
from examples import TREE


def said(*words: str) -> str:
    """The first line a program prints, or that it is not there."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, cwd=TREE)
    except OSError:
        return "not there"
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def describe() -> dict:
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=TREE, capture_output=True).stdout
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cores": os.cpu_count(),
        "processor": model[1] if model else "unknown",
        "memory_gib": round(int(memory[1]) / 1024**2, 1),
        "kernel": os.uname().release,
        "system": said("sh", "-c", '. /etc/os-release; echo "$PRETTY_NAME"'),
        "commit": said("git", "rev-parse", "--short", "HEAD") + (" and changes" if changed else ""),
        "git": said("git", "--version").removeprefix("git version "),
        "rustc": said("rustc", "--version").removeprefix("rustc "),
        "docker": said(cli() or "docker", "--version").removeprefix("Docker version "),
        "containerd": said("containerd", "--version"),
        "runc": said("runc", "--version").removeprefix("runc version "),
        "nginx": said("/usr/sbin/nginx", "-v").removeprefix("nginx version: "),
    }


def busy(seconds: float) -> float:
    """The share of all cores that is busy with whatever else runs here, over so long."""

    def ticks() -> tuple[int, int]:
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        return numbers[3] + numbers[4], sum(numbers[:8])

    idle, whole = ticks()
    time.sleep(seconds)
    idle_after, whole_after = ticks()
    return 1 - (idle_after - idle) / max(1, whole_after - whole)
