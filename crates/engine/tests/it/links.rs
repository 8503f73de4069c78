//! Links between real containers, through real wires.

use crate::bench::{Bench, skip, skipped, until};
use engine::dial::{Family, request};
use engine::links::Link;
use engine::spec::ContainerStatus;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const API: &str = "127.77.1.2";

fn link(bench: &Bench, targets: &[&str]) -> Link {
    Link {
        name: "api.internal".into(),
        address: API.parse().unwrap(),
        tcp: vec![8080],
        udp: vec![5353],
        targets: targets.iter().map(|id| bench.state(id).join("dial")).collect(),
    }
}

/// Says who it is to whoever connects.
fn server(bench: &Bench, id: &str) {
    let script = format!("cd /tmp; echo i am {id} > index.html; exec httpd -f -p 8080");
    bench.start(&bench.spec(id, &script));
    until("it listens", || !bench.engine.listening(id).unwrap().is_empty());
}

/// A client that does nothing by itself: what it would reach is tried through `inside`.
fn client(bench: &Bench, id: &str, links: Vec<Link>) {
    let mut spec = bench.spec(id, "exec httpd -f -p 8080");
    spec.links = links;
    bench.start(&spec);
}

/// A connection as the client's own program would make it.
fn inside(bench: &Bench, id: &str, place: &str) -> std::io::Result<TcpStream> {
    let socket = request(&bench.state(id).join("dial"), 1, Family::V4)?.remove(0);
    rustix::io::ioctl_fionbio(&socket, false)?;
    rustix::net::connect(&socket, &place.parse::<SocketAddr>().unwrap())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// What a thread in the container's network namespace makes.
fn within<T: Send>(bench: &Bench, id: &str, make: impl FnOnce() -> T + Send) -> T {
    let ContainerStatus::Running { pid } = bench.status(id) else { panic!("{id} does not run") };
    std::thread::scope(|scope| {
        let made = scope.spawn(move || {
            let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            make()
        });
        made.join().unwrap()
    })
}

fn get(bench: &Bench, id: &str, place: &str) -> std::io::Result<String> {
    let mut stream = inside(bench, id, place)?;
    stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn wires(bench: &Bench, id: &str) -> Vec<i32> {
    let folder = bench.state(id);
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let is_ours = words.get(1) == Some(&b"wire".as_slice())
            && words.get(2) == Some(&folder.as_os_str().as_encoded_bytes());
        found.extend(pid.filter(|_| is_ours));
    }
    found
}

#[test]
fn a_link_leads_where_it_says_and_nowhere_else() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "api");
    // Listens on the same port itself: neither stands in the other's way.
    client(&bench, "web", vec![link(&bench, &["api"])]);
    until("it listens", || !bench.engine.listening("web").unwrap().is_empty());
    assert_eq!(bench.engine.open_ports("web").unwrap().tcp, [8080].into());
    let (_, hosts) = {
        let mut spec = bench.spec("look", "wget -q -O - http://api.internal:8080/; cat /etc/hosts");
        spec.links = vec![link(&bench, &["api"])];
        bench.run(&spec)
    };
    assert!(hosts.contains("i am api") && hosts.contains("127.77.1.2\tapi.internal"), "{hosts}");
    assert!(get(&bench, "web", "127.77.1.2:8080").unwrap().contains("i am api"));
    for undeclared in ["127.77.1.2:8081", "127.77.1.3:9090", "127.77.255.254:2"] {
        let refused = inside(&bench, "web", undeclared).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{undeclared}");
    }
    // The other way round nothing was declared.
    let refused = inside(&bench, "api", "127.77.1.2:8081").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_wire_is_nobody_without_any_capability() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    client(&bench, "web", vec![link(&bench, &[])]);
    let wire = wires(&bench, "web");
    let status = std::fs::read_to_string(format!("/proc/{}/status", wire[0])).unwrap();
    for line in ["Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(status.contains(line), "{status}");
    }
    assert_eq!(wire.len(), 1);
    bench.engine.signal("web", libc::SIGKILL).unwrap();
    bench.wait("web");
    until("the wire is gone", || wires(&bench, "web").is_empty());
}

