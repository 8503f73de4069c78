//! Messages as people, old programs and attackers write them, drawn piece by piece.

use crate::draws::Draws;

/// A message in pieces that may be left out one by one.
#[derive(Debug, Clone, Default)]
pub(super) struct Case(Vec<Vec<u8>>);

impl Case {
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// Without every piece that does not matter to the failure.
    pub(super) fn shortest(&self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut shortest = self.clone();
        let mut position = 0;
        while position < shortest.0.len() {
            let mut without = shortest.clone();
            without.0.remove(position);
            if fails(&without) { shortest = without } else { position += 1 }
        }
        shortest
    }

    /// With some bytes changed, left out or doubled.
    pub(super) fn spoilt(&self, draws: &Draws) -> Self {
        let mut bytes = self.bytes();
        let drawer = Drawer(draws);
        for _ in 0..=drawer.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = drawer.below(bytes.len());
            match drawer.below(4) {
                0 => bytes[at] = drawer.one(b"\0\t\n\r :;,0x\x7f\x80\xff"),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, drawer.one(b"\0\t\n\r :;,0x\x7f\x80\xff")),
                _ => bytes.truncate(at),
            }
        }
        Self(bytes.iter().map(|byte| vec![*byte]).collect())
    }

    fn add(&mut self, piece: impl AsRef<[u8]>) {
        self.0.push(piece.as_ref().to_vec());
    }
}

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PURGE", "get"];
const TARGETS: &[&str] =
    &["/", "/a?b=c", "*", "http://a/b", "/%00", "//x", "/a b", "/#", "a:80", ""];
const VERSIONS: &[&str] = &["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1"];
const FIELDS: &[&str] = &[
    "Host: a",
    "Host: a, b",
    "X-A:",
    "X-A: \t b \t ",
    "x-a: \u{e9}\u{a0}",
    "Cookie: a=b; c=\"d\"",
    "Connection: close",
    "Connection: keep-alive",
    "Connection: keep-alive, close",
    "Connection: X-A",
    "Expect: 100-continue",
    "Upgrade: websocket",
    "Trailer: X-Sum",
    "TE: trailers",
    "Date: now",
];
const ODD_FIELDS: &[&str] = &[
    "X-A : b",
    " X-A: b",
    "X-A: b\r\n c",
    "X-A: b\0",
    "X-A: b\rc",
    "X-A",
    ": b",
    "X\u{b}A: b",
    "X-A\u{a0}: b",
    "X-A: b\u{7f}",
    "X-A: b\u{b}",
];
const FRAMINGS: &[&str] = &[
    "Content-Length: 5",
    "Transfer-Encoding: chunked",
    "Content-Length: 0",
    "Transfer-Encoding: Chunked",
];
const ODD_FRAMINGS: &[&str] = &[
    "Content-Length: +5",
    "Content-Length: -5",
    "Content-Length: 5, 5",
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 5\r\nContent-Length: 6",
    "Content-Length: 5\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Content-Length:",
    "Content-Length: 0x5",
    "Content-Length: 5 5",
    "Content-Length: 05",
    "Content-Length: 99999999999999999999",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: \u{b}chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding : chunked",
    "Transfer_Encoding: chunked",
];
const CHUNKS: &[&str] =
    &["5\r\nhello\r\n", "1\r\nx\r\n", "00a\r\n0123456789\r\n", "A\r\n0123456789\r\n"];
const ODD_CHUNKS: &[&str] = &[
    "5;a=b\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "0x5\r\nhello\r\n",
    "+5\r\nhello\r\n",
    "5\nhello\r\n",
    "5\r\nhelloXX",
    "5\r\nhello\n",
    "\r\n",
    "fffffffffffffffff\r\n",
    "5;\"\n\"\r\nhello\r\n",
    "5\r\r\nhello\r\n",
];
const ENDS: &[&str] = &["0\r\n\r\n", "0\r\nX-Sum: 7\r\n\r\n", "000\r\n\r\n"];
const ODD_ENDS: &[&str] = &[
    "0\r\nX-Sum : 7\r\n\r\n",
    "0\r\nHost: b\r\n\r\n",
    "0\r\nContent-Length: 3\r\n\r\n",
    "0\n\n",
    "0\r\nX\r\n\r\n",
    "0;a\r\n\r\n",
    "0\r\n",
];
const STATUSES: &[&str] =
    &["200 OK", "200", "200 ", "204 No Content", "304 Not Modified", "404 \u{e9}", "599 x"];
const ODD_STATUSES: &[&str] = &["2000", "20", "+20 x", "200\tOK", "099 x", "200 \u{1}", " 200 OK"];

/// Draws.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawer<'a>(pub(super) &'a Draws);

