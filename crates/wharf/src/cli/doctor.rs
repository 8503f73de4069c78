//! `doctor`; and how `wharf daemon --check` shows the same.

use model::problem::{Code, Problem};

use super::Failure;
use super::printer::Printer;
use super::session::{Json, Session};
use super::table::shorten;
use crate::api::doctor::{Check, Level, Report};
use crate::client::Target;
use crate::process::Invocation;

/// Check whether this machine has what Wharf needs, and say what each missing thing costs
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf doctor\n  wharf doctor --json\n  wharf daemon --check --config /etc/wharf.toml\n\nAsks the daemon. Where none runs on this machine yet, it looks as one would that\nis started here (wharf daemon --check). Ends with 1 when something fails."
)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    json: Json,
}

pub(super) async fn show(session: &Session, args: &DoctorArgs) -> Result<(), Failure> {
    let report = match session.client.get::<Report>("/wharf/doctor").await {
        Ok(report) => report,
        Err(problem) => match (&problem.code, session.client.target()) {
            (Code::DaemonUnreachable, Target::Unix(_)) => look_here(session).await?,
            _ => return Err(problem.into()),
        },
    };
    print(&session.printer, &report, args.json.json);
    if report.is_fit { Ok(()) } else { Err(Failure::PassedOn(1)) }
}

/// Has the daemon's own role look, as it would at its start.
async fn look_here(session: &Session) -> Result<Report, Problem> {
    session.printer.say("No daemon answers; this is how one would find this machine:");
    let problem =
        |why: String| Problem::new(Code::Internal, "this machine was not looked at").why(why);
    let program = std::env::current_exe().map_err(|error| problem(error.to_string()))?;
    let mut look = Invocation::new(program).args(["daemon", "--check", "--json"]);
    for (name, value) in std::env::vars_os() {
        // Its settings.
        if name.as_encoded_bytes().starts_with(b"WHARF_") {
            look = look.env(name, value);
        }
    }
    let output = look.command().output().await.map_err(|error| problem(error.to_string()))?;
    serde_json::from_slice(&output.stdout).map_err(|error| match output.stderr.as_slice() {
        [] => problem(error.to_string()),
        said => problem(String::from_utf8_lossy(said).trim().to_owned()),
    })
}

/// Prints a report as it was asked for.
pub(super) fn print(printer: &Printer, report: &Report, as_json: bool) {
    if as_json {
        printer.json(report);
    } else {
        lines(report).iter().for_each(|line| printer.data(line));
    }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    let mut areas: Vec<&str> = report.checks.iter().map(|check| check.area.as_str()).collect();
    areas.dedup();
    let mut seen: Vec<&str> = Vec::new();
    for area in areas {
        if seen.contains(&area) {
            continue;
        }
        seen.push(area);
        lines.push(format!("=== {area}"));
        let own = report.checks.iter().filter(|check| check.area == area);
        lines.extend(own.flat_map(rows));
    }
    let count = |level| report.checks.iter().filter(|check| check.level == level).count();
    lines.push(String::new());
    lines.push(format!(
        "{} ok, {} warnings, {} failed",
        count(Level::Ok),
        count(Level::Warn),
        count(Level::Fail)
    ));
    lines
}

fn rows(check: &Check) -> Vec<String> {
    let word = match check.level {
        Level::Ok => "ok",
        Level::Warn => "WARN",
        Level::Fail => "FAIL",
    };
    let first = format!("{word:<5} {:<18} {}", check.name, check.found);
    let more = [("costs: ", &check.costs), ("next:  ", &check.next)];
    let more =
        more.into_iter().filter_map(|(word, text)| Some(format!("      {word}{}", text.as_ref()?)));
    // A trouble is told in full, however long the kernel's word is.
    let first = if check.level == Level::Ok { shorten(&first, 80) } else { first };
    std::iter::once(first).chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_says_what_was_found_what_it_costs_and_what_to_do() {
        let check = |area: &str, name: &str, level, costs: Option<&str>| Check {
            area: area.to_owned(),
            name: name.to_owned(),
            level,
            found: "found".to_owned(),
            costs: costs.map(str::to_owned),
            next: costs.map(|_| "apt-get install it".to_owned()),
        };
        let report = Report {
            version: "0.1.0".to_owned(),
            is_daemon_up: true,
            is_fit: false,
            checks: vec![
                check("kernel", "release", Level::Ok, None),
                check("network", "veth", Level::Fail, Some("no app has a way out")),
                check("tools", "git", Level::Warn, Some("nobody can push")),
                check("network", "names", Level::Ok, None),
            ],
        };
        insta::assert_snapshot!(lines(&report).join("\n"), @r"
        === kernel
        ok    release            found
        === network
        FAIL  veth               found
              costs: no app has a way out
              next:  apt-get install it
        ok    names              found
        === tools
        WARN  git                found
              costs: nobody can push
              next:  apt-get install it

        2 ok, 1 warnings, 1 failed
        ");
    }
}
