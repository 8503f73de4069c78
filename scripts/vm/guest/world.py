"""What the checks look at: programs, HTTP at the edge, the containers, the two units."""
import glob
import http.client
import json
import os
import subprocess
import threading
import time

# Everything is emulated here, and slow: limits end a hang and judge nothing.
LONG = 400


def run(*command, limit=LONG, check=True, cwd=None):
    """Runs a program; its output, both streams as one text."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=limit, cwd=cwd, stdin=subprocess.DEVNULL,
                          env={**os.environ, "HOME": "/root", "NO_COLOR": "1", "GIT_TERMINAL_PROMPT": "0"})
    if check:
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout.strip()[-1500:]}"
    return done.stdout


def wharf(*arguments, **options):
    return run("wharf", *arguments, **options)


def as_json(*arguments):
    return json.loads(wharf(*arguments, "--json"))


def wait_for(what, look, limit=LONG):
    until = time.monotonic() + limit
    while True:
        try:
            found = look()
        except (OSError, AssertionError, ValueError, http.client.HTTPException) as error:
            found, last = None, error
        else:
            last = None
        if found:
            return found
        assert time.monotonic() < until, f"waited {limit} s for {what}; {last or ''}"
        time.sleep(0.1)


def get(host, path="/", limit=60):
    """One request on port 80; status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=limit)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace").strip()
    finally:
        connection.close()


def answers(host, start):
    """Waits until the app answers with a text that begins so."""
    def look():
        status, body = get(host)
        return (status, body) if status == 200 and body.startswith(start) else None
    return wait_for(f"{host} to answer {start}", look)[1]


def containers():
    """id → (pid of the shim, pid of PID 1), of those that run."""
    found = {}
    for path in glob.glob("/run/wharf/containers/*/status.json"):
        with open(path) as file:
            status = json.load(file)
        if status["exit"] is None and status["init"]:
            found[path.split("/")[-2]] = (status["shim"]["pid"], status["init"]["pid"])
    return found


def at_rest(count):
    """Exactly so many containers in every way one shows: folder, cgroup, shim."""
    def look():
        folders = [name for name in os.listdir("/run/wharf/containers") if not name.startswith(".")]
        groups = [path for path in glob.glob("/sys/fs/cgroup/wharf/*/")]
        found = (len(folders), len(groups), len(containers()))
        assert found == (count, count, count), f"folders, cgroups, shims: {found} instead of {count} each"
        return True
    wait_for(f"{count} containers and no more", look)


def group_of(app):
    """The cgroup folder of an app's first replica."""
    replica = as_json("ps", "-a", app)[0]["id"]
    return f"/sys/fs/cgroup/wharf/{replica}"


def read(path):
    with open(path) as file:
        return file.read().strip()


def unit(name, field):
    return run("systemctl", "show", "-P", field, name).strip()


def processes(word):
    """Pids whose command line is wharf with that role."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read().split(b"\0")
        except OSError:
            continue
        if len(line) > 1 and line[0].endswith(b"wharf") and line[1] == word.encode():
            found.append(int(pid))
    return sorted(found)


def up():
    """Both units run and the control plane answers."""
    def look():
        states = [unit(name, "ActiveState") for name in ("wharf", "wharf-proxy")]
        assert states == ["active", "active"], states
        return run("wharf", "status", limit=30)
    wait_for("both units to be up", look)


def repository(app):
    """The app of that name as a repository with Wharf for its remote."""
    folder = f"/root/{app}"
    if not os.path.exists(f"{folder}/.git"):
        run("cp", "-r", f"/opt/vm/apps/{app}", folder)
        run("git", "init", "-q", "-b", "main", cwd=folder)
        run("git", "config", "user.name", "Check", cwd=folder)
        run("git", "config", "user.email", "check@localhost", cwd=folder)
        # Whoever pushes works on the same machine: the power cut is to test Wharf's files, not theirs.
        run("git", "config", "core.fsync", "all", cwd=folder)
        wharf("create", app, cwd=folder)
    return folder


def push(app, version):
    """Commits that version and pushes; what git said."""
    folder = repository(app)
    with open(f"{folder}/VERSION", "w") as file:
        file.write(version)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-q", "-m", version, cwd=folder)
    return run("git", "push", "wharf", "main", cwd=folder)


class Load:
    """One request after the other until told to stop; counts answers and keeps what went wrong."""

    def __init__(self, host):
        self.answered, self.wrong, self.longest = 0, [], 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(host,))
        self._thread.start()

    def _ask(self, host):
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                status, body = get(host)
                if status == 200:
                    self.answered += 1
                else:
                    self.wrong.append(f"{status} {body[:60]}")
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(repr(error))
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.02)

    def stop(self):
        self._stop.set()
        self._thread.join()
        return self
