"""Slow clients: slowhttptest's four ways, several hundred connections each, beside ordinary visitors.

Writes docs/checks/slow.md. The limits are the shipped ones."""

import asyncio
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import app
import edge
import report

CONNECTIONS = int(os.environ.get("SLOW_CONNECTIONS", "400"))
SECONDS = int(os.environ.get("SLOW_SECONDS", "60"))
# What a slow connection may cost us: its buffers here, the kernel's are not counted. A piece of an
# answer that is under way is at most 256 KiB.
MOST_KIB_EACH, MOST_KIB_READING = 96, 300
VISITS_A_SECOND = 50
# The longest an ordinary visitor may wait meanwhile; the app behind is a Python program.
MOST_SECONDS = 2.0

WAYS = {
    "slow heads (slowloris)": ["-H", "-i", "5", "-x", "24"],
    "slow bodies": ["-B", "-i", "5", "-s", "8192", "-x", "10", "-t", "POST"],
    "slow reads": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "3"],
    "range headers": ["-R", "-a", "10", "-b", "3000"],
}


class Visitors:
    """A steady load of ordinary requests, kept alive as browsers do; each with its time."""

    def __init__(self, port: int):
        self.port, self.times, self.failures, self.idle = port, [], [], []

    async def visit(self) -> None:
        began = time.monotonic()
        try:
            pair = self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
            reader, writer = pair
            writer.write(f"GET / HTTP/1.1\r\nHost: {edge.HOST}\r\n\r\n".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            body = await asyncio.wait_for(reader.readexactly(6), 30)
            if not head.startswith(b"HTTP/1.1 200") or body != b"hello\n":
                raise ValueError(head.split(b"\r\n")[0].decode())
            self.times.append(time.monotonic() - began)
            self.idle.append(pair)
        except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.failures.append(repr(error))

    async def come(self, stop: asyncio.Event) -> None:
        visits = set()
        while not stop.is_set():
            visits.add(asyncio.create_task(self.visit()))
            visits = {visit for visit in visits if not visit.done()}
            await asyncio.sleep(1 / VISITS_A_SECOND)
        if visits:
            await asyncio.wait(visits)
        for _, writer in self.idle:
            writer.close()


async def attack(one: edge.Edge, words: list[str], path: str):
    stem = one.folder / "slow"
    command = ["slowhttptest", "-c", str(CONNECTIONS), "-r", "200", "-l", str(SECONDS), "-p", "3",
               "-g", "-o", str(stem), *words, "-u", f"http://127.0.0.1:{one.port}{path}"]
    visitors, stop = Visitors(one.port), asyncio.Event()
    coming = asyncio.create_task(visitors.come(stop))
    attacker = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most, began = one.memory_kib(), time.monotonic()
    while attacker.returncode is None:
        try:
            await asyncio.wait_for(attacker.wait(), 1)
        except TimeoutError:
            most = max(most, one.memory_kib())
    lasted = time.monotonic() - began
    stop.set()
    await coming
    rows = list(csv.DictReader(Path(f"{stem}.csv").open()))
    return visitors, most, lasted, rows


def judge(page: report.Report, name: str, one: edge.Edge, result, before) -> None:
    visitors, most, lasted, rows = result
    memory_before, descriptors_before = before
    count = lambda column: [int(row[column]) for row in rows]
    held = max(count("Connected"))
    slowest = max(visitors.times, default=0)
    page.check(not visitors.failures and slowest < MOST_SECONDS and visitors.times,
               f"{name}: ordinary visitors notice nothing",
               f"{len(visitors.times)} answered, {len(visitors.failures)} failed "
               f"{visitors.failures[:1]}, slowest {slowest * 1000:.0f} ms")
    grown = most - memory_before
    most_each = MOST_KIB_READING if name == "slow reads" else MOST_KIB_EACH
    page.check(grown < most_each * CONNECTIONS, f"{name}: memory stays bounded",
               f"{held} connections held at most; the worker grew from {memory_before} KiB by "
               f"{grown} KiB, {grown / max(held, 1):.1f} KiB each; {most_each} are allowed")
    until = time.monotonic() + 15
    while one.descriptors() > descriptors_before + 8 and time.monotonic() < until:
        time.sleep(0.2)
    page.check(one.descriptors() <= descriptors_before + 8, f"{name}: nothing is left of them",
               f"{one.descriptors()} descriptors after, {descriptors_before} before")
    # It ends before its time when nobody is left, and writes no line of that.
    left = count("Connected")[-1] if lasted >= SECONDS else 0
    page.parts.append(f"- {name}: of {CONNECTIONS} connections {held} were open at the most and "
                      f"{left} when the attack ended, after {lasted:.0f} s; the rest had been closed.")
    if name.startswith("slow heads"):
        page.check(left == 0, f"{name}: each is closed by the limit of a head",
                   f"{left} still open after {lasted:.0f} s; the limit is 30 s")


def main() -> int:
    edge.build()
    version = subprocess.run(["slowhttptest", "-h"], capture_output=True, text=True, check=False)
    page = report.Report("slow.md", "Slow clients", "Written by `make slow-check`; do not edit. "
                         "slowhttptest attacks the proxy in its four ways while ordinary visitors "
                         "come by, all on this machine.")
    first = next((line.strip() for line in version.stdout.splitlines() if line.strip()), "slowhttptest")
    page.facts.append(f"{first}; {CONNECTIONS} connections each way for {SECONDS} s, "
                      f"{VISITS_A_SECOND} ordinary requests a second; {edge.PROFILE} build")
    with app.Threaded() as behind, edge.Edge(behind.port) as one:
        asyncio.run(attack_nobody(one))
        for name, words in WAYS.items():
            before = one.memory_kib(), one.descriptors()
            result = asyncio.run(attack(one, words, "/large" if "-X" in words else "/"))
            judge(page, name, one, result, before)
    return 0 if page.write() else 1


async def attack_nobody(one: edge.Edge) -> None:
    """Visitors alone, so that what they need is there before anything is measured."""
    visitors, stop = Visitors(one.port), asyncio.Event()
    coming = asyncio.create_task(visitors.come(stop))
    await asyncio.sleep(3)
    stop.set()
    await coming
    if visitors.failures:
        raise SystemExit(f"ordinary visitors fail without any attack: {visitors.failures[0]}")


if __name__ == "__main__":
    sys.exit(main())
