//! Routes as the edge goes by them: chosen, rewritten, split, redirected, or leading elsewhere.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use model::route::balance::Balance;
use model::route::spec::Route;
use model::route::written::{RouteSpec, compose};
use model::route::{Part, RouteTable, TableChange, Upstream, UpstreamState};
use proxy::error::Error;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

use crate::app::App;
use crate::edge::{Edge, app_id, replica_id, tcp};

/// A part with these routes, written as the app file has them, and perhaps one endpoint.
fn part(name: &str, toml: &str, app: Option<(u128, &App)>) -> Arc<Part> {
    #[derive(serde::Deserialize)]
    struct File {
        #[serde(default)]
        routes: Vec<RouteSpec>,
    }
    let file: File = toml::from_str(toml).unwrap();
    let host = format!("{name}.localhost").parse().unwrap();
    let upstream = Upstream {
        app: name.parse().unwrap(),
        release: 1,
        state: UpstreamState::Live,
        is_paused: false,
        tells_timing: false,
        sleeps_after: None,
        balance: Balance::default(),
        protocol: model::route::protocol::Protocol::default(),
        endpoints: app.iter().map(|(number, app)| tcp(*number, app.address)).collect(),
    };
    let routes = compose(&[host], &[&file.routes]);
    Arc::new(Part { routes, upstream, edge: Default::default() })
}

fn table(version: u64, parts: Vec<Arc<Part>>) -> RouteTable {
    let parts = (1..).zip(parts).map(|(number, part)| (app_id(number), part)).collect();
    RouteTable { version, parts }
}

#[tokio::test]
async fn requests_take_the_route_that_is_theirs() {
    let edge = Edge::start().await;
    let (shop, api) = (App::start("shop").await, App::start("api").await);
    let shop_part = part(
        "shop",
        r#"
        routes = [
            { path = "*/styles/*.*", to = "api", weight = 1 },
            { path = "/api", strip = true, to = "api" },
            { path = "/old", redirect = "https://new.example/*", status = 301 },
            { path = "/beta", headers = { x-beta = "*" }, to = "api" },
            { path = "/lost", to = "nobody" },
            { host = "www.shop.localhost", redirect = "bare" },
            { host = "secure.localhost", redirect = "https" },
        ]
        "#,
        Some((1, &shop)),
    );
    let api_part = part("api", "", Some((2, &api)));
    edge.apply(table(1, vec![shop_part, api_part])).await;
    for (path, body) in [
        ("/", "shop / "),
        ("/apis", "shop /apis "),
        ("/api/x?y=1", "api /x?y=1 "),
        ("/api", "api / "),
        ("/%61pi/x", "api /x "),
        ("/shop/styles/a.css", "api /shop/styles/a.css "),
        ("/api/styles/a.css", "api /api/styles/a.css "),
        ("/beta", "shop /beta "),
    ] {
        assert_eq!(edge.get("shop.localhost", path).await.body, body, "{path}");
    }
    let beta = "GET /beta HTTP/1.1\r\nHost: shop.localhost\r\nX-Beta: 1\r\n\r\n";
    assert_eq!(edge.send(beta).await.body, "api /beta ");
    let headers = edge.get("shop.localhost", "/api/headers").await.body;
    assert!(headers.starts_with("GET /headers HTTP/1.1\r\n"), "{headers}");
    assert!(headers.contains("x-forwarded-prefix: /api\r\n"), "{headers}");
    assert!(headers.contains("host: shop.localhost\r\n"), "{headers}");

    for (host, path, status, location) in [
        ("shop.localhost", "/old/a?b", 301, "https://new.example/a?b"),
        ("www.shop.localhost:81", "/x?y", 308, "http://shop.localhost:81/x?y"),
        ("secure.localhost:81", "/x?y", 308, "https://secure.localhost/x?y"),
    ] {
        let reply = edge.get(host, path).await;
        assert_eq!((reply.status, reply.header("location")), (status, Some(location)));
        assert_eq!(reply.header("content-length"), Some("0"));
        assert!(edge.log_line(Some(app_id(1)), path).await.contains(&format!("status={status}")));
    }
    for (host, path, code) in [
        ("shop.localhost", "/lost", "H23"),
        ("shop.localhost", "/api/../secret", "H26"),
        ("shop.localhost", "/api/%2e%2E/secret", "H26"),
        ("secure.localhost", "/x", "E404"),
        ("x.localhost", "/", "E404"),
    ] {
        let mut raw = edge.connect().await;
        // Trusted or not, an encrypted request is never sent to `https` once more.
        let proto = if host.starts_with("secure") { "https" } else { "http" };
        let head = format!("Host: {host}\r\nX-Forwarded-Proto: {proto}");
        raw.send(&format!("GET {path} HTTP/1.1\r\n{head}\r\n\r\n")).await;
        let reply = raw.reply().await;
        if host.starts_with("secure") {
            assert_eq!(reply.status, 308, "nobody is believed who is not trusted");
        } else {
            assert_eq!(reply.code(), Some(code), "{path}");
        }
    }
    // Where no path decides anything, it is none of the edge's business.
    assert_eq!(edge.get("api.localhost", "/a/../b").await.body, "api /a/../b ");
}

