"""A Docker of its own, beside any other on the machine: own containerd, dockerd, bridge, folders and
cgroup, and an nginx in front; all of it gone at the end.

dockerd writes no firewall rules (`--iptables=false`): ports are published by its own user-space
proxy. That spares Docker some milliseconds at each start and this machine's rules any change.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from memory import command_lines, pss_kib, wait_for
from probe import Prober, ask, wait_until

BRIDGE = "wharf-bench0"
ADDRESS = "10.218.0.1/16"
CGROUP = "wharf-bench-docker"
# Both daemons put something here, whatever their configuration says.
SHARED = (Path("/run/containerd"), Path("/run/docker"))
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def cli() -> str:
    """Debian's own CLI fits Debian's daemon and needs no plugin for BuildKit."""
    return "/usr/bin/docker" if os.access("/usr/bin/docker", os.X_OK) else shutil.which("docker")


class Docker:
    def __init__(self, data: Path, run: Path):
        self.data, self.run = data, run
        self.socket = run / "docker.sock"
        self.cli = cli()
        environment = {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(run / "config")}
        self.env = os.environ | environment
        self.children: list[subprocess.Popen] = []

    # --- life ---

    def start(self) -> None:
        self.data.mkdir(parents=True)
        self.run.mkdir(parents=True)
        new = [str(folder) for folder in SHARED if not folder.exists()]
        (self.run / "new-shared").write_text("\n".join(new))
        for words in (["add", BRIDGE, "type", "bridge"], ["set", BRIDGE, "up"]):
            subprocess.run(["ip", "link", *words], check=True)
        subprocess.run(["ip", "address", "add", ADDRESS, "dev", BRIDGE], check=True)
        (self.run / "daemon.json").write_text("{}")
        (self.run / "containerd.toml").write_text(
            f'version = 2\nroot = "{self.data}/containerd"\nstate = "{self.run}/containerd"\n'
            f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{self.run}/containerd.sock"\n'
        )
        self._spawn("containerd", "--config", self.run / "containerd.toml")
        wait_for("containerd", (self.run / "containerd.sock").exists)
        self._spawn(
            "dockerd",
            *("--config-file", self.run / "daemon.json"),
            *("--containerd", self.run / "containerd.sock"),
            *("--data-root", self.data / "docker"),
            *("--exec-root", self.run / "docker"),
            *("--pidfile", self.run / "docker.pid"),
            *("--host", f"unix://{self.socket}"),
            *("--bridge", BRIDGE),
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"),
            *("--storage-driver", "overlay2"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs"),
            *("--cgroup-parent", f"/{CGROUP}"),
        )
        wait_for("dockerd", lambda: self.socket.exists() and self._answers())

    def _spawn(self, program: str, *arguments) -> None:
        with (self.run / f"{program}.log").open("ab") as log:
            words = [shutil.which(program) or f"/usr/sbin/{program}", *map(str, arguments)]
            child = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        self.children.append(child)

    def _answers(self) -> bool:
        if (code := self.children[-1].poll()) is not None:
            log = (self.run / "dockerd.log").read_text()[-2000:]
            raise RuntimeError(f"dockerd ended with {code}:\n{log}")
        return self.call("version", check=False).returncode == 0

    def stop(self) -> None:
        """Whatever of it is there; the rest goes on when one thing fails."""
        if self.children and self.socket.exists():
            ids = self.call("ps", "-aq", check=False).stdout.split()
            if ids:
                self.call("rm", "-f", *ids, check=False)
        for child in reversed(self.children):
            child.terminate()
            try:
                child.wait(30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self.children.clear()
        self._remove()

    def stop_leftover(self, *more: Path) -> None:
        """What a run that was killed has left, found by the folders it was started with."""
        marks = [str(self.run), *map(str, more)]

        def with_marks() -> set[int]:
            found = command_lines().items()
            return {pid for pid, words in found if any(m in w for w in words for m in marks)}

        # dockerd ends its containers itself, if it is asked alone.
        dockerd = {pid for pid in with_marks() if "dockerd" in command_lines().get(pid, [""])[0]}
        end_all(dockerd)
        end_all((with_marks() | in_cgroup()) - {os.getpid()})
        self._remove()

    def _remove(self) -> None:
        note = self.run / "new-shared"
        new = note.read_text().split() if note.exists() else []
        remove_all(self.data, self.run, *map(Path, new))
        subprocess.run(["ip", "link", "delete", BRIDGE], stderr=subprocess.DEVNULL)
        for group in sorted(Path("/sys/fs/cgroup").glob(f"*/{CGROUP}")):
            for path, _, _ in os.walk(group, topdown=False):
                try:
                    os.rmdir(path)
                except OSError as error:
                    print(f"{path} is left: {error}")

    # --- use ---

    def call(self, *arguments, check=True, env=None, **options) -> subprocess.CompletedProcess:
        words = [self.cli, *map(str, arguments)]
        done = subprocess.run(words, env=self.env | (env or {}), capture_output=True, text=True, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"docker {arguments[0]} failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
        return done

    def import_base(self, name: str, layers: list[Path], env: list[str]) -> None:
        """A base image of these folders, the lowest first, with this machine's certificates."""
        root = self.data / "import"
        root.mkdir()
        for layer in layers:
            subprocess.run(["cp", "-a", "--reflink=auto", f"{layer}/.", root], check=True)
        shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        known = {"NODE_EXTRA_CA_CERTS", "PIP_CERT", "SSL_CERT_FILE"}
        env = [*env, "PORT=8080", *(f"{name}={CERTIFICATES}" for name in sorted(known))]
        changes = [word for pair in env for word in ("--change", f"ENV {quoted(pair)}")]
        words = ["tar", "--numeric-owner", "-c", "-C", str(root), "."]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as tar:
            self.call("import", *changes, "-", f"wharf-bench/{name}", stdin=tar.stdout)
        if tar.returncode != 0:
            raise RuntimeError("tar of the base failed")
        shutil.rmtree(root)

    def build(self, folder: Path, tag: str, builder: str) -> None:
        env = {"DOCKER_BUILDKIT": "1" if builder == "buildkit" else "0"}
        self.call("build", "--network", "host", "-t", tag, folder, env=env)

    def daemons_pss(self) -> dict[str, int]:
        return {Path(child.args[0]).name: pss_kib(child.pid) for child in self.children}

    def shims_pss(self) -> list[int]:
        """Of each container's shim, which is nobody's child."""
        ours = str(self.run / "containerd.sock")
        found = [pid for pid, words in command_lines().items()
                 if words and "containerd-shim" in words[0] and ours in words]
        return [size for pid in found if (size := pss_kib(pid))]


