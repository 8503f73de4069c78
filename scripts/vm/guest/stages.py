"""What each boot checks, in order. A check is a function: its first line is what must hold, its answer
the evidence; it raises when it does not hold. None depends on the network.

The boots: `first` (everything on a fresh machine), `again` (a reboot in the ordinary order, then load
until the power is cut), `proxy-late` (after the power cut, with a proxy that starts late), `daemon-late`
(the other way round)."""
import glob
import json
import os
import re
import signal
import subprocess
import time

from world import (Load, answers, as_json, at_rest, containers, get, group_of, processes, push, read,
                   repository, run, unit, up, wait_for, wharf)


def live(said):
    """What a push said of its speed."""
    return re.search(r"live in [^\n]*", said).group(0)


# -- a fresh machine

def pure_cgroup2(tell, options):
    """the machine has cgroup version 2 and nothing else"""
    kind = run("stat", "-fc", "%T", "/sys/fs/cgroup").strip()
    assert kind == "cgroup2fs", kind
    assert " cgroup " not in read("/proc/self/mountinfo").replace(" - cgroup2 ", " ")
    kernel, system = run("uname", "-rv").strip(), run("systemctl", "--version").split("\n")[0]
    return f"{kind}; kernel {kernel}; {system}; Debian {read('/etc/debian_version')}"


def units_come_up(tell, options):
    """both units come up by themselves and the control plane answers"""
    up()
    restarts = {name: unit(name, "NRestarts") for name in ("wharf", "wharf-proxy")}
    assert set(restarts.values()) == {"0"}, restarts
    began = float(read("/proc/uptime").split()[0])
    return f"{wharf('version').strip()}; up {began:.0f} s after the kernel; restarts {restarts}"


def push_static_site(tell, options):
    """git push of examples/static-site goes live"""
    said = push("static-site", "v1")
    assert "static-site" in wharf("apps")
    body = wait_for("the site", lambda: get("static-site.localhost")[1])
    assert "Hello from plain files" in body, body[:200]
    return live(said)


def push_probe(tell, options):
    """git push of a Python app goes live, and a second push replaces it"""
    push("probe", "one")
    first = answers("probe.localhost", "one")
    said = push("probe", "two")
    second = answers("probe.localhost", "two")
    at_rest(2)
    return f"{first}, then {second}; {live(said)}"


def edge(tell, options):
    """the edge is port 80, its worker has no privilege, and an unknown host gets nobody's page"""
    worker, = processes("proxy-worker")
    status = dict(line.split(":\t", 1) for line in read(f"/proc/{worker}/status").split("\n") if ":\t" in line)
    uids, capabilities = set(status["Uid"].split()), status["CapEff"]
    assert uids == {"65534"} and int(capabilities, 16) == 0 and status["NoNewPrivs"] == "1", status
    listening = run("ss", "-Hltnp", "sport", "=", "80")
    assert "wharf" in listening, listening
    code, body = get("nobody.localhost")
    assert code == 404 and "Hello" not in body and "two" not in body, (code, body)
    return f"worker: uid {uids.pop()}, CapEff {capabilities}; unknown host: {code} {re.search(r'[EH][0-9]+', body).group(0)}"


def limits_are_on(tell, options):
    """the limits of a replica are the kernel's"""
    group = group_of("probe")
    found = {file: read(f"{group}/{file}") for file in
             ("memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max", "pids.current", "memory.current")}
    assert found["memory.max"] == str(400 << 20) and found["memory.swap.max"] == "0", found
    assert found["cpu.max"] == "50000 100000" and int(found["cpu.weight"]) > 0, found
    assert found["pids.max"].isdigit() and int(found["pids.current"]) >= 2, found
    return json.dumps(found)


def nothing_internal(tell, options):
    """no cgroup on the way to a container holds processes, and the controllers are handed down"""
    group = group_of("probe")
    assert read("/sys/fs/cgroup/wharf/cgroup.procs") == ""
    given = read("/sys/fs/cgroup/wharf/cgroup.subtree_control").split()
    assert {"cpu", "memory", "pids"} <= set(given), given
    kinds = read(f"{group}/cgroup.type")
    return f"wharf/: {' '.join(given)}; {group.split('/')[-1][:8]}…: {kinds}, {len(read(f'{group}/cgroup.procs').split())} processes"


def usage_is_told(tell, options):
    """what a replica uses is read and shown"""
    replica, = as_json("ps", "-a", "probe")
    assert replica["memory"], replica
    return f"ps --json says memory {replica['memory']} of {read(group_of('probe') + '/memory.current')} bytes counted"