#[tokio::test]
async fn a_split_sends_its_share_and_loses_none() {
    let edge = Edge::start().await;
    let (old, new) = (App::start("old").await, App::start("new").await);
    let file = "routes = [{ split = { new = 30 } }]";
    let parts = vec![part("old", file, Some((1, &old))), part("new", "", Some((2, &new)))];
    edge.apply(table(1, parts)).await;
    let mut raw = edge.connect().await;
    let mut shares = [0_u32; 2];
    for number in 0..1000 {
        raw.send(&format!("GET /{number} HTTP/1.1\r\nHost: old.localhost\r\n\r\n")).await;
        let body = raw.reply().await.body;
        let is_new = body == format!("new /{number} ");
        assert!(is_new || body == format!("old /{number} "), "{body}");
        shares[usize::from(is_new)] += 1;
    }
    // Ten standard deviations: one run in 10^23 is outside.
    assert!((155..=445).contains(&shares[1]), "{shares:?}");
}

#[tokio::test]
async fn a_server_elsewhere_is_proxied_under_its_own_name() {
    let edge = Edge::start().await;
    let old = App::start("old").await;
    let to = format!("http://127.0.0.1:{}", old.address.port());
    let file = format!(
        r#"routes = [
            {{ path = "/kept", to = "{to}", keep_host = true }},
            {{ path = "/gone", to = "http://127.0.0.1:1" }},
            {{ path = "/unknown", to = "http://no-such-name.invalid" }},
            {{ to = "{to}" }},
        ]"#
    );
    edge.apply(table(1, vec![part("shop", &file, None)])).await;
    assert_eq!(edge.get("shop.localhost", "/x?y").await.body, "old /x?y ");
    let connections = old.connections.load(SeqCst);
    let own = format!("host: 127.0.0.1:{}\r\n", old.address.port());
    let headers = edge.get("shop.localhost", "/headers").await.body;
    assert!(headers.contains(&own), "{headers}");
    assert!(headers.contains("x-forwarded-host: shop.localhost\r\n"), "{headers}");
    assert!(old.connections.load(SeqCst) <= connections + 1);
    assert_eq!(edge.get("shop.localhost", "/gone").await.code(), Some("H21"), "and at once");
    // A machine's resolver may also be silent until the limit.
    let reply = edge.get("shop.localhost", "/unknown").await;
    let is_named = reply.body.contains("the name of the server elsewhere has no address");
    assert!(is_named || reply.code() == Some("H19"), "{}", reply.body);
}

#[tokio::test]
async fn a_server_at_a_unix_socket_is_proxied() {
    let edge = Edge::start().await;
    let old = App::start("old").await;
    let folder = tempfile::tempdir().unwrap();
    let permit = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    // The worker is another user.
    permit(folder.path(), 0o755);
    let path = folder.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    permit(&path, 0o666);
    let address = old.address;
    let mut carriers = tokio::task::JoinSet::new();
    carriers.spawn(async move {
        let mut each = tokio::task::JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            each.spawn(async move {
                let mut app = TcpStream::connect(address).await.unwrap();
                // However it ends.
                let _ended = tokio::io::copy_bidirectional(&mut socket, &mut app).await;
            });
        }
    });
    let to = format!("unix:{}", path.display());
    let gone = format!("unix:{}", folder.path().join("gone.sock").display());
    let file = format!(r#"routes = [{{ path = "/gone", to = "{gone}" }}, {{ to = "{to}" }}]"#);
    edge.apply(table(1, vec![part("shop", &file, None)])).await;
    for number in 0..20 {
        let body = edge.get("shop.localhost", &format!("/x?{number}")).await.body;
        assert_eq!(body, format!("old /x?{number} "));
    }
    assert!(old.connections.load(SeqCst) <= 4, "kept alive");
    let headers = edge.get("shop.localhost", "/headers").await.body;
    assert!(headers.contains("\r\nhost: shop.localhost\r\n"), "{headers}");
    assert_eq!(edge.get("shop.localhost", "/gone").await.code(), Some("H21"), "and at once");
    permit(&path, 0o600);
    if rustix::process::getuid().is_root() {
        let refused = edge.get("shop.localhost", "/close").await;
        assert!(matches!(refused.code(), Some("H13" | "H21")), "{refused:?}");
        assert_eq!(edge.get("shop.localhost", "/close").await.code(), Some("H21"));
    }
}

