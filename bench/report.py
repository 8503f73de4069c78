"""The page a person reads, from the raw result. Says what was reached and what was not."""

from statistics import median

TITLES = {"wharf": "Wharf, `git push`", "classic": "Docker, classic builder",
          "buildkit": "Docker, BuildKit"}
# What issue and design promise: seconds, share of Docker, MB.
GOAL_LIVE, GOAL_RATIO, GOAL_DAEMONS, GOAL_CONTAINER = 0.3, 0.7, 40.0, 1.5


def render(result: dict) -> str:
    parts = [heading(result), method(), summary(result), live(result), cold(result)]
    parts += [phases(result), memory(result["memory"]), remarks(result)]
    return "\n".join(part for part in parts if part)


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def seconds(value: float) -> str:
    return f"{value:.3f} s"


def mb(kib: float) -> float:
    return kib * 1.024 / 1000


def verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def times(rounds: list[dict], name: str = "live") -> list[float]:
    return [one[name] for one in rounds]


def best_builder(rounds: dict) -> str | None:
    builders = [side for side in rounds if side != "wharf" and rounds[side]]
    return min(builders, key=lambda side: median(times(rounds[side])), default=None)


def heading(result: dict) -> str:
    on = result["machine"]
    return f"""\
# Push to live

Written by `make bench-push`; the raw figures are in [push.json](push.json).

{on['date']}, commit {on['commit']}. {on['cores']} cores ({on['processor']}), {on['memory_gib']} GiB, \
{on['system']}, kernel {on['kernel']}.
rustc {on['rustc']}; git {on['git']}; Docker {on['docker']}; {on['containerd']}; runc {on['runc']}; \
nginx {on['nginx']}.
Other work on the machine took {on['busy_before']:.0%} of its cores before the run and \
{on['busy_after']:.0%} after it.
"""


def method() -> str:
    return """\
## Method

1. One line of the app's page is changed and committed; then the clock starts. A prober, a process of its own,
   asks the page every 2 ms on a fresh connection, and stops the clock at the first answer with the new line.
2. Wharf: the clock starts with `git push` over HTTP. Health gate, route swap and everything stored are in it.
3. Docker: `docker build` (dependencies before source, cached) → `docker run` with a published port → ask every 2 ms
   until 200 → write nginx's upstream → `nginx -s reload`. No push, no transfer, no database: this side starts ahead.
   Its base image is imported from the very layers Wharf built with; its daemon writes no firewall rules.
4. All sides take turns in each round, the order moves on by one per round; one round warms up, uncounted.
   An old container is gone before the next turn.
5. Memory is the proportional set size of processes; a container's cost is the slope of `MemAvailable`.
"""


def summary(result: dict) -> str:
    rows = []
    if rounds := result["examples"].get("node-web", {}).get("rounds"):
        ours = median(times(rounds["wharf"]))
        rows.append(["node-web, code-only, median", f"≤ {GOAL_LIVE} s", seconds(ours),
                     verdict(ours <= GOAL_LIVE)])
        if best := best_builder(rounds):
            share = ours / median(times(rounds[best]))
            rows.append([f"the same as a share of {TITLES[best]}", f"≤ {GOAL_RATIO}",
                         f"{share:.2f}", verdict(share <= GOAL_RATIO)])
    if daemons := result["memory"].get("wharf daemons"):
        whole = mb(sum(daemons.values()))
        rows.append(["daemon and proxy with no app", f"≤ {GOAL_DAEMONS:.0f} MB", f"{whole:.1f} MB",
                     verdict(whole <= GOAL_DAEMONS)])
    if containers := result["memory"].get("wharf containers"):
        cost = mb(slope(containers["available_kib"]))
        rows.append(["an idle container, all in", f"≤ {GOAL_CONTAINER} MB", f"{cost:.2f} MB",
                     verdict(cost <= GOAL_CONTAINER)])
    return "## Goals\n\n" + table(["what", "goal", "measured", ""], rows)


