//! Tables change under load: nothing is lost, nothing comes twice, nothing goes astray.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use proxy::control::Event;

use crate::app::App;
use crate::edge::{Edge, LIMIT, app_id, live, replica_id, tcp, until};
use crate::traffic::Traffic;

#[tokio::test]
async fn replacing_the_replicas_under_load_costs_no_request() {
    let edge = Edge::start().await;
    let mut app = App::start("shop").await;
    let mut books = vec![app.book()];
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let traffic = Traffic::start(edge.address, 500, &["shop"]);
    for version in 2..=20_u64 {
        let next = App::start("shop-next").await;
        books.push(next.book());
        edge.apply(live(version, vec![tcp(version.into(), next.address)])).await;
        let old = [replica_id(u128::from(version) - 1)];
        assert!(edge.client.wait_idle(&old, LIMIT).await.unwrap().is_empty());
        let before = app.connections.load(SeqCst);
        traffic.more(20).await;
        assert_eq!(app.connections.load(SeqCst), before, "nothing new goes to the old one");
        app = next;
    }
    let books = traffic.stop_with(books).await;
    books.assert_clean();
    let ids = books.ids;
    // Each request is in the log exactly once.
    let log = edge.log(Some(app_id(1)));
    until("all log lines", async || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        (log.lines().count() == ids.len()).then_some(())
    })
    .await;
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(ids.iter().all(|id| log.contains(&format!("request_id={id} "))));
}

#[tokio::test]
async fn a_replica_that_dies_without_warning_is_passed_over() {
    let edge = Edge::start().await;
    let (one, two) = (App::start("shop-1").await, App::start("shop-2").await);
    edge.apply(live(1, vec![tcp(1, one.address), tcp(2, two.address)])).await;
    let mut events = edge.client.subscribe().await.unwrap();
    let traffic = Traffic::start(edge.address, 500, &["shop"]);
    traffic.more(50).await;
    assert!(one.connections.load(SeqCst) > 0 && two.connections.load(SeqCst) > 0);
    let books = [one.book(), two.book()];
    drop(one);
    traffic.more(200).await;
    // One whose first answers were slower is asked again only after a while.
    let event = tokio::time::timeout(LIMIT, events.next()).await.unwrap().unwrap();
    assert!(matches!(event, Event::EndpointDown { replica, .. } if replica == replica_id(1)));
    let books = traffic.stop_with(books).await;
    books.assert_right();
    // What it had read and not answered must not be sent again, if it is no GET.
    assert!(books.lost.iter().all(|lost| !lost.is_get()), "{:?}", books.lost);
}

#[tokio::test]
async fn a_held_request_goes_on_when_its_replica_comes() {
    let edge = Edge::start().await;
    edge.apply(live(1, Vec::new())).await;
    let mut events = edge.client.subscribe().await.unwrap();
    let mut raw = edge.connect().await;
    raw.send("GET /held HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    let event = tokio::time::timeout(LIMIT, events.next()).await.unwrap().unwrap();
    assert_eq!(event, Event::RequestHeld { app: app_id(1) });
    // In the table first, listening later.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    edge.apply(live(2, vec![tcp(1, address)])).await;
    let down = async || edge.status().await.endpoints[&replica_id(1)].is_down.then_some(());
    until("a try that failed", down).await;
    let _app = App::on("late", socket.listen(16).unwrap());
    assert_eq!(raw.reply().await.body, "late /held ");
}

#[tokio::test]
async fn a_drain_says_who_is_still_busy() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut raw = edge.connect().await;
    raw.send("GET /silent HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    let in_flight = async || edge.status().await.endpoints[&replica_id(1)].in_flight;
    until("the request", async || (in_flight().await == 1).then_some(())).await;
    edge.apply(live(2, Vec::new())).await;
    let status = edge.status().await.endpoints[&replica_id(1)];
    assert!(!status.is_serving && status.in_flight == 1);
    let short = Duration::from_millis(50);
    let replicas = [replica_id(1)];
    assert_eq!(edge.client.wait_idle(&replicas, short).await.unwrap(), replicas);
    drop(raw);
    assert!(edge.client.wait_idle(&replicas, LIMIT).await.unwrap().is_empty());
}

#[tokio::test]
async fn old_tables_are_refused_and_equal_ones_are_fine() {
    let edge = Edge::start().await;
    edge.apply(live(5, Vec::new())).await;
    edge.apply(live(5, Vec::new())).await;
    let other = live(5, vec![tcp(1, edge.address)]);
    assert!(edge.client.apply(&other).await.unwrap_err().to_string().contains("not newer"));
    assert!(edge.client.apply(&live(4, Vec::new())).await.is_err());
    assert_eq!(edge.status().await.version, 5);
}

#[tokio::test]
async fn a_websocket_and_a_download_outlive_their_replicas_place_in_the_table() {
    let (edge, app) = (Edge::start().await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let mut socket = edge.connect().await;
    let wish = "Host: shop.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    socket.send(&format!("GET /websocket HTTP/1.1\r\n{wish}")).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 101"));
    let mut stream = edge.connect().await;
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    stream.send(&format!("POST /echo HTTP/1.1\r\nHost: shop.localhost\r\n{chunked}")).await;
    stream.send("2\r\nhi\r\n").await;
    stream.head().await;
    assert_eq!(stream.chunk().await, "hi");
    edge.apply(live(2, Vec::new())).await;
    let short = Duration::from_millis(50);
    let replicas = [replica_id(1)];
    assert_eq!(edge.client.wait_idle(&replicas, short).await.unwrap(), replicas);
    socket.send("still there").await;
    assert_eq!(socket.exactly(11).await, "still there");
    stream.send("3\r\nyou\r\n0\r\n\r\n").await;
    assert_eq!(stream.chunk().await, "you");
    assert_eq!(stream.chunk().await, "");
    drop((socket, stream));
    assert!(edge.client.wait_idle(&replicas, LIMIT).await.unwrap().is_empty());
}
