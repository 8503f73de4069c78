"""Runs `crates/engine/examples/bench` beside a Docker of its own, and writes the page."""

import argparse
import json
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import machine
from docker import ADDRESS, BRIDGE, Docker
from examples import TREE

BUILT = TREE / "target/x86_64-unknown-linux-gnu/release"
PAGE = TREE / "docs/benchmarks/engine.md"
IMAGE = "wharf-bench/busybox"
CGROUP = "wharf-bench-engine"
DISK = 16 << 30
# Debian's crun refuses a machine that has cgroup v2 mounted beside v1: its view has none.
HIDDEN = "/sys/fs/cgroup/unified"

MILLISECONDS = {
    "started": ("Started", "create and start, until the program runs"),
    "first byte": ("First byte", "of a small web server (busybox httpd), from the word to start"),
    "exec": ("Command inside", "`true` in a running container, to its end"),
    "stopped": ("Stopped", "from TERM until its end is known"),
    "removed": ("Removed", "what is left of it taken away"),
}
ONCE = {
    "starts a second": ("Starts a second", "100, one after the other", "{:.0f}"),
    "starts a second, several at once": ("Starts a second", "100, four under way at once", "{:.0f}"),
    "KiB beside the app, each": ("Beside the app", "PSS of the processes that carry it, KiB", "{:.0f}"),
    "KiB in all, each": ("In all", "what the machine has less of free memory, KiB", "{:.0f}"),
}
NETWORK = {
    "µs a round trip in": ("In", "64 bytes and back, µs"),
    "MiB/s out to a visitor": ("In", "1 GiB to the visitor, MiB/s"),
    "µs a round trip out": ("Out", "64 bytes and back from elsewhere, µs"),
    "MiB/s from elsewhere": ("Out", "1 GiB from elsewhere, MiB/s"),
}
WORK = ("compute", "2 million system calls", "write 256 MiB", "5,000 small files")
NOTE = """\
## What the rows of work inside say

A filter of system calls costs what it costs by being there: one of a single instruction that lets everything pass took 16 %
more processor time for two million calls of `dd` (0.49 s for 0.42 s, medians of four in turns) than none. The kernel
remembers which calls always pass, so the length of ours adds little; no list, however short, reaches 10 % on that row.

Small files pass overlayfs, which takes half as much again, whoever starts the container. What an app writes much of belongs on a volume, which is no overlay.

The write row says less than it seems: what a container of ours writes beside its volumes is thrown away with it, so its overlay
is `volatile` and an fsync there does not wait for the disk. The others' is not.
"""
WAYS = """
Both ends are threads of one program, in the namespaces they stand for. In: to a listener in the container, over this machine's
`lo` (outside), by a socket the shim made inside, as the proxy's are (Wharf), over the bridge to the container's own
address (Docker). Out: from the container to another machine, over a wire alone (outside), with source NAT and the rules
of what may be reached (Wharf), over the bridge with source NAT (Docker). crun and runc leave networks to others.
"""
# What the design promises.
GOALS = {
    "started": ("Wharf starts", 10, "ms"),
    "first byte": ("First byte", 12, "ms"),
    "exec": ("Command inside", 20, "ms"),
}


def p95(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(len(values) * 0.95))]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def spread(values: list[float]) -> str:
    form = ".1f" if max(values) < 100 else ".0f"
    return f"{median(values):{form}}; {min(values):{form}} to {max(values):{form}}"


def times(cases: dict, case: str, what: str, side: str) -> float:
    """How many times what it took outside a moment before; the median of all turns."""
    rows = cases[f"{case}, {what}"]
    return median(inside / outside for inside, outside in zip(rows[side], rows["outside"]))


def verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def page(result: dict) -> str:
    on, cases = result["machine"], result["cases"]
    sides = list(cases["started"])
    parts = [f"""\
# Containers

Written by `make bench-engine`; the raw figures are in [engine.json](engine.json).

{on['date']}, commit {on['commit']}. {on['cores']} cores ({on['processor']}), {on['memory_gib']} GiB, \
{on['system']}, kernel {on['kernel']}.
{on['crun']}; runc {on['runc']}; Docker {on['docker']}; {on['containerd']}; rustc {on['rustc']}.
Other work on the machine took {on['busy_before']:.0%} of its cores before the run and \
{on['busy_after']:.0%} after it.

One program starts them all, in turns, {len(cases['started']['Wharf'])} rounds. crun and runc run the bundle our engine wrote:
the same root (busybox over overlayfs), users of their own, limits, masked paths, no capability, and our list
of system calls as a profile for one architecture. Their containers have no supervisor, no log and nobody who
learns the exit code; ours and Docker's do. Docker is called through its command line, as people call it,
with its own profile and no users of their own; its time to start includes asking for the process id. All write to one ext4 with
a journal, made for the run.

## A container's life, milliseconds (median; 95th percentile)
"""]
    rows = []
    for case, (title, what) in MILLISECONDS.items():
        cells = [f"{median(cases[case][side]):.1f}; {p95(cases[case][side]):.1f}" for side in sides]
        rows.append([f"{title}: {what}", *cells])
    parts.append(table(["", *sides], rows))
    parts.append("\n## Many\n")
    rows = []
    for case, (title, what, form) in ONCE.items():
        rows.append([f"{title}: {what}", *(form.format(median(cases[case][side])) for side in sides)])
    parts.append(table(["", *sides], rows))
    parts.append("\n## Network (median; from least to most)\n")
    rows = []
    for case, (title, what) in NETWORK.items():
        seen = [cases[case][side] for side in ("outside", "Wharf", "Docker") if side in cases[case]]
        rows.append([f"{title}: {what}", *map(spread, seen)])
    parts.append(table(["", "outside", "Wharf", "Docker"][: len(rows[0])], rows))
    parts.append(WAYS)
    parts.append("\n## Work inside, as a multiple of the same outside (medians): processor time; time that passed\n")
    rows = []
    for case in WORK:
        cells = [f"{times(cases, case, 'processor', side):.2f}; {times(cases, case, 'elapsed', side):.2f}"
                 for side in sides]
        rows.append([case, f"{median(cases[f'{case}, processor']['outside']):.0f} ms", *cells])
    parts.append(table(["", "outside", *sides], rows))
    parts.append("\n## Goals\n")
    rows = []
    for case, (title, goal, unit) in GOALS.items():
        own = median(cases[case]["Wharf"])
        rows.append([title, f"≤ {goal} {unit}", f"{own:.1f} {unit}", verdict(own <= goal)])
    own, crun = median(cases["started"]["Wharf"]), median(cases["started"]["crun"])
    rows.append(["No slower than crun", "≤ 1.0×", f"{own / crun:.2f}×", verdict(own <= crun)])
    rate = median(cases["starts a second, several at once"]["Wharf"])
    rows.append(["Starts a second, four at once", "≥ 150", f"{rate:.0f}", verdict(rate >= 150)])
    size = median(cases["KiB in all, each"]["Wharf"]) * 1.024 / 1000
    rows.append(["Idle container, all in", "≤ 1.5 MB", f"{size:.2f} MB", verdict(size <= 1.5)])
    ratio = times(cases, "compute", "processor", "Wharf")
    rows.append(["Overhead on compute", "≤ 2 %", f"{ratio - 1:.1%}", verdict(ratio <= 1.02)])
    worst = max(times(cases, case, "processor", "Wharf") for case in WORK)
    rows.append(["Overhead on the worst row", "≤ 10 %", f"{worst - 1:.1%}", verdict(worst <= 1.1)])
    parts.append(table(["", "goal", "seen", ""], rows))
    parts.append(NOTE)
    return "\n".join(parts)


# As Docker itself would have it, were it let at this machine's rules.
NAT = f"""
table ip {CGROUP} {{
  chain out {{
    type nat hook postrouting priority srcnat
    ip saddr {ADDRESS} oifname != {BRIDGE} masquerade
  }}
}}
"""


def remove_groups() -> None:
    for group in Path("/sys/fs/cgroup").glob(f"*/{CGROUP}"):
        for folder in sorted(group.glob("**/"), reverse=True):
            folder.rmdir()


def mount(place: Path, stack: ExitStack) -> None:
    """A disk as most machines have one: ext4 with a journal. Without one, as on the machine this was written
    on, the kernel looks at every inode that was deleted within a minute before it gives out another
    (fs/ext4/ialloc.c): the more containers have ended, the slower the next start."""
    image = place.with_suffix(".disk")
    stack.callback(image.unlink)
    with image.open("wb") as disk:
        disk.truncate(DISK)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, place], check=True)
    stack.callback(subprocess.run, ["umount", "--lazy", place], check=True)
    place.chmod(0o755)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=40)
    options.add_argument("--no-docker", action="store_true")
    options = options.parse_args()
    with ExitStack() as stack:
        # Short, for sockets; and not in memory.
        place = Path(tempfile.mkdtemp(prefix="wharf-be", dir="/var/tmp"))
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        stack.callback(remove_groups)
        place.chmod(0o755)
        mount(place, stack)
        sides = ["crun", "runc"]
        if not options.no_docker:
            docker = Docker(place / "docker", Path("/run/wharf-bench-engine"))
            docker.stop_leftover()
            stack.callback(docker.stop)
            docker.start()
            stack.callback(subprocess.run, ["nft", "delete", "table", "ip", CGROUP])
            subprocess.run(["nft", "-f", "-"], input=NAT, text=True, check=True)
            root = place / "image"
            (root / "bin").mkdir(parents=True)
            shutil.copy("/bin/busybox", root / "bin")
            for applet in ("sh", "true", "sleep", "httpd", "dd", "cat", "echo", "kill", "rm", "sync"):
                (root / "bin" / applet).symlink_to("busybox")
            for folder, mode in (("tmp", 0o1777), ("work", 0o1777), ("www", 0o755), ("etc", 0o755)):
                (root / folder).mkdir()
                (root / folder).chmod(mode)
            (root / "www/index.html").write_text("hello\n")
            with subprocess.Popen(["tar", "-c", "-C", root, "."], stdout=subprocess.PIPE) as tar:
                docker.call("import", "-", IMAGE, stdin=tar.stdout)
            sides += ["docker", f"unix://{docker.socket}", IMAGE]
        result = {"machine": machine.describe(), "cases": {}}
        result["machine"]["crun"] = machine.said("crun", "--version")
        result["machine"]["busy_before"] = machine.busy(3)
        print("-----> Measuring", flush=True)
        bench = [BUILT / "examples/bench", place / "own", BUILT / "engine-shim", options.rounds, "all", *sides]
        hide = f"mount --make-rprivate /; [ ! -d {HIDDEN} ] || umount {HIDDEN}; exec \"$@\""
        (place / "own").mkdir()
        words = ["unshare", "--mount", "sh", "-c", hide, "bench", *map(str, bench)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        for line in done.stdout.splitlines():
            row = json.loads(line)
            result["cases"].setdefault(row["case"], {})[row["side"]] = row["values"]
        result["machine"]["busy_after"] = machine.busy(3)
    PAGE.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    PAGE.write_text(page(result))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
