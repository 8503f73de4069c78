//! Every rule over raw bytes, whole and cut at every place.

use super::*;

const LIMITS: Limits = Limits { head_bytes: 300, target_bytes: 60, fields: 8 };

/// What the bytes come to when they arrive in pieces of that size: the rule they break, or "".
fn run(bytes: &[u8], piece: usize) -> (String, usize) {
    let mut machine = Machine::new(LIMITS);
    let (mut held, mut passed) = (Vec::new(), 0);
    for part in bytes.chunks(piece) {
        held.extend_from_slice(part);
        let outcome = machine.look(&held);
        let (length, end) = match outcome {
            Outcome::Pass(length) => (length, None),
            Outcome::Refuse(length, refusal) => {
                (length, Some(format!("{} {}", refusal.code, refusal.rule)))
            }
            Outcome::Break(length, rule) => (length, Some(format!("body: {rule}"))),
        };
        passed += length;
        held.drain(..length);
        if let Some(end) = end {
            return (end, passed);
        }
    }
    (String::new(), passed)
}

fn check(bytes: &[u8]) -> String {
    let whole = run(bytes, bytes.len());
    for piece in [1, 2, 3, 7, 64] {
        let cut = run(bytes, piece);
        assert_eq!(cut.0, whole.0, "{piece}: {:?}", String::from_utf8_lossy(bytes));
    }
    whole.0
}

fn get(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}").into_bytes()
}

#[test]
fn what_keeps_every_rule_passes_whole() {
    let hello = "Content-Length: 5";
    let chunked = "Transfer-Encoding: Chunked";
    for bytes in [
        get(""),
        get("X-Empty:\r\nX-Tab:\ta\tb \r\nX-Obs: \u{e9}\r\n"),
        [get(""), get("A: b\r\n"), get("")].concat(),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET HTTP://a/b?c=|{} HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"M-SEARCH /x HTTP/1.1\r\nhOST:a\r\n\r\n".to_vec(),
        [post(hello, "hello"), get("")].concat(),
        [post("content-length: 0", ""), get("")].concat(),
        [post("Content-Length: 000000000000000002", "ab"), get("")].concat(),
        [post(chunked, "5\r\nhello\r\n0\r\n\r\n"), get("")].concat(),
        [post(chunked, "aB\r\n0123456789\r\n12345678901234567890\r\n"), Vec::new()].concat()[..60]
            .to_vec(),
        [post(chunked, "0000000000000001\r\na\r\n0\r\nx-sum: 1\r\nx-b:\r\n\r\n"), get("")].concat(),
    ] {
        assert_eq!(check(&bytes), "", "{:?}", String::from_utf8_lossy(&bytes));
        assert_eq!(run(&bytes, bytes.len()).1, bytes.len(), "all of it passes");
        assert_eq!(run(&bytes, 1).1, bytes.len());
    }
}