def live(result: dict) -> str:
    rows = []
    for name, found in result["examples"].items():
        best = best_builder(found["rounds"])
        base = median(times(found["rounds"][best])) if best else None
        for side, rounds in found["rounds"].items():
            values = times(rounds)
            mark = " (its best)" if side == best else ""
            share = f"{median(values) / base:.2f}" if base else "–"
            others = sum(one["not_200"] for one in rounds)
            rows.append([name, TITLES[side] + mark, seconds(median(values)),
                         f"{min(values):.3f}–{max(values):.3f}",
                         seconds(median(times(rounds, "returned"))), share, str(others)])
    count = max((len(one["rounds"]["wharf"]) for one in result["examples"].values()), default=0)
    head = ["app", "way", "median", "min–max", "command returned", "of Docker's best",
            "answers not 200"]
    return f"## A code-only change, {count} rounds\n\n" + table(head, rows)


def cold(result: dict) -> str:
    rows = []
    for number, (name, found) in enumerate(result["examples"].items()):
        sides = found["cold"]
        remark = "makes the base system from Debian packages too" if number == 0 else ""
        others = [seconds(sides[side]["live"]) if side in sides else "–"
                  for side in ("classic", "buildkit")]
        rows.append([name, seconds(sides["wharf"]["live"]), *others, remark])
    head = ["app", "Wharf", "Docker, classic", "Docker, BuildKit", "Wharf"]
    return ("## The first push\n\nDocker's import of base and runtime is not counted, Wharf's making of them is.\n\n"
            + table(head, rows))


def phases(result: dict) -> str:
    lines = ["## Where the time goes\n\nMedians. Wharf's phases are those it prints itself.\n"]
    for name, found in result["examples"].items():
        for side, rounds in found["rounds"].items():
            names = dict.fromkeys(phase for one in rounds for phase in one["phases"])
            if not names:
                continue
            spent = [f"{phase} {median(one['phases'].get(phase, 0.0) for one in rounds):.3f}"
                     for phase in names]
            lines.append(f"- {name}, {TITLES[side]}: {', '.join(spent)}")
    return "\n".join(lines) + "\n"


def slope(looks: dict) -> float:
    """KiB per container, the median of the ways up from the second largest count to the largest."""
    *_, few, many = sorted(looks)
    return median((less - more) / (many - few) for less, more in zip(looks[few], looks[many]))


def memory(found: dict) -> str:
    if not found:
        return ""
    rows = []
    for side in ("wharf", "docker"):
        if daemons := found.get(f"{side} daemons"):
            each = ", ".join(f"{name} {mb(size):.1f}" for name, size in daemons.items())
            rows.append([side.title(), "with no app, 10 s after its start",
                         f"{mb(sum(daemons.values())):.1f} MB", each])
        if containers := found.get(f"{side} containers"):
            looks = containers["available_kib"]
            few, many = sorted(looks)[-2:]
            each = [f"{mb((less - more) / (many - few)):.2f}"
                    for less, more in zip(looks[few], looks[many])]
            rows.append([side.title(), "an idle container, all in",
                         f"{mb(slope(looks)):.2f} MB",
                         f"slope from {few} to {many} replicas, {len(each)} times: {', '.join(each)}"])
            for role in ("shim", "init", "app"):
                if sizes := containers.get(role):
                    rows.append([side.title(), f"its {role} alone", f"{mb(median(sizes)):.2f} MB",
                                 f"median of {len(sizes)}"])
    return "## Memory\n\n" + table(["side", "what", "size", "of it"], rows)


def remarks(result: dict) -> str:
    busy = max(result["machine"]["busy_before"], result["machine"]["busy_after"])
    lines = ["## What to know when reading this\n"]
    if busy > 0.1:
        lines.append(f"- **The machine was not quiet** ({busy:.0%} busy with other work): compare columns of a row, "
                     "do not quote a figure.")
    lines += [
        "- The prober costs each side some 10 % of a core, and, on Wharf, a line of the request log per question.",
        "- Docker's containers run without limits, on a bridge; Wharf's have memory, CPU and process limits, a seccomp "
        "filter and an own user.",
        "- `answers not 200` are what visitors would have seen while the version changed.",
        "- The static site is served by Wharf's own static server on both sides.",
        "- `MemAvailable` is the machine's: what others allocate meanwhile is in the slope.",
    ]
    return "\n".join(lines) + "\n"
