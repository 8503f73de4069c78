//! `inspect`.

use jiff::Timestamp;

use super::Failure;
use super::session::{Json, Session, escape};
use super::table::{moment, table};
use crate::api::inspect::{
    Bounds, ContainerDetail, Interface, Mount, Namespace, Pids, ReplicaInspection, Used, Walls,
};

/// Show all there is to see of one process: its container, limits, network, walls
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf inspect web.2\n  wharf inspect web.1 -a shop\n  wharf inspect web.1 --json | jq .container.used\n\nRead from the kernel now. Of the environment only names are shown. For the\nprocesses inside: wharf top web.2"
)]
pub(super) struct InspectArgs {
    /// Which one: web.2
    #[arg(value_name = "NAME")]
    replica: String,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn show(session: &Session, args: &InspectArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = format!("/wharf/apps/{app}/replicas/{}", escape(&args.replica));
    let Some(seen) = session.read::<ReplicaInspection>(&path, args.json).await? else {
        return Ok(());
    };
    lines(&seen, Timestamp::now()).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

fn lines(seen: &ReplicaInspection, now: Timestamp) -> Vec<String> {
    let status = format!("{} {}", seen.status, moment(seen.since.0, now));
    let mut lines = vec![format!("=== {} of {}: {status}", seen.name, seen.app)];
    let mut row = |name: &str, value: String| lines.push(format!("{name:<12} {value}"));
    if let Some(reason) = &seen.reason {
        row("Why:", reason.clone());
    }
    row("Command:", seen.command.clone());
    row("Release:", format!("v{}, generation {}", seen.release, seen.generation));
    row("Image:", seen.image.clone().unwrap_or_else(|| "none".to_owned()));
    let last = seen.last_exit.as_deref().map(|last| format!(", the last time it {last}"));
    row("Restarts:", format!("{} lately{}", seen.restarts, last.unwrap_or_default()));
    let Some(container) = &seen.container else {
        row("Container:", "it does not run now".to_owned());
        return lines;
    };
    row("Container:", seen.id.to_string());
    row("Pids:", pids(&container.pids));
    row(
        "Users:",
        match container.users {
            Some(users) => format!("0 inside is {} outside, {} of them", users.first, users.count),
            None => "the machine's own (P710)".to_owned(),
        },
    );
    row("Walls:", walls(&container.walls));
    for (place, interface) in container.interfaces.iter().enumerate() {
        row(if place == 0 { "Network:" } else { "" }, address(interface));
    }
    let listening = container.listening.iter();
    let listening: Vec<String> = listening
        .map(|one| {
            let at = std::net::SocketAddr::new(one.address, one.port);
            format!("{} {at}", one.protocol)
        })
        .collect();
    row("Listens:", some(&listening, ", "));
    for (place, names) in wrapped(&container.environment).iter().enumerate() {
        row(if place == 0 { "Environment:" } else { "" }, names.clone());
    }
    lines.extend(more(container));
    lines
}

/// What needs tables.
fn more(container: &ContainerDetail) -> Vec<String> {
    let mut lines = vec![String::new()];
    lines.extend(table(&use_rows(&container.used, &container.limits)));
    lines.extend([String::new(), "=== Namespaces".to_owned()]);
    lines.extend(table(&container.namespaces.iter().map(namespace).collect::<Vec<_>>()));
    lines.extend([String::new(), "=== Cgroups".to_owned()]);
    lines.extend(container.cgroups.iter().map(|place| place.path.clone()));
    lines.extend([String::new(), "=== Mounts".to_owned()]);
    lines.extend(table(&container.mounts.iter().map(mount).collect::<Vec<_>>()));
    lines
}

fn pids(pids: &Pids) -> String {
    let app = pids.app.map(|app| format!("app {} ({} inside)", app.host, app.inside));
    let shim = pids.shim.map_or("shim killed".to_owned(), |shim| format!("shim {shim}"));
    let init = format!("init {} ({} inside)", pids.init.host, pids.init.inside);
    [app, Some(init), Some(shim)].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn walls(walls: &Walls) -> String {
    let word = |is: bool, name: &str| format!("{}{name}", if is { "" } else { "NO " });
    let capabilities = some(&walls.capabilities, " ");
    format!(
        "{}, {}, capabilities: {capabilities}",
        word(walls.seccomp, "seccomp"),
        word(walls.no_new_privs, "no_new_privs"),
    )
}

fn address(interface: &Interface) -> String {
    let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
    format!("{} {}", interface.name, some(&addresses, " "))
}

fn some(words: &[String], gap: &str) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(gap) }
}

/// Names in lines that stand beside a heading.
fn wrapped(names: &[String]) -> Vec<String> {
    const WIDTH: usize = 80 - 13;
    let mut lines = vec![String::new()];
    for name in names {
        let line = lines.last_mut().expect("there is one at least");
        if line.is_empty() {
            line.push_str(name);
        } else if line.len() + 1 + name.len() <= WIDTH {
            line.push(' ');
            line.push_str(name);
        } else {
            lines.push(name.clone());
        }
    }
    if lines[0].is_empty() { vec!["none".to_owned()] } else { lines }
}

fn use_rows(used: &Used, limits: &Bounds) -> Vec<Vec<String>> {
    let bound = |limit: Option<String>| limit.unwrap_or_else(|| "none".to_owned());
    let row = |name: &str, used: String, limit: Option<String>, note: String| {
        vec![name.to_owned(), used, bound(limit), note]
    };
    let peak = used.memory_peak.map(|peak| format!("peak {peak}")).unwrap_or_default();
    let killed = match used.oom_kills {
        0 => String::new(),
        count => format!(", {count} killed for it"),
    };
    vec![
        ["=== Use", "now", "limit", ""].map(str::to_owned).to_vec(),
        row(
            "memory",
            used.memory.to_string(),
            limits.memory.map(|limit| limit.to_string()),
            format!("{peak}{killed}"),
        ),
        row(
            "cpu",
            format!("{:.1} s", used.cpu_seconds),
            limits.cpu.map(|cores| format!("{cores} cores")),
            format!("held back {:.1} s", used.throttled_seconds),
        ),
        row("pids", used.pids.to_string(), limits.pids.map(|n| n.to_string()), String::new()),
        row(
            "open files",
            used.open_files.to_string(),
            limits.open_files.map(|n| n.to_string()),
            "of one process".to_owned(),
        ),
        row(
            "disk",
            used.disk.to_string(),
            limits.disk.map(|limit| limit.to_string()),
            "thrown away with it".to_owned(),
        ),
        row("files", used.files.to_string(), limits.files.map(|n| n.to_string()), String::new()),
    ]
}

fn namespace(seen: &Namespace) -> Vec<String> {
    let note = if seen.is_hosts { "the machine's" } else { "" };
    vec![seen.kind.clone(), seen.inode.to_string(), note.to_owned()]
}

fn mount(seen: &Mount) -> Vec<String> {
    let access = if seen.is_read_only { "ro" } else { "rw" };
    let mut options = vec![access.to_owned()];
    options.extend(seen.options.iter().cloned());
    vec![seen.target.clone(), seen.kind.clone(), options.join(",")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_shown_on_a_screen_and_no_value_of_its_environment() {
        let seen: ReplicaInspection = serde_json::from_value(serde_json::json!({
            "app": "shop", "id": "0193f0c2-6d1f-7abc-8def-0123456789ab", "name": "web.2",
            "process": "web", "command": "node server.js", "status": "up", "reason": null,
            "since": "2026-11-21T09:56:00Z", "created_at": "2026-11-21T09:56:00Z",
            "release": 7, "generation": 3, "image": "sha256:42a3d1168b48", "restarts": 2,
            "last_exit": "exited with code 1",
            "container": {
                "pids": {"shim": 4699, "init": {"host": 4700, "inside": 1},
                         "app": {"host": 4711, "inside": 2}},
                "namespaces": [{"type": "net", "inode": 4_026_532_321_u64, "is_hosts": false},
                               {"type": "time", "inode": 4_026_531_834_u64, "is_hosts": true}],
                "cgroups": [{"controllers": ["memory"], "path": "/sys/fs/cgroup/memory/wharf/a"}],
                "mounts": [{"target": "/", "type": "overlay", "part": "/", "is_read_only": false,
                            "options": ["nodev"]}],
                "limits": {"memory": 512 << 20, "cpu": 0.5, "pids": 1024, "open_files": 65536,
                           "disk": null, "files": null},
                "used": {"memory": 48 << 20, "memory_peak": 50 << 20, "cpu_seconds": 12.34,
                         "throttled_seconds": 0.0, "pids": 12, "open_files": 21, "disk": 4096,
                         "files": 1, "oom_kills": 0},
                "interfaces": [{"name": "eth0", "addresses": ["10.213.0.6"]},
                               {"name": "lo", "addresses": ["127.0.0.1", "::1"]}],
                "listening": [{"protocol": "tcp", "address": "0.0.0.0", "port": 5000},
                              {"protocol": "udp", "address": "::", "port": 5353}],
                "users": {"first": 1_879_048_192, "count": 65536},
                "walls": {"seccomp": true, "no_new_privs": true, "capabilities": [],
                          "bounding": []},
                "environment": ["DATABASE_URL", "HEROKU_APP_NAME", "HEROKU_SLUG_COMMIT", "NODE_ENV",
                                "PORT", "STRIPE_KEY"],
            },
        }))
        .unwrap();
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        let lines = lines(&seen, now);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        insta::assert_snapshot!(lines.join("\n"), @r"
        === web.2 of shop: up 2026/11/21 09:56:00 (~ 4m ago)
        Command:     node server.js
        Release:     v7, generation 3
        Image:       sha256:42a3d1168b48
        Restarts:    2 lately, the last time it exited with code 1
        Container:   0193f0c2-6d1f-7abc-8def-0123456789ab
        Pids:        app 4711 (2 inside), init 4700 (1 inside), shim 4699
        Users:       0 inside is 1879048192 outside, 65536 of them
        Walls:       seccomp, no_new_privs, capabilities: none
        Network:     eth0 10.213.0.6
                     lo 127.0.0.1 ::1
        Listens:     tcp 0.0.0.0:5000, udp [::]:5353
        Environment: DATABASE_URL HEROKU_APP_NAME HEROKU_SLUG_COMMIT NODE_ENV PORT
                     STRIPE_KEY

        === Use     now     limit
        memory      48 MiB  512 MiB    peak 50 MiB
        cpu         12.3 s  0.5 cores  held back 0.0 s
        pids        12      1024
        open files  21      65536      of one process
        disk        4 KiB   none       thrown away with it
        files       1       none

        === Namespaces
        net   4026532321
        time  4026531834  the machine's

        === Cgroups
        /sys/fs/cgroup/memory/wharf/a

        === Mounts
        /  overlay  rw,nodev
        ");
    }
}
