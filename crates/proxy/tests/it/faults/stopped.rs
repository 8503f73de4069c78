//! An app that stops in the middle of everything (SIGSTOP): its own requests end by the limits, with
//! codes, and nobody else's notice.

use std::collections::BTreeSet;
use std::time::Duration;

use model::route::balance::Balance;
use rustix::process::Signal;

use super::process::Process;
use super::table;
use crate::app::App;
use crate::edge::{Edge, app_id, tcp, until};
use crate::traffic::{Fate, Traffic};

const FIRST_BYTE: Duration = Duration::from_secs(1);
const HOLD: Duration = Duration::from_secs(1);
const QUEUE: u32 = 16;

#[tokio::test]
async fn a_stopped_app_costs_its_own_requests_and_no_others() {
    let edge = Edge::tuned(|config| {
        (config.first_byte_timeout, config.hold_limit) = (FIRST_BYTE, HOLD);
    });
    let (edge, slow) = (edge.await, Process::start("slow"));
    let (shop, blog) = (App::start("shop").await, App::start("blog").await);
    let narrow = Balance { concurrency: Some(8), queue: QUEUE, ..Balance::default() };
    let apps = [
        ("shop", Balance::default(), vec![tcp(1, shop.address)]),
        ("slow", narrow, vec![tcp(2, slow.address)]),
        ("blog", Balance::default(), vec![tcp(3, blog.address)]),
    ];
    edge.apply(table(1, &apps)).await;
    let traffic = Traffic::start(edge.address, 300, &["shop", "slow", "blog"]);
    traffic.more(150).await;
    slow.tell(Signal::STOP);
    let held = async || edge.status().await.apps[&app_id(2)].held;
    until("a full queue", async || (held().await >= u64::from(QUEUE)).then_some(())).await;
    for _ in 0..10 {
        // A tenth of what the others are asked in the time that all limits take, and more.
        traffic.more(60).await;
        assert!(held().await <= u64::from(QUEUE), "the queue has no bound");
    }
    slow.tell(Signal::CONT);
    until("the app to answer again", async || {
        (edge.get("slow.localhost", "/again").await.status == 200).then_some(())
    })
    .await;
    traffic.more(150).await;
    let books = traffic.stop_with([shop.book(), slow.book(), blog.book()]).await;
    books.assert_right();
    let mut codes = BTreeSet::new();
    for lost in &books.lost {
        assert_eq!(lost.app, "slow", "{lost:?}");
        let Fate::Refused(503, code) = &lost.fate else { panic!("{lost:?}") };
        codes.insert(code.as_str());
        // The limits, one after the other, and a slow machine.
        assert!(lost.took < HOLD + FIRST_BYTE + Duration::from_secs(5), "{lost:?}");
    }
    // No first byte; no room in the queue; no place in time.
    assert_eq!(codes, BTreeSet::from(["H11", "H12", "H22"]));
}
