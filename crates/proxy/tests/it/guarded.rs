//! An app whose edge was asked for more than passing on: who is let in, how often, with what answers are
//! dressed. Everything over real sockets, against an app that counts what reaches it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::manifest::edge::EdgeFile;
use model::route::spec::Route;
use model::route::{Part, RouteTable};
use proxy::config::Door;

use crate::app::App;
use crate::edge::{Edge, Reply, app_id, live, tcp};

/// `shop.localhost` with these settings, and `other.localhost`, whose app has none and leads to shop's.
pub(crate) fn guarded(
    version: u64,
    settings: &str,
    visitors: &[(&str, &str)],
    app: SocketAddr,
) -> RouteTable {
    let file: EdgeFile = toml::from_str(settings).unwrap();
    let visitors: BTreeMap<String, String> = visitors
        .iter()
        .map(|(name, password)| {
            let hash = Argon2::default().hash_password(password.as_bytes()).unwrap();
            ((*name).to_owned(), hash.to_string())
        })
        .collect();
    let mut table = live(version, vec![tcp(1, app)]);
    let part = table.parts.get_mut(&app_id(1)).unwrap();
    let mut changed = Part::clone(part);
    changed.edge = file.settle(&visitors);
    *part = Arc::new(changed);
    table
}

async fn ask(edge: &Edge, line: &str, headers: &str) -> Reply {
    let text = format!("{line} HTTP/1.1\r\nHost: shop.localhost\r\n{headers}\r\n");
    edge.send(&text).await
}

fn basic(name: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{password}")))
}

