"""The visitors: wrk as fast as it goes, a steady rate, a crowd that is idle, a crowd that echoes."""

import asyncio
import http.client
import json
import re
import socket
import subprocess
import time

import place
from peers import APP

UPLOAD = """
wrk.method = "POST"
wrk.body = string.rep("x", 1048576)
"""
# A masked text frame of 100 bytes, as a browser sends it (RFC 6455, 5.2).
FRAME = bytes([0x81, 0x80 | 100, 1, 2, 3, 4]) + bytes(ord("x") ^ (1 + n % 4) for n in range(100))


class Bad(Exception):
    """An answer was wrong, so that the figure is worth nothing."""


def wrk(port: int, path: str, connections: int, seconds: float, *more: str, tls=False) -> dict:
    words = ["taskset", "-c", str(place.OTHER_CORE), place.program("wrk"), "-t1",
             f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s", "-H", f"Host: {APP}", *more]
    if path == "/upload":
        script = place.DATA / "upload.lua"
        script.write_text(UPLOAD)
        words += ["-s", str(script)]
    if tls:
        words = [*known_as(APP), *words, f"https://{APP}:{port}{path}"]
    else:
        words.append(f"http://127.0.0.1:{port}{path}")
    done = subprocess.run(words, capture_output=True, text=True)
    said = done.stdout
    count = re.search(r"(\d+) requests in", said)
    if not count or int(count[1]) == 0:
        raise Bad(f"no answer: {said}{done.stderr}")
    for wrong in ("Non-2xx", "Socket errors"):
        if wrong in said:
            raise Bad(said)
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    return {"requests": int(count[1]), "rate": rate}


def status(port: int, host: str) -> int:
    """What a request for that host is answered with."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        asked.request("GET", "/small", headers={"Host": host})
        return asked.getresponse().status
    except OSError:
        return 0
    finally:
        asked.close()


def wait_for(peer) -> None:
    """Waits until a proxy answers."""
    until = time.monotonic() + 60
    while True:
        try:
            wrk(peer.port, "/small", 1, 1)
            return
        except Bad as error:
            if time.monotonic() > until or peer.process.poll() is not None:
                said = (peer.data / "output").read_text(errors="replace")[-2000:]
                raise SystemExit(f"{peer.name} does not answer: {error}\n{said}") from error


def known_as(name: str) -> list[str]:
    """Runs a command where that name is this machine, and nowhere else."""
    hosts = place.DATA / "hosts"
    hosts.write_text(f"127.0.0.1 {name}\n")
    script = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh"]


def http2(port: int, path: str, connections: int, streams: int, seconds: float) -> dict:
    words = ["taskset", "-c", str(place.OTHER_CORE), place.program("h2load"), "-t1",
             f"-c{connections}", f"-m{streams}", f"-D{seconds:g}", f"--connect-to=127.0.0.1:{port}",
             f"https://{APP}:{port}{path}"]
    done = subprocess.run(words, capture_output=True, text=True)
    said = done.stdout
    counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", said)
    rate = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", said)
    good = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", said)
    if not (counts and rate and good) or any(int(wrong) for wrong in counts.groups()[1:]):
        raise Bad(f"{said[-600:]}{done.stderr[-300:]}")
    return {"requests": int(counts[1]), "rate": float(rate[1])}


def steady(port: int, rate: int, seconds: float) -> dict:
    """Requests at fixed times, whether earlier ones were answered or not; times in µs."""
    words = ["taskset", "-c", str(place.OTHER_CORE), str(place.BUILT / "examples/steady"),
             f"127.0.0.1:{port}", APP, "/small", str(rate), f"{seconds:g}"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise Bad(done.stderr)
    said = json.loads(done.stdout)
    return said | {"rate": said["requests"] / seconds}


def idle(peer, count: int) -> float:
    """Bytes of the proxy's memory per connection that has asked once and waits."""
    before, crowd = peer.pss_kib(), []
    ask = f"GET /small HTTP/1.1\r\nHost: {APP}\r\n\r\n".encode()
    try:
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", peer.port), timeout=30)
            crowd.append(one)
            one.sendall(ask)
            answer = b""
            while b"xxx\n" not in answer and not answer.endswith(b"x" * 100):
                piece = one.recv(4096)
                if not piece:
                    raise Bad("closed instead of answered")
                answer += piece
        # What was lent to the requests is given back in this time, as everybody does.
        time.sleep(5)
        return (peer.pss_kib() - before) * 1024 / count
    except OSError as error:
        raise Bad(f"with {len(crowd)} connections: {error}") from error
    finally:
        for one in crowd:
            one.close()


class Talker(asyncio.Protocol):
    def __init__(self, tally: dict):
        self.tally, self.got, self.head = tally, 0, b""

    def connection_made(self, transport):
        self.transport = transport
        transport.write(
            b"GET / HTTP/1.1\r\nHost: socket.bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )

    def data_received(self, data):
        if self.head is not None:
            self.head += data
            head, end, data = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head:
                self.tally["wrong"] += 1
                return
            self.head = None
            self.transport.write(FRAME)
        self.got += len(data)
        while self.got >= len(FRAME):
            self.got -= len(FRAME)
            self.tally["messages"] += 1
            self.transport.write(FRAME)


def websocket(port: int, connections: int, seconds: float) -> dict:
    tally = {"messages": 0, "wrong": 0}

    async def talk() -> None:
        loop = asyncio.get_running_loop()
        made = [await loop.create_connection(lambda: Talker(tally), "127.0.0.1", port)
                for _ in range(connections)]
        await asyncio.sleep(seconds)
        for transport, _ in made:
            transport.abort()

    asyncio.run(talk())
    if tally["wrong"] or not tally["messages"]:
        raise Bad(f"no echo: {tally}")
    return {"requests": tally["messages"], "rate": tally["messages"] / seconds}
