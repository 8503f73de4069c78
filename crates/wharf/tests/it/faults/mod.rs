//! `kill -9` of everything, full disks, wrong clocks and apps that go mad, under load: the others serve
//! on, and what was under way is finished or undone. What is promised and where each promise is shown:
//! `docs/checks/faults.md`.

mod boot;

mod daemon;

mod endings;

mod machine;

mod proxy;

mod replicas;

mod rounds;

mod shims;

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::host::{Host, wait_for};

pub(crate) fn kill(pid: u64) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, Signal::KILL).unwrap();
}

fn web_is_up(host: &Host, app: &str) -> Option<serde_json::Value> {
    let dynos = host.json(&["ps", "-a", app]);
    let up = dynos.as_array()?.iter().find(|dyno| dyno["status"] == "up")?;
    Some(up.clone())
}

/// No deploy in flight any more.
pub(crate) fn settled(host: &Host) {
    wait_for("the deploy to be over", Duration::from_secs(60), || {
        let releases = host.json(&["releases", "-a", "shop"]);
        let is_pending = releases.as_array()?.iter().any(|release| release["status"] == "pending");
        (!is_pending).then_some(())
    });
}
