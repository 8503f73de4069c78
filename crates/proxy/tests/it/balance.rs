//! Requests shared among replicas of which one is bad: by id, none is lost, none comes twice that must
//! not, none goes astray.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use model::route::balance::{Balance, Check, Eject, Method, Sticky};
use model::route::{Part, RouteTable, UpstreamState};
use tokio::task::JoinSet;

use crate::app::App;
use crate::edge::{Edge, LIMIT, Raw, app_id, replica_id, shop, tcp, until};

/// `shop` with these replicas, numbered from 1.
fn balanced(version: u64, balance: Balance, apps: &[&App]) -> RouteTable {
    let endpoints = (1..).zip(apps).map(|(number, app)| tcp(number, app.address)).collect();
    let mut table = shop(version, UpstreamState::Live, endpoints);
    let part = table.parts.get_mut(&app_id(1)).unwrap();
    let mut changed = Part::clone(part);
    changed.upstream.balance = balance;
    *part = Arc::new(changed);
    table
}

/// No way back within a test.
fn eject() -> Eject {
    Eject { base: Duration::from_secs(300), ..Eject::default() }
}

/// Status and body by id, of requests from eight clients at once.
async fn ask(
    edge: &Edge,
    method: &str,
    path: &str,
    count: usize,
) -> BTreeMap<String, (u16, String)> {
    let mut clients = JoinSet::new();
    for client in 0..8 {
        let (address, method, path) = (edge.address, method.to_owned(), path.to_owned());
        clients.spawn(async move {
            let mut answers = Vec::new();
            for number in 0..count / 8 {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                let mut raw = Raw { stream, buffer: Vec::new() };
                let id = format!("{path}/{method}-{client}-{number}");
                let length = if method == "POST" { "Content-Length: 2\r\n" } else { "" };
                let body = if method == "POST" { "ab" } else { "" };
                raw.send(&format!(
                    "{method} {id} HTTP/1.1\r\nHost: shop.localhost\r\n{length}\r\n{body}"
                ))
                .await;
                let reply = raw.reply().await;
                answers.push((id, (reply.status, reply.body)));
            }
            answers
        });
    }
    clients.join_all().await.concat().into_iter().collect()
}

/// How often each request came to any of the apps.
fn arrivals(apps: &[&App]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for app in apps {
        for line in app.seen.lock().unwrap().iter() {
            *counts.entry(line.clone()).or_default() += 1;
        }
    }
    counts
}

async fn ejected(edge: &Edge) -> BTreeSet<u128> {
    let status = edge.status().await;
    let numbers = (1..9).filter(|number| status.endpoints.contains_key(&replica_id(*number)));
    numbers.filter(|number| status.endpoints[&replica_id(*number)].is_ejected).collect()
}

#[tokio::test]
async fn a_replica_that_answers_with_500_is_left_alone() {
    let edge = Edge::start().await;
    let (one, two, three) =
        (App::start("one").await, App::start("two").await, App::start("three").await);
    let balance = Balance { eject: eject(), ..Balance::default() };
    edge.apply(balanced(1, balance.clone(), &[&one, &two, &three])).await;
    let answers = ask(&edge, "POST", "/bad-at-two/500", 400).await;
    let failed = answers.values().filter(|(status, _)| *status == 500).count();
    assert!((5..60).contains(&failed), "{failed} of 400 failed");
    for (id, (status, body)) in &answers {
        match status {
            500 => assert_eq!(body, id),
            200 => {
                assert!(body.ends_with(&format!("{id} ab")) && !body.starts_with("two"), "{body}");
            }
            _ => panic!("{status} {body}"),
        }
    }
    assert_eq!(ejected(&edge).await, BTreeSet::from([2]));
    let arrivals = arrivals(&[&one, &two, &three]);
    assert_eq!(arrivals.len(), 400);
    assert!(arrivals.values().all(|count| *count == 1), "none came twice");

    // All alike: at most half of them are passed over, and everybody is answered by an app.
    edge.apply(balanced(2, balance, &[&one, &one, &one, &one])).await;
    let answers = ask(&edge, "GET", "/bad-at-one/500", 160).await;
    assert!(answers.values().all(|(status, _)| *status == 500));
    assert!(ejected(&edge).await.len() <= 2);
}

