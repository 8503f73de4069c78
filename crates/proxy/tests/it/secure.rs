//! HTTPS: who is shown which certificate, what HTTP/2 becomes, what survives.

use std::os::unix::fs::PermissionsExt;

use bytes::Bytes;
use http::Request;
use model::certificate::{CertificateTable, Hsts, HttpsPolicy, Redirect};

use crate::app::App;
use crate::edge::{Edge, app_id, live, tcp, until};
use crate::visitor::{Authority, Piece, ask, certificates, http2, shake_hands, text};

async fn secure() -> (Edge, App, Authority, std::net::SocketAddr) {
    let edge = Edge::tuned(|config| {
        config.listen_https = vec!["127.0.0.1:0".parse().unwrap()];
        config.workers = 1;
    });
    let (edge, app) = (edge.await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let address = edge.status().await.listening_https[0];
    (edge, app, Authority::new(), address)
}

const HEAD: &str = "GET /headers HTTP/1.1\r\nHost: shop.localhost";

#[tokio::test]
async fn each_name_is_shown_its_own_certificate_and_strangers_none() {
    let (edge, _app, authority, address) = secure().await;
    let own = authority.sign(&["shop.localhost"]);
    let star = authority.sign(&["*.shop.localhost"]);
    let table = certificates(1, vec![star.clone(), own.clone()]);
    edge.client.certify(&table).await.unwrap();
    let leaf = |pem: &str| {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (name, shown) in [("shop.localhost", &own), ("a.shop.localhost", &star)] {
            let config = authority.client_of(&["http/1.1"], &[version]);
            let stream = shake_hands(address, name, config).await.unwrap();
            let chain = stream.get_ref().1.peer_certificates().unwrap();
            assert_eq!(chain[0], leaf(&shown.chain), "{name}");
        }
        for name in ["localhost", "a.b.shop.localhost", "127.0.0.1"] {
            let config = authority.client_of(&["http/1.1"], &[version]);
            assert!(shake_hands(address, name, config).await.is_err(), "{name}");
        }
    }
    let config = authority.client(&["http/1.1"]);
    let mut stream = shake_hands(address, "shop.localhost", config).await.unwrap();
    let answer = ask(&mut stream, HEAD).await.to_ascii_lowercase();
    for line in ["x-forwarded-proto: https\r\n", ";proto=https\r\n", "x-forwarded-port: "] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    let line = edge.log_line(Some(app_id(1)), "/headers").await;
    assert!(line.contains("protocol=https") && line.contains("tls_version=tls1.3"), "{line}");
}

#[tokio::test]
async fn a_table_with_a_wrong_key_changes_nothing() {
    let (edge, _app, authority, address) = secure().await;
    let good = authority.sign(&["shop.localhost"]);
    edge.client.certify(&certificates(1, vec![good.clone()])).await.unwrap();
    let mut bad = authority.sign(&["shop.localhost"]);
    bad.key = good.key.clone();
    let error = edge.client.certify(&certificates(2, vec![bad])).await.unwrap_err().to_string();
    assert!(error.contains("certificate of `shop.localhost`"), "{error}");
    let old = edge.client.certify(&certificates(1, Vec::new())).await.unwrap_err().to_string();
    assert!(old.contains("not newer"), "{old}");
    shake_hands(address, "shop.localhost", authority.client(&[])).await.unwrap();
}

#[tokio::test]
async fn http2_goes_the_same_way_as_http1() {
    let (edge, _app, authority, address) = secure().await;
    let both = authority.sign(&["shop.localhost", "other.localhost"]);
    let alone = authority.sign(&["alone.localhost"]);
    edge.client.certify(&certificates(1, vec![both, alone])).await.unwrap();
    let config = authority.client(&["h2", "http/1.1"]);
    let mut sender = http2(shake_hands(address, "shop.localhost", config).await.unwrap()).await;
    let request = |uri: &str| Request::builder().uri(uri.to_owned());
    let get = request("https://shop.localhost/headers").header("cookie", "a=1");
    let get = get.header("cookie", "b=2").header("te", "trailers").body(Piece(None)).unwrap();
    let seen = text(sender.send_request(get).await.unwrap().into_body()).await;
    let seen = seen.to_ascii_lowercase();
    for line in
        ["get /headers http/1.1\r\n", "host: shop.localhost\r\n", "cookie: a=1; b=2\r\n", "te: t"]
    {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    assert!(!seen.contains("transfer-encoding"), "{seen}");
    let post = request("https://shop.localhost/echo").method("POST");
    let post = post.body(Piece(Some(Bytes::from("hello")))).unwrap();
    let echoed = sender.send_request(post).await.unwrap();
    assert!(echoed.headers().get("connection").is_none());
    assert_eq!(text(echoed.into_body()).await, "hello");
    // One certificate covers both names, so browsers use one connection for both; a third has its own.
    for (uri, status, code) in [
        ("https://other.localhost/", 404, "E404"),
        ("https://alone.localhost/", 421, "H31"),
        ("https://nobody.localhost/", 421, "H31"),
    ] {
        let answer = sender.send_request(request(uri).body(Piece(None)).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{uri}");
        assert_eq!(answer.headers()["x-wharf-error"], code);
    }
    let line = edge.log_line(Some(app_id(1)), "/headers").await;
    assert!(line.contains("protocol=http2"), "{line}");
}

#[tokio::test]
async fn plain_requests_are_sent_to_https_and_told_to_stay() {
    let (edge, app, authority, address) = secure().await;
    let hsts = Hsts { max_age_seconds: 600, include_subdomains: true, preload: false };
    let policy = HttpsPolicy { redirect: Some(Redirect::PermanentRedirect), hsts: Some(hsts) };
    let mut table = certificates(1, vec![authority.sign(&["shop.localhost"])]);
    table.https = [(app_id(1), policy)].into();
    table.answers = [("token".to_owned(), "token.thumbprint".to_owned())].into();
    edge.client.certify(&table).await.unwrap();
    let reply = edge.get("shop.localhost", "/a?b=c").await;
    let target = format!("https://shop.localhost:{}/a?b=c", address.port());
    assert_eq!((reply.status, reply.header("location")), (308, Some(target.as_str())));
    assert_eq!(reply.header("strict-transport-security"), None, "never over plain HTTP");
    assert_eq!(app.connections.load(std::sync::atomic::Ordering::SeqCst), 0);
    // A challenge is answered on any host, before any redirect.
    for host in ["shop.localhost", "nobody.localhost"] {
        let reply = edge.get(host, "/.well-known/acme-challenge/token").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "token.thumbprint"));
    }
    assert_eq!(edge.get("shop.localhost", "/.well-known/acme-challenge/no").await.status, 308);
    let config = authority.client(&["http/1.1"]);
    let mut stream = shake_hands(address, "shop.localhost", config).await.unwrap();
    let answer = ask(&mut stream, HEAD).await;
    assert!(answer.contains("strict-transport-security: max-age=600; includeSubDomains\r\n"));
}

#[tokio::test]
async fn a_challenge_by_handshake_shows_its_proof_and_serves_nothing() {
    let (edge, _app, authority, address) = secure().await;
    let mut table = certificates(1, vec![authority.sign(&["shop.localhost"])]);
    table.proofs = vec![authority.prove("shop.localhost")];
    edge.client.certify(&table).await.unwrap();
    let config = crate::visitor::blind(&["acme-tls/1"]);
    let mut stream = shake_hands(address, "shop.localhost", config.clone()).await.unwrap();
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let proof = CertificateDer::from_pem_slice(table.proofs[0].chain.as_bytes()).unwrap();
    assert_eq!(stream.get_ref().1.peer_certificates().unwrap()[0], proof);
    let answer = ask(&mut stream, HEAD).await;
    assert_eq!(answer, "");
    assert!(shake_hands(address, "other.localhost", config).await.is_err());
}

#[tokio::test]
async fn the_local_authority_signs_for_routed_hosts_only() {
    let (edge, _app, authority, address) = secure().await;
    let issuer = Some(authority.local_issuer());
    let table = CertificateTable { version: 1, issuer, ..CertificateTable::default() };
    edge.client.certify(&table).await.unwrap();
    let shown = async |name: &'static str| {
        let stream = shake_hands(address, name, authority.client(&[])).await.ok()?;
        Some(stream.get_ref().1.peer_certificates().unwrap()[0].clone())
    };
    let first = shown("shop.localhost").await.expect("a certificate");
    assert_eq!(shown("shop.localhost").await, Some(first), "made once");
    assert_eq!(shown("other.localhost").await, None);
}

