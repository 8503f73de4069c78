"""An app's program with no Wharf around it: the same program, files, user and environment as its running
replica, on another port of the host's, without the container's cgroup, network and filter."""

import ctypes
import os
import signal
import socket
import time
from pathlib import Path

CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
LIMIT = 30.0


class Alone:
    """Waits in the replica's files until it is told to begin."""

    def __init__(self, replica: int, inside: str, port: int):
        """`replica` is the app's process, `inside` the port it has in the container."""
        process = Path(f"/proc/{replica}")
        split = lambda name: (process / name).read_bytes().split(b"\0")[:-1]
        here = str(port).encode()
        words = [word.replace(inside.encode(), here) for word in split("cmdline")]
        env = dict(pair.split(b"=", 1) for pair in split("environ")) | {b"PORT": here}
        namespaces = [os.open(process / "ns" / name, os.O_RDONLY) for name in ("mnt", "pid")]
        cwd = os.readlink(process / "cwd")
        owner = os.stat(process)
        gate, self.gate = os.pipe()
        self.port = port
        # Two forks: who enters a pid namespace is not in it, its children are.
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setpgid(0, 0)
                os.close(self.gate)
                enter(namespaces)
                if (child := os.fork()) != 0:
                    os.waitpid(child, 0)
                    os._exit(0)
                os.chdir(cwd)
                os.setgroups([])
                os.setgid(owner.st_gid)
                os.setuid(owner.st_uid)
                if os.read(gate, 1):
                    null = os.open("/dev/null", os.O_RDWR)
                    for stream in (0, 1, 2):
                        os.dup2(null, stream)
                    os.execvpe(words[0], words, env)
            finally:
                os._exit(127)
        os.close(gate)
        for namespace in namespaces:
            os.close(namespace)

    def boot(self) -> float:
        """Milliseconds from its exec until it has answered a request."""
        began = time.perf_counter()
        os.write(self.gate, b"x")
        while not answers(self.port):
            if os.waitpid(self.pid, os.WNOHANG)[0] or time.perf_counter() - began > LIMIT:
                raise RuntimeError("the program alone did not begin to answer")
            time.sleep(0.0002)
        return (time.perf_counter() - began) * 1000

    def end(self) -> None:
        os.close(self.gate)
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def enter(namespaces: list[int]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for namespace, kind in zip(namespaces, (CLONE_NEWNS, CLONE_NEWPID), strict=True):
        if libc.setns(namespace, kind):
            raise OSError(ctypes.get_errno(), "setns")


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), LIMIT) as stream:
            stream.sendall(b"GET / HTTP/1.1\r\nHost: alone\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: stream.recv(65536), b""))
    except ConnectionRefusedError:
        return False
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer[:300])
    return True
