//! Files and pages of an app at the edge: what is answered without it, and what is still its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::route::edge::Edge as Settings;
use model::route::edge::files::{Files, Fixed, Missing, Occasion};
use model::route::{Endpoint, Part, RouteTable, UpstreamState};
use tokio::io::AsyncReadExt;

use crate::app::App;
use crate::edge::{Edge, Raw, Reply, app_id, shop, tcp};
use crate::visitor::{self, Authority, Piece, certificates};

/// A folder the worker may read.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn files(path: &str, roots: &[&Path]) -> Files {
    Files {
        path: path.to_owned(),
        roots: roots.iter().map(PathBuf::from).collect(),
        fallback: None,
        missing: Missing::App,
        fixed: Fixed::Fingerprinted,
        max_age: std::time::Duration::ZERO,
    }
}

fn table(
    version: u64,
    (state, endpoints): (UpstreamState, Vec<Endpoint>),
    settings: Settings,
) -> RouteTable {
    let mut table = shop(version, state, endpoints);
    let part = table.parts.get_mut(&app_id(1)).unwrap();
    *part = Arc::new(Part { edge: settings, ..Part::clone(part) });
    table
}

async fn ask(raw: &mut Raw, line: &str, more: &str) -> Reply {
    raw.send(&format!("{line} HTTP/1.1\r\nHost: shop.localhost\r\n{more}\r\n")).await;
    raw.try_reply(line.starts_with("HEAD")).await.unwrap()
}

#[tokio::test]
async fn files_are_answered_without_the_app_and_the_rest_is_its_own() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    let place = folder(&[("a.txt", "0123456789"), ("sub/index.html", "sub"), ("app.css.gz", "g")]);
    fs::write(place.path().join("app.css"), "css").unwrap();
    symlink("/etc/passwd", place.path().join("passwd")).unwrap();
    let strict = Files { missing: Missing::NotFound, ..files("/only", &[place.path()]) };
    let settings =
        Settings { files: vec![files("/assets", &[place.path()]), strict], ..Settings::default() };
    edge.apply(table(1, (UpstreamState::Live, vec![tcp(1, app.address)]), settings.clone())).await;
    let mut raw = edge.connect().await;
    // All on one connection: every answer ends where it says.
    let whole = ask(&mut raw, "GET /assets/a.txt", "").await;
    assert_eq!((whole.status, whole.body.as_str()), (200, "0123456789"));
    assert_eq!(whole.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(whole.header("x-request-id").is_some() && whole.header("date").is_some());
    let part = ask(&mut raw, "GET /assets/a.txt", "Range: bytes=2-4\r\n").await;
    assert_eq!((part.status, part.body.as_str()), (206, "234"));
    let same = format!("If-None-Match: {}\r\n", whole.header("etag").unwrap());
    assert_eq!(ask(&mut raw, "GET /assets/a.txt", &same).await.status, 304);
    let head = ask(&mut raw, "HEAD /assets/a.txt", "").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    assert_eq!(ask(&mut raw, "GET /assets/%61.txt?v=1", "").await.body, "0123456789");
    assert_eq!(ask(&mut raw, "GET /assets/sub/", "").await.body, "sub");
    let away = ask(&mut raw, "GET /assets/sub", "").await;
    assert_eq!((away.status, away.header("location")), (307, Some("./sub/")));
    let gzip = ask(&mut raw, "GET /assets/app.css", "Accept-Encoding: gzip\r\n").await;
    assert_eq!((gzip.header("content-encoding"), gzip.body.as_str()), (Some("gzip"), "g"));
    assert_eq!(app.requests(), 0);
    for line in [
        "GET /assets/none",
        "GET /assets/passwd",
        "GET /assets/..%2fetc",
        "GET /assetsx",
        "GET /",
        "POST /assets/a.txt",
    ] {
        let path = line.split(' ').nth(1).unwrap();
        assert_eq!(ask(&mut raw, line, "").await.body, format!("one {path} "), "{line}");
    }
    assert_eq!(app.requests(), 6);
    for (line, status) in [
        ("GET /only/a.txt", 200),
        ("GET /only/none", 404),
        ("GET /only/passwd", 404),
        ("POST /only/a.txt", 405),
    ] {
        assert_eq!(ask(&mut raw, line, "").await.status, status, "{line}");
    }
    assert_eq!(app.requests(), 6);
    let line = edge.log_line(Some(app_id(1)), "path=\"/assets/a.txt\"").await;
    for field in ["at=info", "status=200", "bytes=10", "tries=0"] {
        assert!(line.contains(field), "{field} in {line}");
    }
    // Nobody has to run for it; in maintenance it is off with all the rest.
    edge.apply(table(2, (UpstreamState::Stopped, Vec::new()), settings.clone())).await;
    assert_eq!(ask(&mut raw, "GET /assets/a.txt", "").await.status, 200);
    assert_eq!(ask(&mut raw, "GET /assets/none", "").await.code(), Some("H14"));
    edge.apply(table(3, (UpstreamState::Maintenance, Vec::new()), settings)).await;
    assert_eq!(ask(&mut raw, "GET /assets/a.txt", "").await.code(), Some("H80"));
}

