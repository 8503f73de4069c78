//! The time of day, for what people and certificates read, and for no limit: it jumps when somebody sets
//! the clock. Limits go by `Instant`. The crate's lints let nobody else ask for it.
//!
//! `WHARF_CLOCK=file` moves it by as many seconds as the file says, again whenever that changes. Debug
//! builds only: the release build has none of it.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// What the clock on the wall says.
pub(crate) fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "the one place that looks at the clock")]
    let now = SystemTime::now();
    if cfg!(debug_assertions) { moved(now) } else { now }
}

/// The same, as it is written.
pub(crate) fn timestamp() -> Timestamp {
    // A clock that is set outside of what can be written is no clock.
    Timestamp::try_from(now()).unwrap_or_default()
}

fn moved(now: SystemTime) -> SystemTime {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let asked = FILE.get_or_init(|| std::env::var_os("WHARF_CLOCK").map(PathBuf::from));
    let Some(file) = asked else { return now };
    let seconds: i64 = std::fs::read_to_string(file)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_default();
    let by = Duration::from_secs(seconds.unsigned_abs());
    let moved = if seconds < 0 { now.checked_sub(by) } else { now.checked_add(by) };
    moved.unwrap_or(now)
}
