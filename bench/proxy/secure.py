"""One certificate for all proxies, and how each is given it."""

import json
import socket
import subprocess
import time
from pathlib import Path

import place

DAYS = "30"


def make(name: str) -> tuple[Path, Path, Path]:
    """An ECDSA P-256 certificate that signs itself: its chain, its key, and both in one file."""
    chain, key, both = (place.DATA / f"bench.{kind}" for kind in ("crt", "key", "pem"))
    if not both.exists():
        subprocess.run(
            [place.program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt",
             "ec_paramgen_curve:P-256", "-nodes", "-days", DAYS, "-subj", f"/CN={name}",
             "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(chain)],
            check=True, capture_output=True,
        )
        both.write_text(chain.read_text() + key.read_text())
    return chain, key, both


def certify(control: Path, name: str) -> None:
    """Tells a Wharf proxy its certificates, as the daemon does: a line of JSON each way."""
    chain, key, _ = make(name)
    one = {"names": [name], "chain": chain.read_text(), "key": key.read_text()}
    table = {"version": 1, "certificates": [one], "issuer": None, "answers": {}, "proofs": [],
             "https": {}}
    until = time.monotonic() + 30
    while True:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(str(control))
                lines = line.makefile("rw")
                lines.readline()
                lines.write(json.dumps({"certify": table}) + "\n")
                lines.flush()
                said = lines.readline()
            break
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
    if "applied" not in said:
        raise SystemExit(f"the certificate was refused: {said}")
