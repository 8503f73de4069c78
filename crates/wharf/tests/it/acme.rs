//! Certificates by themselves, from a real authority (pebble, with a name server of its own): each way
//! to prove a name, a daemon that dies in every phase, and tries that are not spent.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::certificates::make;
use crate::support::host::{Host, wait_for};
use crate::support::require::require;

const LONG: Duration = Duration::from_secs(60);

/// An authority and its name server; gone with the test.
pub(crate) struct Pebble {
    processes: Vec<Child>,
    directory: u16,
    dns: u16,
    records: u16,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // One that ended by itself is as gone as the others.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
fn program(name: &str) -> Command {
    Command::new(name)
}

impl Pebble {
    pub(crate) fn start(host: &Host) -> Self {
        make(&host.root, "subjectAltName=IP:127.0.0.1");
        let [directory, management, dns, records] = [(); 4].map(|()| free_port());
        let file = |name: &str| host.root.join(name).display().to_string();
        let config = json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{directory}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": file("own.pem"),
            "privateKey": file("own.key"),
            "httpPort": host.edge().port(),
            "tlsPort": host.edge_https().port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        fs::write(host.root.join("pebble.json"), config.to_string()).unwrap();
        let log = File::create(host.root.join("pebble.log")).unwrap();
        let quiet = |command: &mut Command| {
            let own = (log.try_clone().unwrap(), log.try_clone().unwrap());
            command.stdin(Stdio::null()).stdout(own.0).stderr(own.1).spawn().unwrap()
        };
        let mut names = program("pebble-challtestsrv");
        names.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        names.args(["-defaultIPv4", "127.0.0.1", "-dns01", &format!("127.0.0.1:{dns}")]);
        names.args(["-management", &format!("127.0.0.1:{records}")]);
        let mut authority = program("pebble");
        authority.args(["-config", &file("pebble.json")]);
        authority.args(["-dnsserver", &format!("127.0.0.1:{dns}")]).env("PEBBLE_VA_NOSLEEP", "1");
        // Of a hundred numbers it gave out it forgets so many.
        authority.env("PEBBLE_WFE_NONCEREJECT", "30");
        let processes = vec![quiet(&mut names), quiet(&mut authority)];
        let own = Self { processes, directory, dns, records };
        wait_for("pebble", LONG, || {
            let root = own.curl(host, &format!("https://127.0.0.1:{management}/roots/0"), &[]);
            root.contains("BEGIN CERTIFICATE").then(|| {
                fs::write(host.root.join("pebble-root.pem"), root).unwrap();
            })
        });
        wait_for("its name server", LONG, || {
            let to = SocketAddr::from(([127, 0, 0, 1], own.records));
            std::net::TcpStream::connect(to).ok().map(drop)
        });
        own
    }

    fn curl(&self, host: &Host, url: &str, more: &[&str]) -> String {
        let mut command = program("curl");
        command.current_dir(&host.root).args(["-sS", "--cacert", "ca.pem"]).args(more).arg(url);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    /// Sets a record of the name server.
    pub(crate) fn record(&self, host: &Host, path: &str, body: &Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.records);
        self.curl(host, &url, &["-f", "--data", &body.to_string()]);
    }

