//! Files and pages at the edge, from the app file over a push to the visitor.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::host::Host;
use crate::support::load::read_answer;
use crate::support::require::require;

const APP_FILE: &str = r#"
[[edge.files]]
path = "/assets"
folder = "public/assets"

[edge.pages]
503 = "pages/503.html"
maintenance = "pages/soon.html"
"#;

/// Head and body of one answer.
fn ask(host: &Host, path: &str, more: &str) -> (String, String) {
    let mut stream = TcpStream::connect(host.edge()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n");
    stream.write_all(format!("{head}{more}\r\n").as_bytes()).unwrap();
    read_answer(&mut stream).unwrap()
}

fn html(host: &Host) -> String {
    ask(host, "/", "Accept: text/html\r\n").1
}

#[test]
fn a_pushed_app_has_files_and_pages_at_the_edge() {
    if !require(&["root", "network"]) {
        return;
    }
    let mut host = Host::start();
    let repo = host.app("shop");
    repo.write("wharf.toml", APP_FILE);
    repo.write("public/assets/app.js", "one");
    repo.write("public/assets/app.3f2a9c1b.js", "one hashed");
    repo.write("public/assets/.env", "secret");
    repo.write("pages/503.html", "<p>{{code}}</p>");
    repo.write("pages/soon.html", "<p>soon</p>");
    repo.commit("files");
    host.push_well(&repo);
    let (head, body) = ask(&host, "/assets/app.js", "");
    assert_eq!(body, "one");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("etag: \"") && head.contains("cache-control: no-cache"), "{head}");
    assert!(!ask(&host, "/assets/.env", "").1.contains("secret"));
    // Whatever is no file is the app's.
    assert!(ask(&host, "/", "").1.starts_with("one "));

    the_next_release_has_its_own(&host, &repo);
    pages_are_shown(&host);

    // What the proxy serves from is still there for the next daemon, and without one.
    host.kill_daemon();
    assert_eq!(ask(&host, "/assets/app.js", "").1, "two");
    host.start_daemon(&[]);
    host.wharf(&["rollback", "v1", "-a", "shop"]);
    assert_eq!(ask(&host, "/assets/app.js", "").1, "one");

    repo.write("wharf.toml", &APP_FILE.replace("public/assets", "dist"));
    repo.commit("a slip");
    let (is_accepted, said) = host.push(&repo);
    assert!(!is_accepted, "{said}");
    for line in ["error[P212]: the image has no folder `dist`", "no release was made"] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(ask(&host, "/assets/app.js", "").1, "one");
}

fn the_next_release_has_its_own(host: &Host, repo: &crate::support::repo::Repo) {
    repo.write("public/assets/app.js", "two");
    std::fs::remove_file(repo.folder.join("public/assets/app.3f2a9c1b.js")).unwrap();
    repo.write("public/assets/app.4f2a9c1b.js", "two hashed");
    repo.set_version("two");
    host.push_well(repo);
    for (path, body) in [
        ("/assets/app.js", "two"),
        ("/assets/app.4f2a9c1b.js", "two hashed"),
        // Somebody's page from before the push asks for it.
        ("/assets/app.3f2a9c1b.js", "one hashed"),
    ] {
        assert_eq!(ask(host, path, "").1, body, "{path}");
    }
}

fn pages_are_shown(host: &Host) {
    host.wharf(&["maintenance:on", "-a", "shop"]);
    assert_eq!(html(host), "<p>soon</p>");
    assert!(ask(host, "/", "").1.contains("[H80]"), "text for those who do not ask for HTML");
    let page = host.root.join("down.html");
    std::fs::write(&page, "<p>down until noon</p>").unwrap();
    let file = page.display().to_string();
    host.wharf(&["maintenance:on", "--page", &file, "-a", "shop"]);
    assert_eq!(html(host), "<p>down until noon</p>");
    std::fs::write(&page, "x".repeat(70_000)).unwrap();
    let said = host.wharf_fails(&["maintenance:on", "--page", &file, "-a", "shop"]);
    assert!(said.contains("error[P017]: the maintenance page is too long"), "{said}");
    host.wharf(&["maintenance:off", "-a", "shop"]);
    assert!(html(host).starts_with("two "));
    host.wharf(&["maintenance:on", "-a", "shop"]);
    assert_eq!(html(host), "<p>soon</p>", "the page of the last time is forgotten");
    host.wharf(&["maintenance:off", "-a", "shop"]);
    host.wharf(&["ps:scale", "web=0", "-a", "shop"]);
    assert_eq!(html(host), "<p>H14</p>");
    assert_eq!(ask(host, "/assets/app.js", "").1, "two", "nobody has to run for it");
    host.wharf(&["ps:scale", "web=1", "-a", "shop"]);
}
