//! `/apps/{app}/dynos`: replicas, and one-off runs. `/wharf/apps/{app}/exec`: into a running replica.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use model::id::ReplicaId;

use super::common::{AppRef, Time};

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dyno {
    pub id: ReplicaId,
    /// `web.1`, `run.4711`.
    pub name: String,
    #[serde(rename = "type")]
    pub process: String,
    pub command: String,
    /// `starting`, `up`, `crashed`, `idle`, `down` …
    pub state: String,
    pub size: String,
    pub app: AppRef,
    pub release: ReleaseRef,
    /// Where an attached one-off run is to be joined: see [`super::attach`].
    pub attach_url: Option<String>,
    pub created_at: Time,
    pub updated_at: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRef {
    pub id: Uuid,
    pub version: u64,
}

/// `POST /apps/{app}/dynos`: run a command once in the current release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateDyno {
    /// Given to a shell in the image, or the name of a process type.
    pub command: String,
    /// Join its input and output; without it the output goes to the app's log.
    #[serde(default)]
    pub attach: bool,
    /// More environment; `TERM`, `COLUMNS` and `LINES` also shape the terminal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Pipes instead of a terminal even when attached.
    #[serde(default)]
    pub force_no_tty: bool,
    /// The memory limit: `1G`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The first half of its name; `run` when absent.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Seconds after which it is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to_live: Option<u64>,
}

/// `POST /wharf/apps/{app}/exec`: run a command inside a running replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateExec {
    /// `web.1`; the first ready one of `web` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dyno: Option<String>,
    pub command: Vec<String>,
    #[serde(default)]
    pub tty: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    pub id: Uuid,
    /// The replica it will run in.
    pub dyno: String,
    pub attach_url: String,
}

/// Words as a shell reads them back; one alone is a line already.
pub fn command_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_only_when_they_must_be() {
        for (word, expected) in
            [("ls", "ls"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("", "''"), ("A=b", "A=b")]
        {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(command_line(&["ps aux | head".to_owned()]), "ps aux | head");
        assert_eq!(command_line(&["echo".to_owned(), "a b".to_owned()]), "echo 'a b'");
    }
}
