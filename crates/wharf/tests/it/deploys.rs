//! Deploys that hang or fail, and what is left of them; what an app keeps under another name.

use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::require::require;

/// What an app's processes said; `source` is `worker.1`.
fn log_of(host: &Host, app: &str, source: &str) -> String {
    host.wharf(&["logs", "-a", app, "-n", "500", "-p", source])
}

/// Says so when it ends by itself, which takes it a moment: without its grace it would be killed in it.
const WORKER: &str = "
import signal, time

def end(*_):
    time.sleep(0.3)
    print('ended in peace', flush=True)
    raise SystemExit

signal.signal(signal.SIGTERM, end)
print('worker is up', flush=True)
while True:
    time.sleep(60)
";

#[test]
fn a_failed_first_deploy_lets_its_healthy_processes_end_in_peace() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("first");
    repo.write("worker.py", WORKER);
    // It fails once the worker is known to be up: nothing here depends on who is faster.
    repo.write("web.py", "import time; time.sleep(3); raise SystemExit(3)\n");
    repo.write("Procfile", "web: python3 web.py\nworker: python3 worker.py\n");
    repo.commit("web ends");
    // Not even the first of them went live: there is nothing whose settings could be taken instead.
    assert!(!host.push(&repo).0);
    host.wharf(&["ps:scale", "worker=1", "-a", "first", "--no-wait"]);
    repo.commit("web ends, worker is well");
    let (is_accepted, said) = host.push(&repo);
    assert!(!is_accepted && said.contains("error[P101]"), "{said}");
    assert!(said.contains("nothing was serving before"), "{said}");
    invariants::check(&host, 0);
    let log = log_of(&host, "first", "worker");
    assert!(log.contains("worker is up") && log.contains("ended in peace"), "{log}");
}

#[test]
fn a_release_command_that_hangs_ends_by_its_limit_or_by_hand() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    repo.write("wharf.toml", "[release]\ntimeout = \"2s\"\n");
    let hangs = "release: echo waiting for a lock; sleep 1000";
    repo.write("Procfile", &format!("web: python3 server.py\n{hangs}\n"));
    repo.commit("hangs");
    let (is_accepted, said) = host.push(&repo);
    assert!(!is_accepted, "{said}");
    for text in [
        "It may take 2 s; to end it: wharf ps:stop release.1 -a shop",
        "error[P110]: release v2 of `shop` was not made current",
        "did not end within 2 s and was stopped",
        "still: v1 is serving, nothing changed for your visitors",
        "[release] timeout = \"1m\"",
        "wharf logs -a shop -p release.1",
        "waiting for a lock",
    ] {
        assert!(said.contains(text), "`{text}` is not in:\n{said}");
    }
    invariants::check(&host, 1);

    // By hand, and after the daemon that began it is gone.
    repo.write("wharf.toml", "");
    repo.commit("hangs for longer");
    let mut push = host.push_in_background(&repo);
    wait_for("the release command", Duration::from_secs(60), || {
        log_of(&host, "shop", "release").matches("app[release.1]: waiting").nth(1).map(|_| ())
    });
    host.kill_daemon();
    assert!(!push.wait().unwrap().success());
    host.start_daemon(&[]);
    let listed = host.wharf(&["ps", "-a", "shop"]);
    assert!(listed.contains("release.1: starting"), "{listed}");
    host.wharf(&["ps:stop", "release.1", "-a", "shop"]);
    wait_for("the deploy to fail", Duration::from_secs(60), || {
        let releases = host.json(&["releases", "-a", "shop"]);
        let v3 = releases.as_array()?.iter().find(|one| one["version"] == 3)?;
        (v3["status"] == "failed").then_some(())
    });
    let log = host.wharf(&["logs", "-a", "shop", "-n", "500"]);
    assert!(log.contains("Process was stopped by hand"), "{log}");
    invariants::check(&host, 1);
    assert!(host.get("shop.localhost", "/").1.starts_with("one"));
}

