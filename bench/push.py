"""Push-to-live of the example apps, on Wharf and on Docker with nginx, interleaved in one run.

Starts a Wharf, a Docker and an nginx of its own, takes the times and the memory, writes
docs/benchmarks/push.json and push.md, and takes everything away again, whatever happened.
"""

import argparse
import fcntl
import json
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import machine
import report
from docker import Docker, DockerApp, Nginx, free_port, remove_all
from examples import EXAMPLES, TREE, IdleRepository, Repository
from memory import available_kib
from wharf import Wharf, WharfApp

DATA = Path("/var/lib/wharf-bench")
RUN = Path("/run/wharf-bench")
BUILDERS = ("classic", "buildkit")
# Nobody waits longer for a first push, which may make a base system.
COLD_LIMIT = 900.0
REPLICAS = (50, 100)
# So many times up from the fewer to the more: others use memory too.
SLOPES = 3
# How long the daemons are left alone before their memory is read.
IDLE_SECONDS = 10.0


def say(text: str) -> None:
    print(f"-----> {text}", flush=True)


class Bench:
    def __init__(self, options, stack: ExitStack):
        self.options, self.stack = options, stack
        self.examples = [one for one in EXAMPLES if options.only in (None, one.name)]
        self.result = {"machine": machine.describe(), "examples": {}, "memory": {}}

    def run(self) -> None:
        self.start_wharf()
        if self.options.docker:
            self.start_docker()
        else:
            self.docker = self.nginx = None
        self.result["machine"]["busy_before"] = machine.busy(3)
        for example in self.examples:
            self.measure(example)
        if self.options.memory:
            self.measure_containers()
        self.result["machine"]["busy_after"] = machine.busy(3)

    def start_wharf(self) -> None:
        say("Starting a Wharf")
        self.wharf = Wharf(DATA / "wharf", RUN / "wharf", free_port(), free_port())
        self.stack.callback(self.wharf.stop)
        self.wharf.start()
        if self.options.memory:
            # Memory is a state one has to wait for.
            time.sleep(IDLE_SECONDS)
            self.result["memory"]["wharf daemons"] = self.wharf.daemons_pss()

    def start_docker(self) -> None:
        say("Starting a Docker and an nginx")
        self.docker = Docker(DATA / "docker", RUN / "docker")
        self.stack.callback(self.docker.stop)
        self.docker.start()
        self.nginx = Nginx(DATA / "nginx")
        self.stack.callback(self.nginx.stop)
        self.nginx.start([one.name for one in self.examples])
        if self.options.memory:
            time.sleep(IDLE_SECONDS)
            self.result["memory"]["docker daemons"] = self.docker.daemons_pss()

    # --- push to live ---

    def measure(self, example) -> None:
        say(f"{example.name}: first push")
        app = WharfApp(self.wharf, Repository(example, DATA / f"{example.name}.wharf"))
        cold = app.deploy("cold", COLD_LIMIT)
        found = {"cold": {"wharf": cold}, "rounds": {"wharf": []}}
        self.result["examples"][example.name] = found
        print(f"       wharf     {cold['live']:8.3f} s", flush=True)
        docker_app = None
        if self.docker:
            layers, env = self.wharf.image(example.name)
            self.docker.import_base(example.name, layers, env)
            repository = Repository(example, DATA / f"{example.name}.docker")
            docker_app = DockerApp(self.docker, self.nginx, repository)
            for builder in BUILDERS:
                cold = docker_app.deploy(f"cold {builder}", builder, COLD_LIMIT)
                found["cold"][builder] = cold
                found["rounds"][builder] = []
                print(f"       {builder:9} {cold['live']:8.3f} s", flush=True)
        self.rounds(example, app, docker_app, found["rounds"])

    def rounds(self, example, app, docker_app, found) -> None:
        """Every round changes the same line once per side; who begins changes with the round. The
        first round warms up and is not counted."""
        sides = list(found)
        for number in range(self.options.rounds + 1):
            turn = number % len(sides)
            for side in sides[turn:] + sides[:turn]:
                marker = f"round {number} {side}"
                if side == "wharf":
                    one = app.deploy(marker)
                    # The old replica is gone before the other side's turn.
                    self.wharf.wait_for_replicas(self.serving())
                else:
                    one = docker_app.deploy(marker, side)
                if number > 0:
                    found[side].append(one)
            if number > 0:
                times = "  ".join(f"{side} {found[side][-1]['live']:.3f}" for side in sides)
                print(f"       {example.name} round {number:2}: {times}", flush=True)

    def serving(self) -> int:
        """One `web` for each example pushed so far."""
        return len(self.result["examples"])

    # --- memory ---

    def measure_containers(self) -> None:
        say("An idle container on Wharf")
        memory, base = self.result["memory"], self.serving()
        repository = IdleRepository(DATA / "idle.wharf")
        self.wharf.create(repository, "idle")
        self.wharf.push(repository)
        self.wharf.call("ps:scale", "sleeper=0", "-a", "idle", "--no-wait")
        self.wharf.wait_for_replicas(base)
        looks = {0: [available_kib()]}
        for count in REPLICAS * SLOPES:
            self.wharf.call("ps:scale", f"sleeper={count}", "-a", "idle", "--no-wait")
            self.wharf.wait_for_replicas(base + count)
            time.sleep(IDLE_SECONDS)
            looks.setdefault(count, []).append(available_kib())
        memory["wharf containers"] = {"available_kib": looks} | self.wharf.replicas_pss()
        self.wharf.call("ps:scale", "sleeper=0", "-a", "idle", "--no-wait")
        self.wharf.wait_for_replicas(base)
        if self.docker:
            self.measure_docker_containers()

    def measure_docker_containers(self) -> None:
        say("An idle container on Docker")
        image = f"wharf-bench/{self.examples[0].name}"
        looks = {0: [available_kib()]}
        for count in REPLICAS:
            for _ in range(count - max(looks)):
                self.docker.call("run", "-d", "--label", "idle", image, "sleep", "1000000")
            time.sleep(IDLE_SECONDS)
            looks[count] = [available_kib()]
        shims = self.docker.shims_pss()
        self.result["memory"]["docker containers"] = {"available_kib": looks, "shim": shims}
        ids = self.docker.call("ps", "-aq", "--filter", "label=idle").stdout.split()
        self.docker.call("rm", "-f", *ids)


