"""The page a person reads, from the raw result."""

import subprocess
from pathlib import Path
from statistics import median

import place
from peers import PEERS, Copies, Splices

# What a person found in the profile, said by that person.
PROFILE = Path(__file__).with_name("profile.md")


def versions() -> dict:
    def said(kind) -> str:
        if not kind.version:
            return ""
        name, *words = kind.version
        done = subprocess.run([place.program(name), *words], capture_output=True, text=True)
        return (done.stdout or done.stderr).strip().partition("\n")[0]

    return {"peers": {kind.name: said(kind) for kind in PEERS}}


def spread(rows: list[dict], name: str, digits: int = 1) -> str:
    values = [row[name] for row in rows]
    if not values:
        return "none counted"
    return f"{median(values):.{digits}f} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


def cell(rows: list[dict]) -> str:
    if rows and "bytes" in rows[0]:
        return f"{rows[0]['bytes']:.0f} bytes"
    return f"{spread(rows, 'cpu_us')} µs, {spread(rows, 'rate', 0)}/s" if rows else "none counted"


def ratio(case: dict, side: str, name: str) -> str:
    """Against the better of nginx and HAProxy."""
    peers = [median(row[name] for row in case[peer]) for peer in ("nginx", "HAProxy")
             if case.get(peer)]
    if not peers or not case[side]:
        return ""
    return f"{median(row[name] for row in case[side]) / min(peers):.2f}"


def against(case: dict, *peers: str, whose: str = "Wharf") -> float | None:
    """Our CPU time each, as a share of the better of these."""
    known = [median(row["cpu_us"] for row in case[peer]) for peer in peers if case.get(peer)]
    own = case.get(whose)
    return median(row["cpu_us"] for row in own) / min(known) if known and own else None


def goals(cases: dict, found: dict | None) -> str:
    """What was promised and what was seen."""
    body = []

    def goal(what: str, promised: str, seen: float | None, most: float, form: str = "{:.2f}") -> None:
        if seen is not None:
            word = "reached" if seen <= most else "**missed**"
            body.append([what, promised, form.format(seen), word])

    def least(name: str, relay: str, *peers: str) -> None:
        seen = against(cases.get(name, {}), *peers, whose=relay)
        if seen is not None:
            body.append([f"there a relay that reads nothing ({relay}) takes", "", f"{seen:.2f}", ""])

    for name in ("101 B", "10 KiB"):
        seen = against(cases.get(name, {}), "nginx", "HAProxy")
        goal(f"{name}, of the better of nginx and HAProxy", "≤ 0.85", seen, 0.85)
        goal("the same, the floor", "≤ 1.0", seen, 1.0)
        least(name, Copies.name, "nginx", "HAProxy")
    goal("1 MiB, of nginx", "≤ 0.5", against(cases.get("1 MiB", {}), "nginx"), 0.5)
    least("1 MiB", Splices.name, "nginx")
    goal("1 MiB, of HAProxy", "≤ 0.85", against(cases.get("1 MiB", {}), "HAProxy"), 0.85)
    for name in [name for name in cases if name.startswith("TLS")]:
        goal(f"{name}, of the better", "≤ 1.0", against(cases[name], "nginx", "HAProxy"), 1.0)
    for name, case in cases.items():
        if name.endswith("idle connections") and case.get("Wharf"):
            goal(f"{name}, bytes each", "≤ 8192", case["Wharf"][0]["bytes"], 8192, "{:.0f}")
    routes = [median(row["cpu_us"] for row in case["Wharf"]) for name, case in cases.items()
              if name.endswith("routes") and case.get("Wharf")]
    if len(routes) > 1:
        goal("10,000 routes, of the cost with 10", "flat", routes[-1] / routes[0], 1.1)
    if found:
        goal("a change among 100,000 routes, ms", "≤ 50", quantile(found["times_ms"], 0.5), 50, "{:.0f}")
    return "## Goals\n\n" + rows(["", "promised", "seen", ""], body)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def changes(found: dict) -> str:
    """Until a change is served by every core and on the disk, and what visitors saw meanwhile."""
    times = found["times_ms"]
    ways = [f"{quantile(times, share):.1f}" for share in (0.5, 0.9, 0.99)] + [f"{max(times):.1f}"]
    reloads = found["nginx_s"]
    visitors = [[what, "0", *(f"{found[key][one]:.0f}" for one in ("p50_us", "p99_us", "p999_us"))]
                for what, key in (("none", "calm"), (f"{len(times)}", "busy"))]
    return f"""\
Each change gives one app another replica or another host; it counts from the word on the control
socket until every core serves by it and it is on the disk. nginx, told by a new configuration with one
host more in its map, serves that host after {median(reloads):.2f} s \
[{min(reloads):.2f}–{max(reloads):.2f}].

""" + rows(["changes", "p50 ms", "p90 ms", "p99 ms", "most ms"], [[f"{len(times)}", *ways]]) + \
        "\n" + rows(["changes meanwhile", "requests failed", "p50 µs", "p99 µs", "p99.9 µs"], visitors)


