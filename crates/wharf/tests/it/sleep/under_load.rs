//! Requests that come in the very moment in which an app falls asleep, again and again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{app, wait_status};
use crate::faults::kill;
use crate::support::host::Host;
use crate::support::require::require;

/// From the last answer to the next request: around the second after which they sleep.
fn pause(round: u32, visitor: u32) -> Duration {
    let spread = u64::from((round * 7 + visitor * 13) % 50) * 20;
    Duration::from_millis(900 + spread)
}

#[test]
fn whoever_comes_in_the_moment_an_app_falls_asleep_is_answered() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let apps = ["one", "two", "three", "four"];
    for name in apps {
        app(&host, name);
        host.wharf(&["sleep:set", "--freeze-after", "1s", "-a", name]);
    }
    let stop = AtomicBool::new(false);
    let edge = host.edge();
    let answers = std::thread::scope(|scope| {
        let visitors: Vec<_> = (0_u32..)
            .zip(apps)
            .map(|(number, name)| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
                    let mut slowest = Duration::ZERO;
                    for round in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        std::thread::park_timeout(pause(round, number));
                        let began = Instant::now();
                        let method = if round % 2 == 0 { "GET" } else { "POST" };
                        let said = ask(edge, method, name);
                        slowest = slowest.max(began.elapsed());
                        *seen.entry(said).or_default() += 1;
                    }
                    (seen, slowest)
                })
            })
            .collect();
        // Meanwhile the others die, too.
        std::thread::park_timeout(Duration::from_secs(12));
        kill(host.json(&["status"])["proxy"]["pid"].as_u64().unwrap());
        std::thread::park_timeout(Duration::from_secs(6));
        host.kill_daemon();
        std::thread::park_timeout(Duration::from_secs(4));
        host.start_daemon(&[]);
        std::thread::park_timeout(Duration::from_secs(12));
        stop.store(true, Ordering::Relaxed);
        visitors.into_iter().map(|visitor| visitor.join().unwrap()).collect::<Vec<_>>()
    });
    let mut woken = 0;
    for (name, (seen, slowest)) in apps.iter().zip(answers) {
        println!("{name}: {seen:?}, the slowest took {slowest:?}");
        assert!(seen.keys().all(|said| said == "200") && !seen.is_empty(), "{name}: {seen:?}");
        let log = host.wharf(&["logs", "-a", name, "-n", "1000"]);
        woken += log.matches("State changed from frozen to up").count();
    }
    println!("woken {woken} times");
    assert!(woken > 10, "they hardly ever slept: {woken}");
    for name in apps {
        wait_status(&host, name, "frozen");
    }
}

pub(super) fn ask(edge: std::net::SocketAddr, method: &str, app: &str) -> String {
    use std::io::Write;
    let ask = || -> Result<String, String> {
        let mut stream = std::net::TcpStream::connect(edge).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|e| e.to_string())?;
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: {app}.localhost\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
        let (head, body) = crate::support::load::read_answer(&mut stream)?;
        let status = head.split_whitespace().nth(1).unwrap_or_default();
        Ok(if status == "200" { status.to_owned() } else { format!("{status} {body}") })
    };
    ask().unwrap_or_else(|why| why)
}
