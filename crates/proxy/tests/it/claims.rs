//! Names nobody has: who waits for one, for how long, and who is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::certificate::{CertificateTable, Claims};
use model::name::DomainName;
use model::route::spec::Route;
use model::route::{Part, RouteTable};
use proxy::control::{Event, Events};
use rustls::ClientConfig;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::edge::{Edge, LIMIT, app_id, live, tcp};
use crate::visitor::{Authority, ask, certificates, http2, shake_hands};

const NAME: &str = "www.customer.example";
/// Longer than any test lasts.
const KEEP: Duration = Duration::from_secs(600);

async fn secure() -> (Edge, App, SocketAddr) {
    let edge = Edge::tuned(|config| config.listen_https = vec!["127.0.0.1:0".parse().unwrap()]);
    let (edge, app) = (edge.await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let address = edge.status().await.listening_https[0];
    (edge, app, address)
}

/// A table by which names are waited for.
fn claiming(table: CertificateTable) -> CertificateTable {
    let own_domain = "localhost".to_owned();
    CertificateTable { claims: Some(Claims { own_domain }), ..table }
}

/// The one app with a second host.
fn with_host(version: u64, app: &App, host: &str) -> RouteTable {
    let mut table = live(version, vec![tcp(1, app.address)]);
    let mut part = Part::clone(&table.parts[&app_id(1)]);
    part.routes.push(Route::plain(host.parse().unwrap()));
    table.parts.insert(app_id(1), Arc::new(part));
    table
}

type Shaken = JoinHandle<std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>>;

#[expect(clippy::disallowed_methods, reason = "the test's own visitor")]
fn visit(address: SocketAddr, name: &str, config: ClientConfig) -> Shaken {
    let name = name.to_owned();
    tokio::spawn(async move { shake_hands(address, &name, config).await })
}

async fn end<T>(task: JoinHandle<T>) -> T {
    tokio::time::timeout(LIMIT, task).await.expect("it waits still").unwrap()
}

async fn told(events: &mut Events) -> DomainName {
    let told = tokio::time::timeout(LIMIT, events.next()).await.expect("nobody was told").unwrap();
    let Event::UnknownHost { host } = &told else { unreachable!("{told:?}") };
    host.clone()
}

fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_handshake_waits_until_the_name_is_somebodys() {
    let (edge, app, address) = secure().await;
    let authority = Authority::new();
    let mut events = edge.client.subscribe().await.unwrap();
    // Without a rule nobody waits, and nobody is told.
    edge.client.certify(&certificates(1, Vec::new())).await.unwrap();
    assert!(shake_hands(address, "nobody.example", authority.client(&[])).await.is_err());

    edge.client.certify(&claiming(certificates(2, Vec::new()))).await.unwrap();
    let first = visit(address, "WWW.Customer.example", authority.client(&["http/1.1"]));
    assert_eq!(told(&mut events).await, name(NAME));
    let second = visit(address, NAME, authority.client(&["h2"]));
    // Who listens only now hears what is waited for.
    let mut late = edge.client.subscribe().await.unwrap();
    assert_eq!(told(&mut late).await, name(NAME));
    // A certificate without a route shows nothing worth seeing.
    let table = claiming(certificates(3, vec![authority.sign(&[NAME])]));
    edge.client.certify(&table).await.unwrap();
    assert!(!first.is_finished());
    edge.apply(with_host(2, &app, NAME)).await;
    let mut stream = end(first).await.unwrap();
    let answer = ask(&mut stream, &format!("GET / HTTP/1.1\r\nHost: {NAME}")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let _connection = http2(end(second).await.unwrap()).await;
    // From now on it is a name like any other.
    shake_hands(address, NAME, authority.client(&[])).await.unwrap();
}

#[tokio::test]
async fn who_is_turned_away_waits_no_longer_and_not_again() {
    let (edge, _app, address) = secure().await;
    let authority = Authority::new();
    edge.client.certify(&claiming(certificates(1, Vec::new()))).await.unwrap();
    let mut events = edge.client.subscribe().await.unwrap();
    let waiting = visit(address, NAME, authority.client(&[]));
    assert_eq!(told(&mut events).await, name(NAME));
    edge.client.turn_away(&name(NAME), KEEP).await.unwrap();
    assert!(end(waiting).await.is_err());
    assert!(end(visit(address, NAME, authority.client(&[]))).await.is_err());
    assert_eq!(edge.get(NAME, "/").await.status, 404);
    // Nothing was told in between, so the next thing told is another name.
    let other = visit(address, "other.customer.example", authority.client(&[]));
    assert_eq!(told(&mut events).await, name("other.customer.example"));
    // With the last rule goes whoever waits.
    edge.client.certify(&certificates(2, Vec::new())).await.unwrap();
    assert!(end(other).await.is_err());
    assert!(end(visit(address, "third.customer.example", authority.client(&[]))).await.is_err());
}

#[tokio::test]
async fn names_that_cannot_be_claimed_and_checkers_of_challenges_wait_for_nothing() {
    let (edge, _app, address) = secure().await;
    let authority = Authority::new();
    edge.client.certify(&claiming(certificates(1, Vec::new()))).await.unwrap();
    let mut events = edge.client.subscribe().await.unwrap();
    for own in ["localhost", "shop.localhost", "a.b.localhost", "127.0.0.1", "short"] {
        assert!(end(visit(address, own, authority.client(&[]))).await.is_err(), "{own}");
    }
    let config = crate::visitor::blind(&["acme-tls/1"]);
    assert!(end(visit(address, NAME, config)).await.is_err());
    for host in ["localhost", "127.0.0.1", "a.localhost"] {
        assert_eq!(edge.get(host, "/").await.status, 404, "{host}");
    }
    let _waiting = visit(address, NAME, authority.client(&[]));
    assert_eq!(told(&mut events).await, name(NAME), "the first that was told");
}

#[tokio::test]
async fn one_client_waits_for_few_names_at_once() {
    let (edge, _app, address) = secure().await;
    let authority = Authority::new();
    edge.client.certify(&claiming(certificates(1, Vec::new()))).await.unwrap();
    let mut events = edge.client.subscribe().await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..16 {
        let host = format!("n{number}.customer.example");
        waiting.push(visit(address, &host, authority.client(&[])));
        assert_eq!(told(&mut events).await, name(&host));
    }
    assert!(end(visit(address, NAME, authority.client(&[]))).await.is_err());
    // Who hangs up makes room.
    let gone = waiting.remove(0);
    gone.abort();
    assert!(gone.await.is_err());
    let next = crate::edge::until("room", async || {
        let mut next = visit(address, NAME, authority.client(&[]));
        tokio::select! {
            host = told(&mut events) => {
                assert_eq!(host, name(NAME));
                Some(next)
            }
            _ = &mut next => None,
        }
    });
    assert!(!next.await.is_finished());
    for task in &waiting {
        assert!(!task.is_finished());
    }
}

#[tokio::test]
async fn a_plain_request_waits_for_its_route_and_goes_the_way_of_its_app() {
    let (edge, app, _) = secure().await;
    edge.client.certify(&claiming(certificates(1, Vec::new()))).await.unwrap();
    let mut events = edge.client.subscribe().await.unwrap();
    let mut raw = edge.connect().await;
    raw.send(&format!("GET /a HTTP/1.1\r\nHost: {NAME}:80\r\n\r\n")).await;
    assert_eq!(told(&mut events).await, name(NAME));
    edge.apply(with_host(2, &app, NAME)).await;
    assert_eq!(raw.reply().await.status, 200);
}
