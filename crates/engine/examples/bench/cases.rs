//! What is measured, each case in turns: who begins moves on by one every round.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::json;

use crate::Result;
use crate::side::{LIMIT, Side, call};

/// A container that ends at TERM and does nothing.
const IDLE: &str = "trap 'exit 0' TERM; sleep 100000 & wait";
/// A small web server that ends at TERM.
const SERVER: &str = "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait";
/// So many idle containers of each side, for their memory.
const CROWD: usize = 50;
/// What is run inside and outside: mostly the processor, mostly the kernel, mostly the disk.
const WORK: [(&str, &str); 4] = [
    ("compute", "i=0; while [ $i -lt 1500000 ]; do i=$((i+1)); done"),
    ("2 million system calls", "dd if=/dev/zero of=/dev/null bs=1 count=1000000 2>/dev/null"),
    ("write 256 MiB", "cd /work; dd if=/dev/zero of=big bs=1M count=256 conv=fsync 2>/dev/null"),
    (
        "4,000 small files",
        "cd /work; i=0; while [ $i -lt 4000 ]; do echo x > f$i; i=$((i+1)); done",
    ),
];

type Sides<'a> = &'a mut [Box<dyn Side>];

pub(crate) fn run(sides: Sides<'_>, rounds: usize) -> Result<()> {
    for warm in 0..2 {
        each(sides, "warm", warm, |side, id| life(side, id).map(drop))?;
    }
    let mut table = Vec::new();
    for round in 0..rounds {
        each(sides, "life", round, |side, id| {
            table.push((side.name().to_owned(), life(side, id)?));
            Ok(())
        })?;
    }
    for (at, case) in ["started", "first byte", "exec", "stopped", "removed"].iter().enumerate() {
        tell(case, sides, &table, |row: &[f64; 5]| row[at]);
    }
    crowds(sides)?;
    works(sides, rounds.div_ceil(6))
}

fn each(
    sides: Sides<'_>,
    what: &str,
    round: usize,
    mut measure: impl FnMut(&mut dyn Side, &str) -> Result<()>,
) -> Result<()> {
    let count = sides.len();
    for step in 0..count {
        let side = &mut sides[(round + step) % count];
        let id = format!("{what}-{round}");
        measure(side.as_mut(), &id).map_err(|error| format!("{}: {error}", side.name()))?;
    }
    Ok(())
}

fn tell<T>(case: &str, sides: Sides<'_>, table: &[(String, T)], value: impl Fn(&T) -> f64) {
    for side in sides.iter() {
        let own = table.iter().filter(|(name, _)| name == side.name());
        let values: Vec<f64> = own.map(|(_, row)| value(row)).collect();
        println!("{}", json!({ "case": case, "side": side.name(), "values": values }));
    }
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// One container's life: started, first byte, a command in it, stopped, removed.
fn life(side: &mut dyn Side, id: &str) -> Result<[f64; 5]> {
    let began = Instant::now();
    let pid = side.start(id, SERVER)?;
    let started = ms(began);
    first_byte(pid)?;
    let answered = ms(began);
    let began = Instant::now();
    side.exec(id)?;
    let exec = ms(began);
    let began = Instant::now();
    side.terminate(id)?;
    side.wait(id, pid)?;
    let stopped = ms(began);
    let began = Instant::now();
    side.remove(id)?;
    Ok([started, answered, exec, stopped, ms(began)])
}

/// Asks from a thread in the container's network namespace until something comes.
fn first_byte(pid: u32) -> Result<()> {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/net"))?;
    let ask = move || -> std::io::Result<()> {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        let (address, until) = (SocketAddr::from(([127, 0, 0, 1], 8080)), Instant::now() + LIMIT);
        loop {
            match TcpStream::connect(address) {
                Ok(mut stream) => {
                    use std::io::{Read, Write};
                    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
                    return stream.read_exact(&mut [0]);
                }
                Err(error) if Instant::now() > until => return Err(error),
                // Half a millisecond, by a clock that does not need the other core.
                Err(_) => std::thread::park_timeout(Duration::from_micros(500)),
            }
        }
    };
    std::thread::spawn(ask).join().map_err(|_| "the asking thread is gone")??;
    Ok(())
}

/// Many idle ones of one side after the other: how many a second, and what memory each takes.
fn crowds(sides: Sides<'_>) -> Result<()> {
    for side in sides.iter_mut() {
        let before = available_kib()?;
        let began = Instant::now();
        let mut pids = Vec::new();
        for number in 0..CROWD {
            pids.push(side.start(&format!("idle-{number}"), IDLE)?);
        }
        let count = CROWD as f64;
        let rate = count / began.elapsed().as_secs_f64();
        let carriers = side.carriers().iter().map(|program| pss_kib(program)).sum::<u64>();
        let all = before.saturating_sub(available_kib()?);
        let say = |case: &str, value: f64| {
            println!("{}", json!({ "case": case, "side": side.name(), "values": [value] }));
        };
        say("starts a second", rate);
        say("KiB beside the app, each", carriers as f64 / count);
        say("KiB in all, each", all as f64 / count);
        for (number, pid) in pids.into_iter().enumerate() {
            let id = format!("idle-{number}");
            side.terminate(&id)?;
            side.wait(&id, pid)?;
            side.remove(&id)?;
        }
    }
    Ok(())
}

fn available_kib() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let word = line.and_then(|line| line.split_whitespace().next());
    Ok(word.ok_or("no MemAvailable")?.parse()?)
}

/// The proportional memory of all processes that run a program.
fn pss_kib(program: &Path) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = processes.filter(|one| {
        let line = fs::read(one.path().join("cmdline")).unwrap_or_default();
        let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
        fs::read_link(one.path().join("exe")).is_ok_and(|exe| exe == program)
            || first == program.as_os_str().as_encoded_bytes()
    });
    let size = |path: &Path| -> Option<u64> {
        let text = fs::read_to_string(path.join("smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    ours.filter_map(|one| size(&one.path())).sum()
}

/// The same work inside, to its end, and outside.
fn works(sides: Sides<'_>, rounds: usize) -> Result<()> {
    for (case, script) in WORK {
        let mut table = Vec::new();
        for round in 0..rounds {
            let began = Instant::now();
            let inside = script.replace("/work", "/tmp/wharf-bench-work");
            fs::create_dir_all("/tmp/wharf-bench-work")?;
            call("/bin/busybox", &["sh", "-c", &inside])?;
            table.push(("outside".to_owned(), ms(began)));
            fs::remove_dir_all("/tmp/wharf-bench-work")?;
            each(sides, "work", round, |side, id| {
                let began = Instant::now();
                let pid = side.start(id, script)?;
                side.wait(id, pid)?;
                table.push((side.name().to_owned(), ms(began)));
                side.remove(id)
            })?;
        }
        let own = table.iter().filter(|(name, _)| name == "outside");
        let values: Vec<f64> = own.map(|(_, value)| *value).collect();
        println!("{}", json!({ "case": case, "side": "outside", "values": values }));
        tell(case, sides, &table, |value| *value);
    }
    Ok(())
}
