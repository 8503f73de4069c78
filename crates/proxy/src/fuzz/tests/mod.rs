//! The same as the fuzz targets, with messages drawn from a seed: the same ones every time. What fails
//! is made as short as it can be before it is told.

mod grammar;

use std::collections::BTreeSet;

use http::Method;

use super::message::{End, Reading};
use super::{Read, read_answers, read_requests};
use crate::draws::Draws;
use grammar::{Case, Drawer};

/// So many connections of each kind.
const CASES: usize = 4000;
/// A case this short is cut at every one of its bytes.
const EVERY_CUT: usize = 127;

/// Every way to cut a case up that is worth trying.
fn cuts(length: usize, number: usize) -> Vec<u8> {
    let last = u8::try_from(length.clamp(1, EVERY_CUT)).unwrap();
    if number.is_multiple_of(16) { (0..=last).collect() } else { vec![0, last / 2, 200] }
}

/// Checks a case, and tells the shortest one that fails as it does.
fn check(case: &Case, number: usize, read: impl Fn(&[u8], &[u8]) -> Read) -> (Reading, Reading) {
    let fails = |case: &Case| {
        let bytes = case.bytes();
        read(&bytes, &cuts(bytes.len(), number)).err()
    };
    if fails(case).is_some() {
        let shortest = case.shortest(|case| fails(case).is_some());
        let why = fails(&shortest).unwrap();
        panic!("case {number}: {}\n{why}", shortest.bytes().escape_ascii());
    }
    read(&case.bytes(), &[]).unwrap()
}

/// The rule we refuse it by, when the other reads on there.
fn stricter((own, other): &(Reading, Reading)) -> Option<String> {
    let rule = own.rule()?;
    let ours = own.messages.iter().filter(|message| message.end == End::Whole).count();
    let theirs = other.messages.iter().filter(|message| message.end == End::Whole).count();
    (theirs > ours).then(|| rule.to_owned())
}

#[test]
fn requests_are_read_as_hyper_reads_them_or_refused_by_name() {
    let draws = Draws::seeded(1);
    let (mut taken, mut rules) = (0, BTreeSet::new());
    for number in 0..CASES {
        let case = Drawer(&draws).connection();
        let read = check(&case, number, read_requests);
        taken += read.0.messages.iter().filter(|message| message.end == End::Whole).count();
        rules.extend(stricter(&read));
    }
    assert!(taken > CASES / 2, "most of what is drawn is refused: {taken}");
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    insta::assert_snapshot!(rules.join("\n"), @r"
    Transfer-Encoding other than `chunked`, once
    a bare line feed
    a character in the target that does not belong there
    a chunk size that is not hex digits
    a trailer that frames or routes
    both Content-Length and Transfer-Encoding
    more than one Content-Length
    ");
}

#[test]
fn answers_are_read_as_hyper_reads_them_or_refused_by_name() {
    let draws = Draws::seeded(2);
    let (mut taken, mut rules) = (0, BTreeSet::new());
    for number in 0..CASES / 2 {
        let case = Drawer(&draws).answer();
        let method = if number.is_multiple_of(5) { Method::HEAD } else { Method::GET };
        let read = check(&case, number, |bytes, cuts| read_answers(&method, bytes, cuts));
        taken += read.0.messages.iter().filter(|message| message.end == End::Whole).count();
        rules.extend(stricter(&read));
    }
    assert!(taken > CASES / 8, "most of what is drawn is refused: {taken}");
    let rules: Vec<_> = rules.iter().map(String::as_str).collect();
    insta::assert_snapshot!(rules.join("\n"), @r"
    Content-Length is not a number
    Transfer-Encoding in HTTP/1.0
    Transfer-Encoding other than `chunked`, once
    an answer that is not whole
    both Content-Length and Transfer-Encoding
    more than one Content-Length
    no HTTP
    ");
}

#[test]
fn broken_bytes_break_nothing_else() {
    let draws = Draws::seeded(3);
    for number in 1..CASES / 4 {
        let case = Drawer(&draws).connection().spoilt(&draws);
        check(&case, number, read_requests);
        let case = Drawer(&draws).answer().spoilt(&draws);
        check(&case, number, |bytes, cuts| read_answers(&Method::GET, bytes, cuts));
        super::proxied(&Drawer(&draws).proxied().spoilt(&draws).bytes());
        super::route_table(&Drawer(&draws).table().spoilt(&draws).bytes());
    }
}

#[test]
fn tables_answer_alike_however_they_were_put_together() {
    let draws = Draws::seeded(4);
    for _ in 0..CASES / 4 {
        super::route_table(&Drawer(&draws).table().bytes());
    }
}