#[tokio::test]
async fn certificates_survive_the_worker_and_are_no_plain_file() {
    let (edge, _app, authority, address) = secure().await;
    edge.client.certify(&certificates(5, vec![authority.sign(&["shop.localhost"])])).await.unwrap();
    let old = edge.status().await.pid;
    let pid = rustix::process::Pid::from_raw(i32::try_from(old).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let status = until("the next worker", async || {
        edge.client.status().await.ok().filter(|status| status.pid != old)
    });
    assert_eq!(status.await.certificates_version, 5);
    shake_hands(address, "shop.localhost", authority.client(&[])).await.unwrap();
    for entry in std::fs::read_dir(&edge.config.state_dir).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(11).any(|part| part == b"PRIVATE KEY"));
    }
    // The worker, another user, cannot read what opens the seal.
    let mode = std::fs::metadata(&edge.config.key_file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    if rustix::process::getuid().is_root() {
        let owner =
            std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&edge.config.key_file).unwrap());
        assert_eq!(owner, 0);
    }
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_session() {
    let (edge, _app, authority, address) = secure().await;
    edge.client.certify(&certificates(1, vec![authority.sign(&["shop.localhost"])])).await.unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = authority.client_of(&["http/1.1"], &[version]);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut stream = shake_hands(address, "shop.localhost", config.clone()).await.unwrap();
            assert!(ask(&mut stream, HEAD).await.starts_with("HTTP/1.1 200"));
            kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        }
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!(kinds, [Full, Resumed], "{version:?}");
    }
}
