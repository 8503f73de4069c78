//! Which of the fields that mean something to the edge a request has: looked at once, field by field. To ask
//! the map for each of them by its name took as long as all the rest of reading a head.

use http::{HeaderMap, HeaderName};

/// Some of the fields the edge knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Marks(u16);

impl Marks {
    pub(crate) const CONNECTION: Self = Self(1);
    pub(crate) const CONTENT_LENGTH: Self = Self(1 << 1);
    pub(crate) const EXPECT: Self = Self(1 << 2);
    pub(crate) const REQUEST_ID: Self = Self(1 << 3);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 4);
    pub(crate) const UPGRADE: Self = Self(1 << 5);
    pub(crate) const VIA: Self = Self(1 << 6);
    /// A field that the edge settles: it goes, or says what we say.
    pub(crate) const SETTLED: Self = Self(1 << 7);

    /// Those a request has.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::default(), |marks, name| marks.and(Self::one(name)))
    }

    /// Those of one field.
    pub(crate) fn one(name: &HeaderName) -> Self {
        match name.as_str() {
            "connection" => Self::CONNECTION.and(Self::SETTLED),
            "content-length" => Self::CONTENT_LENGTH,
            "expect" => Self::EXPECT.and(Self::SETTLED),
            "transfer-encoding" => Self::TRANSFER_ENCODING,
            "upgrade" => Self::UPGRADE.and(Self::SETTLED),
            "via" => Self::VIA.and(Self::SETTLED),
            "x-request-id" => Self::REQUEST_ID.and(Self::SETTLED),
            "keep-alive" | "proxy-connection" | "te" | "forwarded" | "x-request-start"
            | "x-forwarded-for" | "x-forwarded-host" | "x-forwarded-port" | "x-forwarded-proto" => {
                Self::SETTLED
            }
            _ => Self::default(),
        }
    }

    /// These and those.
    pub(crate) const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Whether one of those is among them.
    pub(crate) const fn has(self, some: Self) -> bool {
        self.0 & some.0 != 0
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_known_field_is_marked_whatever_its_case() {
        let value = HeaderValue::from_static("x");
        let of = |name: &str| {
            let name: HeaderName = name.parse().unwrap();
            Marks::of(&HeaderMap::from_iter([(name, value.clone())]))
        };
        for (name, mark, is_settled) in [
            ("Connection", Marks::CONNECTION, true),
            ("Content-Length", Marks::CONTENT_LENGTH, false),
            ("EXPECT", Marks::EXPECT, true),
            ("X-Request-Id", Marks::REQUEST_ID, true),
            ("Transfer-Encoding", Marks::TRANSFER_ENCODING, false),
            ("Upgrade", Marks::UPGRADE, true),
            ("Via", Marks::VIA, true),
            ("x-forwarded-FOR", Marks::SETTLED, true),
        ] {
            assert!(of(name).has(mark) && of(name).has(Marks::SETTLED) == is_settled, "{name}");
        }
        assert_eq!([of("host"), of("cookie")], [Marks::default(); 2]);
    }
}
