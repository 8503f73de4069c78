use bytes::BytesMut;

use super::HeadReader;
use crate::http1::Limits;

const LIMITS: Limits = Limits {
    head_bytes: 32 * 1024,
    target_bytes: 100,
    fields: 100,
    head_timeout: std::time::Duration::MAX,
};

/// What a head is read as, whole and byte by byte.
fn check(text: &str) -> Result<String, &'static str> {
    let read = |piece: usize| {
        let (mut reader, mut input) = (HeadReader::default(), BytesMut::new());
        for bytes in text.as_bytes().chunks(piece) {
            input.extend_from_slice(bytes);
            if let Some(parts) =
                reader.request(&mut input, &LIMITS).map_err(|refusal| refusal.rule.0)?
            {
                let fields = parts.headers.iter().map(|(name, value)| {
                    format!("; {name}={}", String::from_utf8_lossy(value.as_bytes()))
                });
                let fields: String = fields.collect();
                return Ok(format!("{} {} {:?}{fields}", parts.method, parts.uri, parts.version));
            }
        }
        Err("not whole")
    };
    let whole = read(text.len().max(1));
    assert_eq!(whole, read(1), "{text:?}");
    whole
}

#[test]
fn good_heads_are_read() {
    for (text, seen) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1; host=a"),
        ("\r\nGET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1"),
        (
            "PURGE /a?b=%20 HTTP/1.0\r\nX-A:\t 1 \t\r\nx-a:\r\n\r\n",
            "PURGE /a?b=%20 HTTP/1.0; x-a=1; x-a=",
        ),
        ("OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1"),
        ("GET http://a/b HTTP/1.1\r\n\r\n", "GET http://a/b HTTP/1.1"),
        ("GET / HTTP/1.1\r\nX: \u{e9}\"\\:;,\r\n\r\n", "GET / HTTP/1.1; x=\u{e9}\"\\:;,"),
    ] {
        assert_eq!(check(text).as_deref(), Ok(seen), "{text:?}");
    }
}

#[test]
fn bad_heads_are_refused_by_rule() {
    for (text, rule) in [
        ("GET / HTTP/1.1\nHost: a\n\n", "a bare line feed"),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", "a bare line feed"),
        ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", "an empty first line"),
        ("GET /\r\n\r\n", "a request line without a version"),
        ("GET\r\n\r\n", "a request line without a target"),
        ("GET  / HTTP/1.1\r\n\r\n", "not HTTP/1.0 or HTTP/1.1"),
        ("GET / HTTP/1.1 \r\n\r\n", "not HTTP/1.0 or HTTP/1.1"),
        ("GET / HTTP/1.32\r\n\r\n", "not HTTP/1.0 or HTTP/1.1"),
        ("GET / HTTP/2.0\r\n\r\n", "not HTTP/1.0 or HTTP/1.1"),
        ("GET / http/1.1\r\n\r\n", "not HTTP/1.0 or HTTP/1.1"),
        ("G(T / HTTP/1.1\r\n\r\n", "a method that is not a token"),
        ("\tGET / HTTP/1.1\r\n\r\n", "a method that is not a token"),
        (" / HTTP/1.1\r\n\r\n", "a method that is not a token"),
        (
            "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGH / HTTP/1.1\r\n\r\n",
            "a method of more than 32 characters",
        ),
        ("GET /\u{e9} HTTP/1.1\r\n\r\n", "a character in the target that does not belong there"),
        ("GET /\u{1} HTTP/1.1\r\n\r\n", "a character in the target that does not belong there"),
        ("GET /a#b HTTP/1.1\r\n\r\n", "a character in the target that does not belong there"),
        ("GET / HTTP/1.1\r\n X: 1\r\n\r\n", "a folded line"),
        ("GET / HTTP/1.1\r\nX: 1\r\n\tfolded\r\n\r\n", "a folded line"),
        ("GET / HTTP/1.1\r\nX : 1\r\n\r\n", "a field name that is not a token"),
        ("GET / HTTP/1.1\r\n: 1\r\n\r\n", "a field name that is not a token"),
        ("GET / HTTP/1.1\r\nX\u{a0}: 1\r\n\r\n", "a field name that is not a token"),
        ("GET / HTTP/1.1\r\nX\r\n\r\n", "a field without a colon"),
        ("GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", "a control character in a field's value"),
        ("GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", "a control character in a field's value"),
        ("GET / HTTP/1.1\r\nX: \u{7f}\r\n\r\n", "a control character in a field's value"),
        ("GET / HTTP/1.1\r\nX: a\r\r\n\r\n", "a control character in a field's value"),
    ] {
        assert_eq!(check(text), Err(rule), "{text:?}");
    }
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(101));
    assert_eq!(check(&many), Err("more header fields than the limit"));
    let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(33 * 1024));
    assert_eq!(check(&long), Err("a head larger than the limit"));
}

#[test]
fn what_comes_after_a_head_stays_in_the_input() {
    let mut input = BytesMut::from("GET /1 HTTP/1.1\r\nA: 1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nrest");
    let mut reader = HeadReader::default();
    assert_eq!(reader.request(&mut input, &LIMITS).unwrap().unwrap().uri, "/1");
    assert_eq!(reader.request(&mut input, &LIMITS).unwrap().unwrap().uri, "/2");
    assert_eq!(&input[..], b"rest");
}

#[test]
fn answers_are_read() {
    let check = |line: &str| {
        let mut input = BytesMut::from(format!("{line}\r\n\r\n").as_str());
        let answer =
            HeadReader::default().answer(&mut input, false).map_err(|refusal| refusal.rule.0)?;
        Ok::<_, &str>(answer.map(|answer| answer.status.as_u16()))
    };
    for good in ["HTTP/1.1 200 OK", "HTTP/1.0 200 ", "HTTP/1.1 200", "HTTP/1.1 200 Schön"] {
        assert_eq!(check(good), Ok(Some(200)), "{good}");
    }
    for bad in [
        "SSH-2.0-x",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000",
        "HTTP/1.1 099 x",
        "HTTP/1.1 +20 x",
        "HTTP/2 200 OK",
        "HTTP/1.1 200 \u{1}",
        "HTTP/1.1\t200 OK",
    ] {
        assert!(check(bad).is_err(), "{bad}");
    }
}
