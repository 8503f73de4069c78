//! Links between apps: declared, changed, and outliving everybody.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::repo::Repo;
use crate::support::require::require;

/// A small database: each connection counts its own lines, and says which version it is.
const DATABASE: &str = r#"
import os, socketserver
version = open("VERSION").read().strip()
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        for number, line in enumerate(self.rfile):
            self.wfile.write(b"%s %d %s\n" % (version.encode(), number, line.strip()))
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
Server(("0.0.0.0", 5432), Handler).serve_forever()
"#;

/// A web app that passes on what is in the path to its database, over one connection that it keeps
/// (`/kept/…`) or a new one (`/new/…`).
const CLIENT: &str = r#"
import os, socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
HOST = os.environ.get("DB", "db.internal")
def connect():
    link = socket.create_connection((HOST, 5432), 10)
    return link, link.makefile("r")
kept = None
def ask(link, file, text):
    link.sendall(text.encode() + b"\n")
    return file.readline()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global kept
        way, _, text = self.path[1:].partition("/")
        try:
            if way == "kept":
                kept = kept or connect()
                answer = ask(*kept, text)
            elif way == "new":
                link, file = connect()
                answer = ask(link, file, text)
                link.close()
            else:
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

fn database(host: &Host) -> Repo {
    let repo = host.app("db");
    repo.write("server.py", DATABASE);
    repo.write("wharf.toml", "port = 5432\n");
    repo.commit("a database");
    host.push_well(&repo);
    repo
}

fn client(host: &Host, file: &str) -> Repo {
    let repo = host.app("shop");
    repo.write("server.py", CLIENT);
    repo.write("wharf.toml", file);
    repo.commit("a client");
    host.push_well(&repo);
    repo
}

fn ask(host: &Host, path: &str) -> String {
    host.get("shop.localhost", path).1
}

#[test]
fn an_app_reaches_what_it_declares_and_nothing_else() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    database(&host);
    client(&host, "");
    // Nothing was declared: there is no such name, and no way.
    assert!(ask(&host, "/new/a").starts_with("failed"));
    assert_eq!(host.json(&["links", "-a", "shop"])["links"].as_array().unwrap().len(), 0);

    let said = host.json(&["links:add", "db", "-a", "shop"]);
    assert_eq!(said["links"][0]["host"], "db.internal", "{said}");
    assert_eq!(said["links"][0]["open"], serde_json::json!(["5432"]), "{said}");
    assert_eq!(ask(&host, "/new/a"), "one 0 a\n");
    let shown = host.wharf(&["links", "shop"]);
    assert!(shown.lines().all(|line| line.len() <= 80), "{shown}");
    assert!(shown.contains("db.internal") && shown.contains("port 5432"), "{shown}");
    assert_eq!(host.json(&["links", "-a", "db"])["used_by"][0]["name"], "shop");
    // A command of its own is linked as well.
    let script = "import socket; print(socket.create_connection(('db.internal', 5432), 9))";
    let ran = host.wharf(&["run", "-a", "shop", "--", "python3", "-c", script]);
    assert!(ran.contains("5432"), "{ran}");

    host.wharf(&["links:remove", "db", "-a", "shop"]);
    wait_for("the link to be gone", Duration::from_secs(10), || {
        ask(&host, "/new/a").starts_with("failed").then_some(())
    });
}

#[test]
fn an_open_connection_outlives_daemon_and_proxy_and_a_deploy_moves_the_next() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = database(&host);
    client(&host, "uses = [\"db\"]\n");
    assert_eq!(ask(&host, "/kept/a"), "one 0 a\n");

    host.kill_daemon();
    assert_eq!(ask(&host, "/kept/b"), "one 1 b\n");
    assert_eq!(ask(&host, "/new/b"), "one 0 b\n", "new ones too");
    host.start_daemon(&[]);
    let proxy = host.json(&["status"])["proxy"].clone();
    for pid in ["holder_pid", "pid"] {
        super::faults::kill(proxy[pid].as_u64().unwrap());
    }
    wait_for("another proxy", Duration::from_secs(30), || {
        let now = host.json(&["status"])["proxy"].clone();
        (now["pid"].is_u64() && now["pid"] != proxy["pid"]).then_some(())
    });
    // Its third line on the same connection.
    assert_eq!(ask(&host, "/kept/c"), "one 2 c\n");

    repo.set_version("two");
    host.push_well(&repo);
    assert_eq!(ask(&host, "/new/d"), "two 0 d\n");
    host.wharf(&["restart", "-a", "db"]);
    assert_eq!(ask(&host, "/new/e"), "two 0 e\n");
    // By the way that a replica of the next daemon has it.
    host.kill_daemon();
    host.start_daemon(&[]);
    assert_eq!(ask(&host, "/new/f"), "two 0 f\n");
}

#[test]
fn links_that_cannot_be_are_refused_and_who_is_used_is_not_lost_by_accident() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    for app in ["shop", "api", "db"] {
        host.wharf(&["create", app]);
    }
    let fails = |words: &[&str], code: &str| {
        let said = host.wharf_fails(words);
        assert!(said.contains(&format!("error[{code}]")), "{said}");
        said
    };
    fails(&["links:add", "apy", "-a", "shop"], "P540");
    fails(&["links:add", "shop", "-a", "shop"], "P541");
    fails(&["links:add", "api", "--port", "0", "-a", "shop"], "P001");
    fails(&["links:add", "api", "--as", "A_B", "-a", "shop"], "P001");
    host.wharf(&["links:add", "api", "-a", "shop"]);
    host.wharf(&["links:add", "db", "-a", "api"]);
    fails(&["links:add", "db", "--as", "api", "-a", "shop"], "P542");
    let said = fails(&["links:add", "shop", "-a", "db"], "P541");
    assert!(said.contains("`db` uses `shop` uses `api` uses `db`"), "{said}");
    let said = fails(&["links:remove", "apy", "-a", "shop"], "P543");
    assert!(said.contains("did you mean `api`"), "{said}");

    // The same again changes nothing.
    host.wharf(&["links:add", "api", "-a", "shop"]);
    assert_eq!(host.json(&["links", "-a", "shop"])["links"].as_array().unwrap().len(), 1);
    // It follows a new name of the app it leads to.
    host.wharf(&["rename", "backend", "-a", "api"]);
    assert_eq!(host.json(&["links", "-a", "shop"])["links"][0]["to"]["name"], "backend");

    // By the API alone, without a name typed.
    let (status, body) = delete(&host, "/apps/backend");
    assert!(status == 409 && body.contains("P544") && body.contains("`shop`"), "{status} {body}");
    host.wharf(&["destroy", "backend", "--confirm", "backend"]);
    assert_eq!(host.json(&["links", "-a", "shop"])["links"].as_array().unwrap().len(), 0);

    // The app file's are checked when it is pushed.
    let repo = Repo::web(host.root.join("shop"));
    repo.write("wharf.toml", "uses = [\"gone\"]\n");
    repo.commit("uses what is gone");
    let (is_accepted, said) = push(&host, &repo);
    assert!(!is_accepted && said.contains("P540"), "{said}");
}

fn push(host: &Host, repo: &Repo) -> (bool, String) {
    repo.git(&["remote", "add", "wharf", &host.git_url("shop")]);
    host.push(repo)
}

fn delete(host: &Host, path: &str) -> (u16, String) {
    let address = host.api().replace("http://", "");
    let mut stream = TcpStream::connect(&address).unwrap();
    let token = host.token();
    write!(
        stream,
        "DELETE {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut reader, &mut rest).unwrap();
    (line.split(' ').nth(1).unwrap().parse().unwrap(), rest)
}
