use crate::bench::{Bench, LIMIT, skip, until};
use engine::dial::{Family, request};
use engine::spec::Listening;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

/// Connects a socket made inside, as the proxy does.
fn get(socket: OwnedFd, address: &str) -> std::io::Result<String> {
    rustix::io::ioctl_fionbio(&socket, false)?;
    rustix::net::connect(&socket, &address.parse::<SocketAddr>().unwrap())?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn two_containers_serve_on_the_same_port_of_localhost() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    // One that nobody on the host listens on, so that a refusal there means something.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for id in ["a", "b"] {
        let script = format!("cd /tmp; echo i am {id} > index.html; exec httpd -f -p {free}");
        bench.start(&bench.spec(id, &script));
    }
    for id in ["a", "b"] {
        until("it listens", || {
            bench.engine.listening(id).unwrap() == [Listening { address: free }]
        });
        let dial = bench.engine.find(id).unwrap().unwrap().dial_socket;
        for socket in request(&dial, 3, Family::V4).unwrap() {
            let text = get(socket, &free.to_string()).unwrap();
            assert!(text.contains(&format!("i am {id}")), "{text}");
        }
    }
    assert!(TcpStream::connect(free).is_err(), "not to be seen from the host");
}

#[test]
fn version_six_of_localhost_works_too() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "cd /tmp; echo six > index.html; exec httpd -f -p '[::1]:80'"));
    until("it listens", || !bench.engine.listening("a").unwrap().is_empty());
    let dial = bench.engine.find("a").unwrap().unwrap().dial_socket;
    let socket = request(&dial, 1, Family::V6).unwrap().remove(0);
    assert!(get(socket, "[::1]:80").unwrap().contains("six"));
}

#[test]
fn an_isolated_container_has_no_way_out() {
    if skip() {
        return;
    }
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let bench = Bench::new();
    let script = format!(
        "ip -o link | wc -l; nc 127.0.0.1 {port} </dev/null || echo refused; \
         nc 1.1.1.1 80 </dev/null; ip route"
    );
    let (_, said) = bench.run(&bench.spec("a", &script));
    assert!(said.starts_with('1') || said.contains("\n1"), "one interface: {said}");
    assert!(said.contains("refused") && said.contains("Network is unreachable"), "{said}");
}

#[test]
fn a_dead_container_gives_no_sockets() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.run(&bench.spec("a", "true"));
    let dial = bench.engine.find("a").unwrap().unwrap().dial_socket;
    assert!(request(&dial, 1, Family::V4).is_err());
    assert_eq!(bench.engine.listening("a").unwrap(), []);
}
