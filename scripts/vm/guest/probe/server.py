"""What the checks push: answers its version and who it is, and misbehaves when asked to."""
import http.server
import os
import signal
import socketserver
import subprocess
import threading

VERSION = open("VERSION").read().strip()
print(f"booting {VERSION}", flush=True)


def fork_until_refused():
    # Small children: a thousand copies of this interpreter would hit the memory limit first.
    script = "while :; do sleep 600 2>/dev/null & done"
    bomb = subprocess.Popen(["sh", "-c", script], stderr=subprocess.PIPE, text=True, start_new_session=True)
    forked.append(bomb.communicate()[1].strip())
    os.killpg(bomb.pid, signal.SIGKILL)


def eat():
    hog = []
    while True:
        hog.append(bytearray(b"x") * (4 << 20))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/eat":
            eat()
        said = f"{VERSION} {os.environ['WHARF_REPLICA']}"
        if self.path == "/fork":
            threading.Thread(target=fork_until_refused, daemon=True).start()
        if self.path == "/forked":
            said = forked[-1] if forked else "not yet"
        body = f"{said}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


forked = []
Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