def clear_up() -> None:
    """What a run that was killed has left, and the folders themselves."""
    if (DATA / "wharf").exists() or (RUN / "wharf").exists():
        Wharf(DATA / "wharf", RUN / "wharf", 0, 0).stop()
    if (RUN / "docker").exists():
        Docker(DATA / "docker", RUN / "docker").stop_leftover(DATA / "nginx")
    remove_all(DATA, RUN)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/push.sh", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="counted rounds per example (10)")
    parser.add_argument("--only", choices=[one.name for one in EXAMPLES], help="one example alone")
    parser.add_argument("--no-docker", dest="docker", action="store_false", help="Wharf alone")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="times alone")
    parser.add_argument("--out", type=Path, default=TREE / "docs/benchmarks", help="where to write")
    return parser.parse_args()


def main() -> None:
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))
    lock = open("/run/wharf-bench.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    clear_up()
    # The proxy, which is nobody, has to get through to its folders.
    for folder in (DATA, RUN):
        folder.mkdir(parents=True, mode=0o755)
    with ExitStack() as stack:
        stack.callback(remove_all, DATA, RUN)
        bench = Bench(options, stack)
        try:
            bench.run()
        finally:
            # Minutes of measuring are not lost to what comes after them.
            write(bench.result, options.out / "unfinished.json")
            say("Taking everything away")
    (options.out / "unfinished.json").unlink()
    write(bench.result, options.out / "push.json")
    (options.out / "push.md").write_text(report.render(bench.result))
    say(f"Written: {options.out}/push.md and push.json")


def write(result: dict, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
