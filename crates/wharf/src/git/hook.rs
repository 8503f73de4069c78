//! The pre-receive hook: a small process git starts with the refs on its input. It tells the daemon,
//! prints what the daemon says as it comes, and its exit code is whether the refs may move.
//!
//! Plain blocking code, no runtime: it lives as long as one push. HTTP/1.0, so that the answer is
//! simply everything until the end of the connection.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use super::refs::{Received, RefUpdate};
use crate::api::progress::Item;

/// The daemon's socket.
pub const SOCKET_ENV: &str = "WHARF_PUSH_SOCKET";

/// The push's ticket.
pub const TICKET_ENV: &str = "WHARF_PUSH_TICKET";

/// Why the push cannot be decided.
#[derive(Debug, thiserror::Error)]
enum HookError {
    #[error("this repository is pushed to through the Wharf daemon only")]
    NoDaemon,
    #[error("cannot read the refs")]
    Refs(#[source] io::Error),
    #[error("git gave a line that is no ref: {0}")]
    Line(String),
    #[error("cannot talk to the daemon")]
    Talk(#[source] io::Error),
    #[error("the daemon does not know this push: {0}")]
    Refused(String),
    #[error("the daemon stopped before the push was decided; `wharf releases` tells how it ended")]
    BrokeOff,
}

/// The hook's whole life.
pub fn run() -> ExitCode {
    let mut out = io::stdout().lock();
    match decide(&mut out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let mut text = format!("error: {error}");
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                text.push_str(&format!(": {inner}"));
                source = inner.source();
            }
            // git, which reads this, may be gone; then nobody is left to tell.
            let _ = writeln!(out, "{text}");
            ExitCode::FAILURE
        }
    }
}

fn decide(out: &mut impl Write) -> Result<bool, HookError> {
    let socket = std::env::var_os(SOCKET_ENV).ok_or(HookError::NoDaemon)?;
    let ticket = std::env::var(TICKET_ENV).map_err(|_| HookError::NoDaemon)?;
    let refs = read_refs(io::stdin().lock())?;
    let env = |key| std::env::var(key).ok();
    let received = Received {
        refs,
        object_directory: env("GIT_OBJECT_DIRECTORY"),
        alternates: env("GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    };
    let body = serde_json::to_vec(&received).expect("refs are plain data");
    let mut stream = UnixStream::connect(socket).map_err(HookError::Talk)?;
    let head = format!(
        "POST /wharf/pushes/{ticket} HTTP/1.0\r\nHost: wharf\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body))
        .map_err(HookError::Talk)?;
    listen(BufReader::new(stream), out)
}

fn read_refs(input: impl BufRead) -> Result<Vec<RefUpdate>, HookError> {
    let mut refs = Vec::new();
    for line in input.lines() {
        let line = line.map_err(HookError::Refs)?;
        refs.push(RefUpdate::parse(&line).ok_or(HookError::Line(line))?);
    }
    Ok(refs)
}

/// Prints the daemon's lines until its verdict.
fn listen(mut answer: impl BufRead, out: &mut impl Write) -> Result<bool, HookError> {
    let mut status = String::new();
    answer.read_line(&mut status).map_err(HookError::Talk)?;
    let is_well = status.split(' ').nth(1) == Some("200");
    let mut header = String::from("-");
    while !header.trim().is_empty() {
        header.clear();
        answer.read_line(&mut header).map_err(HookError::Talk)?;
    }
    if !is_well {
        let mut body = String::new();
        answer.read_to_string(&mut body).map_err(HookError::Talk)?;
        return Err(HookError::Refused(format!("{} {body}", status.trim())));
    }
    for line in answer.lines() {
        let line = line.map_err(|_| HookError::BrokeOff)?;
        match serde_json::from_str(&line) {
            // A pusher who hung up is no reason to stop: the verdict still counts.
            Ok(Item::Line(text)) => {
                let _ = writeln!(out, "{text}").and_then(|()| out.flush());
            }
            Ok(Item::Live) => return Ok(true),
            Ok(Item::Failed(problem)) => {
                let _ = writeln!(out, "\n{problem}\n");
                return Ok(false);
            }
            Err(_) => return Err(HookError::BrokeOff),
        }
    }
    Err(HookError::BrokeOff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(answer: &str) -> (Result<bool, String>, String) {
        let mut out = Vec::new();
        let verdict = listen(answer.as_bytes(), &mut out).map_err(|error| error.to_string());
        (verdict, String::from_utf8(out).unwrap())
    }

    #[test]
    fn lines_are_printed_and_the_last_word_counts() {
        let head = "HTTP/1.0 200 OK\r\nx: y\r\n\r\n";
        let (verdict, said) = heard(&format!("{head}{{\"line\":\"-----> Node\"}}\n\"live\"\n"));
        assert_eq!((verdict, said.as_str()), (Ok(true), "-----> Node\n"));
        let failed = r#"{"failed":{"code":"P201","what":"nothing was recognised"}}"#;
        let (verdict, said) = heard(&format!("{head}{failed}\n"));
        assert_eq!(verdict, Ok(false));
        assert!(said.contains("error[P201]: nothing was recognised"), "{said}");
    }

    #[test]
    fn an_answer_that_breaks_off_moves_no_ref() {
        let (verdict, _) = heard("HTTP/1.0 200 OK\r\n\r\n{\"line\":\"x\"}\n");
        assert!(verdict.unwrap_err().contains("stopped before"));
        let (verdict, _) = heard("HTTP/1.0 404 Not Found\r\n\r\n{}");
        assert!(verdict.unwrap_err().contains("404"));
    }
}
