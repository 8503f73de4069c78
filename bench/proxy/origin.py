"""What stands behind the proxies: an nginx with the bodies in memory, and a program that echoes."""

import subprocess
import sys
from pathlib import Path

import place

SMALL = "x" * 100 + "\n"
SIZES = {"10k": 10 * 1024, "1m": 1024**2, "100m": 100 * 1024**2}

CONFIG = """
worker_processes 1; daemon off; pid {data}/origin.pid; error_log {data}/origin.error;
events {{ worker_connections 16000; }}
http {{
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_requests 100000000; keepalive_timeout 3600s; client_max_body_size 0;
  upstream own {{ server 127.0.0.1:{port}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {data}/files;
    location = /small {{ default_type text/plain; return 200 "{small}"; }}
    # Read whole before it is answered, as apps do.
    location = /upload {{
      client_body_buffer_size 2m; proxy_method GET; proxy_pass_request_body off;
      proxy_set_header Content-Length ""; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_pass http://own/small;
    }}
  }}
}}
"""


class Origin:
    def __init__(self):
        self.port, self.echo_port = place.free_port(), place.free_port()
        self.started: list[subprocess.Popen] = []

    def start(self) -> None:
        files = place.DATA / "files"
        files.mkdir(parents=True)
        for name, size in SIZES.items():
            (files / name).write_bytes(b"x" * size)
        config = place.DATA / "origin.conf"
        config.write_text(CONFIG.format(data=place.DATA, port=self.port, small=SMALL.strip() + "x"))
        log = place.DATA / "origin.log"
        nginx = [place.program("nginx"), "-p", str(place.DATA), "-c", str(config)]
        self.started.append(place.start(place.OTHER_CORE, nginx, log))
        echo = [sys.executable, "-B", str(Path(__file__).parent / "echo.py"), str(self.echo_port)]
        self.started.append(place.start(place.OTHER_CORE, echo, log))

    def stop(self) -> None:
        for one in self.started:
            one.terminate()
        for one in self.started:
            one.wait()
