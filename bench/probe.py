"""Asks a page every 2 ms, each time on a fresh connection, until it shows a marker; a process of its
own, so that it shares no interpreter with what is measured. Prints when (CLOCK_MONOTONIC, which all
processes of a machine share) and how many of the answers before that were not 200.

    probe.py PORT HOST MARKER LIMIT_SECONDS
"""

import ctypes
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

EVERY = 0.002


def ask(port: int, host: str, path: str = "/") -> tuple[int, bytes]:
    """One request on a fresh connection: status (0 when there was no answer) and body."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return int(answer[9:12]), answer
    except (OSError, ValueError):
        return 0, b""


def wait_until(port: int, host: str, path: str, marker: bytes, limit: float) -> tuple[float, int]:
    """When the marker was first answered with 200, and the count of other answers."""
    end = time.monotonic() + limit
    others = 0
    while True:
        began = time.monotonic()
        status, answer = ask(port, host, path)
        now = time.monotonic()
        if status == 200 and marker in answer:
            return now, others
        others += status != 200
        if now > end:
            raise TimeoutError(f"{host}{path} did not show it within {limit:.0f} s (last: {status})")
        time.sleep(max(0.0, began + EVERY - now))


@dataclass
class Prober:
    process: subprocess.Popen

    @classmethod
    def start(cls, port: int, host: str, marker: str, limit: float) -> "Prober":
        """Returns when the prober has begun."""
        arguments = [sys.executable, "-B", __file__, str(port), host, marker, str(limit)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        return cls(process)

    def result(self) -> tuple[float, int]:
        text, _ = self.process.communicate()
        if self.process.returncode != 0:
            raise TimeoutError("the new version was never seen")
        when, others = text.split()
        return float(when), int(others)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def die_with_parent() -> None:
    """PR_SET_PDEATHSIG: nobody is left to stop a prober whose run was killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main() -> None:
    port, host, marker, limit = sys.argv[1:]
    ask(int(port), host)
    die_with_parent()
    print("begun", flush=True)
    print(*wait_until(int(port), host, "/", marker.encode(), float(limit)))


if __name__ == "__main__":
    main()
