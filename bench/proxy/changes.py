"""A change among 10,000 apps with 100,000 routes: how long until it is served and kept, and what
visitors notice of it. The peers are told as they are told: a new configuration, read whole."""

import json
import signal
import socket
import threading
import time
import uuid

import load
from peers import APP, Nginx, Wharf

APPS, EACH = 10_000, 10
# A change so often, while so many visitors come a second.
GAP, RATE = 0.05, 1000


class Crowded(Wharf):
    """Wharf with all those apps; app 1 is the one that is asked."""

    name = "Wharf, many apps"

    def parts(self, origin, routes: int) -> dict:
        many = {str(uuid.UUID(int=1000 + number)): self.part(
            f"many{number}", origin.port, 1_000_000 + number, names_of(number))
            for number in range(APPS)}
        return super().parts(origin, 1) | many


def names_of(number: int) -> list[str]:
    return [f"{name}.many{number}.bench" for name in range(EACH)]


class Line:
    """The control socket: a line of JSON each way."""

    def __init__(self, peer):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(peer.data / "control/socket"))
        self.lines = self.socket.makefile("rw")
        self.lines.readline()

    def ask(self, question: dict) -> dict:
        self.lines.write(json.dumps(question) + "\n")
        self.lines.flush()
        return json.loads(self.lines.readline())


def measure(peer, origin, seconds: float) -> dict:
    """Times of changes in ms, and the latencies of visitors without and with them."""
    calm = load.steady(peer.port, RATE, seconds)
    line = Line(peer)
    times, stop = [], threading.Event()

    def change() -> None:
        version = 1
        while not stop.is_set():
            version += 1
            # By turns the app that is asked, which gets another replica, and one that gets a host more.
            if version % 2:
                part = peer.part("app", origin.port, 10_000_000 + version, [APP])
                parts = {str(uuid.UUID(int=1)): part}
            else:
                names = [*names_of(7), f"v{version}.many7.bench"]
                parts = {str(uuid.UUID(int=1007)): peer.part("many7", origin.port, 1_000_007, names)}
            began = time.monotonic()
            said = line.ask({"change": {"base": version - 1, "version": version, "parts": parts}})
            times.append((time.monotonic() - began) * 1000)
            if "applied" not in said:
                raise SystemExit(f"a change was refused: {said}")
            stop.wait(GAP)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        busy = load.steady(peer.port, RATE, seconds)
    finally:
        stop.set()
        changing.join()
    return {"times_ms": times, "calm": calm, "busy": busy}


def reload(origin) -> float:
    """Seconds until nginx serves a host that came with a new configuration of as many hosts."""
    peer = Nginx()
    peer.start(origin, APPS * EACH)
    try:
        load.wait_for(peer)
        peer.command(origin, APPS * EACH + 1)
        began = time.monotonic()
        peer.process.send_signal(signal.SIGHUP)
        while load.status(peer.port, f"app{APPS * EACH}.bench") != 200:
            if time.monotonic() - began > 60:
                raise SystemExit("nginx did not take its new configuration")
            time.sleep(0.005)
        return time.monotonic() - began
    finally:
        peer.stop()