def memory_hog(tell, options):
    """a memory hog is killed, said to be out of memory, and replaced"""
    before = as_json("ps", "-a", "probe")[0]["id"]
    code, body = get("probe.localhost", "/eat", limit=120)
    after = wait_for("another replica", lambda: [one["id"] for one in as_json("ps", "-a", "probe")
                                                 if one["id"] != before and one["status"] == "up"])
    line = wait_for("the log to say why", lambda: re.search(
        r"[^\n]*(?:P102|out of memory|ran out)[^\n]*", wharf("logs", "-a", "probe", "-n", "200")))
    answers("probe.localhost", "two")
    return f"visitor: {code}; log: {line.group(0).strip()}; {before[:8]} → {after[0][:8]}"


def fork_bomb(tell, options):
    """a fork bomb stops at the limit and the app lives on"""
    before = containers()
    answers("probe.localhost", "two")
    get("probe.localhost", "/fork")
    body = wait_for("the bomb to be stopped", lambda: (get("probe.localhost", "/forked")[1] + " ").replace("not yet ", ""))
    assert "annot fork" in body, body
    events = read(f"{group_of('probe')}/pids.events")
    assert not events.endswith(" 0"), events
    assert containers() == before
    return f"{body}; pids.max {read(group_of('probe') + '/pids.max')}; pids.events {events}"


def one_off(tell, options):
    """wharf run: a command in a container of its own, gone after it"""
    said = wharf("run", "-a", "probe", "--", "cat", "VERSION")
    at_rest(2)
    assert "two" in said, said
    return said.strip().split("\n")[-1]


def across(what, end, expected_pid):
    """Ends something under load; the containers must be the same before and after."""
    before, pid = containers(), unit(*expected_pid)
    load = Load("probe.localhost")
    began = time.monotonic()
    end(int(pid))
    wait_for("a new process", lambda: unit(*expected_pid) not in (pid, "0"))
    up()
    back = time.monotonic() - began
    answered = load.answered
    wait_for("more answers", lambda: load.answered > answered + 10)
    load.stop()
    assert containers() == before, f"{before} became {containers()}"
    assert not load.wrong, load.wrong[:5]
    return (f"pid {pid} → {unit(*expected_pid)}, up after {back:.1f} s; containers {sorted(before.values())} as before; "
            f"{load.answered} requests meanwhile, 0 failed, longest {load.longest:.1f} s")


def daemon_restarted(tell, options):
    """systemctl restart wharf: the same containers, no failed request"""
    return across("restart", lambda pid: run("systemctl", "restart", "wharf"), ("wharf", "MainPID"))


def daemon_killed(tell, options):
    """kill -9 of the daemon: systemd brings it back, the same containers, no failed request"""
    return across("kill", lambda pid: os.kill(pid, signal.SIGKILL), ("wharf", "MainPID"))


def daemon_stopped(tell, options):
    """systemctl stop wharf: apps serve without it; started again it finds the same containers"""
    before = containers()
    run("systemctl", "stop", "wharf")
    assert unit("wharf", "ActiveState") == "inactive"
    shims = {shim for shim, _ in before.values()}
    assert shims <= set(processes("shim")), (shims, processes("shim"))
    body = answers("probe.localhost", "two")
    run("systemctl", "start", "wharf")
    up()
    at_rest(2)
    assert containers() == before
    return f"without a daemon: {body}; containers {sorted(before.values())} as before"


def worker_killed(tell, options):
    """kill -9 of the proxy's worker: no request is refused"""
    worker, = processes("proxy-worker")
    load = Load("probe.localhost")
    wait_for("answers", lambda: load.answered > 5)
    os.kill(worker, signal.SIGKILL)
    wait_for("another worker", lambda: processes("proxy-worker") not in ([], [worker]))
    answered = load.answered
    wait_for("more answers", lambda: load.answered > answered + 10)
    load.stop()
    # The one request that the killed worker had in hand may be lost with it.
    assert len(load.wrong) <= 1 and not any("refused" in wrong for wrong in load.wrong), load.wrong
    return f"worker {worker} → {processes('proxy-worker')[0]}; {load.answered} answered, {len(load.wrong)} cut in the middle, longest {load.longest:.1f} s"