#[tokio::test]
async fn an_answer_of_failure_is_tried_elsewhere_where_the_app_wants_it() {
    let edge = Edge::start().await;
    let (one, two) = (App::start("one").await, App::start("two").await);
    let balance = Balance {
        method: Method::RoundRobin,
        retry: [500].into(),
        eject: Eject { after: 0, ..Eject::default() },
        ..Balance::default()
    };
    edge.apply(balanced(1, balance, &[&one, &two])).await;
    // The budget has room for these.
    let answers = ask(&edge, "GET", "/bad-at-two/500", 16).await;
    assert!(answers.values().all(|(status, _)| *status == 200), "{answers:?}");
    let posts = ask(&edge, "POST", "/bad-at-two/500", 16).await;
    assert!(posts.values().any(|(status, _)| *status == 500), "a POST is not repeated");
    // Nor what has no body that could be missing.
    let patches = ask(&edge, "PATCH", "/bad-at-two/500", 16).await;
    assert!(patches.values().any(|(status, _)| *status == 500), "a PATCH is not repeated");
    let arrivals = arrivals(&[&one, &two]);
    assert!(arrivals.iter().all(|(line, n)| *n == 1 || (*n == 2 && line.starts_with("GET"))));
}

#[tokio::test]
async fn a_replica_that_crashes_at_its_requests_costs_no_get_and_repeats_no_post() {
    let edge = Edge::start().await;
    let (one, two) = (App::start("one").await, App::start("two").await);
    let balance = Balance { eject: eject(), ..Balance::default() };
    edge.apply(balanced(1, balance.clone(), &[&one, &two])).await;
    let gets = ask(&edge, "GET", "/bad-at-two/close", 200).await;
    for (id, (status, body)) in &gets {
        assert_eq!((*status, body.trim_end()), (200, format!("one {id}").as_str()));
    }
    assert_eq!(ejected(&edge).await, BTreeSet::from([2]));
    let (one, two) = (App::start("one").await, App::start("two").await);
    let mut table = balanced(2, balance, &[&one, &two]);
    let part = table.parts.get_mut(&app_id(1)).unwrap();
    let mut other = Part::clone(part);
    for (number, endpoint) in (11..).zip(&mut other.upstream.endpoints) {
        endpoint.replica = replica_id(number);
    }
    *part = Arc::new(other);
    edge.apply(table).await;
    let posts = ask(&edge, "POST", "/bad-at-two/close", 200).await;
    let lost: Vec<_> = posts.values().filter(|(status, _)| *status != 200).collect();
    assert!((5..40).contains(&lost.len()), "{}", lost.len());
    assert!(lost.iter().all(|(status, body)| *status == 503 && body.contains("H13")), "{lost:?}");
    let arrivals = arrivals(&[&one, &two]);
    assert_eq!(arrivals.len(), 200);
    assert!(arrivals.values().all(|count| *count == 1), "no POST came twice");
}

#[tokio::test]
async fn a_replica_that_stalls_is_found_out_and_its_requests_are_not_repeated() {
    let edge = Edge::tuned(|config| config.first_byte_timeout = Duration::from_millis(300)).await;
    let (one, two) = (App::start("one").await, App::start("two").await);
    let balance = Balance { eject: eject(), ..Balance::default() };
    edge.apply(balanced(1, balance, &[&one, &two])).await;
    let answers = ask(&edge, "GET", "/bad-at-two/stall", 200).await;
    let late: Vec<_> = answers.values().filter(|(status, _)| *status != 200).collect();
    assert!((1..40).contains(&late.len()), "{}", late.len());
    assert!(late.iter().all(|(status, body)| *status == 503 && body.contains("H12")), "{late:?}");
    let arrivals = arrivals(&[&one, &two]);
    assert_eq!(arrivals.len(), 200);
    assert!(arrivals.values().all(|count| *count == 1));
}

#[tokio::test]
async fn a_replica_with_its_most_requests_gets_no_more_and_the_queue_is_bounded() {
    let edge = Edge::tuned(|config| config.hold_limit = Duration::from_secs(60)).await;
    let app = App::start("one").await;
    let balance = Balance { concurrency: Some(2), queue: 3, ..Balance::default() };
    edge.apply(balanced(1, balance.clone(), &[&app])).await;
    let send = async |path: &str| {
        let mut raw = edge.connect().await;
        raw.send(&format!("GET {path} HTTP/1.1\r\nHost: shop.localhost\r\n\r\n")).await;
        raw
    };
    let arrived = async |count: usize| {
        let seen = async || (app.seen.lock().unwrap().len() >= count).then_some(());
        until("requests at the app", seen).await;
    };
    let (first, second) = (send("/silent").await, send("/silent").await);
    arrived(2).await;
    // These wait; the next is one too many.
    let mut waiting = Vec::new();
    for number in 0..3 {
        waiting.push(send(&format!("/waited-{number}")).await);
    }
    let held = async || edge.status().await.apps[&app_id(1)].held;
    until("a full queue", async || (held().await == 3).then_some(())).await;
    assert_eq!(edge.get("shop.localhost", "/refused").await.code(), Some("H11"));
    assert_eq!(app.seen.lock().unwrap().len(), 2, "nobody got past the bound");
    drop(first);
    // One place is enough for all of them, one after the other.
    for (number, raw) in waiting.iter_mut().enumerate() {
        let body = raw.reply().await.body;
        assert_eq!(body, format!("one /waited-{number} "));
    }
    // More requests than places, for a while: all are answered.
    drop(second);
    let wide = Balance { queue: 1000, ..balance };
    edge.apply(balanced(2, wide, &[&app])).await;
    let answers = ask(&edge, "GET", "/many", 400).await;
    assert!(answers.values().all(|(status, _)| *status == 200));
}

