"""A process that keeps a second book, in a volume: each line it printed, and how it ended.

    teller.py web            the small web app of the tests, beside which it prints
    teller.py worker         prints until it is told to end
    teller.py once CODE      prints thirty lines and ends with that code

Whoever writes a number into `/book/order.<name>` has it end with that code.
"""
import os
import re
import signal
import sys
import threading
import time

name, role = os.environ["WHARF_REPLICA"], sys.argv[1]
# The container's own folders tell which container this is.
mounts = open("/proc/self/mountinfo").read()
life = re.search(r"/scratch/([0-9a-f-]{36})/", mounts).group(1)
book = os.open(f"/book/{name}~{life}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def note(text):
    os.write(book, f"{text}\n".encode())


def end(code):
    note(f"exit {code}")
    os._exit(code)


def tell(number):
    os.write(1, f"line {life} {number}.\n".encode())
    note(number)


def obey():
    order = f"/book/order.{name}"
    try:
        code = int(open(order).read())
        os.unlink(order)
    except FileNotFoundError:
        return
    end(code)


def go_on():
    number = 0
    while True:
        number += 1
        tell(number)
        obey()
        time.sleep(0.01)


# A code of its own, so that its end is told from that of another of its name.
own = 30 + int(life[-4:], 16) % 60
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: end(own))
note("begin " + " ".join(sys.argv[1:]))
if role == "once":
    for number in range(1, 31):
        tell(number)
        time.sleep(0.003)
    end(int(sys.argv[2]))
if os.environ.get("BREAK"):
    end(29)
if role == "worker":
    go_on()
threading.Thread(target=go_on, daemon=True).start()
exec(compile(open("server.py").read(), "server.py", "exec"))
