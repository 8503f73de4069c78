//! The API over HTTPS, with a certificate of an authority of one's own.

use std::path::Path;
use std::process::Output;

use crate::support::host::Host;
use crate::support::repo::git;
use crate::support::require::require;

/// An authority, and a certificate of it for this machine.
fn make_certificates(folder: &Path) {
    let openssl = |arguments: &[&str]| {
        let call = wharf::process::Invocation::new("openssl").folder(folder).args(arguments);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(call.run()).unwrap();
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    let authority = ["req", "-x509", "-subj", "/CN=test authority", "-keyout", "ca.key"];
    openssl(&[&authority[..], &["-out", "ca.pem"], &key].concat());
    let names = "subjectAltName=IP:127.0.0.1,DNS:localhost";
    let leaf = ["req", "-x509", "-subj", "/CN=wharf", "-CA", "ca.pem", "-CAkey", "ca.key"];
    let usage = ["-addext", names, "-addext", "basicConstraints=critical,CA:FALSE"];
    openssl(&[&leaf[..], &["-keyout", "api.key", "-out", "api.pem"], &usage, &key].concat());
}

fn said(output: &Output) -> String {
    String::from_utf8([&*output.stdout, &*output.stderr].concat()).unwrap()
}

/// A daemon whose certificate is its own authority, as the shortest call of openssl makes it.
fn one_that_signed_itself(host: &mut Host, authority: &str, key: &str) {
    host.start_daemon(&[("WHARF_API_CERTIFICATE", authority), ("WHARF_API_KEY", key)]);
    let mut command = host.cli(&["apps"]);
    command.env("WHARF_API", host.api()).env("WHARF_CA", authority);
    let text = said(&command.output().unwrap());
    assert!(text.contains("error[P008]: there is no safe connection"), "{text}");
    assert!(text.contains("that of an authority") && text.contains("CA:FALSE"), "{text}");
    host.kill_daemon();
}

#[test]
fn the_api_and_git_speak_https_with_an_authority_of_ones_own() {
    if !require(&["root", "network", "openssl"]) {
        return;
    }
    let mut host = Host::start();
    make_certificates(&host.root);
    let folder = host.root.clone();
    let file = |name: &str| folder.join(name).display().to_string();
    let (authority, certificate, key) = (file("ca.pem"), file("api.pem"), file("api.key"));
    host.kill_daemon();

    // A key of another certificate is told at the start, not at the first visitor.
    let wrong = file("ca.key");
    host.spawn_daemon(&[("WHARF_API_CERTIFICATE", &certificate), ("WHARF_API_KEY", &wrong)]);
    host.wait_daemon_death();
    let log = host.daemon_log();
    assert!(log.contains("the certificate and the key do not go together"), "{log}");

    one_that_signed_itself(&mut host, &authority, &wrong);

    host.start_daemon(&[("WHARF_API_CERTIFICATE", &certificate), ("WHARF_API_KEY", &key)]);
    let api = host.api();
    assert!(api.starts_with("https://"), "{api}");
    let from_afar = |authority: Option<&str>| {
        let mut command = host.cli(&["create", "shop"]);
        command.env("WHARF_API", &api).env("WHARF_TOKEN", host.token());
        if let Some(authority) = authority {
            command.env("WHARF_CA", authority);
        }
        command.output().unwrap()
    };
    let output = from_afar(None);
    let text = said(&output);
    assert!(!output.status.success(), "{text}");
    assert!(text.starts_with("Creating app…\nerror[P008]: there is no safe connection"), "{text}");
    assert!(text.contains("certificate") && text.contains("WHARF_CA"), "{text}");
    let output = from_afar(Some(&authority));
    let text = said(&output);
    assert!(output.status.success() && text.contains(&format!("{api}/shop.git")), "{text}");

    let repo = crate::support::repo::Repo::web(host.root.join("shop"));
    let remote = api.replace("https://", &format!("https://x:{}@", host.token()));
    let push = |authority: &str| {
        let url = format!("{remote}/shop.git");
        let arguments = ["push", url.as_str(), "main"];
        git(&repo.folder).args(arguments).env("GIT_SSL_CAINFO", authority).output().unwrap()
    };
    assert!(!push("/etc/ssl/certs/ca-certificates.crt").status.success());
    let output = push(&authority);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(host.get("shop.localhost", "/").0, 200);

    // Who speaks no TLS there is told, and harms nobody.
    let plain = api.replace("https://", "http://");
    let output = host.cli(&["apps"]).env("WHARF_API", &plain).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("error[P008]"), "{}", said(&output));
}
