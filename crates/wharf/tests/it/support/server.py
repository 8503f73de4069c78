"""A small threaded web app for the tests. What it does is set by config vars."""
import http.server
import os
import socketserver
import sys
import threading
import time

VERSION = open("VERSION").read().strip() if os.path.exists("VERSION") else "none"
print(f"booting {VERSION}", flush=True)
if os.environ.get("CRASH_ON_BOOT"):
    print("cannot find my configuration", file=sys.stderr, flush=True)
    sys.exit(3)
if os.environ.get("BOOT_SECONDS"):
    time.sleep(float(os.environ["BOOT_SECONDS"]))
if os.environ.get("EAT_MEMORY"):
    hog = []
    while True:
        hog.append(bytearray(8 << 20))


def say(line):
    # One write: lines of threads do not mix.
    os.write(1, f"{line}\n".encode())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/eat":
            hog = []
            while True:
                hog.append(b"x" * (8 << 20))
        self.do_GET()

    def do_GET(self):
        if self.path.startswith("/seen/"):
            say(f"saw {self.command} {self.path}")
        if self.path == "/crash":
            os._exit(7)
        if self.path == "/say":
            print(f"saying {self.headers['X-Request-ID']}", flush=True)
        if self.path.startswith("/sleep/"):
            time.sleep(float(self.path.rsplit("/", 1)[1]))
        status = 500 if self.path == "/sick" else 200
        body = f"{VERSION} {os.environ.get('WHARF_REPLICA')} {os.environ.get('GREETING', '')}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-App", os.environ.get("WHARF_APP", ""))
        self.send_header("X-Path", self.path)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 1024


def count():
    number = 0
    while True:
        say(f"count {number}")
        number += 1
        time.sleep(0.005)


if os.environ.get("COUNT"):
    threading.Thread(target=count, daemon=True).start()
ports = [int(port) for port in os.environ.get("PORTS", os.environ["PORT"]).split(",")]
address = os.environ.get("BIND", "0.0.0.0")
for port in ports[1:]:
    threading.Thread(target=Server((address, port), Handler).serve_forever, daemon=True).start()
if ports[0]:
    Server((address, ports[0]), Handler).serve_forever()
else:
    time.sleep(3600)
