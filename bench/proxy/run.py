"""Cases × rounds × proxies, interleaved: who begins moves on by one each round."""

import argparse
import json
import resource
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import changes  # noqa: E402
import load  # noqa: E402
import machine  # noqa: E402
import place  # noqa: E402
import table  # noqa: E402
from origin import Origin  # noqa: E402
from peers import BARE, FLOORS, PEERS, Copies, Splices  # noqa: E402

# name → path, connections, more words for wrk
WRK = {
    "101 B": ("/small", 64, ()),
    "10 KiB": ("/10k", 64, ()),
    "1 MiB": ("/1m", 16, ()),
    "100 MiB": ("/100m", 4, ()),
    "upload 1 MiB": ("/upload", 16, ()),
    "101 B, new connection each": ("/small", 64, ("-H", "Connection: close")),
}
# The same over TLS.
TLS = {
    "TLS, 101 B": ("/small", 64, ()),
    "TLS, 1 MiB": ("/1m", 16, ()),
    "TLS, 101 B, new connection each": ("/small", 64, ("-H", "Connection: close")),
}
# name → path, connections, requests at once on each
HTTP2 = {
    "HTTP/2, 101 B": ("/small", 16, 8),
    "HTTP/2, 1 MiB": ("/1m", 8, 2),
}
ROUTES = (10, 1_000, 10_000)
STEADY_RATE = 4_000
IDLE = (1_000, 10_000)


def say(text: str) -> None:
    print(f"-----> {text}", flush=True)


class Bench:
    def __init__(self, options, stack: ExitStack):
        self.options, self.stack, self.origin = options, stack, Origin()
        self.peers = {kind.name: kind() for kind in (*PEERS, *BARE, *FLOORS)}
        self.result = {"machine": machine.describe() | table.versions(), "cases": {}, "notes": []}

    def run(self) -> None:
        self.stack.callback(self.origin.stop)
        self.origin.start()
        self.result["machine"]["busy_before"] = machine.busy(3)
        self.start_peers(10)
        names = [kind.name for kind in PEERS]
        bare = [kind.name for kind in BARE]
        more_sides = {"101 B": [*bare, Copies.name], "10 KiB": [Copies.name],
                      "1 MiB": [Splices.name], "100 MiB": [Splices.name]}
        for case, (path, connections, more) in WRK.items():
            sides = names + more_sides.get(case, [])
            self.case(case, sides, lambda peer: load.wrk(
                peer.port, path, connections, self.options.seconds, *more))
        for case, (path, connections, more) in TLS.items():
            self.case(case, names, lambda peer: load.wrk(
                peer.tls_port, path, connections, self.options.seconds, *more, tls=True))
        for case, (path, connections, streams) in HTTP2.items():
            self.case(case, names, lambda peer: load.http2(
                peer.tls_port, path, connections, streams, self.options.seconds))
        self.case("websocket echo, 100 B", names, lambda peer: load.websocket(
            peer.port, 64, self.options.seconds))
        self.case(f"{STEADY_RATE} requests/s", names, lambda peer: load.steady(
            peer.port, STEADY_RATE, self.options.seconds))
        for count in IDLE:
            if self.wanted(f"{count} idle connections"):
                # Fresh ones: what the rows above have freed would be counted as nothing.
                self.start_peers(10)
            self.case(f"{count} idle connections", names, lambda peer: {
                "requests": count, "bytes": load.idle(peer, count)}, rounds=1)
        for count in ROUTES:
            if self.wanted(f"{count} routes"):
                self.start_peers(count)
            self.case(f"{count} routes", names, lambda peer: load.wrk(
                peer.port, "/small", 64, self.options.seconds))
        self.changes()
        self.result["machine"]["busy_after"] = machine.busy(3)

    def wanted(self, case: str) -> bool:
        return not self.options.only or any(word in case for word in self.options.only)

    def start_peers(self, routes: int) -> None:
        for peer in self.peers.values():
            peer.stop()
            self.stack.callback(peer.stop)
            peer.start(self.origin, routes)
        for peer in self.peers.values():
            load.wait_for(peer)

    def changes(self) -> None:
        """A change among 100,000 routes; alone, for its memory and its fsyncs are others' noise."""
        if not self.wanted("changes"):
            return
        say("a change among 100,000 routes")
        for peer in self.peers.values():
            peer.stop()
        peer = changes.Crowded()
        self.stack.callback(peer.stop)
        peer.start(self.origin, 1)
        load.wait_for(peer)
        self.result["changes"] = changes.measure(peer, self.origin, 2 * self.options.seconds)
        peer.stop()
        self.result["changes"]["nginx_s"] = [changes.reload(self.origin) for _ in range(3)]
        print(table.changes(self.result["changes"]), flush=True)

    def case(self, name: str, sides: list[str], measure, rounds: int | None = None) -> None:
        if not self.wanted(name):
            return
        say(name)
        rows = self.result["cases"][name] = {side: [] for side in sides}
        rounds = rounds or self.options.rounds
        for number in range(rounds + 1 if rounds > 1 else 1):
            for step in range(len(sides)):
                side = sides[(number + step) % len(sides)]
                self.turn(rows, side, measure, is_counted=number > 0 or rounds == 1)
        for side in sides:
            print(f"       {side:26} {table.cell(rows[side])}", flush=True)

    def turn(self, rows: dict, side: str, measure, is_counted: bool) -> None:
        peer = self.peers[side]
        before, began = peer.cpu_ns(), time.monotonic()
        try:
            one = measure(peer)
        except load.Bad as error:
            self.result["notes"].append(f"{side}: {error}")
            say(f"a round of {side} does not count: {str(error)[:300]}")
            return
        one["cpu_us"] = (peer.cpu_ns() - before) / 1000 / one["requests"]
        one["core"] = (peer.cpu_ns() - before) / 1e9 / (time.monotonic() - began)
        if is_counted:
            rows[side].append(one)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", type=lambda text: text.split(","), default=[])
    parser.add_argument("--dry", action="store_true", help="write nothing into docs")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    shutil.rmtree(place.DATA, ignore_errors=True)
    place.DATA.mkdir(parents=True, mode=0o755)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, place.DATA, ignore_errors=True)
        bench = Bench(options, stack)
        try:
            bench.run()
        except BaseException:
            # What was measured until then took minutes.
            bench.result["machine"].setdefault("busy_after", 0)
            print(table.render(bench.result))
            raise
    if options.dry or options.only:
        print(table.render(bench.result))
        return
    docs = place.TREE / "docs/benchmarks"
    (docs / "proxy.json").write_text(json.dumps(bench.result, indent=1) + "\n")
    (docs / "proxy.md").write_text(table.render(bench.result))
    say("wrote docs/benchmarks/proxy.md")


if __name__ == "__main__":
    main()
