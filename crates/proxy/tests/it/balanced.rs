//! Behind a load balancer that says who the client is.

use proxy::config::Door;

use crate::app::App;
use crate::edge::{Edge, live, tcp};

#[tokio::test]
async fn the_client_is_whom_the_balancer_names() {
    let edge = Edge::tuned(|config| {
        config.proxied = vec![Door::Http];
        config.proxied_from = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let (edge, app) = (edge.await, App::start("one").await);
    edge.apply(live(1, vec![tcp(1, app.address)])).await;
    let request = "GET /headers HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
    let named = "PROXY TCP4 192.0.2.1 192.0.2.2 51000 8443\r\n";
    for pieces in [vec![format!("{named}{request}")], vec![named[..9].into(), named[9..].into()]] {
        let mut raw = edge.connect().await;
        for piece in &pieces {
            raw.send(piece).await;
        }
        if pieces.len() > 1 {
            raw.send(request).await;
        }
        let seen = raw.reply().await.body;
        assert!(seen.contains("x-forwarded-for: 192.0.2.1\r\n"), "{seen}");
        assert!(seen.contains("x-forwarded-port: 8443\r\n"), "{seen}");
    }
    let unknown = edge.send(&format!("PROXY UNKNOWN\r\n{request}")).await;
    assert!(unknown.body.contains("x-forwarded-for: 127.0.0.1\r\n"), "{}", unknown.body);
    // Without the header nothing is served.
    let mut raw = edge.connect().await;
    raw.send(request).await;
    assert!(raw.try_head().await.is_none());
}

#[tokio::test]
async fn a_stranger_cannot_say_to_be_somebody() {
    let edge = Edge::tuned(|config| {
        config.proxied = vec![Door::Http];
        config.proxied_from = vec!["192.0.2.0/24".parse().unwrap()];
    });
    let edge = edge.await;
    let mut raw = edge.connect().await;
    raw.try_send("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\nHost: shop.localhost\r\n\r\n").await;
    assert!(raw.try_head().await.is_none());
}