#[tokio::test]
async fn requests_are_shared_by_weight_and_none_goes_where_there_is_none() {
    let edge = Edge::tuned(|config| config.workers = 1).await;
    let apps = [App::start("one").await, App::start("two").await, App::start("three").await];
    let all: Vec<&App> = apps.iter().collect();
    let weighed = |version, balance: &Balance, weights: [u16; 3]| {
        let mut table = balanced(version, balance.clone(), &all);
        let part = table.parts.get_mut(&app_id(1)).unwrap();
        let mut changed = Part::clone(part);
        for (endpoint, weight) in changed.upstream.endpoints.iter_mut().zip(weights) {
            endpoint.weight = weight.try_into().unwrap();
        }
        *part = Arc::new(changed);
        table
    };
    let before = || apps.iter().map(App::requests).collect::<Vec<_>>();
    let mut version = 0;
    for method in [Method::RoundRobin, Method::LeastConnections, Method::Latency] {
        let balance = Balance { method, ..Balance::default() };
        version += 1;
        edge.apply(weighed(version, &balance, [100, 20, 0])).await;
        let began = before();
        // One after the other: none has any when the next is chosen.
        for number in 0..300 {
            let reply = edge.get("shop.localhost", &format!("/{method:?}-{number}")).await;
            assert_eq!(reply.status, 200);
        }
        let got: Vec<u32> = before().iter().zip(&began).map(|(now, before)| now - before).collect();
        // By latency the better of two drawn wins: the lighter is among them three times in ten.
        let expected = if method == Method::Latency { 0..=140 } else { 40..=60 };
        assert!(expected.contains(&got[1]) && got[2] == 0, "{method:?} {got:?}");
        assert_eq!(got.iter().sum::<u32>(), 300);
    }
    // A visitor who stays is moved, too, when its replica is to get nothing.
    let sticky = Balance { sticky: Sticky::Ip, ..Balance::default() };
    edge.apply(weighed(version + 1, &sticky, [100, 100, 100])).await;
    let first = edge.get("shop.localhost", "/").await.body;
    let at = ["one", "two", "three"].iter().position(|name| first.starts_with(name)).unwrap();
    let mut weights = [100; 3];
    weights[at] = 0;
    edge.apply(weighed(version + 2, &sticky, weights)).await;
    let second = edge.get("shop.localhost", "/").await.body;
    assert_ne!(first, second);
    assert_eq!(edge.get("shop.localhost", "/").await.body, second, "and stays there");
    // All without weight: none is left out.
    edge.apply(weighed(version + 3, &Balance::default(), [0; 3])).await;
    let answers = ask(&edge, "GET", "/ordinary", 80).await;
    assert!(answers.values().all(|(status, _)| *status == 200));
}

