"""What `density.py` measured, as docs/benchmarks/density.md."""

from examples import TREE

PAGE = TREE / "docs/benchmarks/density.md"
WHY = TREE / "bench/density_profile.md"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def change(seen: dict) -> str:
    return f"{seen['seconds'] * 1000:.0f} ms; {seen['daemon_ms']:.0f}; {seen['proxy_ms']:.0f}"


def page(result: dict) -> str:
    on, steps = result["machine"], result["steps"]
    parts = [f"""\
# Many apps on one machine

Written by `make bench-density`; the raw figures are in [density.json](density.json).

{on['date']}, commit {on['commit']}. {on['cores']} cores ({on['processor']}), {on['memory_gib']} GiB, \
{on['system']}, kernel {on['kernel']}.
Other work on the machine took {on['busy_before']:.0%} of its cores before the run and {on['busy_after']:.0%} after it.

Each app is a git repository with a page and a Procfile, on a base of busybox alone; its one replica is busybox's web
server, with users, network, limits and log of its own. All are on one Wharf with the settings it has by itself.
Figures of a change are: wall time; milliseconds of processor time the daemon took; the same of the proxy.

## What a change costs, as apps grow more
"""]
    head = ["", *(f"{step['apps']} apps" for step in steps)]
    rows = [
        ["a new app: create, push, live; four at once, time for each",
         *(f"{step['new_app']['seconds'] * 1000:.0f} ms; {step['new_app']['daemon_ms']:.0f}" for step in steps)],
        ["a changed line pushed, until it is live", *(change(step["push"]) for step in steps)],
        ["one replica more, and one less", *(change(step["scale"]) for step in steps)],
        ["apps that answer", *(str(step["answering"]) for step in steps)],
        ["nothing to do: the daemon, % of a core", *(f"{step['idle']['daemon_percent']:.1f}" for step in steps)],
        ["nothing to do: the proxy, % of a core", *(f"{step['idle']['proxy_percent']:.1f}" for step in steps)],
        ["daemon, PSS", *(f"{step['daemon_mib']:.0f} MiB" for step in steps)],
        ["proxy, PSS", *(f"{step['proxy_mib']:.0f} MiB" for step in steps)],
        ["all in, an app", *(f"{step['kib_each']:.0f} KiB" for step in steps)],
        ["daemon killed and started again: until it answers",
         *(f"{step['restart']['ready_seconds']:.2f} s" for step in steps)],
        ["… until it has looked at all: its processor time",
         *(f"{step['restart']['daemon_seconds']:.2f} s" for step in steps)],
        *([f"`wharf {name}`", *(f"{step['commands'][name] * 1000:.0f} ms" for step in steps)]
          for name in steps[0]["commands"]),
    ]
    parts.append(table(head, rows))
    if idle := result.get("idle"):
        parts.append("\n## Idle replicas beside them\n")
        rows = [
            ["idle replicas added", f"{idle['replicas']}"],
            ["until all of them ran", f"{idle['seconds']:.0f} s ({idle['replicas'] / idle['seconds']:.0f} a second)"],
            ["memory of the machine for each", f"{idle['kib_each']:.0f} KiB"],
            ["web replicas that answer then", f"{idle['answering']}"],
            ["a changed line pushed, until it is live", change(idle["push"])],
            ["nothing to do: daemon and proxy, % of a core",
             f"{idle['daemon_percent']:.1f} and {idle['proxy_percent']:.1f}"],
            ["daemon and proxy, PSS", f"{idle['daemon_mib']:.0f} and {idle['proxy_mib']:.0f} MiB"],
            ["daemon killed and started again: until it answers", f"{idle['restart']['ready_seconds']:.2f} s"],
        ]
        parts.append(table(["", ""], rows))
    parts.append("\n" + WHY.read_text())
    return "\n".join(parts)
