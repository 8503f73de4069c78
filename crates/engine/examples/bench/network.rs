//! What a connection costs: into a container the way its visitors come, and out of it to a machine
//! elsewhere.
//!
//! Both ends are threads of this program, each with a socket made in the network namespace it stands for;
//! so nothing but the way between them differs. "Elsewhere" is a namespace behind a wire to this machine,
//! with an address of the internet (RFC 5737).

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Instant;

use nix::sched::{CloneFlags, setns};
use serde_json::json;

use crate::Result;
use crate::cases::Sides;
use crate::side::{Side, call};

/// Where the container's end listens.
pub(crate) const PORT: u16 = 9000;
/// Of a question and its answer.
const QUESTION: usize = 64;
const ROUND_TRIPS: u32 = 20_000;
/// What comes in one stream.
const STREAM: usize = 1 << 30;
const CHUNK: usize = 256 << 10;
/// The other machine's name, and both ends of the wire to it.
const ELSEWHERE: &str = "wharf-bench";
const THERE: &str = "203.0.113.1";
const HERE: &str = "203.0.113.2";
/// A container that waits.
const WAITS: &str = "trap 'exit 0' TERM; sleep 100000 & wait";

pub(crate) fn run(sides: Sides<'_>, rounds: usize) -> Result<()> {
    let elsewhere = Elsewhere::make()?;
    let mut table: Vec<(String, [f64; 4])> = Vec::new();
    for round in 0..rounds {
        table.push(("outside".to_owned(), outside(&elsewhere)?));
        let count = sides.len();
        for step in 0..count {
            let side = &mut sides[(round + step) % count];
            if let Some(row) = one(side.as_mut(), &format!("net-{round}"), &elsewhere)? {
                table.push((side.name().to_owned(), row));
            }
        }
    }
    let cases = [
        "µs a round trip in",
        "MiB/s out to a visitor",
        "µs a round trip out",
        "MiB/s from elsewhere",
    ];
    for (at, case) in cases.iter().enumerate() {
        let mut names: Vec<&str> = table.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let own = table.iter().filter(|(side, _)| side == name);
            let values: Vec<f64> = own.map(|(_, row)| row[at]).collect();
            println!("{}", json!({ "case": case, "side": name, "values": values }));
        }
    }
    Ok(())
}

/// The same without a container: over this machine's own `lo`, and over the wire alone.
fn outside(elsewhere: &Elsewhere) -> Result<[f64; 4]> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let [trip, stream] = measured(&listener, || Ok(TcpStream::connect(address)?))?;
    let [trip_out, stream_out] =
        measured(&elsewhere.listener, || Ok(TcpStream::connect(elsewhere.address)?))?;
    Ok([trip, stream, trip_out, stream_out])
}

/// One container: in, and out.
fn one(side: &mut dyn Side, id: &str, elsewhere: &Elsewhere) -> Result<Option<[f64; 4]>> {
    let Some(pid) = side.start_with_network(id, WAITS)? else { return Ok(None) };
    let namespace = format!("/proc/{pid}/ns/net");
    let inside = || -> Result<File> { Ok(File::open(&namespace)?) };
    let any = SocketAddr::from(([0, 0, 0, 0], PORT));
    let listener = in_namespace(inside()?, move || TcpListener::bind(any))?;
    let [trip, stream] = measured(&listener, || side.reach(id))?;
    let there = elsewhere.address;
    let [trip_out, stream_out] = measured(&elsewhere.listener, || {
        in_namespace(inside()?, move || TcpStream::connect(there))
    })?;
    drop(listener);
    side.terminate(id)?;
    side.wait(id, pid)?;
    side.remove(id)?;
    Ok(Some([trip, stream, trip_out, stream_out]))
}

/// Does something in a network namespace, on a thread of its own: what it makes there stays there.
pub(crate) fn in_namespace<T: Send + 'static>(
    namespace: File,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T> {
    let enter = move || -> std::io::Result<T> {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
        work()
    };
    Ok(std::thread::spawn(enter).join().map_err(|_| "the thread inside is gone")??)
}

/// Microseconds a round trip, and MiB a second of a stream from the listener.
fn measured(listener: &TcpListener, connect: impl Fn() -> Result<TcpStream>) -> Result<[f64; 2]> {
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            echo(listener.accept()?.0)?;
            pour(listener.accept()?.0)
        });
        let trip = trips(connect()?)?;
        let stream = drink(connect()?)?;
        served.join().map_err(|_| "the serving thread is gone")??;
        Ok([trip, stream])
    })
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut question = [0; QUESTION];
    for _ in 0..ROUND_TRIPS {
        stream.read_exact(&mut question)?;
        stream.write_all(&question)?;
    }
    Ok(())
}

fn trips(mut stream: TcpStream) -> Result<f64> {
    stream.set_nodelay(true)?;
    let mut question = [7; QUESTION];
    let began = Instant::now();
    for _ in 0..ROUND_TRIPS {
        stream.write_all(&question)?;
        stream.read_exact(&mut question)?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(ROUND_TRIPS))
}

fn pour(mut stream: TcpStream) -> std::io::Result<()> {
    let chunk = vec![7; CHUNK];
    (0..STREAM / CHUNK).try_for_each(|_| stream.write_all(&chunk))
}

fn drink(mut stream: TcpStream) -> Result<f64> {
    let mut chunk = vec![0; CHUNK];
    let (mut seen, began) = (0, Instant::now());
    while seen < STREAM {
        match stream.read(&mut chunk)? {
            0 => return Err(format!("the stream ended after {seen} bytes").into()),
            count => seen += count,
        }
    }
    Ok((STREAM >> 20) as f64 / began.elapsed().as_secs_f64())
}

/// A machine elsewhere; gone with this value.
struct Elsewhere {
    listener: TcpListener,
    address: SocketAddr,
}

impl Elsewhere {
    fn make() -> Result<Self> {
        remove();
        ip(&format!("netns add {ELSEWHERE}"))?;
        ip(&format!("link add {ELSEWHERE} type veth peer name wan netns {ELSEWHERE}"))?;
        ip(&format!("addr add {HERE}/24 dev {ELSEWHERE}"))?;
        ip(&format!("link set {ELSEWHERE} up"))?;
        ip(&format!("-n {ELSEWHERE} addr add {THERE}/24 dev wan"))?;
        ip(&format!("-n {ELSEWHERE} link set wan up"))?;
        let namespace = File::open(Path::new("/run/netns").join(ELSEWHERE))?;
        let address = SocketAddr::new(THERE.parse()?, PORT);
        let listener = in_namespace(namespace, move || TcpListener::bind(address))?;
        Ok(Self { listener, address })
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        remove();
    }
}

fn remove() {
    let _ = ip(&format!("link delete {ELSEWHERE}"));
    let _ = ip(&format!("netns delete {ELSEWHERE}"));
}

fn ip(words: &str) -> Result<String> {
    call("ip", &words.split(' ').collect::<Vec<_>>())
}
