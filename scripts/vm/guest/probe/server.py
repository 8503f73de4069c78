"""What the checks push: answers its version and who it is, and misbehaves when asked to."""
import http.server
import os
import socketserver

VERSION = open("VERSION").read().strip()
print(f"booting {VERSION}", flush=True)


def fork_until_refused():
    count = 0
    children = []
    try:
        while True:
            pid = os.fork()
            if pid == 0:
                os.read(gate[0], 1)
                os._exit(0)
            children.append(pid)
            count += 1
    except OSError as error:
        why = error.strerror
    for _ in children:
        os.write(gate[1], b".")
    for pid in children:
        os.waitpid(pid, 0)
    return f"{count} children, then: {why}"


def eat():
    hog = []
    while True:
        hog.append(bytearray(b"x") * (4 << 20))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/eat":
            eat()
        said = fork_until_refused() if self.path == "/fork" else f"{VERSION} {os.environ['WHARF_REPLICA']}"
        body = f"{said}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


gate = os.pipe()
Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
