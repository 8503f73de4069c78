//! What can be seen of the traffic: metrics, the page, the table, and the story of one request.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::load::read_answer;
use crate::support::require::require;

#[test]
fn requests_are_counted_shown_and_told_one_by_one() {
    if !require(&["root", "network", "promtool"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.push_well(&repo);
    host.wharf(&["create", "quiet"]);
    let said = fetch(&host, "/say");
    assert!(said.0.starts_with("HTTP/1.1 200"), "{said:?}");
    a_request_is_told(&host, header(&said.0, "x-request-id"));
    let (head, page) = fetch(&host, "/crash");
    assert_eq!(header(&head, "x-wharf-error"), "H13");
    let id = page.lines().find_map(|line| line.strip_prefix("request id: ")).unwrap();
    a_crash_is_told_by_the_id_of_its_page(&host, id);
    // Held until the replica is there again.
    assert!(fetch(&host, "/").0.starts_with("HTTP/1.1 200"));
    ids_nobody_knows_are_answered(&host);
    the_metrics_are_prometheus(&host);
    the_page_and_the_table_show_every_app(&host);
    answers_tell_their_times_when_switched_on(&host);
}

fn fetch(host: &Host, path: &str) -> (String, String) {
    let mut stream = std::net::TcpStream::connect(host.edge()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    read_answer(&mut stream).unwrap()
}

fn header<'a>(head: &'a str, wanted: &str) -> &'a str {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).expect("the header").1
}

fn a_request_is_told(host: &Host, id: &str) {
    let request = wait_for("the app's line", Duration::from_secs(30), || {
        let trace = host.json(&["trace", id]);
        let request = trace["requests"][0].clone();
        let lines = request["lines"].as_array()?;
        lines.iter().any(|line| line["source"] == "app").then_some(request)
    });
    assert_eq!(request["app"], "shop");
    assert_eq!(request["edge"]["path"], "/say", "{request}");
    assert_eq!(request["tries"][0]["replica"], "web.1", "{request}");
    assert_eq!(request["tries"][0]["outcome"], "200", "{request}");
    let lines = request["lines"].as_array().unwrap();
    let said: Vec<_> = lines.iter().filter(|line| line["source"] == "app").collect();
    assert_eq!((said.len(), &said[0]["who"]), (1, &"web.1".into()), "{request}");
    assert_eq!(said[0]["text"], format!("saying {id}"));
    let shown = host.wharf(&["trace", id, "-a", "shop"]);
    assert!(shown.contains(&format!("app[web.1]  saying {id}")), "{shown}");
    assert!(shown.contains("try 1: web.1 200 after "), "{shown}");
    // It was the first request: the start of its replica is not long ago.
    assert!(shown.contains("wharf[web.1] State changed from starting to up"), "{shown}");
}

fn a_crash_is_told_by_the_id_of_its_page(host: &Host, id: &str) {
    let shown = wait_for("the replica's end", Duration::from_secs(30), || {
        let shown = host.wharf(&["trace", id]);
        shown.contains("exited with").then_some(shown)
    });
    assert!(shown.contains("shop: GET shop.localhost/crash"), "{shown}");
    assert!(shown.contains("answered 503 H13: Connection closed without response"), "{shown}");
    assert!(shown.contains("closed-without-answer after "), "{shown}");
    assert!(shown.contains("wharf[web.1] Process exited with"), "{shown}");
}

fn ids_nobody_knows_are_answered(host: &Host) {
    let said = host.wharf_fails(&["trace", "0193f0c2-6d1f-7abc-8def-0123456789ab"]);
    assert!(said.contains("no request with the id") && said.contains("next:"), "{said}");
    let said = host.wharf_fails(&["trace", "no id has a space in it"]);
    assert!(said.contains("P001"), "{said}");
    let said = host.wharf_fails(&["trace", "short"]);
    assert!(said.contains("20 to 200"), "{said}");
}

#[expect(clippy::disallowed_methods, reason = "a test drives real programs")]
fn the_metrics_are_prometheus(host: &Host) {
    assert_eq!(host.read_tcp("/metrics", &[]).status, 401);
    let bearer = format!("Bearer {}", host.token());
    let metrics = host.read_tcp("/metrics", &[("authorization", &bearer)]);
    assert_eq!(metrics.status, 200);
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(metrics.text.as_bytes()).unwrap();
    let checked = check.wait_with_output().unwrap();
    let said = (checked.status.success(), checked.stdout.len() + checked.stderr.len());
    assert_eq!(said, (true, 0), "{}", String::from_utf8_lossy(&checked.stderr));
    for line in [
        "wharf_proxy_up 1",
        "wharf_requests_total{app=\"shop\",status=\"5xx\"} 1",
        "wharf_errors_total{app=\"shop\",code=\"H13\"} 1",
        "wharf_replica_requests_total{app=\"shop\",replica=\"web.1\",status=\"5xx\"} 1",
        "wharf_request_duration_seconds_bucket{app=\"shop\",le=\"+Inf\"} ",
        "wharf_proxy_apps 2",
    ] {
        assert!(metrics.text.contains(line), "{line} in {}", metrics.text);
    }
    assert!(!metrics.text.contains("quiet"), "an app nobody asked for has no series");
}

fn the_page_and_the_table_show_every_app(host: &Host) {
    let page = host.read_tcp("/stats", &[]);
    assert_eq!(page.status, 401);
    assert!(page.header("www-authenticate").starts_with("Basic"), "a browser asks for the token");
    // `:token`, as a browser sends a password.
    let basic = base64(&format!(":{}", host.token()));
    let page = host.read_tcp("/stats", &[("authorization", &format!("Basic {basic}"))]);
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    for part in ["shop v1", "web.1", "H13 ×1", "quiet", "http-equiv=\"refresh\""] {
        assert!(page.text.contains(part), "{part} in {}", page.text);
    }
    let stats = host.json(&["proxy:stats"]);
    let shop = stats["apps"].as_array().unwrap().iter().find(|app| app["name"] == "shop").unwrap();
    assert_eq!((&shop["errors"]["H13"], &shop["traffic"]["answers"][4]), (&1.into(), &1.into()));
    let shown = host.wharf(&["proxy:stats", "-a", "shop"]);
    assert!(shown.contains("  web.1") && !shown.contains("quiet"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let said = host.wharf_fails(&["proxy:stats", "-a", "nobody"]);
    assert!(said.contains("nobody"), "{said}");
}

fn answers_tell_their_times_when_switched_on(host: &Host) {
    let timing = || fetch(host, "/").0.to_ascii_lowercase().contains("server-timing: edge;dur=");
    assert!(!timing());
    assert_eq!(host.wharf(&["timing", "shop"]), "off\n");
    host.wharf(&["timing:on", "shop"]);
    assert!(timing());
    assert_eq!(host.wharf(&["timing", "shop"]), "on\n");
    host.wharf(&["timing:off", "-a", "shop"]);
    assert!(!timing());
}

fn base64(text: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            let six = usize::try_from((bits >> (18 - 6 * place)) & 63).unwrap();
            encoded.push(char::from(LETTERS[six]));
        }
        encoded.push_str(&"=".repeat(3 - three.len()));
    }
    encoded
}
