//! Our own terminal while a command far away has it: raw, and given back whatever happens.

use std::io::IsTerminal;

use model::problem::{Code, Problem};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::printer::Printer;

/// The terminal in raw mode; dropping it restores what was.
#[derive(Debug)]
pub(super) struct Raw {
    before: Termios,
}

impl Raw {
    /// Every key goes to the command, Ctrl-C too.
    pub(super) fn enter() -> Result<Self, Problem> {
        let failed = |error: rustix::io::Errno| {
            Problem::new(Code::BadInput, "the terminal could not be used")
                .why(error.to_string())
                .next("go without one: --no-tty")
        };
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // There is nobody left to tell, and nothing else to try.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Columns and rows.
pub(super) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// What nobody shall see: from a terminal, which is asked and shows nothing of it, or all of stdin.
pub(super) fn hidden(printer: &Printer, question: &str) -> Result<String, String> {
    let stdin = std::io::stdin();
    let mut text = String::new();
    if stdin.is_terminal() {
        printer.say(question);
        let before = tcgetattr(&stdin).map_err(|error| error.to_string())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &hidden).map_err(|error| error.to_string())?;
        let read = stdin.read_line(&mut text);
        tcsetattr(&stdin, OptionalActions::Now, &before).map_err(|error| error.to_string())?;
        read.map_err(|error| error.to_string())?;
    } else {
        text = std::io::read_to_string(stdin).map_err(|error| error.to_string())?;
    }
    match text.trim() {
        "" => Err("stdin was empty".to_owned()),
        text => Ok(text.to_owned()),
    }
}
