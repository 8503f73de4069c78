//! Strict HTTP/1 on the way in: every byte of a client's connection is looked at before the HTTP
//! library sees it. Refuse, never repair.
//!
//! ```text
//! client ──► Guard ──► hyper ──► forward
//!             │ a whole head that keeps every rule passes untouched, then its body, framed as the
//!             │ head says; after it the next head
//!             ├ a head that breaks a rule is replaced by one of ours, so that the refusal is a
//!             │ request like any other: answered in its turn, with a page, logged; then the end
//!             ├ a body that breaks a rule ends in an error at that byte
//!             └ after a wish to switch protocols nothing passes until the answer is known
//! ```
//!
//! So two readers can never disagree on where a message ends: hyper frames what has one reading only.

mod chunks;
mod guard;
mod head;
mod machine;

use crate::check::Broken;
use crate::code::EdgeCode;

pub(crate) use guard::{Guard, Talk};

/// Why a head is refused: the code for the page, and the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: EdgeCode,
    pub(crate) rule: Broken,
}

impl Refusal {
    fn bad(rule: &'static str) -> Self {
        Self { code: EdgeCode::BadRequest, rule: Broken(rule) }
    }
}

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) head_bytes: usize,
    pub(crate) target_bytes: usize,
    pub(crate) fields: usize,
}

/// Letters of a token: methods and field names (RFC 9110, 5.6.2).
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let letters = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut position = 0;
    while position < letters.len() {
        table[letters[position] as usize] = true;
        position += 1;
    }
    table
};

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| TOKEN[usize::from(*byte)])
}

/// A field line without its end of line: the name and the trimmed value.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err("a folded line");
    }
    let Some(colon) = memchr::memchr(b':', line) else { return Err("a field without a colon") };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err(match name {
            [] => "a field without a name",
            [.., b' ' | b'\t'] => "space before a colon",
            _ => "a field name with a letter names cannot have",
        });
    }
    let is_fine = |byte: &u8| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..=0xff);
    if !value.iter().all(is_fine) {
        return Err("a control character in a field's value");
    }
    Ok((name, value.trim_ascii()))
}