#[tokio::test]
async fn a_change_is_made_only_to_the_table_it_is_of() {
    let edge = Edge::start().await;
    let (one, two) = (App::start("one").await, App::start("two").await);
    edge.apply(table(1, vec![part("one", "", Some((1, &one)))])).await;
    let two_part = part("two", "", Some((2, &two)));
    let change = TableChange { base: 1, version: 2, parts: [(app_id(2), Some(two_part))].into() };
    assert_eq!(edge.client.change(&change).await.unwrap().version, 2);
    let again = edge.client.change(&change).await.unwrap_err();
    assert!(matches!(again, Error::Stale { base: 1, served: 2 }), "{again:?}");
    assert_eq!(edge.get("one.localhost", "/").await.body, "one / ");
    assert_eq!(edge.get("two.localhost", "/").await.body, "two / ");
    assert_eq!(edge.client.table().await.unwrap().parts.len(), 2);

    // The same requests twice: refused, and all is as it was.
    let mut thief = Part::clone(&part("thief", "", None));
    thief.routes.push(Route::plain("one.localhost".parse().unwrap()));
    let theft =
        TableChange { base: 2, version: 3, parts: [(app_id(3), Some(Arc::new(thief)))].into() };
    let refused = edge.client.change(&theft).await.unwrap_err().to_string();
    let (first, second) = (app_id(1).to_string(), app_id(3).to_string());
    assert!(refused.contains(&first) && refused.contains(&second), "{refused}");
    assert!(refused.contains("`one.localhost/`"), "{refused}");
    assert_eq!(edge.status().await.version, 2);
    assert_eq!(edge.get("one.localhost", "/").await.body, "one / ");
    assert_eq!(edge.get("thief.localhost", "/").await.code(), Some("E404"));

    let change = TableChange { base: 2, version: 3, parts: [(app_id(1), None)].into() };
    edge.client.change(&change).await.unwrap();
    assert_eq!(edge.get("one.localhost", "/").await.code(), Some("E404"));
    assert!(!edge.status().await.endpoints.contains_key(&replica_id(1)));
    assert_eq!(edge.get("two.localhost", "/").await.body, "two / ");
}

/// An authority, and a certificate of it for `localhost`.
#[expect(clippy::disallowed_methods, reason = "the test's own program")]
fn make_certificates(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        let mut command = std::process::Command::new("openssl");
        let output = command.current_dir(folder).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let authority = ["req", "-x509", "-subj", "/CN=test authority", "-keyout", "ca.key"];
    openssl(&[&authority[..], &["-out", "ca.pem"], &key].concat());
    let leaf = ["req", "-x509", "-subj", "/CN=old", "-CA", "ca.pem", "-CAkey", "ca.key"];
    let names = ["-addext", "subjectAltName=DNS:localhost"];
    let usage = ["-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(
        &[&leaf[..], &["-keyout", "old.key", "-out", "old.pem"], &names, &usage, &key].concat(),
    );
}

/// Speaks TLS with that certificate, in front of an app.
#[expect(clippy::disallowed_methods, reason = "the test's own server")]
async fn encrypted(folder: &Path, app: SocketAddr) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let chain = CertificateDer::pem_file_iter(folder.join("old.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("old.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut tasks = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tasks.spawn(async move {
                let Ok(mut visitor) = acceptor.accept(stream).await else { return };
                let mut app = TcpStream::connect(app).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut visitor, &mut app).await;
            });
        }
    });
    (address, task)
}

#[tokio::test]
async fn a_server_elsewhere_must_prove_who_it_is() {
    let folder = tempfile::tempdir().unwrap();
    // The worker is another user and reads the authority.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    make_certificates(folder.path());
    let old = App::start("old").await;
    let (address, server) = encrypted(folder.path(), old.address).await;
    let port = address.port();
    let file = format!(
        r#"routes = [
            {{ path = "/wrong", to = "https://127.0.0.1:{port}" }},
            {{ to = "https://localhost:{port}" }},
        ]"#
    );
    let authority = folder.path().join("ca.pem");
    let edge = Edge::tuned(|config| config.external_authorities = Some(authority)).await;
    edge.apply(table(1, vec![part("shop", &file, None)])).await;
    for number in 0..5 {
        let path = format!("/{number}?y");
        assert_eq!(edge.get("shop.localhost", &path).await.body, format!("old {path} "));
    }
    // The two cores keep their connections.
    assert!(old.connections.load(SeqCst) <= 2, "{}", old.connections.load(SeqCst));
    let untrusted = "the certificate of the server elsewhere is not trusted";
    let reply = edge.get("shop.localhost", "/wrong").await;
    assert_eq!(reply.code(), Some("H21"));
    assert!(reply.body.contains(untrusted), "{}", reply.body);
    let edge = Edge::start().await;
    edge.apply(table(1, vec![part("shop", &file, None)])).await;
    let reply = edge.get("shop.localhost", "/").await;
    assert!(reply.body.contains(untrusted), "{}", reply.body);
    server.abort();
}