def proxy_killed(tell, options):
    """kill -9 of the whole proxy: systemd brings back one, and only one"""
    before, holder = containers(), int(unit("wharf-proxy", "MainPID"))
    load = Load("probe.localhost")
    wait_for("answers", lambda: load.answered > 5)
    began = time.monotonic()
    os.kill(holder, signal.SIGKILL)
    wait_for("another proxy", lambda: unit("wharf-proxy", "MainPID") not in (str(holder), "0"))
    answers("probe.localhost", "two")
    back = time.monotonic() - began
    up()
    load.stop()
    assert [int(unit("wharf-proxy", "MainPID"))] == processes("proxy"), processes("proxy")
    assert len(processes("proxy-worker")) == 1 and containers() == before
    return f"pid {holder} → {unit('wharf-proxy', 'MainPID')}, answering after {back:.1f} s, {len(load.wrong)} requests failed meanwhile"


def proxy_stopped(tell, options):
    """systemctl stop wharf-proxy: nothing serves and nobody starts another; start: served again"""
    before, daemon = containers(), unit("wharf", "MainPID")
    run("systemctl", "stop", "wharf-proxy")
    assert not processes("proxy-worker")
    # Long enough for a daemon that would start one of its own.
    time.sleep(5)
    assert not processes("proxy") and not processes("proxy-worker"), "somebody started another"
    try:
        get("probe.localhost")
        raise RuntimeError("port 80 answers without a proxy")
    except ConnectionRefusedError:
        pass
    run("systemctl", "start", "wharf-proxy")
    body = answers("probe.localhost", "two")
    assert processes("proxy") == [int(unit("wharf-proxy", "MainPID"))]
    assert containers() == before and unit("wharf", "MainPID") == daemon, unit("wharf", "MainPID")
    return f"refused, then {body}; one proxy, pid {processes('proxy')[0]}; the daemon stayed"


def settings_before_reboot(tell, options):
    """what the next boots must find again is set: a config var, a release, a scale"""
    wharf("config:set", "GREETING=ahoy", "-a", "probe")
    wharf("ps:scale", "web=2", "-a", "probe")
    at_rest(3)
    run("sync")
    return f"releases {versions('probe')}; web=2"


# -- later boots

def versions(app):
    return [f"v{release['version']}" for release in as_json("releases", "-a", app)]


def as_it_was(version, order):
    """Everything is there once, and serves."""
    body = answers("probe.localhost", version)
    wait_for("the site", lambda: "Hello from plain files" in get("static-site.localhost")[1])
    at_rest(3)
    up()
    assert processes("proxy") == [int(unit("wharf-proxy", "MainPID"))], processes("proxy")
    assert len(processes("proxy-worker")) == 1
    assert processes("daemon") == [int(unit("wharf", "MainPID"))]
    shims = [pid for pid in processes("shim")]
    started = {name: int(unit(name, "ExecMainStartTimestampMonotonic")) / 1e6 for name in ("wharf", "wharf-proxy")}
    if order == "proxy first":
        assert started["wharf-proxy"] < started["wharf"], started
    if order == "daemon first":
        assert started["wharf"] < started["wharf-proxy"], started
    assert wharf("config:get", "GREETING", "-a", "probe").strip() == "ahoy"
    told = {name: f"{at:.0f} s" for name, at in started.items()}
    uptime = float(read("/proc/uptime").split()[0])
    restarts = {name: unit(name, "NRestarts") for name in ("wharf", "wharf-proxy")}
    assert set(restarts.values()) == {"0"}, restarts
    return f"{body}; started {told}, all served by {uptime:.0f} s; {versions('probe')}; 3 containers, {len(shims)} shim processes, 1 proxy, 1 daemon"


def rebooted(tell, options):
    """after a reboot both units are up, apps answer, releases and config are there, nothing is doubled"""
    return as_it_was("two", None)


def rebooted_daemon_first(tell, options):
    """after the power cut, with a proxy that starts 20 s after the daemon: the same"""
    return as_it_was("", "daemon first")


def rebooted_proxy_first(tell, options):
    """after a reboot with a daemon that starts 20 s after the proxy: the same"""
    return as_it_was("", "proxy first")


def delay(unit_name):
    for name in ("wharf", "wharf-proxy"):
        run("rm", "-rf", f"/etc/systemd/system/{name}.service.d")
    folder = f"/etc/systemd/system/{unit_name}.service.d"
    os.makedirs(folder)
    with open(f"{folder}/late.conf", "w") as file:
        file.write("[Service]\nExecStartPre=/bin/sleep 20\n")
    run("sync")


def delay_daemon(tell, options):
    """the next boot starts the daemon late"""
    delay("wharf")
    return "ExecStartPre=/bin/sleep 20 for wharf.service"


