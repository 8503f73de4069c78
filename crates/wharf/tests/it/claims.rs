//! Domains that nobody added: claimed by an app that is asked whose they are, for the first visitor.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::acme::{Pebble, last, restart};
use crate::support::host::{Host, wait_for};
use crate::support::repo::Repo;
use crate::support::require::require;

const LONG: Duration = Duration::from_secs(60);
const SERVER: &str = include_str!("support/knows.py");

/// The app of these tests, with its rule in the app file.
fn shop(host: &Host) -> Repo {
    let repo = host.app("shop");
    repo.write("server.py", SERVER);
    repo.write("wharf.toml", "[domains]\nask = \"/knows-host\"\n");
    repo.commit("knows its customers");
    host.push_well(&repo);
    repo
}

/// A visitor by HTTPS who trusts one authority, on the way.
#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
fn leave(host: &Host, authority: &str, name: &str) -> Child {
    let port = host.edge_https().port();
    let (resolve, url) = (format!("{name}:{port}:127.0.0.1"), format!("https://{name}:{port}/"));
    let mut command = Command::new("curl");
    command.current_dir(&host.root).args(["-sS", "-i", "--max-time", "30"]);
    command.args(["--cacert", authority, "--resolve", &resolve, &url]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn arrive(visitor: Child) -> String {
    let output = visitor.wait_with_output().unwrap();
    String::from_utf8([&*output.stdout, &*output.stderr].concat()).unwrap()
}

fn visit(host: &Host, authority: &str, name: &str) -> String {
    arrive(leave(host, authority, name))
}

fn is_welcome(answer: &str, name: &str) -> bool {
    answer.contains("HTTP/2 200") && answer.contains(&format!("welcome to {name}"))
}

/// How often the app was asked about a name.
fn asked(host: &Host, name: &str) -> u64 {
    let (_, body) = host.get("shop.localhost", "/asked");
    serde_json::from_str::<Value>(&body).unwrap()[name].as_u64().unwrap_or(0)
}

/// Comes with names of strangers until the app is asked about one: the proxy was told of the rule.
fn wait_told(host: &Host, authority: &str) {
    let mut number = 0;
    wait_for("the rule at the door", LONG, || {
        number += 1;
        let name = format!("n{number}.stranger.test");
        assert!(!visit(host, authority, &name).contains("HTTP/"));
        (asked(host, &name) > 0).then_some(())
    });
}

#[test]
fn an_app_claims_the_domains_it_knows() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start_with(&[("WHARF_LISTEN_HTTPS", "127.0.0.1:0")]);
    let repo = shop(&host);
    assert_eq!(host.wharf(&["domains:ask", "-a", "shop"]), "/knows-host  (app file)\n");
    std::fs::write(host.root.join("local.pem"), host.wharf(&["certs:trust"])).unwrap();
    wait_told(&host, "local.pem");

    let answer = visit(&host, "local.pem", "www.customer.test");
    assert!(is_welcome(&answer, "www.customer.test"), "{answer}\n{}", host.daemon_log());
    // It is a domain like any other now, and everybody can see how that came.
    assert!(host.wharf(&["domains", "shop"]).contains("www.customer.test"));
    let releases = host.json(&["releases", "shop"]);
    let mine = |release: &&Value| release["description"] == "Add domain www.customer.test";
    let release = releases.as_array().unwrap().iter().find(mine).expect("a release");
    assert_eq!(release["user"]["email"], "on-demand@localhost", "{release:#}");
    let log = host.wharf(&["logs", "shop", "-n", "500"]);
    let line = "wharf[ask]: www.customer.test: GET /knows-host?host=www.customer.test answered 200";
    assert!(log.contains(line), "{log}");
    assert!(is_welcome(&visit(&host, "local.pem", "www.customer.test"), "www.customer.test"));
    assert_eq!(asked(&host, "www.customer.test"), 1);

    // A stranger is refused in the handshake, and asked about once.
    for _ in 0..3 {
        let answer = visit(&host, "local.pem", "www.stranger.test");
        assert!(answer.contains("curl: (35)"), "{answer}");
        assert_eq!(host.get("www.stranger.test", "/").0, 404);
    }
    assert_eq!(asked(&host, "www.stranger.test"), 1);
    assert!(!host.wharf(&["domains", "shop"]).contains("stranger"));

    // By plain HTTP too.
    let (status, body) = host.get("plain.customer.test", "/");
    assert_eq!((status, body.as_str()), (200, "welcome to plain.customer.test\n"));

    by_command(&host);
    // Who came while the daemon was away is heard by the next one.
    host.kill_daemon();
    let visitor = leave(&host, "local.pem", "late.customer.test");
    host.start_daemon(&[("WHARF_LISTEN_HTTPS", "127.0.0.1:0")]);
    let answer = arrive(visitor);
    assert!(is_welcome(&answer, "late.customer.test"), "{answer}\n{}", host.daemon_log());
    assert!(host.wharf(&["domains", "shop"]).contains("late.customer.test"));

    // One that is stopped because nobody was there is started to be asked.
    host.wharf(&["sleep:set", "--stop-after", "1s", "-a", "shop"]);
    wait_for("it to sleep", Duration::from_secs(30), || {
        (host.json(&["sleep", "shop"])["state"] == "asleep").then_some(())
    });
    let answer = visit(&host, "local.pem", "early.customer.test");
    assert!(is_welcome(&answer, "early.customer.test"), "{answer}\n{}", host.daemon_log());
    host.wharf(&["sleep:off", "shop"]);

    // A release without the rule ends it.
    repo.write("wharf.toml", "");
    repo.commit("knows nobody");
    host.push_well(&repo);
    assert_eq!(host.wharf(&["domains:ask", "-a", "shop"]), "off\n");
    assert!(is_welcome(&visit(&host, "local.pem", "www.customer.test"), "www.customer.test"));
}

fn by_command(host: &Host) {
    assert_eq!(host.wharf(&["domains:ask", "--off", "-a", "shop"]), "off\n");
    let answer = visit(host, "local.pem", "off.customer.test");
    assert!(answer.contains("curl: (35)"), "{answer}");
    assert_eq!(asked(host, "off.customer.test"), 0);
    let said = host.wharf_fails(&["domains:ask", "knows-host", "-a", "shop"]);
    assert!(said.contains("error[P001]: `knows-host` is not where to ask"), "{said}");
    // A server elsewhere is asked with the same words; here it is the app by another way.
    let url = format!("http://127.0.0.1:{}/knows-host?by=url", host.edge().port());
    assert_eq!(host.wharf(&["domains:ask", &url, "-a", "shop"]), format!("{url}\n"));
    let answer = visit(host, "local.pem", "url.customer.test");
    assert!(answer.contains("curl: (35)"), "no app has the address as its host: {answer}");
    let log = host.wharf(&["logs", "shop", "-n", "500"]);
    assert!(log.contains(&format!("GET {url}&host=url.customer.test answered 404")), "{log}");
    let shown = host.wharf(&["domains:ask", "--unset", "-a", "shop"]);
    assert_eq!(shown, "/knows-host  (app file)\n");
}

#[test]
fn the_first_visitor_waits_for_a_certificate_of_an_authority() {
    if !require(&["root", "network", "openssl", "pebble"]) {
        return;
    }
    let own = [("WHARF_LISTEN_HTTPS", "127.0.0.1:0"), ("WHARF_LOCAL_CERTIFICATES", "false")];
    let mut host = Host::start_with(&own);
    let pebble = Pebble::start(&host);
    for (challenge, name) in
        [("http-01", "www.customer.test"), ("tls-alpn-01", "alpn.customer.test")]
    {
        host.kill_daemon();
        let mut settings = pebble.settings(&host, challenge);
        settings.push(("WHARF_LOCAL_CERTIFICATES", "false".to_owned()));
        restart(&mut host, &settings, None);
        if challenge == "http-01" {
            shop(&host);
            wait_told(&host, "pebble-root.pem");
        }
        // The proxy still has the flag from before; the daemon hears of the name when it is up.
        let answer = visit(&host, "pebble-root.pem", name);
        assert!(is_welcome(&answer, name), "{answer}\n{}", host.daemon_log());
        assert_eq!(last(&host, name).unwrap()["phase"], "issued");
        assert!(host.wharf(&["domains", "shop"]).contains(name));
    }
    // Allowed by the app, and by nobody else: the visitor is not kept waiting.
    let policy = json!({ "tag": "issue", "value": ";" });
    let record = json!({ "host": "shut.customer.test.", "policies": [policy] });
    pebble.record(&host, "/add-caa", &record);
    let answer = visit(&host, "pebble-root.pem", "shut.customer.test");
    assert!(answer.contains("curl: (35)"), "{answer}");
    let order = last(&host, "shut.customer.test").expect("an order");
    assert_eq!((&order["phase"], &order["problem"]["code"]), (&json!("failed"), &json!("P442")));
    let log = host.wharf(&["logs", "shop", "-n", "500"]);
    assert!(log.contains("shut.customer.test: no certificate, its CAA record says"), "{log}");
}
