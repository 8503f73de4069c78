//! A steady load for `make bench-proxy`: requests leave at fixed times, whether or not earlier ones
//! were answered, and their latency counts from the time they should have left. A load that waits for
//! answers first asks less just when the server is slow, and never sees it.
//!
//! `steady ADDRESS HOST PATH RATE SECONDS` prints counts and latencies (µs) as JSON.

use std::cell::RefCell;
use std::error::Error;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// The first part warms connections and caches up, and is not counted.
const WARM_UP: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Load {
    idle: RefCell<Vec<TcpStream>>,
    latencies: RefCell<Vec<u64>>,
    failures: RefCell<Vec<String>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, host, path, rate, seconds] = arguments.as_slice() else {
        return Err("usage: steady ADDRESS HOST PATH RATE SECONDS".into());
    };
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    let request: Rc<str> = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into();
    let load = Rc::new(Load::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async {
        let began = Instant::now();
        let gap = Duration::from_secs_f64(1.0 / rate);
        let end = began + WARM_UP + Duration::from_secs_f64(seconds);
        let mut due = began;
        let mut under_way = tokio::task::JoinSet::new();
        while due < end {
            // The timer has steps of a millisecond: all that is due by then leaves together, and each
            // counts from its own time.
            tokio::time::sleep_until(due.into()).await;
            let now = Instant::now();
            while due <= now && due < end {
                let is_counted = due >= began + WARM_UP;
                let one = ask(load.clone(), address.clone(), request.clone(), due, is_counted);
                under_way.spawn_local(one);
                due += gap;
            }
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    });
    report(&load)
}

async fn ask(load: Rc<Load>, address: String, request: Rc<str>, due: Instant, is_counted: bool) {
    let idle = load.idle.borrow_mut().pop();
    let answered = async {
        let mut stream = match idle {
            Some(stream) => stream,
            None => TcpStream::connect(address).await?,
        };
        stream.set_nodelay(true)?;
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream).await.map(|()| stream)
    };
    match answered.await {
        Ok(stream) => {
            if is_counted {
                let micros = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                load.latencies.borrow_mut().push(micros);
            }
            load.idle.borrow_mut().push(stream);
        }
        Err(error) => load.failures.borrow_mut().push(error.to_string()),
    }
}

async fn read_answer(stream: &mut TcpStream) -> std::io::Result<()> {
    let wrong = |what: &str| std::io::Error::other(what.to_owned());
    let mut got = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut got).await? == 0 {
            return Err(wrong("closed instead of answered"));
        }
        let text = String::from_utf8_lossy(&got);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if !head.starts_with("HTTP/1.1 200") {
            return Err(wrong(head));
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.and_then(|length| length.trim().parse::<usize>().ok());
        match length {
            Some(length) if body.len() == length => return Ok(()),
            Some(length) if body.len() < length => {}
            _ => return Err(wrong("a body of another length than said")),
        }
    }
}

#[expect(clippy::print_stdout, reason = "the result is what this prints")]
fn report(load: &Load) -> Result<(), Box<dyn Error>> {
    if let Some(first) = load.failures.borrow().first() {
        return Err(format!("{} failed, first: {first}", load.failures.borrow().len()).into());
    }
    let mut latencies = load.latencies.take();
    latencies.sort_unstable();
    let at = |per_mille: usize| latencies.get(latencies.len() * per_mille / 1000).copied();
    let result = serde_json::json!({
        "requests": latencies.len(), "p50_us": at(500), "p90_us": at(900),
        "p99_us": at(990), "p999_us": at(999), "max_us": latencies.last(),
    });
    println!("{result}");
    Ok(())
}
