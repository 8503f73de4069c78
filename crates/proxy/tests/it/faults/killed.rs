//! `kill -9` of the worker: what it had in hand is lost, and nothing else.

use rustix::process::Signal;
use tokio::time::Instant;

use super::shops;
use crate::edge::{Edge, until};
use crate::traffic::{Fate, Traffic};
use crate::upgrade::tell;

const APPS: [&str; 3] = ["shop", "blog", "mail"];

#[tokio::test]
async fn a_killed_worker_loses_what_it_had_in_hand_and_nothing_else() {
    let edge = Edge::start().await;
    let apps = shops(&edge, 1, APPS).await;
    let traffic = Traffic::start(edge.address, 300, &APPS);
    traffic.more(100).await;
    let mut deaths = Vec::new();
    for _ in 0..5 {
        let old = edge.status().await.pid;
        let began = Instant::now();
        tell(old, Signal::KILL);
        let proc = std::path::PathBuf::from(format!("/proc/{old}"));
        // Until it is reaped some of its threads may go on for a moment.
        until("its death", async || (!proc.exists()).then_some(())).await;
        deaths.push(began..=Instant::now());
        until("the next worker", async || {
            edge.client.status().await.ok().filter(|status| status.pid != old)
        })
        .await;
        traffic.more(100).await;
    }
    let books = traffic.stop(&apps.each_ref()).await;
    books.assert_right();
    for lost in &books.lost {
        // Nobody is refused, and who came when there was no worker was served by the next.
        assert_eq!(lost.fate, Fate::Cut, "{lost:?}");
        let ended = lost.began + lost.took;
        let was_in_hand = |death: &std::ops::RangeInclusive<Instant>| {
            lost.began <= *death.end() && ended >= *death.start()
        };
        assert!(deaths.iter().any(was_in_hand), "lost between two deaths: {lost:?}");
    }
}