#[test]
fn links_change_under_a_running_container_and_open_connections_stay() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "old");
    server(&bench, "new");
    client(&bench, "web", vec![]);
    assert!(wires(&bench, "web").is_empty(), "no links, no wire");
    bench.engine.set_links("web", &[link(&bench, &["old"])]).unwrap();
    let mut kept = inside(&bench, "web", "127.77.1.2:8080").unwrap();
    kept.write_all(b"GET /index.html HTTP/1.0\r\n").unwrap();
    assert!(get(&bench, "web", "127.77.1.2:8080").unwrap().contains("i am old"));

    bench.engine.set_links("web", &[link(&bench, &["new"])]).unwrap();
    until("new connections go elsewhere", || {
        get(&bench, "web", "127.77.1.2:8080").unwrap().contains("i am new")
    });
    kept.write_all(b"\r\n").unwrap();
    let mut text = String::new();
    kept.read_to_string(&mut text).unwrap();
    assert!(text.contains("i am old"), "{text}");

    bench.engine.set_links("web", &[]).unwrap();
    until("it is refused", || {
        inside(&bench, "web", "127.77.1.2:8080")
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    let hosts = std::fs::read_to_string(bench.state("web").join("etc/hosts")).unwrap();
    assert!(!hosts.contains("internal"), "{hosts}");
}

#[test]
fn who_comes_while_a_target_is_replaced_waits_for_the_next() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    client(&bench, "web", vec![link(&bench, &["gone"])]);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| get(&bench, "web", "127.77.1.2:8080"));
        server(&bench, "new");
        bench.engine.set_links("web", &[link(&bench, &["new"])]).unwrap();
        assert!(waits.join().unwrap().unwrap().contains("i am new"));
    });
    // One that lives and does not listen is no reason to wait.
    bench.start(&bench.spec("deaf", "sleep 1000"));
    bench.engine.set_links("web", &[link(&bench, &["deaf"])]).unwrap();
    let since = Instant::now();
    until("it is reset", || get(&bench, "web", "127.77.1.2:8080").is_err());
    assert!(since.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_killed_wire_is_replaced() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "api");
    client(&bench, "web", vec![link(&bench, &["api"])]);
    for _ in 0..2 {
        let wire = wires(&bench, "web")[0];
        let pid = rustix::process::Pid::from_raw(wire).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        until("another works", || {
            get(&bench, "web", "127.77.1.2:8080").is_ok_and(|text| text.contains("i am api"))
        });
    }
}

#[test]
fn a_wire_outlives_its_shim_with_what_goes_through_it() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("api", "exec nc -l -p 8080 -e cat"));
    until("it listens", || !bench.engine.listening("api").unwrap().is_empty());
    client(&bench, "web", vec![link(&bench, &["api"])]);
    let mut open = inside(&bench, "web", "127.77.1.2:8080").unwrap();
    let mut say = |text: &str| {
        open.write_all(text.as_bytes()).unwrap();
        let mut heard = vec![0; text.len()];
        open.read_exact(&mut heard).unwrap();
        assert_eq!(heard, text.as_bytes());
    };
    say("before");
    let wire = wires(&bench, "web");
    for id in ["web", "api"] {
        let status = std::fs::read_to_string(bench.state(id).join("status.json")).unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let shim = i32::try_from(status["shim"]["pid"].as_i64().unwrap()).unwrap();
        let shim = rustix::process::Pid::from_raw(shim).unwrap();
        rustix::process::kill_process(shim, rustix::process::Signal::KILL).unwrap();
        until("its shim is gone", || !bench.engine.find(id).unwrap().unwrap().has_shim);
    }
    say("without a shim");
    bench.engine.adopt("web").unwrap();
    bench.engine.adopt("api").unwrap();
    say("with another one");
    assert_eq!(wires(&bench, "web"), wire);
    // The next shim's word is heard, and its care taken.
    server(&bench, "other");
    bench.engine.set_links("web", &[link(&bench, &["other"])]).unwrap();
    until("the other answers", || {
        get(&bench, "web", "127.77.1.2:8080").is_ok_and(|text| text.contains("i am other"))
    });
    let pid = rustix::process::Pid::from_raw(wire[0]).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    until("another works", || {
        get(&bench, "web", "127.77.1.2:8080").is_ok_and(|text| text.contains("i am other"))
    });
    assert_ne!(wires(&bench, "web"), wire);
}

