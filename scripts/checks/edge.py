"""A proxy for one check: the two roles as the tests run them, its table told over the control socket."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
PROFILE = os.environ.get("CHECK_PROFILE", "debug")
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", TREE / "target"))
PROGRAM = BUILT / "x86_64-unknown-linux-gnu" / PROFILE / "proxy-roles"
# One that is built already; its profile is the teller's to say.
GIVEN = os.environ.get("CHECK_PROGRAM")
PROGRAM = Path(GIVEN) if GIVEN else PROGRAM
HOST = "shop.localhost"
NOBODY = 65534


def build() -> None:
    if GIVEN:
        return
    flags = ["--release"] if PROFILE == "release" else []
    subprocess.run(["cargo", "build", "-q", "-p", "proxy", "--bin", "proxy-roles", *flags],
                   cwd=TREE, check=True)


class Edge:
    """Serves HOST from one app; `settings` go over the ordinary ones of the configuration."""

    def __init__(self, app_port: int, **settings):
        self.folder = Path(tempfile.mkdtemp(prefix="wharf-check-"))
        self.folder.chmod(0o755)
        base = self.folder
        ms = lambda seconds: {"secs": int(seconds), "nanos": int(seconds % 1 * 1e9)}
        self.config = {
            "listen": ["127.0.0.1:0"], "listen_https": ["127.0.0.1:0"],
            "control_socket": str(base / "control/socket"), "state_dir": str(base / "state"),
            "key_file": str(base / "key"), "log_dir": str(base / "log"),
            "uid": NOBODY, "gid": NOBODY, "workers": 0, "program": str(PROGRAM),
            "hold_limit": ms(30), "first_byte_timeout": ms(30), "idle_timeout": ms(55),
            "connect_timeout": ms(5), "drain_limit": ms(2), "proxied": [], "proxied_from": [],
            "head_timeout": ms(30), "most_head_bytes": 32768, "most_target_bytes": 8192,
            "most_fields": 100, "most_body_bytes": 0, "trusted_peers": [],
            "external_authorities": None, **settings,
        }
        path = base / "config.json"
        path.write_text(json.dumps(self.config))
        self.output = (base / "output").open("wb")
        self.holder = subprocess.Popen([PROGRAM, path], stdin=subprocess.DEVNULL,
                                       stdout=self.output, stderr=self.output)
        self.connect()
        status = self.ask("status")["status"]
        self.worker = status["pid"]
        self.port = int(status["listening"][0].rpartition(":")[2])
        self.https_port = int(status["listening_https"][0].rpartition(":")[2])
        endpoint = {"replica": str(uuid.UUID(int=2)), "name": "web.1",
                    "address": {"tcp": f"127.0.0.1:{app_port}"}}
        upstream = {"app": "shop", "release": 1, "state": "live", "endpoints": [endpoint]}
        # Some tools name the address they were given.
        part = {"routes": [{"host": HOST}, {"host": "*"}], "upstream": upstream}
        self.tell("apply", {"version": 1, "parts": {str(uuid.UUID(int=1)): part}})

    def connect(self) -> None:
        until = time.monotonic() + 30
        while True:
            try:
                control = socket.socket(socket.AF_UNIX)
                control.connect(self.config["control_socket"])
                break
            except OSError:
                if time.monotonic() > until:
                    raise SystemExit(f"the proxy did not start: {self.said()}") from None
                time.sleep(0.02)
        self.control = control.makefile("rwb")
        self.control.readline()

    def said(self) -> str:
        return (self.folder / "output").read_text(errors="replace")[-2000:]

    def ask(self, question) -> dict:
        self.control.write(json.dumps(question).encode() + b"\n")
        self.control.flush()
        return json.loads(self.control.readline())

    def tell(self, what: str, table: dict) -> None:
        reply = self.ask({what: table})
        if "applied" not in reply:
            raise SystemExit(f"the proxy refused: {reply}")

    def certify(self, chain: str, key: str, hsts: bool, redirect: int | None = 308) -> None:
        promise = {"max_age_seconds": 31536000, "include_subdomains": True, "preload": False}
        https = {"redirect": redirect, "hsts": promise if hsts else None}
        self.tell("certify", {
            "version": 1, "certificates": [{"names": [HOST], "chain": chain, "key": key}],
            "issuer": None, "answers": {}, "proofs": [], "https": {str(uuid.UUID(int=1)): https},
        })

    def memory_kib(self) -> int:
        rows = Path(f"/proc/{self.worker}/smaps_rollup").read_text().splitlines()
        return next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.worker}/fd"))

    def log(self) -> str:
        time.sleep(0.5)
        logs = (path.read_text(errors="replace") for path in (self.folder / "log").iterdir())
        return "".join(logs)

    def stop(self) -> None:
        self.holder.terminate()
        try:
            self.holder.wait(15)
        except subprocess.TimeoutExpired:
            self.holder.kill()
            self.holder.wait()
        self.output.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
