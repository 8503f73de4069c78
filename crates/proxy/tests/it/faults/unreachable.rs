//! A replica whose packets are dropped: no reset, no answer, nothing. It is found out by the connect
//! limit and by the kernel's own word on connections that were open, and another replica does its work.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use model::route::balance::{Balance, Eject};
use nix::sched::CloneFlags;
use tokio::net::TcpListener;

use super::{alone, run, table};
use crate::app::App;
use crate::edge::{Edge, replica_id, tcp, until};
use crate::traffic::{Fate, Traffic};

/// The other replica's machine, as far as packets are concerned.
const FAR: &str = "127.0.0.2";

/// Drops whatever goes to it or comes from it.
fn cut_off() {
    run(&["nft", "add table ip dark"]);
    run(&["nft", "add chain ip dark out { type filter hook output priority 0; }"]);
    run(&["nft", &format!("add rule ip dark out ip daddr {FAR} drop")]);
    run(&["nft", &format!("add rule ip dark out ip saddr {FAR} drop")]);
}

#[test]
fn a_replica_in_the_dark_is_passed_over_and_costs_no_request_that_can_go_elsewhere() {
    alone(CloneFlags::CLONE_NEWNET, async || {
        run(&["ip", "link", "set", "lo", "up"]);
        let edge = Edge::tuned(|config| {
            config.connect_timeout = Duration::from_millis(300);
            config.dead_timeout = Duration::from_secs(2);
        });
        let edge = edge.await;
        let (near, blog) = (App::start("shop-near").await, App::start("blog").await);
        let listener = TcpListener::bind((FAR, 0)).await.unwrap();
        let far = App::on("shop-far", listener);
        // Who was passed over is asked again soon.
        let eject = Eject { base: Duration::from_millis(300), ..Eject::default() };
        let balance = Balance { eject, ..Balance::default() };
        let apps = [
            ("shop", balance, vec![tcp(1, near.address), tcp(2, far.address)]),
            ("blog", Balance::default(), vec![tcp(3, blog.address)]),
        ];
        edge.apply(table(1, &apps)).await;
        let traffic = Traffic::start(edge.address, 300, &["shop", "blog"]);
        until("requests at both", async || {
            (near.requests() > 50 && far.requests() > 50).then_some(())
        })
        .await;
        // One that has arrived, all of it, and whose answer will never come.
        let mut arrived = edge.connect().await;
        let stall = "GET /bad-at-shop-far/stall HTTP/1.1\r\nHost: shop.localhost\r\n\r\n";
        loop {
            arrived.send(stall).await;
            let is_there = async || {
                let is_here = |seen: &String| seen.contains("/stall");
                let here = far.seen.lock().unwrap().iter().any(is_here);
                let near = near.seen.lock().unwrap().iter().filter(|line| is_here(line)).count();
                (here || near > 0).then_some(here)
            };
            if until("the one to arrive", is_there).await {
                break;
            }
            arrived.reply().await;
            near.seen.lock().unwrap().retain(|line| !line.contains("/stall"));
        }
        cut_off();
        let is_down = async || edge.status().await.endpoints[&replica_id(2)].is_down;
        until("the far one to be found out", async || is_down().await.then_some(())).await;
        assert!(arrived.reply().await.body.starts_with("shop-near "));
        traffic.more(300).await;
        run(&["nft", "delete table ip dark"]);
        let before = far.requests();
        until("requests at the far one", async || (far.requests() > before).then_some(())).await;
        traffic.more(100).await;
        let books = traffic.stop(&[&near, &far, &blog]).await;
        books.assert_right();
        // What must not be sent twice, and was on its way over a connection that was open: it may have
        // been done. Each such connection carries one, and then it is known to be dead.
        for lost in &books.lost {
            let is_on_its_way = lost.app == "shop" && !lost.is_get();
            assert!(is_on_its_way, "{lost:?}");
            assert_eq!(lost.fate, Fate::Refused(503, "H13".into()), "{lost:?}");
        }
        let connections = far.connections.load(SeqCst);
        assert!(books.lost.len() <= usize::try_from(connections).unwrap(), "{:?}", books.lost);
    });
}