def rows(head: list[str], body: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def render(result: dict) -> str:
    on, cases = result["machine"], result["cases"]
    peers = "; ".join(f"{name}: {said}" for name, said in on["peers"].items() if said)
    parts = [f"""\
# What a proxied request costs

Written by `make bench-proxy`; the raw figures are in [proxy.json](proxy.json), the configurations in
bench/proxy/peers.py.

{on['date']}, commit {on['commit']}. {on['cores']} cores ({on['processor']}), {on['memory_gib']} GiB,
{on['system']}, kernel {on['kernel']}; rustc {on['rustc']}. {peers}.
Other work on the machine took {on['busy_before']:.0%} of its cores before the run and \
{on['busy_after']:.0%} after it.

## Method

1. Each proxy has one worker on one core of its own; the visitors and the app (an nginx with the bodies
   in memory) share the other core. All keep connections to the app; all write one log line with a
   request id per request and set the forwarding headers, except where a row says that it does not.
2. All proxies run at once and take turns; who begins moves on by one each round, one round warms up,
   uncounted. A round with one wrong status or one broken connection does not count.
3. The main figure is CPU time of the proxy per request (user and system, all its threads, from
   `/proc/PID/task/*/schedstat`): median [least–most] of the rounds. The ratio is against the better of
   nginx and HAProxy. Requests/s on two cores is as much the visitors' figure as the proxy's: `core` is
   how much of its core the proxy used meanwhile.
4. At a steady rate a request has its time whether or not earlier ones were answered, and its latency
   counts from that time on.
"""]
    parts.append(goals(cases, result.get("changes")))
    if PROFILE.exists():
        parts.append("## Why\n\n" + PROFILE.read_text())
    work = {name: case for name, case in cases.items()
            if all("rate" in row for side in case.values() for row in side)}
    for name, case in work.items():
        has_latency = any("p50_us" in row for side in case.values() for row in side)
        head = ["proxy", "CPU µs each", "ratio", "p50 µs", "p99 µs", "p99.9 µs"] if has_latency \
            else ["proxy", "CPU µs each", "ratio", "requests/s", "core"]
        body = []
        for side, found in case.items():
            row = [side, spread(found, "cpu_us"), ratio(case, side, "cpu_us")]
            if has_latency:
                row += [spread(found, key, 0) for key in ("p50_us", "p99_us", "p999_us")]
            else:
                row += [spread(found, "rate", 0),
                        f"{median(one['core'] for one in found):.0%}" if found else ""]
            body.append(row)
        parts.append(f"## {name}\n\n" + rows(head, body))
    idle = {name: case for name, case in cases.items() if name not in work}
    if idle:
        names = [kind.name for kind in PEERS]
        body = [[name, *(f"{case[side][0]['bytes']:.0f}" if case[side] else "" for side in names)]
                for name, case in idle.items()]
        parts.append("## Memory of an idle connection, bytes\n\n" + rows(["", *names], body))
    if "changes" in result:
        parts.append("## A change among 10,000 apps with 100,000 routes\n\n" + changes(result["changes"]))
    if result["notes"]:
        parts.append("## Rounds that do not count\n\n" +
                     "".join(f"- {note.splitlines()[0][:200]}\n" for note in result["notes"]))
    return "\n".join(parts)