def until_the_power_is_cut(tell, options):
    """changes and pushes under load, until somebody cuts the power"""
    delay("wharf-proxy")
    load = Load("probe.localhost")
    number = 0
    while True:
        number += 1
        if number % 3 == 0:
            push("probe", f"cut-{number}")
            tell("ACK", f"push=cut-{number}")
        else:
            wharf("config:set", f"NUMBER={number}", "-a", "probe")
            tell("ACK", f"number={number}")
        tell("LOAD", f"answered={load.answered} failed={len(load.wrong)}")


def what_was_acknowledged(tell, options):
    """after the power cut: what was acknowledged is there, in the store, in git and at the edge"""
    number, pushed = int(options["number"]), int(options["push"].removeprefix("cut-"))
    kept = int(wharf("config:get", "NUMBER", "-a", "probe").strip())
    assert kept >= number, f"{kept}, and {number} was acknowledged"
    body = answers("probe.localhost", "cut-")
    serving = int(re.match(r"cut-(\d+)", body).group(1))
    assert serving >= pushed, f"{body}, and cut-{pushed} was acknowledged"
    application, = [app["id"] for app in as_json("apps") if app["name"] == "probe"]
    bare = f"/var/lib/wharf/git/{application}"
    bare = bare if os.path.isdir(bare) else f"{bare}.git"
    run("git", "-C", bare, "fsck", "--full", "--strict")
    head = run("git", "-C", bare, "log", "-1", "--format=%s", "main").strip()
    assert int(head.removeprefix("cut-")) >= pushed, head
    check = run("python3", "-c", "import sqlite3; print(sqlite3.connect('/var/lib/wharf/wharf.db').execute('pragma integrity_check').fetchone()[0])").strip()
    assert check == "ok", check
    return f"acknowledged number={number} push=cut-{pushed}; found number={kept}, serving {body}, git main {head}, fsck clean, store {check}"


# Tests that need what this machine does not carry; they run wherever the others do. A test that is skipped
# and is not here has failed.
ELSEWHERE = {
    "docker_run::what_an_image_says_of_its_process_means_what_it_means_to_docker": "Docker Engine",
    "links::a_session_of_a_real_database_goes_on_whoever_restarts": "PostgreSQL",
    "oci::the_page_names_tests_that_are_there": "the source tree",
}


def engine_tests(tell, options):
    """the engine's own tests pass on this kernel and cgroup version"""
    folder, passed, failed, elsewhere = "/opt/vm/engine-tests", 0, [], set(ELSEWHERE)
    if not os.path.isdir(folder):
        return "left out (VM_ENGINE_TESTS=0)"
    for program in ("unit", "it"):
        listed = run(f"{folder}/{program}", "--list", "--format", "terse")
        names = re.findall(r"^(.*): test$", listed, re.M)
        elsewhere -= set(names)
        for name in [name for name in names if name not in ELSEWHERE]:
            # A process for each, as nextest has it.
            said = run("env", "REQUIRE=root", f"INSTA_WORKSPACE_ROOT={folder}", "CI=true", f"{folder}/{program}", "--exact", name, check=False)
            if "1 passed" in said and "skipped:" not in said:
                passed += 1
            else:
                failed.append(name)
                print(said, flush=True)
    assert not failed, f"{passed} passed, {len(failed)} failed: {' '.join(failed)}"
    assert not elsewhere, f"no tests any more: {' '.join(elsewhere)}"
    return (f"{passed} passed, none failed, none skipped; one process each. Not run here, for it needs what this "
            f"machine does not carry: {', '.join(f'`{name}` ({what})' for name, what in ELSEWHERE.items())}")


def nothing_noticed(tell, options):
    """and the containers of Wharf beside these tests never noticed"""
    at_rest(3)
    return f"{answers('probe.localhost', '')}, 3 containers"


def push_after(tell, options):
    """and the next push works"""
    said = push("probe", "after")
    return f"{answers('probe.localhost', 'after')}; {live(said)}"


STAGES = {
    "first": [pure_cgroup2, units_come_up, push_static_site, push_probe, edge, limits_are_on,
              nothing_internal, usage_is_told, memory_hog, fork_bomb, one_off, daemon_restarted,
              daemon_killed, daemon_stopped, worker_killed, proxy_killed, proxy_stopped, settings_before_reboot],
    "again": [rebooted, until_the_power_is_cut],
    "proxy-late": [rebooted_daemon_first, what_was_acknowledged, push_after, delay_daemon],
    "daemon-late": [rebooted_proxy_first, engine_tests, nothing_noticed],
    # By itself, for whoever works on the engine: `scripts/vm/run.py --stage engine`.
    "engine": [pure_cgroup2, engine_tests],
}
# Without these there is nothing to check.
ESSENTIAL = [units_come_up, push_static_site, push_probe, rebooted, rebooted_daemon_first]
