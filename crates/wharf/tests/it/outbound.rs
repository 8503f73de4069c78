//! What apps may reach of the internet, of which a namespace of the test's own plays the part:
//! 198.51.100.2 serves on ports 80 and 81, and `pay.example` leads there.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::require::require;

/// Tries a host and port, and says what came of it.
const APP: &str = r#"
import os, socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            host, port = self.path[1:].split("/")
            with socket.create_connection((host, int(port)), 5) as stream:
                answer = stream.makefile("r").read()
        except ValueError:
            answer = "well"
        except OSError as error:
            answer = "failed: %r" % error
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())
    def log_message(self, *arguments):
        pass
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const LINK: &str = "whtest-wan";

#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
fn run(program: &str, line: &str) -> bool {
    Command::new(program).args(line.split(' ')).output().unwrap().status.success()
}

/// Gone with the test: its namespace has nobody else.
struct Internet {
    names: SocketAddr,
    _done: mpsc::Sender<()>,
}

impl Internet {
    fn start() -> Self {
        run("ip", &format!("link del {LINK}"));
        let (done, is_done) = mpsc::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let home = std::process::id();
        std::thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            assert!(run("ip", &format!("link add wan type veth peer name {LINK} netns {home}")));
            assert!(run("ip", "addr add 198.51.100.2/24 dev wan"));
            assert!(run("ip", "link set wan up"));
            let servers = [80, 81].map(|port| TcpListener::bind(("0.0.0.0", port)).unwrap());
            servers.iter().for_each(|server| server.set_nonblocking(true).unwrap());
            ready.send(()).unwrap();
            while is_done.recv_timeout(Duration::from_millis(5))
                == Err(mpsc::RecvTimeoutError::Timeout)
            {
                for mut stream in servers.iter().filter_map(|server| Some(server.accept().ok()?.0))
                {
                    let _ = stream.write_all(b"hello");
                }
            }
        });
        is_ready.recv().unwrap();
        assert!(run("ip", &format!("addr add 198.51.100.1/24 dev {LINK}")));
        assert!(run("ip", &format!("link set {LINK} up")));
        let names = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = names.local_addr().unwrap();
        std::thread::spawn(move || answer_names(&names));
        Self { names: address, _done: done }
    }
}

/// Knows one name, by version 4.
fn answer_names(socket: &UdpSocket) {
    let mut question = [0; 512];
    loop {
        let (count, from) = match socket.recv_from(&mut question) {
            Ok(asked) => asked,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let asked = &question[..count];
        let end = 12 + asked[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        let is_known = asked[12..].starts_with(b"\x03pay\x07example\x00");
        let is_version_4 = asked[end - 3] == 1;
        let mut answer = asked[..end].to_vec();
        let (code, count) =
            (if is_known { 0x80 } else { 0x83 }, u8::from(is_known && is_version_4));
        answer[2..12].copy_from_slice(&[0x81, code, 0, 1, 0, count, 0, 0, 0, 0]);
        if count == 1 {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 198, 51, 100, 2]);
        }
        let _ = socket.send_to(&answer, from);
    }
}

#[test]
fn an_app_reaches_what_its_policy_says_whoever_dies_or_flushes() {
    if !require(&["root", "network"]) {
        return;
    }
    let internet = Internet::start();
    let resolver = internet.names.to_string();
    let settings = [("WHARF_RESOLVER", resolver.as_str())];
    let mut host = Host::start_with(&settings);
    let repo = host.app("shop");
    repo.write("server.py", APP);
    repo.commit("an app that tries");
    host.push_well(&repo);
    let reach = |host: &Host, place: &str| host.get("shop.localhost", &format!("/{place}")).1;
    assert_eq!(reach(&host, "198.51.100.2/80"), "hello");
    assert!(host.wharf(&["outbound", "shop"]).starts_with("on:"));

    host.wharf(&["outbound:set", "off", "-a", "shop"]);
    assert!(reach(&host, "198.51.100.2/80").starts_with("failed: OSError(113"), "at once");
    let shown = host.json(&["outbound", "-a", "shop"]);
    assert_eq!(shown["refused"][0]["place"], "198.51.100.2:80", "{shown}");

    host.wharf(&["outbound:allow", "pay.example:80", "-a", "shop"]);
    let check = |host: &Host, when: &str| {
        assert_eq!(reach(host, "pay.example/80"), "hello", "{when}");
        for refused in ["pay.example/81", "198.51.100.1/80", "elsewhere.example/80"] {
            assert!(reach(host, refused).starts_with("failed"), "{when}: {refused}");
        }
    };
    check(&host, "allowed");
    let shown = host.wharf(&["outbound", "shop"]);
    assert!(shown.contains("pay.example:80") && shown.contains("198.51.100.2"), "{shown}");
    assert!(shown.contains("198.51.100.2:81"), "refused: {shown}");

    host.kill_daemon();
    check(&host, "without a daemon");
    host.start_daemon(&settings);
    check(&host, "with another daemon");
    host.wharf(&["restart", "-a", "shop"]);
    check(&host, "in another replica");

    assert!(run("nft", &format!("delete table inet {}", host.cgroup)));
    wait_for("the table to be back", Duration::from_secs(10), || {
        run("nft", &format!("list table inet {}", host.cgroup)).then_some(())
    });
    check(&host, "after somebody deleted the table");

    let said = host.wharf_fails(&["outbound:remove", "pay.example", "-a", "shop"]);
    assert!(said.contains("error[P545]"), "{said}");
    let said = host.wharf_fails(&["outbound:allow", "*.example", "-a", "shop"]);
    assert!(said.contains("is no place"), "{said}");
    host.wharf(&["outbound:allow", "gone.example", "-a", "shop"]);
    assert!(host.wharf(&["outbound", "shop"]).contains("not found"));
    host.wharf(&["outbound:set", "on", "-a", "shop"]);
    assert_eq!(reach(&host, "198.51.100.2/81"), "hello");
}
