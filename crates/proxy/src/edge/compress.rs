//! Which answers are compressed, and how: decided by what the client takes (RFC 9110 §12.5.3), what the
//! answer is, and what the app asked for. [`super::encode`] does it.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use model::route::edge::Compress;

use super::dress;
use crate::headers::has_token;

/// Digests of the bytes as the app sent them (RFC 9530, RFC 3230, RFC 1864).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// How a body is compressed. Where a client likes several alike, the first: it costs least for what
/// it saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

impl Coding {
    const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Decides for one answer; its head tells from here on that others may have got it otherwise.
pub(super) fn decide(
    rules: &Compress,
    request: &Parts,
    status: StatusCode,
    headers: &mut HeaderMap,
) -> Option<Coding> {
    if status == StatusCode::NOT_MODIFIED {
        know_again(&request.headers, headers);
        return None;
    }
    let has_body = !status.is_informational()
        && ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT].contains(&status);
    if !has_body || !is_meant(rules, headers) {
        return None;
    }
    dress::vary(headers, "Accept-Encoding");
    let is_whole = status != StatusCode::PARTIAL_CONTENT && !headers.contains_key(CONTENT_RANGE);
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let is_long = length.is_none_or(|length: u64| length >= rules.from);
    if !is_whole || !is_long || request.method == Method::HEAD || is_fixed(&request.headers) {
        return None;
    }
    preferred(&request.headers)
}

/// Says on the head of an answer that its body is compressed.
pub(super) fn say(coding: Coding, headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    // Its parts are those of another body.
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
}

/// Whether the answer is of a type that is compressed, by anybody who may.
fn is_meant(rules: &Compress, headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    rules.covers(&kind)
        && !headers.contains_key(CONTENT_ENCODING)
        && !is_fixed(headers)
        && !DIGESTS.iter().any(|name| headers.contains_key(name))
}

/// Whether nobody on the way may change the body.
fn is_fixed(headers: &HeaderMap) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|value| has_token(value, "no-transform"))
}

/// The bytes are others now, and mean the same: that is what a weak tag says.
fn weaken(headers: &mut HeaderMap) {
    let strong = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    let weak = strong.map(|tag| [b"W/", tag.as_bytes()].concat());
    if let Some(weak) = weak.and_then(|weak| HeaderValue::from_bytes(&weak).ok()) {
        headers.insert(ETAG, weak);
    }
}

/// Who has the weak tag of an answer knows it again when nothing changed.
fn know_again(request: &HeaderMap, headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG).and_then(|tag| tag.to_str().ok()) else { return };
    let weak = format!("W/{tag}");
    if request.get_all(IF_NONE_MATCH).iter().any(|value| has_token(value, &weak)) {
        weaken(headers);
    }
}

/// The coding the client likes best, if it takes any; no header is none.
fn preferred(request: &HeaderMap) -> Option<Coding> {
    let mut weights: [Option<u16>; 3] = [None; 3];
    let mut others = None;
    let lists = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in lists.flat_map(|list| list.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = weight.map_or(1000, thousandths);
        let name = if name == "x-gzip" { "gzip" } else { &name };
        match Coding::ALL.iter().position(|coding| coding.name() == name) {
            Some(at) => weights[at] = Some(weight),
            None if name == "*" => others = Some(weight),
            None => {}
        }
    }
    let weight = |at: usize| weights[at].or(others).unwrap_or(0);
    let all = Coding::ALL.into_iter().enumerate();
    let liked = all.map(|(at, coding)| (weight(at), coding)).filter(|(weight, _)| *weight > 0);
    // Of those liked alike the first.
    liked.rev().max_by_key(|(weight, _)| *weight).map(|(_, coding)| coding)
}

/// `0.5` is 500; what is no weight is none at all.
fn thousandths(text: &str) -> u16 {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let rest = format!("{rest:0<3}");
    match (whole, rest.parse::<u16>()) {
        ("0", Ok(rest @ 0..=999)) => rest,
        ("1", Ok(0)) => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_what_it_likes_best() {
        for (accept, expected) in [
            ("", None),
            ("identity", None),
            ("deflate", None),
            ("gzip", Some(Coding::Gzip)),
            ("x-gzip", Some(Coding::Gzip)),
            ("GZIP;q=0.5", Some(Coding::Gzip)),
            ("gzip, deflate, br, zstd", Some(Coding::Zstd)),
            ("gzip, deflate, br", Some(Coding::Brotli)),
            ("gzip;q=1.0, br;q=0.5", Some(Coding::Gzip)),
            ("gzip;q=0.8 , br; q=0.9", Some(Coding::Brotli)),
            ("gzip;q=0", None),
            ("gzip;q=0.000, *;q=0", None),
            ("*", Some(Coding::Zstd)),
            ("*;q=0.1, zstd;q=0", Some(Coding::Brotli)),
            ("gzip;q=2", None),
            ("gzip;q=x", None),
            ("identity;q=0, gzip;q=0.001", Some(Coding::Gzip)),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, accept.parse().unwrap())]);
            assert_eq!(preferred(&headers), expected, "{accept}");
        }
        assert_eq!(preferred(&HeaderMap::new()), None);
    }
}
