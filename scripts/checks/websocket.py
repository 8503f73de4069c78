"""Websockets through the proxy, case by case. Writes docs/checks/websockets.md.

The cases follow the Autobahn test suite's categories; the suite itself is a Python 2 program that does
not run here any more. A proxy carries bytes, so each case is made three times against one peer (the
PyPI library `wsproto`): directly, through the proxy, and through the proxy over TLS. What comes back
must be the same to the byte."""

import asyncio
import collections
import importlib.metadata
import ssl
import sys
import time

import edge
import report
import tls
import wire
from websockets.asyncio.client import connect
from wsproto import ConnectionType, WSConnection, events
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import RemoteProtocolError

ASK = (f"GET /echo HTTP/1.1\r\nHost: {edge.HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").encode()
AT_ONCE = 200


class Echo(asyncio.Protocol):
    """The peer: answers each message with itself, strictly in order."""

    def connection_made(self, transport):
        self.transport, self.pieces = transport, []
        self.socket = WSConnection(ConnectionType.SERVER)

    def data_received(self, data):
        try:
            self.socket.receive_data(data)
            for event in self.socket.events():
                self.take(event)
        except RemoteProtocolError as error:
            self.transport.write(self.socket.send(error.event_hint))
            self.transport.close()

    def take(self, event):
        send = lambda event: self.transport.write(self.socket.send(event))
        match event:
            case events.Request():
                send(events.AcceptConnection(extensions=[PerMessageDeflate()]))
            case events.Ping():
                send(event.response())
            case events.CloseConnection():
                # Asked to, or having met a broken frame: the code says which.
                if self.socket.state.name in ("REMOTE_CLOSING", "OPEN"):
                    send(event.response())
                self.transport.close()
            case events.Message():
                self.pieces.append(event.data)
                if event.message_finished:
                    whole = type(event.data)().join(self.pieces)
                    self.pieces.clear()
                    send(events.Message(data=whole))


async def speak(place, case: wire.Case) -> bytes:
    """Everything that comes back after the handshake, up to the end of the connection."""
    reader, writer = await asyncio.open_connection(*place[0], **place[1])
    writer.write(ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101"):
        raise ValueError(head.decode())

    async def write() -> None:
        try:
            step = case.chop or 1 << 18
            for at in range(0, len(case.sent), step):
                writer.write(case.sent[at:at + step])
                await writer.drain()
        except OSError:
            pass  # The peer has heard enough.

    writing, got = asyncio.create_task(write()), bytearray()
    try:
        while piece := await reader.read(1 << 18):
            got += piece
    except OSError:
        pass
    writing.cancel()
    writer.close()
    return bytes(got)


def frames(got: bytes) -> list[tuple[int, bytes]]:
    """The frames of the peer, which are not masked."""
    found, at = [], 0
    while at + 2 <= len(got):
        size, body = got[at + 1] & 127, at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, body = int.from_bytes(got[body:body + width], "big"), body + width
        found.append((got[at], got[body:body + size]))
        at = body + size
    return found


async def deflated(place, uri: str) -> int:
    """Messages with permessage-deflate, as browsers send them; how many came back the same."""
    texts = ["", "x", "Hello " * 2000, "".join(map(chr, range(32, 3000))), "*" * (4 << 20)]
    count = 0
    async with connect(uri, host=place[0][0], port=place[0][1], max_size=None, **place[1]) as one:
        for text in texts * 4:
            await one.send(text)
            count += await one.recv() == text
            await one.send(text.encode())
            count += await one.recv() == text.encode()
    return count


async def many(place) -> int:
    """Connections at once, each with messages of its own; how many got only theirs."""
    async def one(number: int) -> bool:
        sent = b"".join(wire.frame(wire.TEXT, b"%d/%d" % (number, n)) for n in range(50))
        got = await speak(place, wire.Case("", "", sent + wire.close()))
        return [body for _, body in frames(got)[:-1]] == [b"%d/%d" % (number, n) for n in range(50)]
    return sum(await asyncio.gather(*(one(number) for number in range(AT_ONCE))))


async def run(page: report.Report, one: edge.Edge, port: int, trust: ssl.SSLContext) -> None:
    secure = {"ssl": trust, "server_hostname": edge.HOST}
    direct, plain = (("127.0.0.1", port), {}), (("127.0.0.1", one.port), {})
    over_tls = (("127.0.0.1", one.https_port), secure)
    tally, wrong, began = collections.Counter(), collections.defaultdict(list), time.monotonic()
    for case in wire.cases():
        expected = await asyncio.wait_for(speak(direct, case), 120)
        ended = [kind & 15 for kind, _ in frames(expected)][-1:]
        tally["the peer's own word"] += 1
        if ended != [wire.CLOSE] or case.name.startswith(("text of", "binary of")) and len(expected) < 4:
            wrong["the peer's own word"].append(f"{case.name}: {expected[:20]!r}")
        for way, place in (("http", plain), ("https", over_tls)):
            try:
                got = await asyncio.wait_for(speak(place, case), 120)
                is_same, seen = got == expected, f"{len(got)} bytes for {len(expected)}"
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                is_same, seen = False, repr(error)
            tally[case.group] += 1
            if not is_same:
                wrong[case.group].append(f"{case.name} by {way}: {seen}")
    for group, count in tally.items():
        bad = wrong[group]
        page.check(not bad, group, f"{count - len(bad)} of {count} the same"
                   + (f"; first: {bad[0]}" if bad else ""))
    for way, place, scheme in (("http", plain, "ws"), ("https", over_tls, "wss")):
        count = await deflated(place, f"{scheme}://{edge.HOST}/echo")
        page.check(count == 40, f"12 compressed messages ({way})", f"{count} of 40 came back the same")
        count = await many(place)
        page.check(count == AT_ONCE, f"{AT_ONCE} connections at once ({way})", f"{count} got theirs and no other's")
    page.facts.append(f"{sum(tally.values())} runs of {len(wire.cases())} cases in "
                      f"{time.monotonic() - began:.0f} s")


async def begin(page: report.Report) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=1024)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with edge.Edge(port) as one:
            ca, chain, key = tls.certificate(one.folder)
            one.certify(chain, key, hsts=False, redirect=None)
            trust = ssl.create_default_context(cafile=str(ca))
            trust.set_alpn_protocols(["http/1.1"])
            await run(page, one, port, trust)


def main() -> int:
    edge.build()
    page = report.Report("websockets.md", "Websockets through the proxy",
                         "Written by `make websocket-check`; do not edit. The cases follow the categories "
                         "of the Autobahn test suite, which is a Python 2 program and does not run here "
                         "itself: each is made directly, through the proxy, and through it over TLS, and "
                         "what comes back must be the same.")
    page.facts.append(f"peer: wsproto {importlib.metadata.version('wsproto')}; {edge.PROFILE} build")
    asyncio.run(begin(page))
    return 0 if page.write() else 1


if __name__ == "__main__":
    sys.exit(main())