#[tokio::test]
async fn addresses_are_let_in_or_not() {
    let edge = Edge::tuned(|config| {
        config.trusted_peers = vec!["127.0.0.1".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
    })
    .await;
    let app = App::start("shop").await;
    let settings =
        "[access]\nallow = [\"192.0.2.0/24\", \"2001:db8::/32\"]\ndeny = [\"192.0.2.7\"]";
    edge.apply(guarded(1, settings, &[], app.address)).await;
    for (chain, is_let_in) in [
        ("X-Forwarded-For: 192.0.2.1\r\n", true),
        ("X-Forwarded-For: 192.0.2.7\r\n", false),
        ("X-Forwarded-For: 2001:db8::9\r\n", true),
        ("X-Forwarded-For: 198.51.100.1\r\n", false),
        // What the nearest trusted peer says counts, not what the client wrote before it.
        ("X-Forwarded-For: 192.0.2.1, 198.51.100.1\r\n", false),
        ("X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 198.51.100.1\r\n", false),
        ("X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-For: 192.0.2.1, 10.1.1.1\r\n", true),
        ("", false),
    ] {
        let before = app.requests();
        let reply = ask(&edge, "GET /", chain).await;
        let expected = if is_let_in { (200, None) } else { (403, Some("E403")) };
        assert_eq!((reply.status, reply.code()), expected, "{chain}");
        assert_eq!(app.requests() - before, u32::from(is_let_in), "{chain}");
    }
    let line = edge.log_line(Some(app_id(1)), "code=E403").await;
    assert!(line.contains("status=403"), "{line}");
}

#[tokio::test]
async fn the_address_a_proxy_header_tells_is_the_one_that_counts() {
    let edge = Edge::tuned(|config| {
        config.proxied = vec![Door::Http];
        config.proxied_from = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let app = App::start("shop").await;
    edge.apply(guarded(1, "[access]\ndeny = [\"192.0.2.0/24\"]", &[], app.address)).await;
    for (address, status) in [("192.0.2.1", 403), ("198.51.100.1", 200)] {
        let header = format!("PROXY TCP4 {address} 192.0.2.2 51000 80\r\n");
        // What it writes itself does not count: nobody is trusted here.
        let forged = "X-Forwarded-For: 203.0.113.1";
        let request = format!("GET / HTTP/1.1\r\nHost: shop.localhost\r\n{forged}\r\n\r\n");
        assert_eq!(edge.send(&format!("{header}{request}")).await.status, status, "{address}");
    }
}

#[tokio::test]
async fn a_client_is_let_in_so_often_and_all_together_so_often() {
    let edge = Edge::start().await;
    let app = App::start("shop").await;
    // So slow that none comes back within the test: what is let in is the burst, on both cores together.
    let settings = "[rate]\nclient = \"1/h\"\nclient_burst = 7\nkey = \"X-Key\"";
    edge.apply(guarded(1, settings, &[], app.address)).await;
    let all = async |headers: &str, count: usize| {
        let mut statuses = BTreeMap::<u16, usize>::new();
        let mut last = None;
        for _ in 0..count {
            let reply = ask(&edge, "GET /", headers).await;
            *statuses.entry(reply.status).or_default() += 1;
            last = Some(reply);
        }
        (statuses, last.unwrap())
    };
    let (statuses, last) = all("", 20).await;
    assert_eq!(statuses, BTreeMap::from([(200, 7), (429, 13)]));
    assert_eq!((last.code(), app.requests()), (Some("E429"), 7));
    let again: u64 = last.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&again), "{again}");
    // Others are others.
    assert_eq!(all("X-Key: a\r\n", 9).await.0, BTreeMap::from([(200, 7), (429, 2)]));
    assert_eq!(all("X-Key: b\r\n", 2).await.0, BTreeMap::from([(200, 2)]));
    // Other settings do not give anybody a second burst.
    let settings = format!("compress = true\n{settings}");
    edge.apply(guarded(2, &settings, &[], app.address)).await;
    assert_eq!(all("X-Key: a\r\n", 3).await.0, BTreeMap::from([(429, 3)]));

    let settings = "[rate]\napp = \"1/h\"\napp_burst = 5\nkey = \"X-Key\"";
    edge.apply(guarded(3, settings, &[], app.address)).await;
    let mut let_in = 0;
    for key in 0..10 {
        let (statuses, _) = all(&format!("X-Key: c{key}\r\n"), 1).await;
        let_in += statuses.get(&200).copied().unwrap_or_default();
    }
    assert_eq!(let_in, 5);
}

#[tokio::test]
async fn a_password_is_asked_for_where_the_app_wants_one() {
    let edge = Edge::start().await;
    let app = App::start("shop").await;
    let visitors = [("ann", "correct: horse"), ("bob", "b")];
    let settings = "[auth]\nrealm = \"Staging\"\npaths = [\"/headers\", \"/admin\"]";
    edge.apply(guarded(1, settings, &visitors, app.address)).await;
    let right = basic("ann", "correct: horse");
    for (path, headers, status) in [
        ("/open", String::new(), 200),
        ("/admin", String::new(), 401),
        ("/admin/x", "Authorization: Bearer x\r\n".into(), 401),
        ("//admin", String::new(), 401),
        ("/%61dmin", String::new(), 401),
        ("/Admin%2fx", String::new(), 401),
        ("/admin", basic("ann", "wrong"), 401),
        ("/admin", basic("ann", "wrong"), 401),
        ("/admin", basic("nobody", "correct: horse"), 401),
        ("/admin", basic("bob", "correct: horse"), 401),
        ("/admin", right.clone(), 200),
        ("/admin", right.clone(), 200),
        ("/admin", basic("bob", "b"), 200),
    ] {
        let before = app.requests();
        let reply = ask(&edge, &format!("GET {path}"), &headers).await;
        assert_eq!(reply.status, status, "{path} {headers}");
        assert_eq!(app.requests() - before, u32::from(status == 200), "{path} {headers}");
        let challenge = (status == 401).then_some("Basic realm=\"Staging\", charset=\"UTF-8\"");
        assert_eq!(reply.header("www-authenticate"), challenge);
        assert_eq!(reply.code(), (status == 401).then_some("E401"));
    }
    // The app is told who it is by the edge alone, and never the password.
    let forged = "X-Forwarded-User: root\r\n";
    let seen = ask(&edge, "GET /headers", &format!("{right}{forged}")).await.body.to_lowercase();
    assert!(seen.contains("x-forwarded-user: ann\r\n"), "{seen}");
    assert!(!seen.contains("authorization") && !seen.contains("root"), "{seen}");

    // Nobody is let in where a password is wanted and nobody has one; and a password that was taken
    // away is no longer right.
    edge.apply(guarded(2, "[auth]\nrequired = true", &[], app.address)).await;
    assert_eq!(ask(&edge, "GET /", &right).await.status, 401);
    let only_bob = [("bob", "b")];
    edge.apply(guarded(3, "", &only_bob, app.address)).await;
    assert_eq!(ask(&edge, "GET /", &right).await.status, 401);
    assert_eq!(ask(&edge, "GET /", &basic("bob", "b")).await.status, 200);
    let line = edge.log_line(Some(app_id(1)), "code=E401").await;
    assert!(!line.contains("correct"), "{line}");
}

#[tokio::test]
async fn what_comes_by_an_apps_route_goes_by_its_settings_wherever_it_leads() {
    let edge = Edge::start().await;
    let (app, beta) = (App::start("shop").await, App::start("beta").await);
    let mut table = guarded(1, "[auth]\nrequired = true", &[], app.address);
    let mut other = Part::clone(&table.parts[&app_id(1)]);
    other.upstream.app = "beta".parse().unwrap();
    other.upstream.endpoints = vec![tcp(2, beta.address)];
    other.routes = vec![Route::plain("beta.localhost".parse().unwrap())];
    other.edge = Default::default();
    table.parts.insert(app_id(2), Arc::new(other));
    let mut shop = Part::clone(&table.parts[&app_id(1)]);
    let spec: model::route::written::RouteSpec =
        toml::from_str("path = \"/beta\"\nto = \"beta\"").unwrap();
    shop.routes = model::route::written::compose(&["shop.localhost".parse().unwrap()], &[&[spec]]);
    table.parts.insert(app_id(1), Arc::new(shop));
    edge.apply(table).await;
    assert_eq!(edge.get("beta.localhost", "/").await.status, 200);
    assert_eq!(edge.get("shop.localhost", "/beta").await.status, 401);
    assert_eq!((beta.requests(), app.requests()), (1, 0));
}