#[test]
fn a_build_cache_is_the_apps_own_under_whatever_name() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("one");
    let line = "echo cache: $(cat /cache/mark 2>/dev/null || echo none); echo first > /cache/mark";
    let file = format!("[build]\ncommand = '''{line}'''\n");
    repo.write("wharf.toml", &file);
    repo.commit("marks its cache");
    let said = host.push_well(&repo);
    assert!(said.contains("cache: none"), "{said}");
    host.wharf(&["rename", "two", "-a", "one"]);
    repo.git(&["remote", "set-url", "wharf", &host.git_url("two")]);
    repo.set_version("two");
    let said = repo.try_git(&["push", "wharf", "main"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("cache: first"), "{said}");

    std::fs::rename(&repo.folder, host.root.join("two")).unwrap();
    let other = host.app("one");
    other.write("wharf.toml", &file);
    other.set_version("another");
    let said = host.push_well(&other);
    assert!(said.contains("cache: none"), "{said}");

    let caches = || std::fs::read_dir(host.data().join("caches")).unwrap().count();
    assert_eq!(caches(), 2);
    host.wharf(&["destroy", "-a", "two", "--confirm", "two"]);
    assert_eq!(caches(), 1);
}

/// Waits until a build step's container is there.
fn wait_for_step(host: &Host) {
    wait_for("a build step", Duration::from_secs(60), || {
        let mut entries = std::fs::read_dir(host.run.join("containers")).ok()?.flatten();
        entries.find(|entry| entry.path().join("status.json").exists() && is_of_a_build(entry))
    });
}

fn is_of_a_build(entry: &std::fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with("b-")
}

/// What a push that must be rejected said.
fn rejection(push: std::process::Child) -> String {
    let output = push.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn a_build_ends_when_it_is_told_to_and_its_pusher_hears_why() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    let said = host.wharf_fails(&["builds:cancel", "-a", "shop"]);
    assert!(said.contains("error[P016]: no build of `shop` runs"), "{said}");

    repo.write("wharf.toml", "[build]\ncommand = \"echo compiling; sleep 1000\"\n");
    let commit = repo.commit("takes for ever");
    let push = host.push_in_background(&repo);
    wait_for_step(&host);
    let builds = host.json(&["builds", "-a", "shop"]);
    assert_eq!(builds.as_array().unwrap().len(), 2);
    assert!(host.wharf(&["builds", "-a", "shop"]).contains("running"));
    host.wharf(&["builds:cancel", "-a", "shop"]);
    let said = rejection(push);
    let what = format!("error[P206]: the build of {} was cancelled", &commit[..7]);
    for text in [&*what, "`root` cancelled it", "what served before serves on", "push again"] {
        assert!(said.contains(text), "`{text}` is not in:\n{said}");
    }
    invariants::check(&host, 1);

    // The daemon is told to stop: it does not wait for the build.
    let push = host.push_in_background(&repo);
    wait_for_step(&host);
    host.stop_daemon();
    let said = rejection(push);
    for text in ["error[P206]", "Wharf is stopping", "push again when it is back"] {
        assert!(said.contains(text), "`{text}` is not in:\n{said}");
    }
    assert!(!host.daemon_log().contains("were cut off"), "{}", host.daemon_log());
    host.start_daemon(&[]);
    invariants::check(&host, 1);
    let builds = host.json(&["builds", "-a", "shop"]).to_string();
    assert!(!builds.contains("pending"), "{builds}");

    // Its app is destroyed.
    let push = host.push_in_background(&repo);
    wait_for_step(&host);
    host.wharf(&["destroy", "-a", "shop", "--confirm", "shop"]);
    let said = rejection(push);
    assert!(said.contains("`shop` was destroyed while it ran"), "{said}");
    invariants::check(&host, 0);
}

