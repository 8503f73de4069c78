//! The proxy's processes die under a Wharf that goes on.

use std::time::Duration;

use super::kill;
use crate::support::books;
use crate::support::host::{Host, wait_for};
use crate::support::load::Load;
use crate::support::require::require;

#[test]
fn the_proxy_dies_and_refuses_nobody() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let status = host.json(&["status"]);
    let worker = status["proxy"]["pid"].as_u64().unwrap_or_else(|| panic!("{status}"));
    kill(worker);
    // The listening sockets outlive it: this connection waits for the next worker.
    assert_eq!(host.get("shop.localhost", "/").0, 200);
    repo.set_version("two");
    host.push_well(&repo);
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));
}

#[test]
fn a_proxy_without_its_holder_serves_on_and_is_replaced_as_is_one_that_is_gone() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let proxy = || host.json(&["status"])["proxy"].clone();
    let replaced = |old: &serde_json::Value| {
        wait_for("another proxy", Duration::from_secs(30), || {
            let now = proxy();
            (now["holder_pid"].is_u64()
                && now["holder_pid"] != old["holder_pid"]
                && now["pid"] != old["pid"])
                .then_some(())
        });
    };

    let first = proxy();
    let load = Load::start(host.edge(), "shop", 200);
    kill(first["holder_pid"].as_u64().unwrap());
    replaced(&first);
    let answered = load.so_far().answered;
    wait_for("answers of the new proxy", Duration::from_secs(20), || {
        (load.so_far().answered > answered + 100).then_some(())
    });
    let (mut seen, _) = load.finish();
    // The orphan says goodbye to connections that are kept and idle; each of the five kept ones may
    // see that once. Nothing is refused, and no request that was taken is lost.
    let goodbye = ["GET", "POST"].map(|method| format!("{method}: closed after 0 bytes"));
    let goodbyes: u64 = goodbye.iter().filter_map(|said| seen.failures.remove(said)).sum();
    assert!(goodbyes <= 5, "{goodbyes}");
    books::assert_clean(&host, &seen);

    let second = proxy();
    // The holder first: it would start another worker.
    kill(second["holder_pid"].as_u64().unwrap());
    kill(second["pid"].as_u64().unwrap());
    replaced(&second);
    assert_eq!(host.get("shop.localhost", "/").0, 200);
    repo.set_version("two");
    host.push_well(&repo);
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));
}
