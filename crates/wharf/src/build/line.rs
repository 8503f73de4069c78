//! What a build says while it runs, in the shape fingers and scripts know from Heroku.

use std::fmt;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildLine {
    /// A new stage.
    Heading(String),
    /// What the stage, or a step's command, says.
    Detail(String),
    /// Something to act on.
    Warning(String),
}

impl fmt::Display for BuildLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heading(text) => write!(f, "-----> {text}"),
            Self::Detail(text) => write!(f, "       {text}"),
            Self::Warning(text) => write!(f, " !     {text}"),
        }
    }
}

/// Where the lines go.
pub type Progress<'a> = dyn FnMut(BuildLine) + 'a;

/// `7 ms`, `0.4 s`, `12 s`.
pub(super) fn seconds(time: std::time::Duration) -> String {
    match time.as_secs_f64() {
        blink if blink < 0.1 => format!("{} ms", time.as_millis()),
        short if short < 10.0 => format!("{short:.1} s"),
        long => format!("{long:.0} s"),
    }
}

/// The last lines of a command, for the problem.
#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: std::collections::VecDeque<String>,
}

impl Tail {
    const MOST: usize = 20;

    pub(super) fn push(&mut self, line: &str) {
        if self.lines.len() == Self::MOST {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.into()
    }
}

/// A line as it may be shown to anyone's terminal: no control characters, not endless.
pub(super) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    // What stands before a carriage return was meant to be painted over.
    let text = text.trim_end_matches(['\r', '\n']).rsplit('\r').next().unwrap_or_default();
    let mut clean = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // An escape sequence ends with its first letter.
            chars.find(char::is_ascii_alphabetic);
        } else if !c.is_control() || c == '\t' {
            clean.push(c);
        }
        if clean.len() >= 2000 {
            clean.push('…');
            break;
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_made_fit_for_a_terminal() {
        assert_eq!(clean(b"\x1b[32madded\x1b[0m 5\r\n"), "added 5");
        assert_eq!(clean(b"10%\r50%\r100%\n"), "100%");
        assert_eq!(clean(&[b'x'; 5000]).chars().count(), 2001);
        assert_eq!(BuildLine::Heading("Node".into()).to_string(), "-----> Node");
    }
}
