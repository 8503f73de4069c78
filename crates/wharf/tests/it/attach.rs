//! `wharf attach`: what a running replica says, for whoever wants to hear it; leaving ends nothing.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::host::{Host, wait_for};
use crate::support::require::require;

const PROCFILE: &str = "web: python3 server.py\n\
    talker: trap 'echo bye; exit 7' TERM; n=0; while true; do echo out $n; echo err $n >&2; n=$((n+1)); sleep 0.1; done\n";

#[test]
fn who_is_attached_hears_both_streams_and_leaves_without_a_trace() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    repo.write("Procfile", PROCFILE);
    repo.commit("with a talker");
    host.push_well(&repo);
    host.wharf(&["ps:scale", "talker=1", "-a", "shop"]);
    let id = || host.json(&["inspect", "talker.1", "-a", "shop"])["id"].clone();
    let before = id();
    let attach = || {
        let mut command = host.cli(&["attach", "talker.1", "-a", "shop"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines =
            |reader: Box<dyn std::io::Read>| BufReader::new(reader).lines().map(Result::unwrap);
        let out = lines(Box::new(child.stdout.take().unwrap()));
        let err = lines(Box::new(child.stderr.take().unwrap()));
        (child, out, err)
    };

    let (mut child, mut out, mut err) = attach();
    let (said, complained) = (out.nth(1).unwrap(), err.find(|line| line.starts_with("err ")));
    assert!(said.starts_with("out "), "{said}");
    assert!(complained.is_some());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(err.any(|line| line == "Detached; talker.1 runs on."));
    assert_eq!(id(), before);

    // One that leaves without a word ends nothing either; the last word and the exit code are heard.
    let (mut gone, mut heard, _err) = attach();
    heard.next().unwrap();
    gone.kill().unwrap();
    gone.wait().unwrap();
    let (mut child, mut out, _err) = attach();
    out.next().unwrap();
    assert_eq!(id(), before);
    host.wharf(&["ps:stop", "talker.1", "-a", "shop"]);
    assert_eq!(out.last().as_deref(), Some("bye"));
    assert_eq!(child.wait().unwrap().code(), Some(7));
    // Another has taken its place.
    wait_for("the next one", Duration::from_secs(30), || {
        let output = host.cli(&["inspect", "talker.1", "-a", "shop", "--json"]).output().unwrap();
        let seen: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        (seen["id"] != before && seen["status"] == "up").then_some(())
    });
    let said = host.wharf_fails(&["attach", "talker.7", "-a", "shop"]);
    assert!(said.contains("P013"), "{said}");
}
