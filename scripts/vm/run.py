#!/usr/bin/env python3
"""Boots Debian's own kernel with cgroup version 2 and systemd in qemu, four times on one disk, lets the
checks of `guest/` run inside, and writes what they said to docs/checks/vm.md.

Emulated (TCG), so that it runs where there is no KVM; seconds are therefore slow ones. Ends by itself,
non-zero when a check failed or a boot did not end; leaves nothing running."""
import argparse
import datetime
import os
import re
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "target", "vm")
RECORD = os.path.join(ROOT, "docs", "checks", "vm.md")
# A boot that takes longer than this hangs.
BOOT_LIMIT = 25 * 60
ACKS_BEFORE_THE_CUT = {"number": 3, "push": 2}


class Boot:
    """One run of the machine, read line by line from its console."""

    def __init__(self, stage, options):
        self.stage, self.results, self.acked, self.is_done = stage, [], {}, False
        self.acks = {name: 0 for name in ACKS_BEFORE_THE_CUT}
        self.began = time.monotonic()
        words = " ".join(f"vm.{name}={value}" for name, value in {"stage": stage, **options}.items())
        self.console = open(os.path.join(OUT, f"console-{stage}.log"), "w")
        self.machine = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G",
             "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-no-reboot",
             "-kernel", f"{OUT}/kernel", "-initrd", f"{OUT}/initrd",
             "-append", f"root=/dev/vda rw console=ttyS0 panic=-1 quiet systemd.show_status=0 {words}",
             "-drive", f"file={OUT}/disk,format=raw,if=virtio,cache=writeback", "-serial", "stdio"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")

    def follow(self, is_cut_wanted):
        """Reads until the machine is off; with a cut, until enough was acknowledged."""
        # A timer of the kernel's: reading from a hung machine would wait for ever.
        signal.signal(signal.SIGALRM, lambda *_: self.machine.kill())
        signal.alarm(BOOT_LIMIT)
        try:
            for line in self.machine.stdout:
                self.console.write(line)
                self.console.flush()
                self.read(line.strip())
                if is_cut_wanted and all(self.acks[name] >= count for name, count in ACKS_BEFORE_THE_CUT.items()):
                    # In the middle of the change that follows the last acknowledged one.
                    time.sleep(0.7)
                    self.is_done = True
                    break
        finally:
            signal.alarm(0)
            self.machine.kill()
            self.machine.wait()
            self.console.close()

    def read(self, line):
        found = re.search(r"@@ (PASS|FAIL) ([0-9.]+) (.*?) \| (.*)", line)
        if found:
            verdict, seconds, name, evidence = found.groups()
            self.results.append((verdict, float(seconds), name, evidence))
            print(f"{verdict} {float(seconds):6.1f} s  {name}\n               {evidence}", flush=True)
        elif found := re.search(r"@@ ACK (\w+)=(\S+)", line):
            self.acked[found[1]] = found[2]
            self.acks[found[1]] += 1
        elif "@@ DONE" in line:
            self.is_done = True


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--stage", action="append", help="only these boots, on the disk as it is")
    options = arguments.parse_args()
    stages = options.stage or ["first", "again", "proxy-late", "daemon-late"]
    boots, acked = [], {}
    for stage in stages:
        print(f"-----> Boot `{stage}`", flush=True)
        boot = Boot(stage, acked)
        boot.follow(is_cut_wanted=stage == "again")
        boots.append((boot, time.monotonic() - boot.began))
        acked.update(boot.acked)
        if not options.stage:
            # After each boot: what a cut-off run saw is worth keeping, too.
            record(boots, acked, is_fine(boots) and len(boots) == len(stages))
        if not boot.is_done:
            print(f"FAIL  boot `{stage}` did not come to its end; see target/vm/console-{stage}.log")
            break
    is_good = is_fine(boots)
    print("-----> All checks passed" if is_good else "-----> Something failed")
    return 0 if is_good else 1


def is_fine(boots):
    return all(boot.is_done and boot.results and all(verdict == "PASS" for verdict, *_ in boot.results) for boot, _ in boots)


def record(boots, acked, is_complete):
    text = lambda *command: subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    titles = {"first": "Boot 1: a fresh machine", "again": "Boot 2: a reboot; then the power is cut under load",
              "proxy-late": "Boot 3: after the power cut, the proxy 20 s late",
              "daemon-late": "Boot 4: a reboot, the daemon 20 s late"}
    lines = ["# Wharf on Debian's own kernel: cgroup v2, systemd, reboots", "",
             "Written by `make vm`; do not edit. Debian 12 with systemd boots in qemu without KVM, so each",
             "second here is a slow one. Each line is one check and what it saw.", "",
             f"- run on {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, commit "
             f"{text('git', 'describe', '--always', '--dirty')}",
             f"- {text('qemu-system-x86_64', '--version').splitlines()[0]}, 2 emulated cores, 2 GiB, no network card; "
             f"{os.environ.get('VM_PROFILE', 'release')} build",
             f"- {sum(len(boot.results) for boot, _ in boots)} checks in {sum(took for _, took in boots):.0f} s: "
             f"{'all passed' if is_complete else 'not all passed, or not all made'}"]
    for boot, took in boots:
        lines += ["", f"## {titles.get(boot.stage, boot.stage)} ({took:.0f} s)", "",
                  "| | s | what must hold | what was seen |", "|---|---|---|---|"]
        lines += [f"| {verdict} | {seconds:.1f} | {name} | {evidence.replace('|', '/')} |" for verdict, seconds, name, evidence in boot.results]
        if boot.stage == "again":
            lines += ["", f"qemu was then killed with SIGKILL; last acknowledged: {acked}"]
        if not boot.is_done:
            lines += ["", "The boot did not come to its end."]
    os.makedirs(os.path.dirname(RECORD), exist_ok=True)
    with open(RECORD, "w") as file:
        file.write("\n".join(lines) + "\n")


sys.exit(main())
