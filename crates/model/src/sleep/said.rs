//! What was said of an app's sleep by command: of each time whether anything was, and what. The rest is as the
//! app file says.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Sleep;
use crate::manifest::{parse_duration, render_duration};

/// A time or `never`, as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(pub Option<Duration>);

/// A text that is no length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no length of time")]
pub struct TimeError(String);

impl TryFrom<String> for Time {
    type Error = TimeError;
    fn try_from(text: String) -> Result<Self, TimeError> {
        match text.as_str() {
            "never" => Ok(Self(None)),
            known => parse_duration(known).map(|time| Self(Some(time))).ok_or(TimeError(text)),
        }
    }
}

impl From<Time> for String {
    fn from(Time(time): Time) -> Self {
        time.map_or_else(|| "never".to_owned(), render_duration)
    }
}

/// What was said; nothing of it is nothing said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze_after: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_after: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_previous: Option<Time>,
}

impl Said {
    /// More that is said, over what was.
    #[must_use]
    pub fn with(self, more: Self) -> Self {
        Self {
            freeze_after: more.freeze_after.or(self.freeze_after),
            stop_after: more.stop_after.or(self.stop_after),
            keep_previous: more.keep_previous.or(self.keep_previous),
        }
    }

    /// Both, whether or not they can be meant together.
    pub fn beside(self, file: Sleep) -> Sleep {
        let of = |said: Option<Time>, file| said.map_or(file, |Time(time)| time);
        Sleep {
            freeze_after: of(self.freeze_after, file.freeze_after),
            stop_after: of(self.stop_after, file.stop_after),
            keep_previous: of(self.keep_previous, file.keep_previous),
        }
    }

    /// What holds, with an app file that says this. Where the two cannot be meant together, as when a
    /// file came later, what it says of that is left out.
    pub fn over(self, file: Sleep) -> Sleep {
        let all = self.beside(file);
        match all.check() {
            Ok(()) => all,
            Err(_) if self.freeze_after.is_none() => Sleep { freeze_after: None, ..all },
            Err(_) => Sleep { stop_after: None, ..all },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_was_not_said_is_as_the_app_file_says() {
        let minutes = |count: u64| Some(Duration::from_secs(60 * count));
        let file =
            Sleep { freeze_after: minutes(15), stop_after: minutes(120), ..Sleep::default() };
        let kept = said(r#"{"keep_previous":"10m"}"#);
        assert_eq!(kept.over(file), Sleep { keep_previous: minutes(10), ..file });
        let never = kept.with(said(r#"{"freeze_after":"never"}"#));
        assert_eq!(never.over(file).freeze_after, None);
        assert_eq!(never.over(file).keep_previous, minutes(10));
        assert_eq!(Said::default().over(file), file);
        let text = r#"{"freeze_after":"never","keep_previous":"600s"}"#;
        assert_eq!(serde_json::to_string(&never).unwrap(), text);
        assert!(serde_json::from_str::<Said>(r#"{"stop_after":"soon"}"#).is_err());
    }

    #[test]
    fn where_both_cannot_be_meant_the_app_file_gives_way() {
        let minutes = |count: u64| Some(Duration::from_secs(60 * count));
        let file = Sleep { freeze_after: minutes(15), stop_after: minutes(20), ..Sleep::default() };
        let stopped = said(r#"{"stop_after":"5m"}"#).over(file);
        assert_eq!((stopped.freeze_after, stopped.stop_after), (None, minutes(5)));
        let frozen = said(r#"{"freeze_after":"30m"}"#).over(file);
        assert_eq!((frozen.freeze_after, frozen.stop_after), (minutes(30), None));
    }
}