#[test]
fn connections_are_spread_and_a_dead_target_is_passed_over() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    server(&bench, "one");
    server(&bench, "two");
    client(&bench, "web", vec![link(&bench, &["gone", "one", "two"])]);
    let mut kept: Vec<TcpStream> =
        (0..4).map(|_| inside(&bench, "web", "127.77.1.2:8080").unwrap()).collect();
    let mut said = Vec::new();
    for stream in &mut kept {
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        said.extend(text.lines().last().map(str::to_owned));
    }
    said.sort();
    assert_eq!(said, ["i am one", "i am one", "i am two", "i am two"]);
}

#[test]
fn a_server_on_version_six_alone_is_reached() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench
        .start(&bench.spec("api", "cd /tmp; echo six > index.html; exec httpd -f -p '[::1]:8080'"));
    until("it listens", || !bench.engine.listening("api").unwrap().is_empty());
    client(&bench, "web", vec![link(&bench, &["api"])]);
    assert!(get(&bench, "web", "127.77.1.2:8080").unwrap().contains("six"));
}

#[test]
fn datagrams_go_both_ways() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("api", "sleep 1000"));
    client(&bench, "web", vec![link(&bench, &["api"])]);
    let server = within(&bench, "api", || UdpSocket::bind("0.0.0.0:5353").unwrap());
    assert_eq!(bench.engine.open_ports("api").unwrap().udp, [5353].into());
    let mut buffer = [0; 1500];
    for word in ["one", "two"] {
        let client = within(&bench, "web", || UdpSocket::bind("0.0.0.0:0").unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        }
        for _ in 0..3 {
            client.send_to(word.as_bytes(), "127.77.1.2:5353").unwrap();
            let (count, from) = server.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], word.as_bytes());
            server.send_to(b"answer", from).unwrap();
            let (count, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!(
                (&buffer[..count], from.to_string()),
                (&b"answer"[..], "127.77.1.2:5353".into())
            );
        }
    }
    // On version 6 alone, the second try finds it.
    drop(server);
    let server = within(&bench, "api", || UdpSocket::bind("[::1]:5353").unwrap());
    server.set_nonblocking(true).unwrap();
    let client = within(&bench, "web", || UdpSocket::bind("0.0.0.0:0").unwrap());
    until("it is heard on version 6", || {
        client.send_to(b"six", "127.77.1.2:5353").unwrap();
        server.recv_from(&mut buffer).is_ok()
    });
}

#[test]
fn much_passes_unharmed_and_half_closed_connections_go_on() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    // Reads all of it, then says how much it was.
    bench.start(&bench.spec("api", "exec nc -l -p 8080 -e wc -c"));
    until("it listens", || !bench.engine.listening("api").unwrap().is_empty());
    client(&bench, "web", vec![link(&bench, &["api"])]);
    let mut stream = inside(&bench, "web", "127.77.1.2:8080").unwrap();
    let piece = vec![7; 1 << 20];
    for _ in 0..64 {
        stream.write_all(&piece).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said.trim(), (64 << 20).to_string());
}

#[test]
fn a_container_without_links_has_no_file_of_them() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    client(&bench, "web", vec![]);
    let path: PathBuf = bench.state("web").join("links.json");
    assert!(!path.exists());
}

