//! What the edge does for an app beside passing requests on: said in the app file, set by command over
//! that, and met by the very next visitor.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::host::Host;
use crate::support::repo::SERVER;

const APP_FILE: &str = r#"
[edge]
compress = true
compress_from = 1
headers = { X-Robots-Tag = "noindex" }
[edge.auth]
realm = "Back office"
paths = ["/admin"]
[edge.access]
deny = ["192.0.2.0/24"]
"#;

/// Status and head of the edge's answer.
fn ask(host: &Host, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(host.edge()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: guard.localhost\r\nConnection: close\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let text = String::from_utf8_lossy(&answer);
    let head = text.split("\r\n\r\n").next().unwrap().to_owned();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
}

pub(crate) fn the_edge_does_what_it_is_told(host: &Host) {
    let repo = host.app("guard");
    let kind = "self.send_header(\"Content-Type\", \"text/plain\")\n        ";
    let length = "self.send_header(\"Content-Length\"";
    repo.write("server.py", &SERVER.replace(length, &format!("{kind}{length}")));
    repo.write("wharf.toml", "[edge]\ncompres = true\n");
    repo.commit("with a slip");
    let (is_accepted, said) = host.push(&repo);
    assert!(!is_accepted && said.contains("P003") && said.contains("line 2"), "{said}");
    repo.write("wharf.toml", APP_FILE);
    repo.commit("with an edge");
    host.push_well(&repo);

    what_the_file_says(host);
    what_a_command_says(host);
    who_has_a_password(host);
    who_comes_from_where_and_how_often(host);
    what_contradicts_itself_is_refused(host);

    // What the file says is the release's, and goes back with it.
    repo.write("wharf.toml", "[edge]\nheaders = { X-Robots-Tag = \"none\" }\n");
    repo.commit("otherwise");
    host.push_well(&repo);
    let (status, head) = ask(host, "/admin", "Accept-Encoding: gzip\r\n");
    assert!(status == 401 && head.contains("x-robots-tag: none"), "{head}");
    assert!(head.contains("Basic realm=\"Restricted\""), "all of it now: {head}");
    host.wharf(&["rollback", "v1", "-a", "guard"]);
    let (status, head) = ask(host, "/", "Accept-Encoding: gzip\r\n");
    assert!(status == 200 && head.contains("x-robots-tag: noindex"), "{head}");
    host.wharf(&["destroy", "guard", "--confirm", "guard"]);
}

fn what_the_file_says(host: &Host) {
    let (status, head) = ask(host, "/", "Accept-Encoding: gzip\r\n");
    assert_eq!(status, 200, "{head}");
    assert!(head.contains("x-robots-tag: noindex"), "{head}");
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let (status, head) = ask(host, "/admin", "");
    assert!(status == 401 && head.contains("Basic realm=\"Back office\""), "{head}");
    assert_eq!(ask(host, "//admin/x", "").0, 401);
}

fn what_a_command_says(host: &Host) {
    let set = |settings: &[&str]| host.wharf(&[&["edge:set", "-a", "guard"], settings].concat());
    set(&["compress=off", "headers.X-Robots-Tag=", "secure_headers=on", "headers.X-By=me"]);
    let (_, head) = ask(host, "/", "Accept-Encoding: gzip\r\n");
    assert!(!head.contains("content-encoding") && !head.contains("x-robots-tag"), "{head}");
    assert!(
        head.contains("x-content-type-options: nosniff") && head.contains("x-by: me"),
        "{head}"
    );
    insta::assert_snapshot!(host.wharf(&["edge", "guard"]), @r"
    access.deny           192.0.2.0/24  (app file)
    auth.paths            /admin        (app file)
    auth.realm            Back office   (app file)
    compress              false
    compress_from         1             (app file)
    headers.x-by          me
    headers.x-robots-tag  (taken off)
    secure_headers        true
    ");
    let unset = ["edge:unset", "-a", "guard", "compress", "headers", "secure_headers"];
    host.wharf(&unset);
    let (_, head) = ask(host, "/", "Accept-Encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip") && head.contains("x-robots-tag: noindex"));
    assert!(!head.contains("nosniff") && !head.contains("x-by"), "{head}");
}

fn who_has_a_password(host: &Host) {
    let add = |name: &str, password: &str| {
        let mut command = host.cli(&["visitors:add", name, "-a", "guard"]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let basic = |pair: &str| format!("Authorization: Basic {}\r\n", STANDARD.encode(pair));
    let (is_added, said) = add("ann", "short\n");
    assert!(!is_added && said.contains("8 to 256 characters"), "{said}");
    assert!(add("ann", "correct horse\n").0);
    assert_eq!(ask(host, "/admin", &basic("ann:correct horse")).0, 200);
    assert_eq!(ask(host, "/admin", &basic("ann:correct")).0, 401);
    assert_eq!(ask(host, "/", "").0, 200, "only what the file names");
    assert!(add("ann", "battery staple").0);
    assert_eq!(ask(host, "/admin", &basic("ann:correct horse")).0, 401);
    assert_eq!(ask(host, "/admin", &basic("ann:battery staple")).0, 200);
    let shown = host.json(&["visitors", "guard"]);
    assert_eq!((&shown[0]["name"], shown.as_array().unwrap().len()), (&"ann".into(), 1));
    assert!(!host.json(&["edge", "guard"]).to_string().contains("argon2"), "hashes are not shown");
    assert!(host.wharf_fails(&["visitors:remove", "anne", "-a", "guard"]).contains("`ann`"));
    host.wharf(&["visitors:remove", "ann", "-a", "guard"]);
    assert_eq!(ask(host, "/admin", &basic("ann:battery staple")).0, 401);
    assert!(add("bob", "battery staple").0);
}

fn who_comes_from_where_and_how_often(host: &Host) {
    host.wharf(&["access:deny", "127.0.0.0/8", "-a", "guard"]);
    let (status, head) = ask(host, "/", "");
    assert!(status == 403 && head.contains("x-wharf-error: E403"), "{head}");
    insta::assert_snapshot!(host.wharf(&["access", "guard"]), @r"
    deny  127.0.0.0/8
    deny  192.0.2.0/24  (app file)
    ");
    let of_file = host.wharf_fails(&["access:remove", "192.0.2.0/24", "-a", "guard"]);
    assert!(of_file.contains("it is in the app file"), "{of_file}");
    host.wharf(&["access:allow", "127.0.0.0/8", "-a", "guard"]);
    assert_eq!(ask(host, "/", "").0, 200, "the newest word about a range counts");
    host.wharf(&["access:remove", "127.0.0.0/8", "-a", "guard"]);

    host.wharf(&["edge:set", "rate.client=1/h", "rate.client_burst=2", "-a", "guard"]);
    let statuses: Vec<u16> = (0..4).map(|_| ask(host, "/", "").0).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    host.wharf(&["edge:unset", "rate", "-a", "guard"]);
    assert_eq!(ask(host, "/", "").0, 200);
}

fn what_contradicts_itself_is_refused(host: &Host) {
    let refused =
        host.wharf_fails(&["edge:set", "cors.origins=*", "cors.credentials=true", "-a", "guard"]);
    insta::assert_snapshot!(refused, @r"
    Setting what the edge does for guard…
    error[P001]: the edge cannot be set like this
      why:   `credentials` cannot go with the origin `*`: every site could then act for a visitor; name the origins
      still: nothing was changed
      next:  the fields are those of the app file: see docs/manual/edge.md
             wharf explain P001
    ");
    let unknown = host.call("PATCH", "/wharf/apps/guard/edge", r#"{"compres":true}"#);
    assert_eq!((unknown.status, unknown.code()), (400, "P001".into()), "{}", unknown.text);
    assert_eq!(host.read("/wharf/apps/guard/edge").json()["settings"], serde_json::json!({}));
}
