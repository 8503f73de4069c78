//! The only place of the command line that prints. Data goes to stdout, all talk to stderr; colours
//! only where a person looks and NO_COLOR allows, and never as the only bearer of a meaning.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

use model::problem::Problem;
use serde::Serialize;

/// Prints.
#[derive(Debug)]
pub(super) struct Printer {
    is_colored: bool,
    /// Nobody reads our stdout any more (`| head`).
    is_closed: Cell<bool>,
    /// A line of talk waits for its end.
    is_line_open: Cell<bool>,
}

/// What is printed next, by whomever, begins a line: the problem that ended a change is.
impl Drop for Printer {
    fn drop(&mut self) {
        self.end_line();
    }
}

impl Printer {
    pub(super) fn new() -> Self {
        let is_colored = io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { is_colored, is_closed: Cell::new(false), is_line_open: Cell::new(false) }
    }

    /// One line of data.
    pub(super) fn data(&self, line: impl AsRef<str>) {
        let mut out = io::stdout().lock();
        let result = writeln!(out, "{}", line.as_ref()).and_then(|()| out.flush());
        if result.is_err() {
            self.is_closed.set(true);
        }
    }

    /// Data that is no text.
    pub(super) fn bytes(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            self.is_closed.set(true);
        }
    }

    /// Whether more data would reach nobody.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// The API's answer for machines.
    pub(super) fn json(&self, value: &impl Serialize) {
        self.data(serde_json::to_string_pretty(value).expect("wire types are plain data"));
    }

    /// One line of talk.
    pub(super) fn say(&self, line: impl AsRef<str>) {
        self.end_line();
        self.talk(&format!("{}\n", line.as_ref()));
    }

    /// Something that takes a while begins: `Restarting shop…`.
    pub(super) fn begin(&self, what: &str) {
        self.end_line();
        self.talk(&format!("{what}…"));
        self.is_line_open.set(true);
    }

    /// A step of what began.
    pub(super) fn step(&self, line: &str) {
        self.end_line();
        self.talk(&format!("  {line}\n"));
    }

    /// How it ended: `done, v12`.
    pub(super) fn end(&self, how: &str) {
        let gap = if self.is_line_open.replace(false) { " " } else { "" };
        self.talk(&format!("{gap}{how}\n"));
    }

    /// A problem, as the letter it is.
    pub(super) fn problem(&self, problem: &Problem) {
        self.end_line();
        let text = problem.to_string();
        let text = match text.split_once(": ") {
            Some((head, rest)) if self.is_colored => format!("\x1b[1;31m{head}\x1b[0m: {rest}"),
            _ => text,
        };
        self.talk(&format!("{text}\n"));
    }

    fn end_line(&self) {
        if self.is_line_open.replace(false) {
            self.talk("\n");
        }
    }

    fn talk(&self, text: &str) {
        // Who closed our stderr does not want to hear of it.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
