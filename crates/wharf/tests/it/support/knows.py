"""An app that knows its customers' domains, and counts how often it was asked about each."""
import collections
import http.server
import json
import os
import socketserver
import urllib.parse

asked = collections.Counter()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        status, body = 200, f"welcome to {self.headers['Host']}\n"
        if url.path == "/knows-host":
            host = urllib.parse.parse_qs(url.query)["host"][0]
            asked[host] += 1
            status = 200 if host.endswith(".customer.test") else 404
        elif url.path == "/asked":
            body = json.dumps(asked)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


Server(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
