//! A command line that cannot be followed, told as every other mistake is.

use std::error::Error as _;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use model::problem::{Code, Problem};

use super::printer::Printer;

/// More of them are no help.
const MOST_MEANT: usize = 3;

/// Says it, and returns what to end with. Help and the version are no mistake: they are said as they are.
pub(crate) fn tell(error: &clap::Error, still: &str) -> ExitCode {
    match problem(error) {
        Some(problem) => Printer::new().problem(&problem.still(still)),
        // They go to stdout; that they cannot is nobody's loss.
        None => drop(error.print()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The commands most like one that is none, the likeliest first.
fn commands_meant(error: &clap::Error) -> Vec<&str> {
    match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(name)) => vec![name],
        // clap has the likeliest last.
        Some(ContextValue::Strings(names)) => {
            names.iter().rev().take(MOST_MEANT).map(String::as_str).collect()
        }
        _ => Vec::new(),
    }
}

/// What clap says, as a problem; none for what is no mistake.
fn problem(error: &clap::Error) -> Option<Problem> {
    if !error.use_stderr() {
        return None;
    }
    let code = match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => Code::BadInput,
        _ => Code::CommandWrong,
    };
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n").map(str::trim).filter(|text| !text.is_empty());
    let first = paragraphs.next().unwrap_or_default();
    let mut lines = first.strip_prefix("error: ").unwrap_or(first).lines();
    let mut what = lines.next().unwrap_or_default().trim_end_matches(':').to_owned();
    let mut why: Vec<&str> = lines.map(|line| line.trim().trim_matches(['[', ']'])).collect();
    let rule = error.source().map(ToString::to_string);
    if let Some(rule) = &rule {
        // It stands behind what is wrong, and is why.
        what.truncate(
            what.strip_suffix(rule.as_str()).unwrap_or(&what).trim_end_matches([':', ' ']).len(),
        );
        why = vec![rule];
    }
    let mut problem = Problem::new(code, what);
    if !why.is_empty() {
        problem = problem.why(why.join(", "));
    }
    let meant = commands_meant(error);
    for name in &meant {
        problem = problem.next(format!("wharf {name}"));
    }
    for rest in paragraphs {
        for line in rest.lines().map(str::trim) {
            if let Some(usage) = line.strip_prefix("Usage: ") {
                // clap shows what was given beside what is missing, by the environment, too.
                problem = problem.next(usage.replace("--api <URL> ", ""));
            } else if let Some(tip) = line.strip_prefix("tip: ") {
                if meant.is_empty() {
                    problem = problem.next(tip);
                }
            } else if line.starts_with("For more information") {
                continue;
            }
        }
    }
    Some(problem)
}
