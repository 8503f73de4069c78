//! Which ready-made neighbours of a file a client takes, the best first (RFC 9110, 12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// A compression a file may be there in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Brotli,
    Zstd,
    Gzip,
}

/// In the order in which they are taken when a client likes them alike: the smallest first.
const ALL: [Encoding; 3] = [Encoding::Brotli, Encoding::Zstd, Encoding::Gzip];

impl Encoding {
    /// As `Content-Encoding` has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the neighbour's name ends with.
    pub(super) fn extension(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zst",
            Self::Gzip => "gz",
        }
    }
}

/// Those the client takes and likes no less than the plain file.
pub(super) fn wanted(headers: &HeaderMap) -> impl Iterator<Item = Encoding> {
    let mut weighed: Vec<(u16, Encoding)> = Vec::new();
    if headers.contains_key(ACCEPT_ENCODING) {
        let plain = weight(headers, "identity").unwrap_or(0);
        let any = weight(headers, "*").unwrap_or(0);
        weighed = ALL.map(|one| (weight(headers, one.name()).unwrap_or(any), one)).to_vec();
        weighed.retain(|(weight, _)| *weight > 0 && *weight >= plain);
        weighed.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    }
    weighed.into_iter().map(|(_, one)| one)
}

/// The thousandths a coding is given; none when it is not named.
fn weight(headers: &HeaderMap, coding: &str) -> Option<u16> {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut parts = values.flat_map(|value| value.split(','));
    parts.find_map(|part| {
        let (name, rest) = part.split_once(';').unwrap_or((part, ""));
        if !name.trim().eq_ignore_ascii_case(coding) {
            return None;
        }
        let quality = rest.trim().strip_prefix(['q', 'Q']).map(str::trim_start);
        let quality = quality.and_then(|rest| rest.strip_prefix('='));
        Some(quality.map_or(1000, |text| thousandths(text.trim())))
    })
}

/// `0.5` is 500; what is no quality is none at all.
fn thousandths(text: &str) -> u16 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = part.bytes().chain(std::iter::repeat(b'0')).take(3);
    let part = digits.fold(0_u16, |sum, digit| sum * 10 + u16::from(digit.wrapping_sub(b'0') % 10));
    match whole {
        "1" => 1000,
        "0" => part,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_likes_best_comes_first() {
        for (given, expected) in [
            ("", ""),
            ("gzip", "gzip"),
            ("gzip, deflate, br, zstd", "br zstd gzip"),
            ("br;q=0.5, gzip;q=0.8", "gzip br"),
            ("br;q=0, gzip", "gzip"),
            ("*", "br zstd gzip"),
            ("*;q=0.1, br;q=0", "zstd gzip"),
            ("identity, gzip;q=0.5", ""),
            ("GZIP ; q=1.0", "gzip"),
            ("gzip;q=x", ""),
            ("deflate", ""),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, given.parse().unwrap());
            let names: Vec<_> = wanted(&headers).map(Encoding::name).collect();
            assert_eq!(names.join(" "), expected, "{given}");
        }
        assert_eq!(wanted(&HeaderMap::new()).count(), 0);
    }
}
