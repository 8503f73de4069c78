//! An app that is a process of its own, so that it can be stopped as processes are.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::app::Seen;
use crate::traffic::Book;

/// Says its port and then each request, and answers as `App` does.
const PROGRAM: &str = r#"
import http.server, os, socketserver, sys
name = sys.argv[1]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer(b"")
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))
    def answer(self, body):
        os.write(1, f"{self.command} {self.path}\n".encode())
        text = f"{name} {self.path} ".encode() + body
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *arguments):
        pass
class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 1024
server = Server(("127.0.0.1", 0), Handler)
os.write(1, f"{server.server_address[1]}\n".encode())
server.serve_forever()
"#;

pub(super) struct Process {
    name: &'static str,
    pub(super) address: SocketAddr,
    seen: Seen,
    child: Child,
}

impl Process {
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    pub(super) fn start(name: &'static str) -> Self {
        let mut command = std::process::Command::new("python3");
        command.args(["-c", PROGRAM, name]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port: u16 = lines.next().unwrap().unwrap().parse().unwrap();
        let seen = Seen::default();
        let own = seen.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| own.lock().unwrap().push(line));
        });
        Self { name, address: ([127, 0, 0, 1], port).into(), seen, child }
    }

    pub(super) fn tell(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(super) fn book(&self) -> Book {
        Book { name: self.name.to_owned(), seen: self.seen.clone() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // KILL reaches a stopped process too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