#[test]
fn what_crosses_on_its_way_ends_as_the_last_word_had_it() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let (one, two) = (host.app("one"), host.app("two"));
    one.write("Procfile", "web: python3 server.py\nworker: sleep 1000\n");
    one.set_version("one");
    two.set_version("two");
    host.push_well(&one);
    host.push_well(&two);

    // Told to end before there is anything that could hear it: none of them stays.
    for _ in 0..2 {
        host.wharf(&["ps:scale", "worker=24", "-a", "one", "--no-wait"]);
        host.wharf(&["ps:scale", "worker=0", "-a", "one", "--no-wait"]);
        invariants::check(&host, 2);
    }

    // A host that moves is the new owner's at once, whoever hears of it first.
    for (from, to) in [("one", "two"), ("two", "one"), ("one", "two")] {
        host.wharf(&["domains:add", "www.example.com", "-a", from]);
        host.wharf(&["domains:remove", "www.example.com", "-a", from]);
        host.wharf(&["domains:add", "www.example.com", "-a", to]);
        answers(&host, "www.example.com", to);
        host.wharf(&["domains:remove", "www.example.com", "-a", to]);
    }
    // So does the name itself, and with it the app's own address.
    host.wharf(&["rename", "old", "-a", "one"]);
    host.wharf(&["rename", "one", "-a", "two"]);
    answers(&host, "one.localhost", "two");
    answers(&host, "old.localhost", "one");

    // Who waits for a deploy of an app that is destroyed must hear that it will never be over.
    let repo = host.app("slow");
    repo.write("Procfile", "web: sleep 1000\n");
    repo.commit("never listens");
    let push = host.push_in_background(&repo);
    wait_for("its replica", Duration::from_secs(60), || {
        host.wharf(&["ps", "-a", "slow"]).contains("web.1: starting").then_some(())
    });
    host.wharf(&["destroy", "-a", "slow", "--confirm", "slow"]);
    let said = rejection(push);
    assert!(said.contains("error[P004]: `slow` was destroyed while it was deployed"), "{said}");
    invariants::check(&host, 2);
}

/// Waits until that host is answered by that version.
fn answers(host: &Host, name: &str, version: &str) {
    wait_for(&format!("{name} to be {version}"), Duration::from_secs(20), || {
        let (status, body) = host.get(name, "/");
        (status == 200 && body.starts_with(version)).then_some(())
    });
}

/// Between the daemon and a real proxy, taking one answer away: the proxy has the table, and whoever sent
/// it does not know.
async fn lose_one_answer(listener: tokio::net::UnixListener, proxy: std::path::PathBuf) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let mut has_lost = false;
    while let Ok((client, _)) = listener.accept().await {
        let mut server = BufReader::new(tokio::net::UnixStream::connect(&proxy).await.unwrap());
        let mut client = BufReader::new(client);
        let mut line = String::new();
        server.read_line(&mut line).await.unwrap();
        client.write_all(line.as_bytes()).await.unwrap();
        line.clear();
        // One that only greeted is gone by now.
        if client.read_line(&mut line).await.unwrap_or(0) == 0 {
            continue;
        }
        server.write_all(line.as_bytes()).await.unwrap();
        let is_of_routes = line.contains("\"apply\"") || line.contains("\"change\"");
        let is_lost = is_of_routes && !has_lost;
        line.clear();
        server.read_line(&mut line).await.unwrap();
        if is_lost {
            has_lost = true;
        } else {
            client.write_all(line.as_bytes()).await.unwrap();
        }
    }
}

#[test]
fn a_table_whose_answer_was_lost_is_followed_by_a_newer_one() {
    use model::route::written::compose;
    use model::route::{Part, Upstream, UpstreamState};
    use wharf::deploy::routes::Routes;
    use wharf::proxy_link::ProxyLink;
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    host.kill_daemon();
    let socket = host.root.join("relay.sock");
    let proxy = host.run.join("proxy/control.sock");
    let app = model::id::AppId(uuid::Uuid::from_u128(1));
    let routes_of = |name: &str| Part {
        routes: compose(&[format!("{name}.localhost").parse().unwrap()], &[]),
        upstream: Upstream {
            app: "lost".parse().unwrap(),
            release: 1,
            state: UpstreamState::Maintenance,
            is_paused: false,
            tells_timing: false,
            sleeps_after: None,
            balance: model::route::balance::Balance::default(),
            protocol: model::route::protocol::Protocol::default(),
            endpoints: Vec::new(),
        },
        edge: model::route::edge::Edge::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let relay = lose_one_answer(tokio::net::UnixListener::bind(&socket).unwrap(), proxy);
        let work = async {
            let routes = Routes::adopt(ProxyLink::new(socket.clone())).await.unwrap();
            assert!(routes.set(app, routes_of("first")).await.is_err(), "its answer was lost");
            routes.set(app, routes_of("second")).await.unwrap();
            let table = ProxyLink::new(socket.clone()).table().await.unwrap();
            let routes_there = table.parts.values().flat_map(|part| &part.routes);
            let hosts: Vec<String> = routes_there.map(|route| route.host.to_string()).collect();
            assert_eq!(
                (hosts, table.version),
                (vec!["second.localhost".to_owned()], routes.version().await)
            );
        };
        tokio::select! { () = relay => panic!("the relay ended"), () = work => {} }
    });
}
