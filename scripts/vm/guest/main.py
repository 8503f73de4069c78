"""Runs the stage that the kernel's command line names, a line on the console for each check, and turns
the machine off."""
import re
import subprocess
import time
import traceback

import stages

PASSED, FAILED = "PASS", "FAIL"


def tell(*words):
    print("@@", *words, flush=True)


def main():
    line = open("/proc/cmdline").read()
    options = dict(re.findall(r"vm\.(\w+)=(\S+)", line))
    stage = options.pop("stage", "none")
    tell("STAGE", stage)
    for check in stages.STAGES.get(stage, []):
        began = time.monotonic()
        try:
            evidence, verdict = check(tell, options), PASSED
        except Exception as error:
            evidence, verdict = f"{type(error).__name__}: {error}", FAILED
            print(traceback.format_exc(), flush=True)
        told = " ".join(str(evidence).split())
        tell(verdict, f"{time.monotonic() - began:.1f}", f"{check.__doc__.strip()} | {told}")
        if verdict == FAILED:
            for unit in ("wharf", "wharf-proxy"):
                subprocess.run(["journalctl", "-q", "--no-pager", "-n", "40", "-o", "cat", "-u", unit])
        if verdict == FAILED and check in stages.ESSENTIAL:
            break
    tell("DONE", stage)
    subprocess.run(["systemctl", "poweroff", "--no-block"])


main()
