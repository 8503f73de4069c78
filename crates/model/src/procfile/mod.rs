//! The Procfile: `type: command` lines → process types.
//!
//! Strict on purpose: one bad line rejects the whole file, because a half-read Procfile starts half
//! an app (and a merge marker is never meant). All mistakes are reported at once, each with its
//! line, so that one push is enough to mend them. Reading the file is somebody else's job.

use std::collections::BTreeMap;
use std::fmt;

use crate::name::ProcessType;
use crate::problem::{Code, Problem};

/// One line that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcfileMistake {
    /// Counted from 1.
    pub line: usize,
    /// The line as it stands in the file, cut to a readable length.
    pub text: String,
    pub rule: ProcfileRule,
}

/// The rules a line can break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcfileRule {
    /// No colon: not a `type: command` line.
    NoColon,
    /// What stands before the colon is no process type.
    TypeName,
    /// Nothing stands after the colon.
    EmptyCommand,
    /// The type was given before, on that line.
    Duplicate { first_line: usize },
    /// `<<<<<<<`, `=======` or `>>>>>>>`, left by a merge.
    MergeMarker,
    /// A control character, which no shell command needs.
    ControlCharacter,
    /// The file says nothing at all.
    Empty,
}

impl fmt::Display for ProcfileRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoColon => f.write_str("a line is `type: command`"),
            Self::TypeName => write!(f, "a process type is {}", ProcessType::RULE),
            Self::EmptyCommand => f.write_str("there is no command after the colon"),
            Self::Duplicate { first_line } => {
                write!(f, "the process type was given on line {first_line} already")
            }
            Self::MergeMarker => f.write_str("a merge left its marker here"),
            Self::ControlCharacter => f.write_str("there is a control character in it"),
            Self::Empty => f.write_str("the file names no process"),
        }
    }
}

impl fmt::Display for ProcfileMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.rule)?;
        if self.text.is_empty() { Ok(()) } else { write!(f, " (`{}`)", self.text) }
    }
}

/// The process types of a Procfile, or every line that is wrong.
pub fn parse_procfile(text: &str) -> Result<BTreeMap<ProcessType, String>, Vec<ProcfileMistake>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut processes = BTreeMap::new();
    let mut first_lines: BTreeMap<ProcessType, usize> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        match parse_line(raw.trim()) {
            Ok(None) => {}
            Ok(Some((name, command))) => match first_lines.get(&name) {
                Some(&first_line) => {
                    mistakes.push(mistake(line, raw, ProcfileRule::Duplicate { first_line }));
                }
                None => {
                    first_lines.insert(name.clone(), line);
                    processes.insert(name, command.to_owned());
                }
            },
            Err(rule) => mistakes.push(mistake(line, raw, rule)),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    if processes.is_empty() {
        return Err(vec![mistake(1, "", ProcfileRule::Empty)]);
    }
    Ok(processes)
}

fn parse_line(line: &str) -> Result<Option<(ProcessType, &str)>, ProcfileRule> {
    if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
        return Ok(None);
    }
    if ["<<<<<<<", "=======", ">>>>>>>", "|||||||"].iter().any(|mark| line.starts_with(mark)) {
        return Err(ProcfileRule::MergeMarker);
    }
    if line.chars().any(|c| c.is_control() && c != '\t') {
        return Err(ProcfileRule::ControlCharacter);
    }
    let (name, rest) = line.split_once(':').ok_or(ProcfileRule::NoColon)?;
    let name: ProcessType = name.trim_end().parse().map_err(|_| ProcfileRule::TypeName)?;
    let command = strip_comment(rest).trim();
    if command.is_empty() {
        return Err(ProcfileRule::EmptyCommand);
    }
    Ok(Some((name, command)))
}

/// A comment after a command needs white space before its `#` (`#` is common inside words), and
/// must not be inside quotes, which is for the shell to read.
fn strip_comment(command: &str) -> &str {
    let mut quote = None;
    let mut after_space = true;
    for (at, c) in command.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if c == '#' && after_space => return &command[..at],
            None => {}
        }
        after_space = c.is_whitespace();
    }
    command
}

fn mistake(line: usize, raw: &str, rule: ProcfileRule) -> ProcfileMistake {
    let clean: String = raw.trim().chars().map(|c| if c.is_control() { '�' } else { c }).collect();
    let text = match clean.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &clean[..cut]),
        None => clean,
    };
    ProcfileMistake { line, text, rule }
}

/// What the person who pushed is told.
pub fn problem(mistakes: &[ProcfileMistake]) -> Problem {
    let count = mistakes.len();
    let what = if count == 1 {
        "the Procfile has a line that cannot be read".to_owned()
    } else {
        format!("the Procfile has {count} lines that cannot be read")
    };
    let why = mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Problem::new(Code::ProcfileBroken, what)
        .why(why)
        .next("mend the Procfile, one `type: command` a line, commit and push again")
}

#[cfg(test)]
mod tests;
