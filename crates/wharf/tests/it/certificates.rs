//! HTTPS from the command line to a visitor: the local authority, certificates somebody brings, what
//! the app wants of HTTPS, and what stays when the daemon is dead.

use std::path::Path;
use std::process::Output;

use crate::schema::{assert_list, assert_schema};
use crate::support::host::Host;
use crate::support::require::require;

fn run(program: &str, folder: &Path, arguments: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
    let mut command = std::process::Command::new(program);
    command.current_dir(folder).args(arguments).output().unwrap()
}

/// An authority, and a certificate of it for these names.
pub(crate) fn make(folder: &Path, names: &str) {
    let openssl = |arguments: &[&str]| {
        let output = run("openssl", folder, arguments);
        assert!(output.status.success(), "{output:?}");
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let root =
        ["req", "-x509", "-subj", "/CN=own authority", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&root[..], &key].concat());
    let leaf = ["req", "-x509", "-subj", "/CN=x", "-CA", "ca.pem", "-CAkey", "ca.key"];
    let usage = ["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(&[&leaf[..], &["-keyout", "own.key", "-out", "own.pem"], &usage, &key].concat());
}

/// A visitor who trusts one authority: what curl got, or its complaint.
fn visit(host: &Host, authority: &str, name: &str, path: &str) -> String {
    let edge = host.edge_https();
    let (port, url) = (edge.port(), format!("https://{name}:{}{path}", edge.port()));
    let resolve = format!("{name}:{port}:127.0.0.1");
    let output = run(
        "curl",
        &host.root,
        &["-sS", "-i", "--max-time", "20", "--cacert", authority, "--resolve", &resolve, &url],
    );
    String::from_utf8([&*output.stdout, &*output.stderr].concat()).unwrap()
}

#[test]
fn https_from_the_command_line_to_a_visitor() {
    if !require(&["root", "network", "openssl"]) {
        return;
    }
    let mut host = Host::start_with(&[("WHARF_LISTEN_HTTPS", "127.0.0.1:0")]);
    let repo = host.app("shop");
    assert!(host.push(&repo).0);
    local_authority(&host);
    own_certificate(&host);
    wishes(&host);
    // The proxy alone, and then a new worker of it, show what they were told last.
    let worker = host.read("/wharf/status").json()["proxy"]["pid"].as_i64().unwrap();
    host.kill_daemon();
    let served = |host: &Host| visit(host, "ca.pem", "www.shop.test", "/").contains("HTTP/2 200");
    assert!(served(&host));
    let worker = rustix::process::Pid::from_raw(i32::try_from(worker).unwrap()).unwrap();
    rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
    assert!(served(&host));
    let files = run("grep", &host.root, &["-rlE", "PRIVATE KEY", "data/proxy", "data/wharf.db"]);
    assert_eq!(String::from_utf8(files.stdout).unwrap(), "", "no key lies there in plain");
}

fn local_authority(host: &Host) {
    let root = host.wharf(&["certs:trust"]);
    std::fs::write(host.root.join("local.pem"), root).unwrap();
    let answer = visit(host, "local.pem", "shop.localhost", "/");
    assert!(answer.contains("HTTP/2 200"), "{answer}");
    let strange = visit(host, "local.pem", "nobody.localhost", "/");
    assert!(!strange.contains("HTTP/"), "{strange}");
    let json = host.json(&["certs:trust"]);
    assert!(json["fingerprint"].as_str().unwrap().len() == 95, "{json}");
}

fn own_certificate(host: &Host) {
    make(&host.root, "subjectAltName=DNS:www.shop.test,DNS:*.others.test");
    let said = host.wharf_fails(&["certs:add", "own.pem", "own.key", "-a", "shop"]);
    assert!(
        said.contains("error[P433]") && said.contains("wharf domains:add www.shop.test"),
        "{said}"
    );
    host.wharf(&["domains:add", "www.shop.test", "-a", "shop"]);
    let said = host.wharf_fails(&["certs:add", "own.pem", "ca.key", "-a", "shop"]);
    assert!(said.contains("error[P431]"), "{said}");
    let added = host.json(&["certs:add", "own.pem", "own.key", "-a", "shop"]);
    assert_schema("sni-endpoint", &added);
    assert_list("sni-endpoint", &host.json(&["certs", "-a", "shop"]));
    assert_eq!(added["domains"].as_array().unwrap().len(), 1);
    let answer = visit(host, "ca.pem", "www.shop.test", "/");
    assert!(answer.contains("HTTP/2 200"), "{answer}");
    let name = added["name"].as_str().unwrap();
    let info = host.wharf(&["certs:info", name, "-a", "shop"]);
    assert!(
        info.contains("www.shop.test, *.others.test") && info.contains("CN=own authority"),
        "{info}"
    );
    // Another one in its place, seen by the next handshake; and none.
    make(&host.root, "subjectAltName=DNS:www.shop.test");
    assert!(visit(host, "ca.pem", "www.shop.test", "/").contains("curl: (60)"));
    host.wharf(&["certs:update", "own.pem", "own.key", "-a", "shop"]);
    assert!(visit(host, "ca.pem", "www.shop.test", "/").contains("HTTP/2 200"));
    host.wharf(&["certs:remove", name, "-a", "shop"]);
    assert!(visit(host, "local.pem", "www.shop.test", "/").contains("HTTP/2 200"));
    let said = host.wharf_fails(&["certs:info", name, "-a", "shop"]);
    assert!(said.contains("error[P435]"), "{said}");
    host.wharf(&["certs:add", "own.pem", "own.key", "-a", "shop"]);
}

fn wishes(host: &Host) {
    assert_eq!(host.wharf(&["https", "shop"]), "redirect: off\nhsts:     off\n");
    let set = ["https:set", "--redirect", "308", "--hsts", "600", "--subdomains", "-a", "shop"];
    assert_eq!(host.wharf(&set), "redirect: 308\nhsts:     600 s, with subdomains\n");
    let (status, _) = host.get("shop.localhost", "/x");
    assert_eq!(status, 308);
    let answer = visit(host, "local.pem", "shop.localhost", "/");
    assert!(
        answer.contains("strict-transport-security: max-age=600; includeSubDomains"),
        "{answer}"
    );
    host.wharf(&["https:set", "--redirect", "off", "-a", "shop"]);
    assert_eq!(host.get("shop.localhost", "/").0, 200);
    assert!(host.wharf(&["https", "shop"]).contains("hsts:     600 s"));
}
