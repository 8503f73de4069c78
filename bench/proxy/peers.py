"""The proxies, each with the best settings we know and the same features: a log line with a request
id per request, forwarding headers, connections kept to the app. One core each."""

import hashlib
import json
import os
import re
import signal
import subprocess
import uuid

import place
import secure

APP = "app0.bench"


def hosts(count: int) -> list[str]:
    return [f"app{number}.bench" for number in range(count)]


class Peer:
    """A proxy that serves `routes` hosts; host `socket.bench` goes to the websocket app."""

    name = ""
    version: tuple[str, ...] = ()

    def __init__(self):
        self.port, self.tls_port = place.free_port(), place.free_port()
        self.data = place.DATA / re.sub(r"\W+", "-", self.name)
        self.process: subprocess.Popen | None = None

    def start(self, origin, routes: int) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        words, environment = self.command(origin, routes)
        self.process = place.start(
            place.PROXY_CORE, words, self.data / "output", env={**os.environ, **environment}
        )
        self.began()

    def began(self) -> None:
        """What is left to tell it once it runs."""

    def command(self, origin, routes: int) -> tuple[list[str], dict[str, str]]:
        raise NotImplementedError

    def stop(self) -> None:
        if self.process is None:
            return
        # Caddy and the holder end on TERM; nginx and HAProxy drop what is open on QUIT's brother.
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def cpu_ns(self) -> int:
        return place.cpu_ns(self.process.pid)

    def pss_kib(self) -> int:
        return place.pss_kib(self.process.pid)


NGINX = """
worker_processes 1; daemon off; pid {data}/pid; error_log {data}/error.log;

events {{ worker_connections 16000; multi_accept on; }}
http {{
  {log}
  keepalive_requests 100000000; keepalive_timeout 3600s; client_max_body_size 0;
  tcp_nodelay on; server_names_hash_max_size 65536; server_names_hash_bucket_size 128;
  map_hash_max_size 65536; map_hash_bucket_size 128;
  client_body_buffer_size 2m;
  proxy_http_version 1.1; proxy_request_buffering off;
  proxy_buffers 16 128k; proxy_buffer_size 16k; proxy_busy_buffers_size 256k;
  proxy_max_temp_file_size 0;
  map $http_upgrade $connection_header {{ default upgrade; "" ""; }}
  upstream app {{ server 127.0.0.1:{origin}; keepalive 512; keepalive_requests 100000000; }}
  upstream echo {{ server 127.0.0.1:{echo}; }}
  map $host $to {{ socket.bench echo; {routes} }}
  server {{
    listen 127.0.0.1:{port} reuseport backlog=4096;
    listen 127.0.0.1:{tls} ssl http2 reuseport backlog=4096;
    ssl_certificate {chain}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;
    http2_max_concurrent_streams 128;
    location / {{
      if ($to = "") {{ return 404; }}
      proxy_pass http://$to; proxy_set_header Host $host;
      proxy_set_header Connection $connection_header; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme; {id}
    }}
  }}
}}
"""
NGINX_LOG = """log_format line '$time_iso8601 $remote_addr "$request" $host $status '
    '$body_bytes_sent $request_time $upstream_response_time $request_id';
  access_log {data}/access.log line buffer=64k flush=1s;"""


class Nginx(Peer):
    name, version = "nginx", ("nginx", "-v")
    log, id = NGINX_LOG, "proxy_set_header X-Request-ID $request_id;"

    def command(self, origin, routes):
        config = self.data / "nginx.conf"
        chain, key, _ = secure.make(APP)
        config.write_text(NGINX.format(
            data=self.data, log=self.log.format(data=self.data), id=self.id, port=self.port,
            tls=self.tls_port, chain=chain, key=key, origin=origin.port, echo=origin.echo_port,
            routes=" ".join(f"{host} app;" for host in hosts(routes)),
        ))
        return [place.program("nginx"), "-p", str(self.data), "-c", str(config)], {}


class NginxBare(Nginx):
    name, log, id = "nginx, no log and no id", "access_log off;", ""


HAPROXY = """
global
  nbthread 1
  maxconn 15000
  maxpipes 200
  no strict-limits
  {log_to}
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  option http-keep-alive
  option splice-auto
  http-reuse always
  {log}
frontend front
  bind 127.0.0.1:{port} backlog 4096
  bind 127.0.0.1:{tls} ssl crt {pem} alpn h2,http/1.1 backlog 4096
  option forwardfor
  {id}
  http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
  use_backend %[req.hdr(host),field(1,:),lower,map({map},none)]
backend app
  server one 127.0.0.1:{origin} pool-max-conn 512
backend echo
  server one 127.0.0.1:{echo}
backend none
  http-request return status 404
"""


