//! Where in a connection we are: a pure machine over the bytes of the client.
//!
//! ```text
//!        ┌───────────── body ended ─────────────┐
//!        ▼                                      │
//!      Head ── length ──► Fixed ────────────────┤
//!        │ └── chunked ─► Chunked ──────────────┤
//!        │ └── upgrade ─► Verdict ── no ────────┘
//!        │                   └─────── 101 ──► Tunnel
//!        └── rule broken (in a body too) ──► Over
//! ```

use super::chunks::{Chunks, Progress};
use super::head::{self, Framing};
use super::{Limits, Refusal};
use crate::check::Broken;
use crate::code::EdgeCode;

/// What the next byte belongs to.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Head,
    Fixed(u64),
    Chunked(Chunks),
    Verdict,
    Tunnel,
    Over,
}

/// The machine, and how far it has looked into an unfinished head.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    limits: Limits,
    looked: usize,
    line_start: usize,
    /// Heads that passed.
    pub(super) heads: u64,
}

/// What is to be done with the bytes shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// So many may pass; what follows them is an unfinished head, or must wait for the verdict.
    Pass(usize),
    /// So many may pass, then comes a head that is refused.
    Refuse(usize, Refusal),
    /// So many may pass, then the body breaks a rule.
    Break(usize, Broken),
}

impl Machine {
    pub(super) fn new(limits: Limits) -> Self {
        Self { state: State::Head, limits, looked: 0, line_start: 0, heads: 0 }
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.state == State::Tunnel
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state == State::Verdict
    }

    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The answer to a wish to switch protocols is known.
    pub(super) fn decide(&mut self, is_switched: bool) {
        if self.state == State::Verdict {
            self.state = if is_switched { State::Tunnel } else { State::Head };
        }
    }

    /// Nothing more is taken.
    pub(super) fn end(&mut self) {
        self.state = State::Over;
    }

    /// Looks at bytes. What did not pass must be shown again, with more after it.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Outcome {
        let mut passed = 0;
        loop {
            let rest = &bytes[passed..];
            if rest.is_empty() {
                return Outcome::Pass(passed);
            }
            match &mut self.state {
                State::Tunnel => return Outcome::Pass(bytes.len()),
                State::Verdict | State::Over => return Outcome::Pass(passed),
                State::Fixed(left) => {
                    let here = u64::try_from(rest.len()).unwrap_or(u64::MAX).min(*left);
                    *left -= here;
                    if *left == 0 {
                        self.state = State::Head;
                    }
                    passed += usize::try_from(here).unwrap_or(usize::MAX);
                }
                State::Chunked(chunks) => match chunks.take(rest) {
                    Progress::More => return Outcome::Pass(bytes.len()),
                    Progress::Ended(length) => {
                        self.state = State::Head;
                        passed += length;
                    }
                    Progress::Broken(length, rule) => {
                        self.state = State::Over;
                        return Outcome::Break(passed + length, Broken(rule));
                    }
                },
                State::Head => match self.head(rest) {
                    Ok(Some(length)) => passed += length,
                    Ok(None) => return Outcome::Pass(passed),
                    Err(refusal) => {
                        self.state = State::Over;
                        return Outcome::Refuse(passed, refusal);
                    }
                },
            }
        }
    }

    /// The length of the head the bytes begin with; none while it is unfinished.
    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        // What speaks another protocol is told so at its first byte.
        if !super::is_token(&bytes[..1]) {
            return Err(Refusal::bad("what came is not the start of a request"));
        }
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.looked..]) {
            let end = self.looked + found;
            if end == 0 || bytes[end - 1] != b'\r' {
                return Err(Refusal::bad("a bare line feed"));
            }
            let is_empty = end == self.line_start + 1;
            self.looked = end + 1;
            self.line_start = end + 1;
            if is_empty {
                return self.whole(&bytes[..=end]).map(|()| Some(end + 1));
            }
            self.fits(end)?;
        }
        self.looked = bytes.len();
        self.fits(bytes.len())?;
        Ok(None)
    }

    fn whole(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        (self.looked, self.line_start) = (0, 0);
        self.fits(bytes.len())?;
        let head = head::check(bytes, self.limits)?;
        self.heads += 1;
        self.state = match head.framing {
            Framing::None if head.asks_for_upgrade => State::Verdict,
            Framing::None => State::Head,
            Framing::Length(length) => State::Fixed(length),
            Framing::Chunked => State::Chunked(Chunks::new()),
        };
        Ok(())
    }

    /// A head that grows past its limit is not read to its end.
    fn fits(&self, length: usize) -> Result<(), Refusal> {
        if length <= self.limits.head_bytes {
            return Ok(());
        }
        // Still in the first line: it is the target that is too long.
        let code = match self.line_start {
            0 => EdgeCode::TargetTooLong,
            _ => EdgeCode::HeadTooLarge,
        };
        Err(Refusal { code, rule: Broken("a head longer than the limit") })
    }
}

#[cfg(test)]
mod tests;
