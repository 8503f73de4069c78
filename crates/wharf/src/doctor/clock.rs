//! The time: certificates, logs and retries go by it.

use jiff::Timestamp;

use super::{check, fine, trouble};
use crate::api::doctor::{Check, Level};

const AREA: &str = "time";

/// No clock that is right is before this program was written: 2026-01-01.
const EARLIEST: i64 = 1_767_225_600;

pub(super) fn checks() -> Vec<Check> {
    judge(Timestamp::now(), engine::host::is_clock_kept())
}

fn judge(now: Timestamp, is_kept: Option<bool>) -> Vec<Check> {
    let next = "apt-get install systemd-timesyncd, or chrony";
    let text = now.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let clock = if now.as_second() >= EARLIEST {
        fine(AREA, "clock", text)
    } else {
        let costs = "certificates are not valid yet, and none is issued";
        trouble(check(AREA, "clock", Level::Fail, text), costs, next)
    };
    let kept = match is_kept {
        Some(true) => fine(AREA, "kept right", "the kernel says so"),
        Some(false) | None => trouble(
            check(AREA, "kept right", Level::Warn, "nobody told the kernel that it is"),
            "it may drift: certificates, logs and what is compared with other machines",
            next,
        ),
    };
    vec![clock, kept]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_the_past_fails_and_one_nobody_keeps_is_told() {
        let levels = |text: &str, kept| {
            judge(text.parse().unwrap(), kept).iter().map(|check| check.level).collect::<Vec<_>>()
        };
        assert_eq!(levels("2026-11-21T10:00:00Z", Some(true)), [Level::Ok, Level::Ok]);
        assert_eq!(levels("2026-11-21T10:00:00Z", None), [Level::Ok, Level::Warn]);
        assert_eq!(levels("1970-01-01T10:00:00Z", Some(false)), [Level::Fail, Level::Warn]);
    }
}
