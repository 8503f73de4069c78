//! `top`.

use std::io::IsTerminal;

use super::Failure;
use super::session::{Json, Session, escape};
use super::table::table;
use crate::api::inspect::{Process, Processes};

/// Show what runs inside the app's processes, the busiest first
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf top\n  wharf top web.1\n  wharf top -f          again and again, until Ctrl-C\n  wharf top web.1 --json\n\nCPU is of one core, between two looks half a second apart (two seconds with -f).\nMemory is a process's own, without the files it shares with others."
)]
pub(super) struct TopArgs {
    /// Only this one: web.1
    #[arg(value_name = "NAME")]
    replica: Option<String>,
    /// Show it again every two seconds
    #[arg(short, long, visible_alias = "watch")]
    follow: bool,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn show(session: &Session, args: &TopArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let seconds = if args.follow { 2.0 } else { 0.5 };
    let mut path = format!("/wharf/apps/{app}/processes?seconds={seconds}");
    if let Some(replica) = &args.replica {
        path.push_str(&format!("&replica={}", escape(replica)));
    }
    loop {
        if let Some(seen) = session.read::<Processes>(&path, args.json).await? {
            if args.follow && std::io::stdout().is_terminal() {
                session.printer.data("\x1b[H\x1b[2J");
            }
            if seen.replicas.is_empty() {
                session.printer.say(format!("Nothing of {app} runs. See: wharf ps -a {app}"));
            }
            lines(&seen).iter().for_each(|line| session.printer.data(line));
        }
        if !args.follow || session.printer.is_closed() {
            return Ok(());
        }
    }
}

fn lines(seen: &Processes) -> Vec<String> {
    let head = ["", "pid", "user", "state", "cpu %", "memory", "age", "command"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for replica in &seen.replicas {
        let rest = replica.processes.iter().map(row);
        // The name stands once, beside the busiest.
        let names = std::iter::once(replica.name.clone()).chain(std::iter::repeat(String::new()));
        rows.extend(names.zip(rest).map(|(name, rest)| [vec![name], rest].concat()));
    }
    if rows.len() == 1 { Vec::new() } else { table(&rows) }
}

fn row(one: &Process) -> Vec<String> {
    vec![
        one.pid.to_string(),
        one.user.to_string(),
        one.state.clone(),
        one.cpu_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}")),
        one.memory.to_string(),
        age(one.age_seconds),
        one.command.clone(),
    ]
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_stand_first_beside_the_name() {
        let process = |pid: u32, percent: Option<f64>, command: &str| {
            serde_json::json!({
                "pid": pid, "host_pid": 4000 + pid, "user": 1000, "state": "S", "threads": 1,
                "cpu_percent": percent, "cpu_seconds": 1.5, "memory": 48 << 20,
                "age_seconds": 300, "command": command,
            })
        };
        let long = "x".repeat(100);
        let seen: Processes = serde_json::from_value(serde_json::json!({
            "at": "2026-11-21T10:00:00Z", "window_seconds": 0.5,
            "replicas": [
                {"name": "web.1", "id": uuid::Uuid::nil(), "memory": 50 << 20,
                 "processes": [process(2, Some(12.34), "node server.js"), process(9, None, &long)]},
                {"name": "web.2", "id": uuid::Uuid::nil(), "memory": null, "processes": []},
            ],
        }))
        .unwrap();
        insta::assert_snapshot!(lines(&seen).join("\n"), @r"
               pid  user  state  cpu %  memory  age  command
        web.1  2    1000  S      12.3   48 MiB  5m   node server.js
               9    1000  S      -      48 MiB  5m   xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…
        ");
        assert!(lines(&seen).iter().all(|line| line.chars().count() <= 80));
    }
}