class Haproxy(Peer):
    name, version = "HAProxy", ("haproxy", "-v")
    log_to, log = "log stdout format raw local0", "log global\n  option httplog"
    id = "unique-id-format %[uuid()]\n  unique-id-header X-Request-ID"

    def command(self, origin, routes):
        config, table = self.data / "haproxy.cfg", self.data / "hosts.map"
        rows = [f"{host} app" for host in hosts(routes)] + ["socket.bench echo"]
        table.write_text("\n".join(rows) + "\n")
        config.write_text(HAPROXY.format(
            tls=self.tls_port, pem=secure.make(APP)[2], log_to=self.log_to, log=self.log, id=self.id, map=table, port=self.port,
            origin=origin.port, echo=origin.echo_port,
        ))
        return [place.program("haproxy"), "-f", str(config)], {}


class HaproxyBare(Haproxy):
    name, log_to, log, id = "HAProxy, no log and no id", "", "", ""


class Caddy(Peer):
    name, version = "Caddy", ("caddy", "version")

    def command(self, origin, routes):
        config = self.data / "Caddyfile"
        names = ", ".join(f"http://{host}:{self.port}" for host in hosts(routes))
        chain, key, _ = secure.make(APP)
        site = f"""
  bind 127.0.0.1
  log {{
    output file {self.data}/access.log {{
      roll_disabled
    }}
  }}
  request_header X-Request-ID {{http.request.uuid}}
  reverse_proxy 127.0.0.1:{origin.port} {{
    transport http {{
      keepalive_idle_conns_per_host 512
    }}
  }}
"""
        config.write_text(f"""
{{
  admin off
  auto_https off
  storage file_system {self.data}
}}
http://socket.bench:{self.port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{origin.echo_port}
}}
{names} {{{site}}}
https://{APP}:{self.tls_port} {{
  tls {chain} {key}{site}}}
""")
        return [place.program("caddy"), "run", "--config", str(config), "--adapter", "caddyfile"], {
            "GOMAXPROCS": "1", "HOME": str(self.data),
        }


class Wharf(Peer):
    """The shipped program with its defaults; its table lies where the last good one is kept."""

    name = "Wharf"

    def command(self, origin, routes):
        state, logs = self.data / "state", self.data / "log"
        state.mkdir(exist_ok=True)
        body = json.dumps({"version": 1, "parts": self.parts(origin, routes)}).encode()
        head = f"wharf-routes 2 {len(body)} {hashlib.sha256(body).hexdigest()}\n"
        (state / "routes").write_bytes(head.encode() + body)
        return [
            str(place.BUILT / "wharf"), "proxy", "--listen", f"127.0.0.1:{self.port}",
            "--listen-https", f"127.0.0.1:{self.tls_port}",
            "--control", str(self.data / "control/socket"), "--state-dir", str(state),
            "--key-file", str(self.data / "proxy.key"), "--log-dir", str(logs), "--workers", "1",
        ], {}

    def parts(self, origin, routes: int) -> dict:
        app, echo = str(uuid.UUID(int=1)), str(uuid.UUID(int=2))
        return {app: self.part("app", origin.port, 3, hosts(routes)),
                echo: self.part("echo", origin.echo_port, 4, ["socket.bench"])}

    def began(self):
        secure.certify(self.data / "control/socket", APP)

    @staticmethod
    def part(app: str, port: int, replica: int, names: list[str]) -> dict:
        endpoint = {"replica": str(uuid.UUID(int=replica)), "name": "web.1",
                    "address": {"tcp": f"127.0.0.1:{port}"}}
        upstream = {"app": app, "release": 1, "state": "live", "endpoints": [endpoint]}
        return {"routes": [{"host": name} for name in names], "upstream": upstream}


class Copies(Peer):
    """No proxy: passes bytes on and reads none of them. What every proxy has to pay, whatever it does."""

    name = "bytes read and written, no HTTP"
    how = "copy"

    def command(self, origin, routes):
        return [str(place.BUILT / "examples/relay"), str(self.port), str(origin.port), self.how], {}


class Splices(Copies):
    name = "bytes spliced, no HTTP"
    how = "splice"


PEERS = (Wharf, Nginx, Haproxy, Caddy)
BARE = (NginxBare, HaproxyBare)
FLOORS = (Copies, Splices)
