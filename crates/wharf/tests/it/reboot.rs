//! A reboot, as far as one machine's test can have it: every process of Wharf is killed at once, and what
//! the kernel forgets is gone (`/run`, cgroups, links, rules). Afterwards all comes up in any order.
//! With systemd, a kernel of its own and a real reboot: `make vm`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::require::require;

#[test]
fn after_a_reboot_all_is_there_once_whoever_comes_first() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.wharf(&["config:set", "GREETING=ahoy", "-a", "shop"]);
    host.push_well(&repo);
    host.wharf(&["ps:scale", "web=2", "-a", "shop"]);
    serves_as_ever(&host);
    let releases = host.wharf(&["releases", "-a", "shop", "--json"]);

    reboot(&mut host);
    host.start_proxy();
    wait_for("the proxy to be there", LIMIT, || host.proxy_is_there().then_some(()));
    host.start_daemon(&[]);
    serves_as_ever(&host);

    reboot(&mut host);
    host.start_daemon(&[]);
    serves_as_ever(&host);

    // As with systemd, where the proxy is a unit of its own: the daemon starts none.
    reboot(&mut host);
    host.spawn_daemon(&[("WHARF_EXTERNAL_PROXY", "true")]);
    wait_for("the daemon to wait", LIMIT, || {
        host.daemon_log().contains("waiting for the proxy").then_some(())
    });
    assert!(!host.proxy_is_there(), "{}", host.daemon_log());
    host.start_proxy();
    host.wait_daemon();
    serves_as_ever(&host);

    assert_eq!(host.wharf(&["releases", "-a", "shop", "--json"]), releases);
}

const LIMIT: Duration = Duration::from_secs(60);

/// Two replicas, one proxy, and the app's own answer with its config var.
fn serves_as_ever(host: &Host) {
    wait_for("the app to answer", LIMIT, || {
        let (status, body) = host.get("shop.localhost", "/");
        (status == 200 && body.starts_with("one web.") && body.ends_with("ahoy\n")).then_some(())
    });
    invariants::check(host, 2);
    let proxies = ours(host, "proxy");
    assert_eq!(proxies.len(), 1, "{proxies:?}");
    let status = host.json(&["status"]);
    assert_eq!(status["proxy"]["holder_pid"].as_u64(), Some(proxies[0].into()), "{status}");
}

/// No power for a moment.
pub(crate) fn reboot(host: &mut Host) {
    let worker = host.json(&["status"])["proxy"]["pid"].as_u64();
    let mut doomed: Vec<u32> = worker.and_then(|pid| u32::try_from(pid).ok()).into_iter().collect();
    host.kill_daemon();
    let group = format!("/{}/", host.cgroup);
    for pid in pids() {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if groups.contains(&group) || is_ours(host, pid) {
            doomed.push(pid);
        }
    }
    for pid in doomed {
        // One that ended with another is as dead as it should be.
        let _ =
            Pid::from_raw(i32::try_from(pid).unwrap()).map(|pid| kill_process(pid, Signal::KILL));
    }
    host.forget_what_a_reboot_forgets();
    assert!(!host.run.exists());
    assert_eq!(pids().filter(|pid| is_ours(host, *pid)).count(), 0);
}

/// Processes of this Wharf in that role.
fn ours(host: &Host, role: &str) -> Vec<u32> {
    let is_in_role = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        is_ours(host, *pid) && line.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
    };
    pids().filter(is_in_role).collect()
}

/// Whether its command line names one of this Wharf's folders.
fn is_ours(host: &Host, pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&line).replace('\0', "/ ");
    let is_named = |folder: &Path| text.contains(&format!("{}/", folder.display()));
    pid != std::process::id() && (is_named(&host.run) || is_named(&host.root))
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
