"""The app behind a check: answers small and large, takes uploads whole."""

import asyncio

LARGE = b"x" * (1 << 20)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            words = head.split(b"\r\n", 1)[0].split(b" ")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
            if fields.get(b"transfer-encoding") == b"chunked":
                while size := int(await reader.readline(), 16):
                    await reader.readexactly(size + 2)
                while await reader.readline() not in (b"\r\n", b""):
                    pass
            elif length := int(fields.get(b"content-length", b"0")):
                await reader.readexactly(length)
            body = LARGE if words[1].startswith(b"/large") else b"hello\n"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
                         % len(body) + (b"" if words[0] == b"HEAD" else body))
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError, ValueError):
        pass
    finally:
        writer.close()


async def start() -> tuple[asyncio.Server, int]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    return server, server.sockets[0].getsockname()[1]


class Threaded:
    """The app in a thread of its own."""

    def __enter__(self):
        import threading

        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        future = asyncio.run_coroutine_threadsafe(start(), self.loop)
        _server, self.port = future.result(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
