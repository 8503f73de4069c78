"""Websocket cases by hand, grouped and numbered after the Autobahn test suite's categories: frames as
bytes, so that broken ones can be sent as well."""

import struct
from dataclasses import dataclass

MASK = bytes((0x37, 0xFA, 0x21, 0x3D))
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def masked(payload: bytes) -> bytes:
    if not payload:
        return b""
    key = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")


def frame(opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0) -> bytes:
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + MASK + masked(payload)


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


@dataclass
class Case:
    group: str
    name: str
    sent: bytes
    # Bytes written at once; none writes all together.
    chop: int | None = None
    # Whether the peer must end the connection before we do.
    breaks: bool = False


def fragments(opcode: int, payload: bytes, size: int) -> bytes:
    pieces = [payload[at:at + size] for at in range(0, len(payload), size)] or [b""]
    last = len(pieces) - 1
    return b"".join(frame(opcode if n == 0 else 0, piece, fin=n == last)
                    for n, piece in enumerate(pieces))


def cases() -> list[Case]:
    end, found = close(), []

    def add(group, name, sent, chop=None):
        found.append(Case(group, name, sent + end, chop))

    def broken(group, name, sent, chop=None):
        found.append(Case(group, name, sent, chop, breaks=True))

    for kind, word, byte in ((TEXT, "text", b"*"), (BINARY, "binary", b"\xfe")):
        for size in (0, 125, 126, 127, 128, 65535, 65536):
            add("1 framing", f"{word} of {size}", frame(kind, byte * size))
        add("1 framing", f"{word} of 65536, 997 bytes at a time", frame(kind, byte * 65536), 997)
    for name, payload in (("empty", b""), ("text", b"Hello"), ("binary", b"\0\xff\xfe\xfd\xfc\xfb\0\xff"),
                          ("of 125", b"\xfe" * 125)):
        add("2 pings", f"ping {name}", frame(PING, payload))
        add("2 pings", f"pong {name}, unasked", frame(PONG, payload))
        add("2 pings", f"ping {name}, a byte at a time", frame(PING, payload), 1)
    broken("2 pings", "ping of 126", frame(PING, b"\xfe" * 126))
    add("2 pings", "ten pings", b"".join(frame(PING, b"%d" % n) for n in range(10)))
    add("2 pings", "ten pings, a byte at a time", b"".join(frame(PING, b"%d" % n) for n in range(10)), 1)
    for rsv in range(1, 8):
        broken("3 reserved bits", f"bits {rsv}", frame(TEXT, b"x", rsv=rsv))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        broken("4 opcodes", f"opcode {opcode}", frame(opcode))
        broken("4 opcodes", f"opcode {opcode} after a text", frame(TEXT, b"x") + frame(opcode, b"y"))
    broken("5 fragments", "a ping in two", frame(PING, b"a", fin=False) + frame(0, b"b"))
    for chop in (None, 1):
        word = ", a byte at a time" if chop else ""
        add("5 fragments", f"text in two{word}", frame(TEXT, b"a", fin=False) + frame(0, b"b"), chop)
        add("5 fragments", f"a ping between{word}",
            frame(TEXT, b"a", fin=False) + frame(PING, b"p") + frame(0, b"b"), chop)
        broken("5 fragments", f"a continuation of nothing{word}", frame(0, b"b"), chop)
        broken("5 fragments", f"a text within a text{word}",
               frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), chop)
        add("5 fragments", f"five pieces with pings between{word}",
            frame(TEXT, b"1", fin=False) + frame(0, b"2", fin=False) + frame(PING, b"p")
            + frame(0, b"3", fin=False) + frame(0, b"4", fin=False) + frame(PING, b"q")
            + frame(0, b"5"), chop)
    good = ["", "Hello-µ@ßöäüàá-UTF-8!!", "\u0000", "\u007f", "\u0080", "\u07ff", "\u0800", "\uffff",
            "\U00010000", "\U0010ffff", "\ud7ff", "\ue000", "\ufffd", "κόσμε", "\ufdd0", "\U0001fffe"]
    for text in good:
        payload = text.encode()
        add("6 UTF-8", f"good {text!a}", frame(TEXT, payload))
        add("6 UTF-8", f"good {text!a} in pieces of a byte", fragments(TEXT, payload, 1))
        add("6 UTF-8", f"good {text!a}, a byte at a time", frame(TEXT, payload), 1)
    bad = [b"\xce\xba\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xbf", b"\xc0", b"\xc1\xbf", b"\xfe",
           b"\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xed\xbf\xbf", b"\xf8\x88\x80\x80\x80",
           b"\xce", b"\xe2\x82", b"\xf0\x9f\x98"]
    for payload in bad:
        broken("6 UTF-8", f"bad {payload.hex()}", frame(TEXT, payload))
        broken("6 UTF-8", f"bad {payload.hex()} in pieces of a byte", fragments(TEXT, payload, 1))
    add("7 closing", "with nothing", b"")
    for name, sent in (("no code", close(None)), ("a reason", close(1000, b"Hello")),
                       ("a reason of 123", close(1000, b"*" * 123)),
                       ("a message after it", close() + frame(TEXT, b"late")),
                       ("a ping after it", close() + frame(PING, b"late")),
                       ("twice", close() + close())):
        found.append(Case("7 closing", name, sent))
    broken("7 closing", "a body of one byte", frame(CLOSE, b"\x03"))
    broken("7 closing", "a body of 126", frame(CLOSE, b"\x03\xe8" + b"*" * 124))
    broken("7 closing", "a reason that is not UTF-8", close(1000, b"\xce\xba\xed\xa0\x80"))
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        found.append(Case("7 closing", f"code {code}", close(code)))
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        broken("7 closing", f"code {code}", close(code))
    for kind, word in ((TEXT, "text"), (BINARY, "binary")):
        for size in (64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20):
            add("9 limits", f"{word} of {size >> 10} KiB", frame(kind, b"*" * size))
        for piece in (64, 4 << 10, 256 << 10):
            add("9 limits", f"{word} of 4 MiB in pieces of {piece}", fragments(kind, b"*" * (4 << 20), piece))
        for chop in (64, 1024):
            add("9 limits", f"{word} of 1 MiB, {chop} bytes at a time", frame(kind, b"*" * (1 << 20)), chop)
        for size in (0, 16, 1024, 65536):
            add("9 limits", f"1000 messages of {size} ({word})", frame(kind, b"*" * size) * 1000)
    add("10 pieces", "text of 65536 in pieces of 1300", fragments(TEXT, b"*" * 65536, 1300))
    return found
