"""Runs each fuzz target for a while and writes what came of it to docs/checks/fuzz.md.

Coverage comes from the shipped compiler's own instrumentation (RUSTC_BOOTSTRAP), bad memory from
AddressSanitizer. The grown corpus stays in target/fuzz-corpus; seeds and what was once found are in
fuzz/seeds."""

import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

import report

TREE = Path(__file__).resolve().parents[2]
FUZZ = TREE / "fuzz"
BUILT = TREE / "target/fuzz"
CORPUS = TREE / "target/fuzz-corpus"
SECONDS = int(os.environ.get("FUZZ_SECONDS", "60"))
# So many targets side by side, each on one thread.
AT_ONCE = int(os.environ.get("FUZZ_AT_ONCE", str(os.cpu_count() or 1)))
TARGETS = {
    "requests": ("http", "a client's connection, against hyper"),
    "chunks": ("http", "a request's body in chunks, against hyper"),
    "answers": ("http", "an app's answer, against hyper"),
    "route_table": ("table", "tables and changes: decoded, compiled, asked"),
    "proxied": ("proxied", "the PROXY header, both versions"),
    "pem": ("pem", "an uploaded certificate with its key"),
}
FLAGS = " ".join([
    "--cfg fuzzing -Cpasses=sancov-module -Zsanitizer=address",
    "-Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares",
])


def build(names: list[str]) -> None:
    words = ["cargo", "build", "--release", "--target-dir", str(BUILT)]
    for name in names:
        words += ["--bin", name]
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": FLAGS}
    subprocess.run(words, cwd=FUZZ, env=environment, check=True)


def run(name: str) -> tuple[int, str]:
    corpus, found = CORPUS / name, BUILT / "found" / name
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    words = [str(BUILT / "x86_64-unknown-linux-gnu/release" / name), str(corpus),
             str(FUZZ / "seeds" / name), f"-max_total_time={SECONDS}", "-print_final_stats=1",
             f"-dict={FUZZ / 'dictionaries' / TARGETS[name][0]}", f"-artifact_prefix={found}/",
             "-timeout=20", "-rss_limit_mb=3000"]
    # Where processes may not be traced the search for leaks cannot run.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(words, cwd=FUZZ, env=environment, capture_output=True, text=True,
                          errors="replace", timeout=SECONDS + 300, check=False)
    return done.returncode, done.stderr


def told(page: report.Report, name: str, code: int, said: str) -> None:
    stat = lambda key: next(iter(re.findall(rf"stat::{key}:\s+(\d+)", said)), "?")
    coverage, features, corpus = (re.findall(
        r"cov: (\d+) ft: (\d+) corp: (\d+/\S+)", said) or [("?", "?", "?")])[-1]
    seen = (f"{stat('number_of_executed_units')} runs in {SECONDS} s, {coverage} edges and {features} "
            f"features reached, corpus {corpus}, at most {stat('peak_rss_mb')} MB")
    if code != 0:
        lines = [line for line in said.splitlines() if "panicked" in line or "ERROR" in line]
        seen += f"; FOUND: {' '.join(lines[:2])} (in target/fuzz/found/{name})"
        print("\n".join(said.splitlines()[-40:]))
    page.check(code == 0, f"{name}: {TARGETS[name][1]}", seen)


def main() -> int:
    names = os.environ.get("FUZZ_TARGETS", ",".join(TARGETS)).split(",")
    build(names)
    page = report.Report("fuzz.md", "Fuzzing", "Written by `make fuzz`; do not edit. libFuzzer, guided "
                         "by coverage and with AddressSanitizer, on the functions of "
                         "`crates/proxy/src/fuzz`; what each asserts is written there.")
    version = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True, cwd=TREE)
    page.facts.append(f"{version.stdout.strip()}; {SECONDS} s per target, {AT_ONCE} at a time on "
                      f"{os.cpu_count()} cores")
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as runs:
        for name, result in zip(names, runs.map(run, names)):
            told(page, name, *result)
    return 0 if page.write() else 1


if __name__ == "__main__":
    sys.exit(main())