impl Drawer<'_> {
    pub(super) fn below(&self, most: usize) -> usize {
        let drawn = usize::try_from(self.0.next() >> 32).unwrap();
        drawn % most
    }

    /// True once in so many times.
    fn rarely(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(super) fn one<T: Copy>(&self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn either<'b>(&self, good: &'b [&'b str], odd: &'b [&'b str]) -> &'b str {
        if self.rarely(12) { self.one(odd) } else { self.one(good) }
    }

    fn line_end(&self) -> &'static str {
        if self.rarely(60) { self.one(&["\n", "\r", "\r\r\n", "\n\r\n", ""]) } else { "\r\n" }
    }

    /// Up to three requests, one behind the other.
    pub(super) fn connection(&self) -> Case {
        let mut case = Case::default();
        for _ in 0..=self.below(3) {
            if self.rarely(20) {
                case.add("\r\n");
            }
            let space = if self.rarely(60) { self.one(&["  ", "\t", ""]) } else { " " };
            let good = self.below(8) > 0;
            let method = if good { self.one(&METHODS[..4]) } else { self.one(METHODS) };
            let target = if good { self.one(&TARGETS[..4]) } else { self.one(TARGETS) };
            let version = if good { self.one(&VERSIONS[..3]) } else { self.one(VERSIONS) };
            case.add(format!("{method}{space}{target} {version}"));
            case.add(self.line_end());
            self.rest(&mut case);
        }
        case
    }

    /// An answer, with one before it that is none, now and then.
    pub(super) fn answer(&self) -> Case {
        let mut case = Case::default();
        if self.rarely(8) {
            case.add(
                self.one(&["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 x\r\nA: b\r\n\r\n"]),
            );
        }
        let version = self.either(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.0"], &VERSIONS[3..]);
        case.add(format!("{version} {}", self.either(STATUSES, ODD_STATUSES)));
        case.add(self.line_end());
        self.rest(&mut case);
        case
    }

    fn rest(&self, case: &mut Case) {
        let mut is_chunked = false;
        let framing = self.below(4);
        for number in 0..4 {
            if number == framing {
                let framing = self.either(FRAMINGS, ODD_FRAMINGS);
                is_chunked = framing.to_ascii_lowercase().contains("chunked");
                case.add(framing);
                case.add(self.line_end());
            } else if self.rarely(2) {
                case.add(self.either(FIELDS, ODD_FIELDS));
                case.add(self.line_end());
            }
        }
        case.add(self.line_end());
        if is_chunked {
            for _ in 0..self.below(3) {
                case.add(self.either(CHUNKS, ODD_CHUNKS));
            }
            case.add(self.either(ENDS, ODD_ENDS));
        } else if self.below(3) > 0 {
            case.add("hello");
        }
    }

    /// What a balancer says first.
    pub(super) fn proxied(&self) -> Case {
        let mut case = Case::default();
        if self.rarely(2) {
            let family = self.one(&["TCP4", "TCP6", "UNKNOWN", "UDP4"]);
            let address = || self.one(&["192.0.2.1", "::1", "2001:db8::1", "0", "a"]);
            let port = || self.one(&["0", "1", "65535", "65536", "+1", "01"]);
            let words = [family, address(), address(), port(), port()].join(" ");
            case.add(format!("PROXY {words}\r\n"));
        } else {
            case.add(b"\r\n\r\n\0\r\nQUIT\n");
            case.add([
                self.one(&[0x20, 0x21, 0x22, 0x11]),
                self.one(&[0, 0x11, 0x21, 0x12, 0x31, 0x41]),
            ]);
            let length = self.one(&[0_u16, 11, 12, 36, 40, 5000]);
            case.add(length.to_be_bytes());
            case.add(vec![7; usize::from(length)]);
        }
        case.add("GET / HTTP/1.1\r\n");
        case
    }

    /// A table of routes as the daemon writes it.
    pub(super) fn table(&self) -> Case {
        let mut case = Case::default();
        let parts: Vec<String> = (0..self.below(4)).map(|app| self.part(app)).collect();
        case.add(format!("{{\"apply\":{{\"version\":1,\"parts\":{{{}}}}}}}", parts.join(",")));
        case
    }

    fn part(&self, app: usize) -> String {
        let routes: Vec<String> = (0..self.below(4)).map(|_| self.route()).collect();
        let id = format!("00000000-0000-0000-0000-{app:012}");
        let endpoint = format!(
            "{{\"replica\":\"{id}\",\"name\":\"web.1\",\"address\":{{\"tcp\":\"127.0.0.1:1\"}}}}"
        );
        let state = self.one(&["live", "crashed", "stopped", "empty", "maintenance"]);
        format!(
            "\"{id}\":{{\"routes\":[{}],\"upstream\":{{\"app\":\"app{app}\",\"release\":1,\
             \"state\":\"{state}\",\"endpoints\":[{}]}}}}",
            routes.join(","),
            if self.rarely(2) { endpoint.as_str() } else { "" },
        )
    }

    fn route(&self) -> String {
        let host = self.one(&["a.x", "b.x", "*.x", "*.a.x", "*", "xn--a.x"]);
        let path = self.one(&["", "/", "/a", "/a/b", "/a/*", "=/a", "*/a/*.js", "*"]);
        let method = self.one(&["", "\"methods\":[\"GET\"],", "\"methods\":[\"POST\",\"GET\"],"]);
        let header = self.one(&["", "\"headers\":{\"x-a\":\"b*\"},"]);
        let weight = self.below(3);
        let path = if path.is_empty() { String::new() } else { format!("\"path\":\"{path}\",") };
        let action = self.one(&[
            "",
            ",\"action\":{\"serve\":{\"to\":\"https://old.example\"}}",
            ",\"action\":{\"serve\":{\"split\":[{\"to\":\"app1\",\"percent\":30}]}}",
            ",\"action\":{\"redirect\":{\"to\":\"https\",\"status\":308}}",
        ]);
        format!(
            "{{\"host\":\"{host}\",\"when\":{{{path}{method}{header}\"weight\":{weight}}}{action}}}"
        )
    }
}