#[tokio::test]
async fn files_change_with_the_route_and_fingerprinted_ones_stay_a_while() {
    let edge = Edge::start().await;
    let old = folder(&[("app.js", "old"), ("app.3f2a9c1b.js", "old hashed"), ("gone.js", "gone")]);
    let new = folder(&[("app.js", "new"), ("app.4f2a9c1b.js", "new hashed")]);
    let with = |roots: &[&Path]| {
        let files = Files { missing: Missing::NotFound, ..files("", roots) };
        Settings { files: vec![files], ..Settings::default() }
    };
    edge.apply(table(1, (UpstreamState::Live, Vec::new()), with(&[old.path()]))).await;
    let mut raw = edge.connect().await;
    let first = ask(&mut raw, "GET /app.js", "").await;
    assert_eq!(first.body, "old");
    let hashed = ask(&mut raw, "GET /app.3f2a9c1b.js", "").await;
    assert_eq!(hashed.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let both = with(&[new.path(), old.path()]);
    edge.apply(table(2, (UpstreamState::Live, Vec::new()), both)).await;
    let same = format!("If-None-Match: {}\r\n", first.header("etag").unwrap());
    let second = ask(&mut raw, "GET /app.js", &same).await;
    assert_eq!((second.status, second.body.as_str()), (200, "new"));
    assert_eq!(ask(&mut raw, "GET /app.4f2a9c1b.js", "").await.body, "new hashed");
    assert_eq!(ask(&mut raw, "GET /app.3f2a9c1b.js", "").await.body, "old hashed");
    assert_eq!(ask(&mut raw, "GET /gone.js", "").await.status, 404);
}

#[tokio::test]
async fn a_large_file_is_sent_whole_over_both_protocols_and_holds_up_nobody() {
    let edge = Edge::tuned(|config| {
        config.workers = 1;
        config.listen_https = vec!["127.0.0.1:0".parse().unwrap()];
    })
    .await;
    let text = "0123456789abcdef".repeat(512 * 1024);
    let place = folder(&[("large", &text), ("small", "small")]);
    let settings = Settings { files: vec![files("", &[place.path()])], ..Settings::default() };
    edge.apply(table(1, (UpstreamState::Live, Vec::new()), settings)).await;
    // Who asks and does not read takes nobody's turn.
    let mut slow = edge.connect().await;
    slow.send("GET /large HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    let head = slow.head().await;
    assert!(head.contains("content-length: 8388608"), "{head}");
    assert_eq!(edge.get("shop.localhost", "/small").await.body, "small");
    assert!(slow.exactly(text.len()).await == text);
    // Who goes away in the middle is noted as gone.
    slow.send("GET /large?left HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    slow.head().await;
    drop(slow);
    assert!(edge.log_line(Some(app_id(1)), "path=\"/large?left\"").await.contains("code=H27"));
    let authority = Authority::new();
    let table = certificates(1, vec![authority.sign(&["shop.localhost"])]);
    edge.client.certify(&table).await.unwrap();
    let address = edge.status().await.listening_https[0];
    let stream =
        visitor::shake_hands(address, "shop.localhost", authority.client(&["h2"])).await.unwrap();
    let mut sender = visitor::http2(stream).await;
    for (method, expected) in [("GET", text.len()), ("HEAD", 0)] {
        let request = http::Request::builder().method(method).uri("https://shop.localhost/large");
        let answer = sender.send_request(request.body(Piece(None)).unwrap()).await.unwrap();
        assert_eq!(answer.headers()["content-length"], "8388608");
        assert_eq!(visitor::text(answer.into_body()).await.len(), expected, "{method}");
    }
}

#[tokio::test]
async fn an_app_has_pages_of_its_own_for_those_who_read_html() {
    let edge = Edge::start().await;
    let place = folder(&[
        ("503", "<p>{{status}} {{code}} {{title}} {{request_id}}</p>"),
        ("soon", "<h1>soon</h1>"),
        ("now", "<h1>now</h1>"),
        ("latin", ""),
    ]);
    fs::write(place.path().join("latin"), b"\xe9").unwrap();
    let page = |name: &str| place.path().join(name);
    let pages = [
        (Occasion::Status(503), page("503")),
        (Occasion::Maintenance, page("soon")),
        (Occasion::Status(502), page("latin")),
        (Occasion::Status(504), page("none")),
    ];
    let settings = Settings { pages: pages.into(), ..Settings::default() };
    edge.apply(table(1, (UpstreamState::Stopped, Vec::new()), settings.clone())).await;
    let mut raw = edge.connect().await;
    const HTML: &str = "Accept: text/html\r\nX-Request-ID: abcdefghij0123456789\r\n";
    let own = ask(&mut raw, "GET /", HTML).await;
    let expected = "<p>503 H14 No web processes running abcdefghij0123456789</p>";
    assert_eq!((own.status, own.body.as_str()), (503, expected));
    assert_eq!(own.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!((own.code(), own.header("retry-after")), (Some("H14"), Some("5")));
    let text = ask(&mut raw, "GET /", "").await;
    assert!(text.body.starts_with("503 No web processes running [H14]"), "{}", text.body);
    let json = ask(&mut raw, "GET /", "Accept: application/json\r\n").await;
    assert_eq!(json.header("content-type"), Some("application/json"));
    edge.apply(table(2, (UpstreamState::Maintenance, Vec::new()), settings.clone())).await;
    let soon = ask(&mut raw, "GET /", HTML).await;
    assert_eq!((soon.status, soon.body.as_str()), (503, "<h1>soon</h1>"));
    let now = Settings { maintenance_page: Some(page("now")), ..settings.clone() };
    edge.apply(table(3, (UpstreamState::Maintenance, Vec::new()), now)).await;
    assert_eq!(ask(&mut raw, "GET /", HTML).await.body, "<h1>now</h1>");
    // One that cannot be read is not shown, and ours is.
    edge.apply(table(4, (UpstreamState::Empty, Vec::new()), settings)).await;
    let ours = ask(&mut raw, "GET /", HTML).await;
    assert_eq!((ours.status, ours.code()), (502, Some("H81")));
    assert!(ours.body.contains("Blank app"));
    let mut rest = Vec::new();
    raw.send("GET / HTTP/1.0\r\nHost: shop.localhost\r\n\r\n").await;
    raw.stream.read_to_end(&mut rest).await.unwrap();
}
