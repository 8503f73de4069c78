"""Build times: cold and after a one-line change in each crate, for `check`, debug and release; and,
from `cargo build --timings`, the crates that take longest. Writes docs/benchmarks/build.md.

Works on a copy of the committed tree, so that no source file is touched, with a target folder in it.
"""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import machine
from examples import TREE

CRATES = ("model", "engine", "proxy", "wharf")
WAYS = {
    "check": ["check", "--bin", "wharf"],
    "build, debug": ["build", "--bin", "wharf"],
    "build, release": ["build", "--release", "--bin", "wharf"],
}


class Copy:
    """The committed tree in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        words = ["git", "clone", "-q", "--no-hardlinks", str(TREE), str(folder)]
        subprocess.run(words, check=True)

    def cargo(self, words: list[str]) -> float:
        began = time.monotonic()
        done = subprocess.run(
            ["cargo", *words, "--quiet", "--target-dir", "target"],
            cwd=self.folder, capture_output=True, text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"cargo {' '.join(words)} failed:\n{done.stderr[-2000:]}")
        return time.monotonic() - began

    def change(self, crate: str, number: int) -> None:
        """One more private function's worth of code: a line that makes the crate another."""
        path = self.folder / f"crates/{crate}/src/lib.rs"
        text = re.sub(r"\nconst _: u32 = \d+;\n$", "\n", path.read_text())
        path.write_text(f"{text}const _: u32 = {number};\n")

    def slowest(self, count: int) -> list[tuple[str, float]]:
        """Units of the newest `--timings` page."""
        page = max((self.folder / "target/cargo-timings").glob("cargo-timing-*.html"))
        units = json.loads(re.search(r"const UNIT_DATA = (\[.*?\]);\n", page.read_text(), re.S)[1])
        units.sort(key=lambda unit: -unit["duration"])
        return [(f"{one['name']} {one['version']}{one['target']}", one["duration"])
                for one in units[:count]]


def measure(copy: Copy, ways: list[str]) -> dict:
    found = {}
    for way in ways:
        words = WAYS[way]
        timings = ["--timings"] if words[0] == "build" else []
        shutil.rmtree(copy.folder / "target", ignore_errors=True)
        cold = copy.cargo(words + timings)
        slowest = copy.slowest(12) if timings else []
        print(f"-----> {way}: cold {cold:.1f} s", flush=True)
        warm = {}
        for crate in CRATES:
            copy.change(crate, time.monotonic_ns() % 2**32)
            warm[crate] = copy.cargo(words)
            print(f"       one line of {crate}: {warm[crate]:.1f} s", flush=True)
        found[way] = {"cold": cold, "one line": warm, "slowest": slowest}
    return found


def render(found: dict, on: dict) -> str:
    head = ["", "cold", *(f"one line of `{crate}`" for crate in CRATES)]
    rows = [
        [way, f"{one['cold']:.0f} s", *(f"{one['one line'][crate]:.1f} s" for crate in CRATES)]
        for way, one in found.items()
    ]
    parts = [
        "# Build times\n\nWritten by `make bench-build`.\n",
        f"{on['date']}, commit {on['commit']}. {on['cores']} cores ({on['processor']}), "
        f"{on['memory_gib']} GiB, rustc {on['rustc']}.\nOther work took {on['busy_before']:.0%} of "
        f"the cores before and {on['busy_after']:.0%} after; the build itself ran at nice 10.\n",
        "Cold is everything from an empty target folder, the sources of the dependencies at hand. One "
        "line is a new\nconstant in the crate's `lib.rs`, which makes all crates above it build again too.\n",
        table(head, rows),
    ]
    for way, one in found.items():
        if one["slowest"]:
            parts.append(f"## The slowest crates, {way}, cold\n")
            parts.append(table(["crate", "seconds"],
                               [[name, f"{time:.1f}"] for name, time in one["slowest"]]))
    return "\n".join(parts)


def table(head: list[str], rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench/build.sh", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=WAYS, action="append", help="one way alone")
    parser.add_argument("--out", type=Path, default=TREE / "docs/benchmarks", help="where to write")
    options = parser.parse_args()
    on = machine.describe()
    on["busy_before"] = machine.busy(3)
    with tempfile.TemporaryDirectory(prefix="wharf-bench-build.", dir="/var/tmp") as folder:
        found = measure(Copy(Path(folder) / "tree"), options.only or list(WAYS))
    on["busy_after"] = machine.busy(3)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "build.md").write_text(render(found, on))
    print(f"-----> Written: {options.out}/build.md")


if __name__ == "__main__":
    main()