/// Ping and pong, so many times: what one takes.
fn round_trip(mut client: TcpStream, mut server: TcpStream) -> Duration {
    const ROUNDS: u32 = 5000;
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let pong = std::thread::spawn(move || {
        let mut byte = [0];
        while server.read_exact(&mut byte).is_ok() && server.write_all(&byte).is_ok() {}
    });
    let since = Instant::now();
    for _ in 0..ROUNDS {
        client.write_all(&[1]).unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    let took = since.elapsed() / ROUNDS;
    drop(client);
    pong.join().unwrap();
    took
}

#[test]
fn what_a_wire_costs() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("api", "sleep 1000"));
    client(&bench, "web", vec![link(&bench, &["api"])]);
    let listener = within(&bench, "api", || TcpListener::bind("0.0.0.0:8080").unwrap());
    let idle = memory(wires(&bench, "web")[0]);

    let direct = inside(&bench, "api", "127.0.0.1:8080").unwrap();
    let direct = round_trip(direct, listener.accept().unwrap().0);
    let wired = inside(&bench, "web", "127.77.1.2:8080").unwrap();
    let wired = round_trip(wired, listener.accept().unwrap().0);
    let since = Instant::now();
    for _ in 0..500 {
        let mut client = inside(&bench, "web", "127.77.1.2:8080").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&[1]).unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    // Said, not judged: how long a thing takes is for the benchmarks to tell.
    let new = since.elapsed() / 500;
    println!("a round trip: direct {direct:?}, through the wire {wired:?}");
    println!("a new connection through the wire: {new:?}; an idle wire: {idle} KiB of its own");
    let after = memory(wires(&bench, "web")[0]);
    assert!(idle < 1024 && after < 1024, "{idle} KiB, and {after} KiB after 500 connections");
}

/// What of a process's memory is its own.
fn memory(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let own = text.lines().filter(|line| line.starts_with("Private_"));
    own.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// Where Debian keeps PostgreSQL, if it is there.
fn postgresql() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions.flatten().map(|version| version.path().join("bin"));
    programs
        .filter(|folder| ["initdb", "postgres", "psql"].iter().all(|p| folder.join(p).exists()))
        .max()
}

#[test]
fn a_session_of_a_real_database_goes_on_whoever_restarts() {
    let Some(programs) = postgresql() else {
        skipped("postgresql");
        return;
    };
    if skip() {
        return;
    }
    let mut bench = Bench::new();
    for folder in ["usr", "lib", "lib64", "words"] {
        std::fs::create_dir_all(bench.path("base").join(folder)).unwrap();
    }
    std::fs::write(bench.path("base/etc/passwd"), "app:x:1000:1000::/tmp:/bin/sh\n").unwrap();
    std::fs::create_dir(bench.path("words")).unwrap();
    let words = bench.path("words/in");
    std::fs::write(&words, "").unwrap();
    let with_host = |mut spec: engine::spec::ContainerSpec| {
        // The machine's own programs, which its users own.
        spec.users = None;
        let mount = |source: PathBuf, target: &str| engine::spec::MountSpec {
            source,
            target: target.into(),
            is_read_only: true,
        };
        spec.mounts = vec![mount(bench.path("words"), "/words")];
        for folder in ["/usr", "/lib", "/lib64"] {
            spec.mounts.push(mount(folder.into(), folder));
        }
        spec.limits.memory = Some(model::size::ByteSize::mib(256));
        spec
    };
    let programs = programs.display();
    let script = format!(
        "{programs}/initdb -D /tmp/data -A trust -U app >/tmp/said 2>&1 || cat /tmp/said; \
         exec {programs}/postgres -D /tmp/data -h 127.0.0.1 -k /tmp"
    );
    bench.start(&with_host(bench.spec("db", &script)));
    until("it listens", || !bench.engine.listening("db").unwrap().is_empty());
    let script = format!(
        "tail -f /words/in | {programs}/psql -h db.internal -U app -At -v ON_ERROR_STOP=1 postgres"
    );
    let mut spec = with_host(bench.spec("web", &script));
    let db = Link { name: "db.internal".into(), tcp: vec![5432], ..link(&bench, &["db"]) };
    spec.links = vec![db.clone()];
    bench.start(&spec);
    let say = |word: &str| {
        let mut file = std::fs::File::options().append(true).open(&words).unwrap();
        writeln!(file, "{word}").unwrap();
    };
    // A temporary table is the session's own.
    say("create temporary table mine (x int); insert into mine values (1);");
    say("select 'rows ' || count(*) from mine;");
    bench.wait_until_said("web", "rows 1");
    bench.reopen();
    bench.engine.set_links("web", &[db]).unwrap();
    say("insert into mine values (2); select 'rows ' || count(*) from mine;");
    bench.wait_until_said("web", "rows 2");
}