def quoted(pair: str) -> str:
    name, _, value = pair.partition("=")
    return f"{name}={json.dumps(value)}"


def in_cgroup() -> set[int]:
    """Everything that runs in a container of this Docker."""
    files = Path("/sys/fs/cgroup").glob(f"*/{CGROUP}/**/cgroup.procs")
    return {int(pid) for file in files for pid in file.read_text().split()}


def end_all(pids: set[int]) -> None:
    """TERM, and KILL for those who do not heed it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        try:
            wait_for("their end", lambda: not any(map(command_lines().get, pids)), 20)
            return
        except TimeoutError:
            pass


def remove_all(*folders: Path) -> None:
    """Unmounts what is mounted below and removes it."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if any(mount.startswith(f"{folder}/") for folder in folders):
            subprocess.run(["umount", "-l", mount], check=False)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


class Nginx:
    """The reverse proxy in front of Docker: one upstream file per app, reloaded at each deploy."""

    def __init__(self, folder: Path):
        self.folder, self.port = folder, free_port()
        self.child: subprocess.Popen | None = None
        self.words = ["/usr/sbin/nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]

    def start(self, names: list[str]) -> None:
        self.folder.mkdir(parents=True)
        servers = ""
        for name in names:
            self.point(name, 9)
            servers += (
                f"  upstream {name} {{ include {name}.upstream; }}\n"
                f"  server {{ listen 127.0.0.1:{self.port}; server_name {name}.localhost;\n"
                f"    location / {{ proxy_pass http://{name}; proxy_set_header Host $host;\n"
                f"      proxy_set_header X-Forwarded-For $remote_addr; }} }}\n"
            )
        temporary = "".join(
            f"  {kind}_temp_path temp-{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(
            f"daemon off;\nworker_processes auto;\npid nginx.pid;\nevents {{}}\n"
            f"http {{\n  access_log access.log;\n{temporary}{servers}}}\n"
        )
        self.child = subprocess.Popen(self.words, start_new_session=True)
        wait_for("nginx", lambda: ask(self.port, "nobody")[0])

    def point(self, name: str, port: int) -> None:
        (self.folder / f"{name}.upstream").write_text(f"server 127.0.0.1:{port};\n")

    def reload(self) -> None:
        subprocess.run([*self.words, "-s", "reload"], check=True)

    def stop(self) -> None:
        if self.child:
            self.child.terminate()
            self.child.wait()


class DockerApp:
    """One example on the Docker path, deployed as a careful script would."""

    def __init__(self, docker: Docker, nginx: Nginx, repository):
        self.docker, self.nginx, self.repository = docker, nginx, repository
        self.name = repository.example.name
        self.serving: str | None = None
        self.count = 0
        (repository.folder / "Dockerfile").write_text(repository.example.dockerfile)
        (repository.folder / ".dockerignore").write_text(".git\nDockerfile\n.dockerignore\n")

    def deploy(self, marker: str, builder: str, limit: float = 60.0) -> dict:
        """`docker build`, `docker run`, wait for 200, point nginx at it, see it; then stop the old."""
        self.repository.change(marker)
        self.count += 1
        tag = f"wharf-bench-{self.name}:{builder}-{self.count}"
        container, port = f"{self.name}-{self.count}", free_port()
        prober = Prober.start(self.nginx.port, f"{self.name}.localhost", marker, limit)
        try:
            began = time.monotonic()
            self.docker.build(self.repository.folder, tag, builder)
            built = time.monotonic()
            self.docker.call("run", "-d", "--name", container, "-p", f"127.0.0.1:{port}:8080", tag)
            ran = time.monotonic()
            path = "/" if self.name == "static-site" else "/healthz"
            healthy, _ = wait_until(port, "localhost", path, b"", limit)
            self.nginx.point(self.name, port)
            self.nginx.reload()
            reloaded = time.monotonic()
            live, others = prober.result()
        finally:
            prober.stop()
        if self.serving:
            self.docker.call("rm", "-f", self.serving)
        self.serving = container
        phases = {"build": built - began, "run": ran - built, "health": healthy - ran,
                  "reload": reloaded - healthy, "seen": max(0.0, live - reloaded)}
        return {"live": live - began, "returned": reloaded - began, "phases": phases, "not_200": others}
