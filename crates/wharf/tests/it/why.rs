//! Why it failed: each failure a person meets, by the text that person reads.

use crate::support::host::Host;
use crate::support::repo::Repo;
use crate::support::require::require;

/// A Wharf with an app that serves, and a repository to break.
fn serving() -> Option<(Host, Repo)> {
    if !require(&["root", "network"]) {
        return None;
    }
    let host = Host::start();
    let repo = host.app("shop");
    repo.write("wharf.toml", "[health]\ndeadline = \"5s\"\n");
    repo.commit("short timeout");
    host.push_well(&repo);
    Some((host, repo))
}

/// Pushes what must be refused; what the pusher read.
fn refused(host: &Host, repo: &Repo, expected: &[&str]) -> String {
    repo.commit("broken");
    let (is_accepted, said) = host.push(repo);
    assert!(!is_accepted, "{said}");
    for text in expected {
        assert!(said.contains(text), "`{text}` is not in:\n{said}\n{}", host.daemon_log());
    }
    assert!(host.get("shop.localhost", "/").1.starts_with("one"), "the old release is gone");
    said
}

#[test]
fn what_the_push_says_when_the_source_is_wrong() {
    let Some((host, repo)) = serving() else { return };
    repo.write("Procfile", "web: python3 server.py\n<<<<<<< HEAD\n");
    refused(&host, &repo, &["error[P002]", "line 2"]);
    repo.write("Procfile", "web: python3 server.py\n");
    repo.write("wharf.toml", "porrt = 3000\n");
    refused(&host, &repo, &["error[P003]", "porrt", "line 1"]);
    repo.git(&["rm", "-q", "-r", "--cached", "."]);
    for name in ["Procfile", "wharf.toml", "server.py", "VERSION"] {
        std::fs::remove_file(repo.folder.join(name)).unwrap();
    }
    repo.write("notes.txt", "nothing to run");
    refused(&host, &repo, &["error[P201]", "notes.txt"]);
}

#[test]
fn what_the_push_says_when_the_app_does_not_come_up() {
    let Some((host, repo)) = serving() else { return };
    repo.write("Procfile", "web: python3 -c \"print('no settings'); raise SystemExit(3)\"\n");
    refused(&host, &repo, &["error[P101]", "exited with code 3", "no settings", "v1 is serving"]);
    repo.write("Procfile", "web: sleep 60\n");
    refused(&host, &repo, &["error[P104]", "port 8080", "v1 is serving"]);
    repo.write("Procfile", "web: PORTS=3000,3001 python3 server.py\n");
    refused(&host, &repo, &["error[P106]", "3000, 3001"]);
    repo.write("Procfile", "web: python3 server.py\n");
    repo.write("wharf.toml", "[health]\npath = \"/sick\"\ndeadline = \"3s\"\n");
    refused(&host, &repo, &["error[P105]", "GET /sick answered 500"]);
    repo.write("wharf.toml", "[health]\ndeadline = \"5s\"\n[limits.web]\nmemory = \"64M\"\n");
    repo.write("Procfile", "web: EAT_MEMORY=1 python3 server.py\n");
    refused(&host, &repo, &["error[P102]", "64 MiB"]);
    repo.write("wharf.toml", "[health]\ndeadline = \"5s\"\n");
    repo.write("Procfile", "web: python3 server.py\nrelease: echo no database; exit 9\n");
    refused(&host, &repo, &["error[P103]", "no database", "exited with code 9"]);
    repo.write("Procfile", "web: no-such-program\n");
    refused(&host, &repo, &["error[P101]", "no-such-program"]);
}

#[test]
fn what_the_push_says_when_the_build_fails_or_the_disk_is_full() {
    let Some((mut host, repo)) = serving() else { return };
    repo.write(
        "wharf.toml",
        "[build]\ncommand = \"echo compiling; echo 'oops, line 7' >&2; exit 3\"\n",
    );
    refused(&host, &repo, &["error[P202]", "oops, line 7", "3"]);
    repo.write("wharf.toml", "");
    host.kill_daemon();
    host.start_daemon(&[("WHARF_DISK_RESERVE", "100000G")]);
    refused(&host, &repo, &["error[P203]", "free"]);
    host.kill_daemon();
    host.start_daemon(&[("WHARF_BASE", "127.0.0.1:1/team/base:1")]);
    let reason = "`127.0.0.1:1` cannot be reached: Connection refused";
    refused(&host, &repo, &["error[P210]", "127.0.0.1:1/team/base:1", reason, "oci-archive"]);
}

#[test]
fn one_other_port_is_used_and_said_and_loopback_simply_works() {
    let Some((host, repo)) = serving() else { return };
    repo.write("Procfile", "web: PORTS=3000 BIND=127.0.0.1 python3 server.py\n");
    repo.set_version("two");
    host.push_well(&repo);
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));
    let logs = host.wharf(&["logs", "-a", "shop", "-n", "100"]);
    assert!(logs.contains("listens on 3000 and not on $PORT (8080)"), "{logs}");
}

#[test]
fn what_the_command_line_says_when_a_name_is_wrong() {
    let Some((host, _repo)) = serving() else { return };
    let said = host.wharf_fails(&["info", "-a", "shopp"]);
    assert!(said.contains("error[P004]") && said.contains("`shop`"), "{said}");
    let said = host.wharf_fails(&["create", "shop"]);
    assert!(said.contains("error[P005]"), "{said}");
    let said = host.wharf_fails(&["create", "Shop!"]);
    assert!(said.contains("error[P001]") && said.contains("a-z"), "{said}");
    host.wharf(&["create", "other"]);
    host.wharf(&["domains:add", "www.example.com", "-a", "other"]);
    let said = host.wharf_fails(&["domains:add", "www.example.com", "-a", "shop"]);
    assert!(said.contains("error[P401]") && said.contains("`other`"), "{said}");
    let said = host.wharf_fails(&["domains:remove", "no.example.com", "-a", "shop"]);
    assert!(said.contains("error[P402]"), "{said}");
    let said = host.wharf_fails(&["rollback", "v99", "-a", "shop"]);
    assert!(said.contains("error[P014]"), "{said}");
}

#[test]
fn a_second_daemon_on_the_same_folders_is_refused_and_disturbs_nothing() {
    let Some((host, _repo)) = serving() else { return };
    let said = host.second_daemon();
    assert!(said.contains("error[P011]") && said.contains("is locked"), "{said}");
    assert!(host.get("shop.localhost", "/").1.starts_with("one"));
    assert!(host.wharf(&["apps"]).contains("shop"));
}

#[test]
fn a_wrong_token_is_told_and_changes_nothing() {
    let Some((host, _repo)) = serving() else { return };
    let api = host.api();
    let output = host
        .cli(&["apps"])
        .env("WHARF_API", &api)
        .env("WHARF_TOKEN", "wharf-wrong")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("error[P006]"), "{said}");
    let output = host
        .cli(&["apps"])
        .env("WHARF_API", &api)
        .env("WHARF_TOKEN", host.token())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
