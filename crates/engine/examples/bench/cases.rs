//! What is measured, each case in turns: who begins moves on by one every round.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::network::in_namespace;
use crate::side::{LIMIT, Side, call};
use crate::wharf::CGROUP;
use crate::{Result, crowd, network};

/// A small web server that ends at TERM.
const SERVER: &str = "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait";
/// What is run inside and outside: mostly the processor, mostly the kernel, mostly the disk. Short, and
/// often, one side right after the other: a core that others share is now fast, now slow, for seconds. But not
/// so short that the start of a container, which is its work too, would show.
const WORK: [(&str, &str); 4] = [
    ("compute", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"),
    ("2 million system calls", "dd if=/dev/zero of=/dev/null bs=1 count=1000000 2>/dev/null"),
    ("write 256 MiB", "cd /work; dd if=/dev/zero of=big bs=1M count=256 conv=fsync 2>/dev/null"),
    (
        "5,000 small files",
        "cd /work; i=0; while [ $i -lt 5000 ]; do echo x > f$i; i=$((i+1)); done",
    ),
];

/// Where the kernel keeps what processor time a cgroup used.
const ACCOUNTS: &str = "/sys/fs/cgroup/cpuacct";
pub(crate) type Sides<'a> = &'a mut [Box<dyn Side>];

/// `folder` is on the disk all sides write to.
pub(crate) fn run(sides: Sides<'_>, rounds: usize, cases: &str, folder: &Path) -> Result<()> {
    let is_asked = |case| cases == "all" || cases.split(',').any(|one| one == case);
    if is_asked("life") {
        lives(sides, rounds)?;
    }
    if is_asked("crowd") {
        crowd::run(sides)?;
    }
    if is_asked("network") {
        network::run(sides, rounds.div_ceil(6))?;
    }
    if is_asked("work") {
        works(sides, rounds.div_ceil(2), &folder.join("outside"))?;
    }
    Ok(())
}

fn lives(sides: Sides<'_>, rounds: usize) -> Result<()> {
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
    Ok(())
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
    in_namespace(namespace, || {
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
    })
}

/// The same work inside, to its end, and outside: processor time, and time that passed.
/// `outside` is where it is done outside.
fn works(sides: Sides<'_>, rounds: usize, outside: &Path) -> Result<()> {
    for (case, script) in WORK {
        let mut table = Vec::new();
        for round in 0..rounds {
            let inside = script.replace("/work", &outside.to_string_lossy());
            fs::create_dir_all(outside)?;
            let group = format!("{CGROUP}/outside");
            let folder = Path::new(ACCOUNTS).join(&group);
            fs::create_dir_all(&folder)?;
            let inside = format!("echo $$ >{}/cgroup.procs; {inside}", folder.display());
            let (began, used) = (Instant::now(), group_ms(&group)?);
            call("/bin/busybox", &["sh", "-c", &inside])?;
            table.push(("outside".to_owned(), [group_ms(&group)? - used, ms(began)]));
            fs::remove_dir_all(outside)?;
            each(sides, "work", round, |side, id| {
                let (began, used) = (Instant::now(), group_ms(side.group())?);
                let pid = side.start(id, script)?;
                side.wait(id, pid)?;
                table.push((side.name().to_owned(), [group_ms(side.group())? - used, ms(began)]));
                side.remove(id)
            })?;
        }
        for (at, what) in ["processor", "elapsed"].iter().enumerate() {
            let case = format!("{case}, {what}");
            let own = table.iter().filter(|(name, _)| name == "outside");
            let values: Vec<f64> = own.map(|(_, row)| row[at]).collect();
            println!("{}", json!({ "case": case, "side": "outside", "values": values }));
            tell(&case, sides, &table, |row| row[at]);
        }
    }
    Ok(())
}

/// Processor time of everything that ever ran in or below a cgroup; none while it is not there.
fn group_ms(group: &str) -> Result<f64> {
    let file = Path::new(ACCOUNTS).join(group).join("cpuacct.usage");
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().parse::<f64>()? / 1e6),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0.0),
        Err(error) => Err(error.into()),
    }
}