    pub(crate) fn settings(&self, host: &Host, challenge: &str) -> Vec<(&'static str, String)> {
        let file = |name: &str| host.root.join(name).display().to_string();
        vec![
            ("WHARF_ACME", format!("https://127.0.0.1:{}/dir", self.directory)),
            ("WHARF_ACME_ROOT", file("ca.pem")),
            ("WHARF_ACME_CONTACT", "ops@shop.test".to_owned()),
            ("WHARF_ACME_CHALLENGE", challenge.to_owned()),
            ("WHARF_ACME_DNS_HOOK", file("hook")),
            ("WHARF_ACME_HTTP_PORT", host.edge().port().to_string()),
            ("WHARF_RESOLVER", format!("127.0.0.1:{}", self.dns)),
        ]
    }
}

pub(crate) fn restart(
    host: &mut Host,
    settings: &[(&'static str, String)],
    failpoint: Option<&str>,
) {
    let mut env: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    env.extend(failpoint.map(|point| ("WHARF_FAILPOINT", point)));
    host.start_daemon(&env);
}

/// The last order of a name.
pub(crate) fn last(host: &Host, name: &str) -> Option<Value> {
    let orders = host.json(&["certs:history", "shop"]);
    orders.as_array()?.iter().find(|order| order["hostname"] == name).cloned()
}

fn wait_issued(host: &Host, name: &str) {
    wait_for("a certificate", LONG, || {
        let order = last(host, name)?;
        assert_ne!(order["phase"], "failed", "{order:#}\n{}", host.daemon_log());
        (order["phase"] == "issued").then_some(())
    });
    // The next handshake is shown it, and it is the authority's.
    let port = host.edge_https().port();
    let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
    wait_for("the certificate at the door", LONG, || {
        let mut command = program("curl");
        command.current_dir(&host.root).args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
        command.args(["--cacert", "pebble-root.pem", "--resolve", &resolve, &url]);
        let status = String::from_utf8(command.output().unwrap().stdout).unwrap();
        // Nothing was pushed: the edge says so, over HTTPS.
        (status == "502").then_some(())
    });
}

#[test]
fn names_get_certificates_from_an_authority_whatever_happens() {
    if !require(&["root", "network", "openssl", "pebble"]) {
        return;
    }
    let mut host = Host::start_with(&[("WHARF_LISTEN_HTTPS", "127.0.0.1:0")]);
    let pebble = Pebble::start(&host);
    host.wharf(&["create", "shop"]);
    host.kill_daemon();
    let settings = pebble.settings(&host, "http-01");
    restart(&mut host, &settings, None);
    wait_issued(&host, "shop.localhost");
    host.wharf(&["domains:add", "www.shop.test", "-a", "shop"]);
    wait_issued(&host, "www.shop.test");
    let listed = host.wharf(&["certs", "shop"]);
    assert!(listed.contains("www.shop.test") && listed.contains("Pebble"), "{listed}");
    dies_in_every_phase(&mut host, &settings);
    spends_no_try(&host, &pebble);
    for (challenge, name) in [("tls-alpn-01", "alpn.shop.test"), ("dns-01", "dns.shop.test")] {
        host.kill_daemon();
        write_hook(&host, &pebble);
        let settings = pebble.settings(&host, challenge);
        restart(&mut host, &settings, None);
        host.wharf(&["domains:add", name, "-a", "shop"]);
        wait_issued(&host, name);
    }
}

fn dies_in_every_phase(host: &mut Host, settings: &[(&'static str, String)]) {
    let points = wharf::failpoints::ALL.iter().filter(|point| point.starts_with("order."));
    for point in points.filter(|point| **point != "order.failed") {
        host.kill_daemon();
        restart(host, settings, Some(point));
        let name = format!("{}.shop.test", point.replace('.', "-"));
        // The daemon may die before it answers.
        let _cut = host.cli(&["domains:add", &name, "-a", "shop"]).output().unwrap();
        host.wait_daemon_death();
        restart(host, settings, None);
        wait_issued(host, &name);
    }
}

/// A name that leads to somebody else, and one nobody may sign for.
fn spends_no_try(host: &Host, pebble: &Pebble) {
    let elsewhere = TcpListener::bind(("127.0.0.2", host.edge().port())).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = elsewhere.accept() {
            let mut head = [0; 1024];
            // Whoever hangs up gets no answer.
            let _gone = stream.read(&mut head);
            let _gone = stream.write_all(b"HTTP/1.1 404 Not Here\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let record = json!({ "host": "away.shop.test.", "addresses": ["127.0.0.2"] });
    pebble.record(host, "/add-a", &record);
    let policy = json!({ "tag": "issue", "value": ";" });
    pebble.record(host, "/add-caa", &json!({ "host": "shut.shop.test.", "policies": [policy] }));
    for (name, code, why) in [
        ("away.shop.test", "P441", "somebody else answers: `HTTP/1.1 404 Not Here`"),
        ("shut.shop.test", "P442", "nobody may"),
    ] {
        host.wharf(&["domains:add", name, "-a", "shop"]);
        let order = wait_for("the end of the order", LONG, || {
            last(host, name).filter(|order| order["phase"] == "failed")
        });
        assert_eq!(order["problem"]["code"], code, "{order:#}");
        assert!(order["problem"]["why"].as_str().unwrap().contains(why), "{order:#}");
        assert_eq!((&order["failures"], order["next_try_at"].is_string()), (&json!(1), true));
    }
    let history = host.wharf(&["certs:history", "shop"]);
    assert!(history.lines().all(|line| line.chars().count() <= 80), "{history}");
    // Mended, and told to try now.
    pebble.record(host, "/clear-a", &json!({ "host": "away.shop.test." }));
    host.wharf(&["certs:auto:refresh", "shop"]);
    wait_for("the next try", LONG, || {
        last(host, "away.shop.test").filter(|order| order["phase"] == "issued")
    });
}

fn write_hook(host: &Host, pebble: &Pebble) {
    let path = host.root.join("hook");
    let records = format!("http://127.0.0.1:{}", pebble.records);
    let script = format!(
        "#!/bin/sh\nset -e\ncase $1 in\n\
         present) curl -sSf --data \"{{\\\"host\\\":\\\"$2.\\\",\\\"value\\\":\\\"$3\\\"}}\" {records}/set-txt ;;\n\
         cleanup) curl -sSf --data \"{{\\\"host\\\":\\\"$2.\\\"}}\" {records}/clear-txt ;;\nesac\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}
