//! A request's place in a trace, read from `traceparent` and written to it. Pure.

/// Our span in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace: u128,
    pub(crate) span: u64,
    /// Whose child our span is; none when the trace begins here.
    pub(crate) parent: Option<u64>,
    pub(crate) is_sampled: bool,
}

impl Context {
    pub(super) fn root(trace: u128, span: u64, is_sampled: bool) -> Self {
        Self { trace, span, parent: None, is_sampled }
    }

    /// A caller's place; none where the value breaks a rule of the Recommendation. A version that is not
    /// known yet is read as far as this one goes (W3C Trace Context, 3.2.4).
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let version = hex(value.get(..2)?)?;
        let is_whole = match value.get(55) {
            None => true,
            Some(next) => version > 0 && *next == b'-',
        };
        let dashes = [2, 35, 52].iter().all(|place| value.get(*place) == Some(&b'-'));
        if version == 0xff || !is_whole || !dashes {
            return None;
        }
        let trace = hex(value.get(3..35)?)?;
        let span = u64::try_from(hex(value.get(36..52)?)?).ok()?;
        let flags = hex(value.get(53..55)?)?;
        let is_sampled = flags & 1 == 1;
        (trace != 0 && span != 0).then_some(Self { trace, span, parent: None, is_sampled })
    }

    /// The place below.
    pub(super) fn child(self, span: u64) -> Self {
        Self { span, parent: Some(self.span), ..self }
    }

    /// As the next one is told; flags that are not known are not passed on.
    pub(super) fn header(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

/// Lower case digits only, as the Recommendation has it.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_place_is_continued_below() {
        let parent = Context::parse(GOOD.as_bytes()).unwrap();
        let child = parent.child(7);
        assert_eq!((child.trace, child.parent), (parent.trace, Some(0x00f0_67aa_0ba9_02b7)));
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000007-01";
        assert_eq!(child.header(), text);
    }

    #[test]
    fn what_breaks_a_rule_is_no_place() {
        let zero = "0".repeat(32);
        let (trace, span) = (&GOOD[3..35], &GOOD[36..52]);
        for bad in [
            String::new(),
            GOOD.to_uppercase(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-"),
            format!("{GOOD}0"),
            GOOD.replacen("00-", "ff-", 1),
            GOOD.replacen("00-", "0-", 1),
            GOOD.replace('-', "_"),
            format!("00-{zero}-{span}-01"),
            format!("00-{trace}-{}-01", &zero[..16]),
            format!("00-{trace}-{span}-0g"),
            format!("01-{trace}-{span}-01x"),
            "00-é".to_owned(),
        ] {
            assert_eq!(Context::parse(bad.as_bytes()), None, "{bad}");
        }
        for good in [GOOD.replacen("00-", "cc-", 1), format!("01-{trace}-{span}-01-more")] {
            assert!(Context::parse(good.as_bytes()).is_some(), "{good}");
        }
        for (flags, is_sampled) in [("00", false), ("01", true), ("02", false), ("ff", true)] {
            let place = Context::parse(format!("00-{trace}-{span}-{flags}").as_bytes()).unwrap();
            assert_eq!(place.is_sampled, is_sampled, "{flags}");
        }
    }
}
