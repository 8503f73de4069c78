//! The wall clock jumps an hour ahead and two back: nothing times out, nothing is made anew.
//!
//! It is the worker's own look at the clock that is moved (`proxy::wall`); the clock that limits go by
//! is the kernel's and does not jump, as with a real change of the time.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::app::App;
use crate::edge::{Edge, Raw, app_id, tcp, until};
use crate::traffic::Traffic;
use crate::visitor::{Authority, certificates, shake_hands};
use model::route::balance::Balance;

use super::table;

/// The proxy's program, with a clock that is set by a file.
fn wrap(folder: &Path, clock: &Path) -> PathBuf {
    let program = folder.join("proxy");
    let (clock, built) = (clock.display(), env!("CARGO_BIN_EXE_proxy-roles"));
    let text = format!("#!/bin/sh\nWHARF_CLOCK={clock} exec {built} \"$@\"\n");
    std::fs::write(&program, text).unwrap();
    for path in [folder, &program] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    program
}

/// How far the proxy's time of day is from ours, in seconds.
#[expect(clippy::disallowed_methods, reason = "what the time of day is, is the question")]
async fn offset(edge: &Edge) -> i64 {
    let date = edge.get("blog.localhost", "/date").await.header("date").unwrap().to_owned();
    let theirs = httpdate::parse_http_date(&date).unwrap();
    let seconds = |time: std::time::SystemTime| {
        i64::try_from(time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
    };
    seconds(theirs) - seconds(std::time::SystemTime::now())
}

#[tokio::test]
async fn a_jump_of_the_clock_is_noticed_by_nobody() {
    if !cfg!(debug_assertions) {
        eprintln!("skipped: needs a debug build");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    let set = |seconds: i64| {
        let draft = clock.with_extension("draft");
        std::fs::write(&draft, seconds.to_string()).unwrap();
        std::fs::rename(&draft, &clock).unwrap();
    };
    set(0);
    let program = wrap(folder.path(), &clock);
    let edge = Edge::tuned(|config| {
        config.program = program;
        config.listen_https = vec!["127.0.0.1:0".parse().unwrap()];
    })
    .await;
    let (shop, blog) = (App::start("shop").await, App::start("blog").await);
    let apps = |version, late: Option<&App>| {
        let late = late.map(|app| tcp(3, app.address));
        table(
            version,
            &[
                ("shop", Balance::default(), vec![tcp(1, shop.address)]),
                ("blog", Balance::default(), vec![tcp(2, blog.address)]),
                ("late", Balance::default(), late.into_iter().collect()),
            ],
        )
    };
    edge.apply(apps(1, None)).await;
    let authority = Authority::new();
    let mut issued = certificates(1, Vec::new());
    issued.issuer = Some(authority.local_issuer());
    edge.client.certify(&issued).await.unwrap();
    let address = edge.status().await.listening_https[0];
    let shown = async || {
        let stream = shake_hands(address, "shop.localhost", authority.client(&[])).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let certificate = shown().await;
    let traffic = Traffic::start(edge.address, 200, &["shop", "blog"]);
    traffic.more(50).await;

    // Begun before the jumps: an upload, an idle connection, one that waits for a replica.
    let mut upload = edge.connect().await;
    upload.send("POST /echo HTTP/1.1\r\nHost: shop.localhost\r\n").await;
    upload.send("Transfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n").await;
    upload.head().await;
    assert_eq!(upload.chunk().await, "begin");
    let ask = "GET /kept HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    let mut kept = edge.connect().await;
    kept.send(ask).await;
    assert_eq!(kept.reply().await.status, 200);
    let mut held: Raw = edge.connect().await;
    held.send("GET /held HTTP/1.1\r\nHost: late.localhost\r\n\r\n").await;
    let waiting = async || edge.status().await.apps[&app_id(3)].held;
    until("the request to be held", async || (waiting().await == 1).then_some(())).await;

    for jump in [3600, -3600, 0] {
        set(jump);
        until("the jump", async || ((offset(&edge).await - jump).abs() < 60).then_some(())).await;
        traffic.more(100).await;
        upload.send("4\r\nmore\r\n").await;
        assert_eq!(upload.chunk().await, "more");
        kept.send(ask).await;
        assert_eq!(kept.reply().await.status, 200);
        assert_eq!(waiting().await, 1, "it waited long enough, says the wrong clock");
        assert_eq!(shown().await, certificate, "a new certificate at {jump}");
    }
    let late = App::start("late").await;
    edge.apply(apps(2, Some(&late))).await;
    assert_eq!(held.reply().await.body, "late /held ");
    traffic.stop(&[&shop, &blog]).await.assert_clean();
}
