//! Single settings, read out of what was written.

use model::address::{AddressRange, AddressRangeError};
use proxy::config::{Door, DoorError, LogForm};

pub(super) fn directory(authority: &str) -> Result<String, String> {
    match authority {
        "letsencrypt" => Ok("https://acme-v02.api.letsencrypt.org/directory".to_owned()),
        "letsencrypt-staging" => {
            Ok("https://acme-staging-v02.api.letsencrypt.org/directory".to_owned())
        }
        address if address.starts_with("https://") => Ok(address.to_owned()),
        other => Err(format!("`{other}` is no authority known by name, and no https address")),
    }
}

pub(super) fn doors(given: Option<Vec<String>>) -> Result<Vec<Door>, String> {
    let parse = |text: String| text.parse().map_err(|error: DoorError| error.to_string());
    given.unwrap_or_default().into_iter().map(parse).collect()
}

pub(super) fn peers(given: Option<Vec<String>>) -> Result<Vec<AddressRange>, String> {
    let parse = |text: String| text.parse().map_err(|error: AddressRangeError| error.to_string());
    given.unwrap_or_default().into_iter().map(parse).collect()
}

pub(super) fn log_form(given: Option<&str>) -> Result<LogForm, String> {
    match given {
        None | Some("logfmt") => Ok(LogForm::Logfmt),
        Some("json") => Ok(LogForm::Json),
        Some(other) => Err(format!("`{other}` is neither `logfmt` nor `json`")),
    }
}

/// A share as the proxy counts it.
pub(super) fn per_thousand(percent: f64) -> Result<u16, String> {
    let wrong = || format!("{percent} is no percentage from 0 to 100, by tenths");
    let thousandths = (percent * 10.0).round();
    // What lies between two whole numbers is one of these.
    let number = (0..=1000_u16).find(|number| f64::from(*number) == thousandths);
    number.ok_or_else(wrong)
}

pub(super) fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}
