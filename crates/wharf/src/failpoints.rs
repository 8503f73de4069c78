//! Places where tests let the daemon die, so that every one of them is known to be survived.
//!
//! `WHARF_FAILPOINT=name` (or `name:3` for the third time it is passed) kills the process there with
//! SIGKILL, as a power cut would. Debug builds only: the release build has none of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Every point, so that a test can go through all.
pub const ALL: &[&str] = &[
    "release.stored",
    "deploy.releasing",
    "deploy.starting",
    "deploy.switching",
    "deploy.live",
    "deploy.failed",
    "start.recorded",
    "start.started",
    "end.told",
    "route.applied",
    "stop.asked",
    "remove.cleared",
    "remove.forgotten",
    "keep.frozen",
    "keep.woken",
    "run.told",
    "collect.image",
    "collect.layer",
    "volume.copied",
    "volume.stored",
    "volume.removed",
    "order.checking",
    "order.ordering",
    "order.proving",
    "order.finalizing",
    "order.issued",
    "order.failed",
];

/// Dies here if that was asked for.
pub fn hit(name: &'static str) {
    if cfg!(debug_assertions) {
        debug_assert!(ALL.contains(&name), "an unlisted failpoint");
        check(name);
    }
}

fn check(name: &str) {
    static ASKED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static PASSED: AtomicU32 = AtomicU32::new(0);
    let asked = ASKED.get_or_init(|| {
        let text = std::env::var("WHARF_FAILPOINT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_owned(), times.parse().unwrap_or(1)))
    });
    let Some((wanted, times)) = asked else { return };
    if wanted == name && PASSED.fetch_add(1, Ordering::Relaxed) + 1 == *times {
        let me = rustix::process::getpid();
        // Whether it worked is seen at once: nothing after this line runs.
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
}