#[tokio::test]
async fn who_waits_too_long_for_a_place_is_told() {
    let edge = Edge::tuned(|config| config.hold_limit = Duration::from_millis(200)).await;
    let app = App::start("one").await;
    let balance = Balance { concurrency: Some(1), ..Balance::default() };
    edge.apply(balanced(1, balance, &[&app])).await;
    let mut first = edge.connect().await;
    first.send("GET /silent HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    let seen = async || (app.seen.lock().unwrap().len() == 1).then_some(());
    until("the first request", seen).await;
    assert_eq!(edge.get("shop.localhost", "/").await.code(), Some("H22"));
}

#[tokio::test]
async fn a_visitor_stays_with_a_replica_by_cookie_or_address() {
    let edge = Edge::start().await;
    let apps = [App::start("one").await, App::start("two").await, App::start("three").await];
    let all: Vec<&App> = apps.iter().collect();
    let by = |sticky| Balance { sticky, method: Method::RoundRobin, ..Balance::default() };
    edge.apply(balanced(1, by(Sticky::Cookie), &all)).await;
    let first = edge.get("shop.localhost", "/").await;
    let cookie = first.header("set-cookie").unwrap().to_owned();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: shop.localhost\r\nCookie: a=b; {pair}\r\n\r\n");
    for _ in 0..20 {
        let reply = edge.send(&head).await;
        assert_eq!((&reply.body, reply.header("set-cookie")), (&first.body, None));
    }
    // The replica goes: another one, and its cookie.
    let others: Vec<_> = all.iter().filter(|app| app.address != place(&first.body, &all)).collect();
    let mut table = balanced(2, by(Sticky::Cookie), &all);
    let part = table.parts.get_mut(&app_id(1)).unwrap();
    let mut fewer = Part::clone(part);
    let stays = |e: &model::route::Endpoint| {
        others.iter().any(|app| e.address == model::route::EndpointAddress::Tcp(app.address))
    };
    fewer.upstream.endpoints.retain(stays);
    *part = Arc::new(fewer);
    edge.apply(table).await;
    let reply = edge.send(&head).await;
    assert_ne!(reply.body, first.body);
    assert!(reply.header("set-cookie").is_some_and(|new| !new.starts_with(pair)));

    edge.apply(balanced(3, by(Sticky::Ip), &all)).await;
    let first = edge.get("shop.localhost", "/").await;
    assert_eq!(first.header("set-cookie"), None);
    for _ in 0..20 {
        assert_eq!(edge.get("shop.localhost", "/").await.body, first.body);
    }
    edge.apply(balanced(4, by(Sticky::No), &all)).await;
    let mut bodies = BTreeSet::new();
    for _ in 0..20 {
        bodies.insert(edge.get("shop.localhost", "/").await.body);
    }
    assert_eq!(bodies.len(), 3, "{bodies:?}");
}

/// The address of the app that wrote a body.
fn place(body: &str, apps: &[&App]) -> std::net::SocketAddr {
    let names = ["one", "two", "three"];
    let at = names.iter().position(|name| body.starts_with(name)).unwrap();
    apps[at].address
}

#[tokio::test]
async fn a_replica_whose_checks_fail_gets_no_requests_until_they_do_not() {
    let edge = Edge::start().await;
    let (one, two) = (App::start("one").await, App::start("two").await);
    let with = |path: &str| Balance {
        check: Some(Check { path: path.into(), every: Duration::from_millis(50) }),
        ..Balance::default()
    };
    edge.apply(balanced(1, with("/bad-at-two/500/check"), &[&one, &two])).await;
    let is_unwell = async || edge.status().await.endpoints[&replica_id(2)].is_unwell;
    until("the check to find out", async || is_unwell().await.then_some(())).await;
    let before = two.seen.lock().unwrap().iter().filter(|line| !line.contains("check")).count();
    let answers = ask(&edge, "GET", "/ordinary", 80).await;
    assert!(answers.values().all(|(_, body)| body.starts_with("one ")), "{answers:?}");
    assert_eq!(before, 0);
    edge.apply(balanced(2, with("/well/check"), &[&one, &two])).await;
    until("the check to forgive", async || (!is_unwell().await).then_some(())).await;
    let both = async || {
        ask(&edge, "GET", "/ordinary", 80)
            .await
            .values()
            .any(|(_, b)| b.starts_with("two "))
            .then_some(())
    };
    until("requests at both", both).await;
}

#[tokio::test]
async fn a_paused_app_keeps_its_requests_until_it_is_resumed() {
    let edge = Edge::tuned(|config| config.hold_limit = Duration::from_secs(60)).await;
    let app = App::start("one").await;
    let paused = |version, is_paused| {
        let mut table = balanced(version, Balance::default(), &[&app]);
        let part = table.parts.get_mut(&app_id(1)).unwrap();
        let mut changed = Part::clone(part);
        changed.upstream.is_paused = is_paused;
        *part = Arc::new(changed);
        table
    };
    edge.apply(paused(1, true)).await;
    let mut events = edge.client.subscribe().await.unwrap();
    let mut raw = edge.connect().await;
    raw.send("GET /held HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    tokio::time::timeout(LIMIT, events.next()).await.unwrap().unwrap();
    assert!(app.seen.lock().unwrap().is_empty());
    edge.apply(paused(2, false)).await;
    assert_eq!(raw.reply().await.body, "one /held ");

    let edge = Edge::tuned(|config| config.hold_limit = Duration::from_millis(100)).await;
    edge.apply(paused(1, true)).await;
    assert_eq!(edge.get("shop.localhost", "/").await.code(), Some("E503"));
}