#[test]
fn every_broken_head_is_refused_by_the_name_of_its_rule() {
    let line = |text: &str| format!("{text}\r\nHost: a\r\n\r\n").into_bytes();
    let target = "a target with a character that no target may have";
    let version = "a version other than HTTP/1.0 and HTTP/1.1";
    let control = "a control character in a field's value";
    let request_line = "a request line that is not `method target version`";
    let number = "Content-Length is not 1 to 18 digits";
    let coding = "Transfer-Encoding other than `chunked`, once";
    let name = "a field name with a letter names cannot have";
    for (bytes, rule) in [
        (
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            "what came is not the start of a request",
        ),
        (b" GET / HTTP/1.1\r\n\r\n".to_vec(), "what came is not the start of a request"),
        (b"\x16\x03\x01\x02\0\x01".to_vec(), "what came is not the start of a request"),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec(), "a bare line feed"),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n".to_vec(), "a bare line feed"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(), "a bare line feed"),
        (b"GET / HTTP/1.1\rX\r\nHost: a\r\n\r\n".to_vec(), "a bare carriage return"),
        (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n".to_vec(), "a bare carriage return"),
        (get("A: b\rC: d\r\n"), "a bare carriage return"),
        (get("A: b\r\r\n"), "a bare carriage return"),
        (line("GET /"), request_line),
        (line("GET  / HTTP/1.1"), request_line),
        (line("GET / HTTP/1.1 "), request_line),
        (line("GET / x HTTP/1.1"), request_line),
        (line("GET\t/ HTTP/1.1"), request_line),
        (line("G(T / HTTP/1.1"), "a method that is no token of at most 32 letters"),
        (
            line(&format!("{} / HTTP/1.1", "A".repeat(33))),
            "a method that is no token of at most 32 letters",
        ),
        (line("CONNECT a:80 HTTP/1.1"), "CONNECT is not served here"),
        (line("GET /\u{1} HTTP/1.1"), target),
        (line("GET /\u{7f} HTTP/1.1"), target),
        (line("GET /\u{e9} HTTP/1.1"), target),
        (line("GET /#x HTTP/1.1"), target),
        (line("GET /<x> HTTP/1.1"), target),
        (line("GET a HTTP/1.1"), "a target that is neither a path nor an http address"),
        (line("GET * HTTP/1.1"), "a target that is neither a path nor an http address"),
        (line("GET ftp://a/ HTTP/1.1"), "a target that is neither a path nor an http address"),
        (line("GET / HTTP/1.32"), version),
        (line("GET / HTTP/2.0"), version),
        (line("GET / HTTP/0.9"), version),
        (line("GET / http/1.1"), version),
        (line("GET / HTTP/256.1"), version),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            "a target that is neither a path nor an http address",
        ),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no Host header"),
        (get("host: a\r\n"), "more than one Host header"),
        (get("A : b\r\n"), "space before a colon"),
        (get("A\t: b\r\n"), "space before a colon"),
        (get("A\r\n"), "a field without a colon"),
        (get(": b\r\n"), "a field without a name"),
        (get("A B: c\r\n"), name),
        (get("A\0: c\r\n"), name),
        (get("A\u{e9}: c\r\n"), name),
        (get("A\u{b}: c\r\n"), name),
        (get("A: b\r\n c\r\n"), "a folded line"),
        (get("A: b\r\n\tc\r\n"), "a folded line"),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec(), "a folded line"),
        (get("A: b\0c\r\n"), control),
        (get("A: \u{7f}\r\n"), control),
        (get("A: \u{b}\r\n"), control),
        (post("Content-Length: 5\r\nContent-Length: 5", "hello"), "more than one Content-Length"),
        (post("Content-Length: 5\r\nContent-Length: 6", "hello"), "more than one Content-Length"),
        (post("Content-Length:", ""), number),
        (post("Content-Length: +5", "hello"), number),
        (post("Content-Length: -5", "hello"), number),
        (post("Content-Length: 0x5", "hello"), number),
        (post("Content-Length: 1_0", "hello"), number),
        (post("Content-Length: 5 5", "hello"), number),
        (post("Content-Length: 5, 5", "hello"), number),
        (post("Content-Length: 5;", "hello"), number),
        (post("Content-Length: 1234567890123456789", ""), number),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", ""), coding),
        (post("Transfer-Encoding: chunked, chunked", ""), coding),
        (post("Transfer-Encoding: ,chunked", ""), coding),
        (post("Transfer-Encoding: chunked,", ""), coding),
        (post("Transfer-Encoding: gzip, chunked", ""), coding),
        (post("Transfer-Encoding: identity", ""), coding),
        (post("Transfer-Encoding:", ""), coding),
        (post("Transfer-Encoding: \u{b}chunked", ""), control),
        (
            post("Content-Length: 5\r\nTransfer-Encoding: chunked", ""),
            "both Content-Length and Transfer-Encoding",
        ),
        (
            post("Transfer-Encoding: chunked\r\nContent-Length: 0", ""),
            "both Content-Length and Transfer-Encoding",
        ),
        (
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            "Transfer-Encoding in HTTP/1.0",
        ),
        (post("Upgrade: websocket\r\nContent-Length: 1", "a"), "Upgrade together with a body"),
    ] {
        let found = check(&bytes);
        assert_eq!(found, format!("H26 {rule}"), "{:?}", String::from_utf8_lossy(&bytes));
        // What comes second on a connection is judged like what comes first.
        let second = check(&[get(""), bytes.clone()].concat());
        assert_eq!(second, format!("H26 {rule}"), "{:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn sizes_have_codes_of_their_own() {
    let long = "a".repeat(61);
    let found = check(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    assert_eq!(found, "E414 a target longer than the limit");
    let endless = format!("GET /{}", "a".repeat(400));
    assert_eq!(check(endless.as_bytes()), "E414 a head longer than the limit");
    let many = "a:b\r\n".repeat(8);
    assert_eq!(check(&get(&many)), "E431 more fields than the limit");
    let large = format!("a: {}\r\n", "b".repeat(300));
    assert_eq!(check(&get(&large)), "E431 a head longer than the limit");
    let unfinished = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(300));
    assert_eq!(check(unfinished.as_bytes()), "E431 a head longer than the limit");
}

#[test]
fn every_broken_body_ends_at_its_broken_byte() {
    let size = "a chunk size that is not hex digits and CR LF";
    for (body, rule) in [
        ("0x1\r\na\r\n", size),
        ("+1\r\na\r\n", size),
        ("-1\r\na\r\n", size),
        ("1 \r\na\r\n", size),
        (" 1\r\na\r\n", size),
        ("1;a=b\r\na\r\n", size),
        ("1_0\r\na\r\n", size),
        ("\r\n", size),
        ("1\na\r\n", size),
        ("1\r\na\r\n\r\n0\r\n\r\n", size),
        ("1\rXa\r\n", "a chunk size without its line feed"),
        ("11111111111111111\r\n", "a chunk size of more than 16 digits"),
        ("1\r\naXX0\r\n\r\n", "a chunk without CR LF after it"),
        ("1\r\na\n0\r\n\r\n", "a chunk without CR LF after it"),
        ("1\r\na\rX", "a chunk without CR LF after it"),
        ("0\r\na: b\n\r\n", "a bare line feed in a trailer"),
        ("0\r\nContent-Length: 5\r\n\r\n", "a trailer that frames or routes the message"),
        ("0\r\nhost: b\r\n\r\n", "a trailer that frames or routes the message"),
        ("0\r\na b: c\r\n\r\n", "a field name with a letter names cannot have"),
        ("0\r\n b: c\r\n\r\n", "a folded line"),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", "a field without a colon"),
        ("0\r\na: b\rc\r\n\r\n", "a control character in a field's value"),
    ] {
        let bytes = post("Transfer-Encoding: chunked", body);
        assert_eq!(check(&bytes), format!("body: {rule}"), "{body:?}");
    }
}

#[test]
fn nothing_passes_before_the_answer_to_an_upgrade_is_known() {
    let wish = get("Connection: upgrade\r\nUpgrade: websocket\r\n");
    let mut machine = Machine::new(LIMITS);
    let early = [wish.clone(), b"\x81\x05early".to_vec()].concat();
    assert_eq!(machine.look(&early), Outcome::Pass(wish.len()));
    assert!(machine.is_waiting());
    assert_eq!(machine.look(b"\x81\x05early"), Outcome::Pass(0));
    machine.decide(true);
    assert_eq!(machine.look(b"\x81\x05early"), Outcome::Pass(7));
    let mut machine = Machine::new(LIMITS);
    machine.look(&wish);
    machine.decide(false);
    assert!(matches!(machine.look(b"\x81\x05early"), Outcome::Refuse(0, _)));
}
