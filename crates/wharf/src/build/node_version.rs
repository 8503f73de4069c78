//! Node versions and the ranges of them that apps ask for. Pure.
//!
//! npm's range grammar as far as `engines.node` needs it, and the names `.nvmrc` knows. Of the
//! versions that fit, one of the default line wins, because `>=18` means "not older", not "the
//! newest experiment"; without one, the newest that fits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The line that is taken when nobody asks for another: the long-term one.
pub const DEFAULT_LINE: u32 = 22;

/// `major.minor.patch`; prereleases are not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for Version {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match Partial::parse(text).ok_or(())? {
            Partial { parts: [Some(major), Some(minor), Some(patch)] } => {
                Ok(Self { major, minor, patch })
            }
            Partial { .. } => Err(()),
        }
    }
}

/// A range: any of these bands, `from` inclusive, `to` exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    bands: Vec<(Version, Version)>,
}

const LOWEST: Version = Version { major: 0, minor: 0, patch: 0 };
const BEYOND: Version = Version { major: u32::MAX, minor: 0, patch: 0 };

impl Range {
    /// The range in npm's words (`^20.1`, `>=18 <23`, `22.x`, `20 || 22`) or nvm's (`lts/*`, `node`).
    pub fn parse(text: &str) -> Option<Self> {
        let bands: Option<Vec<_>> = text.trim().split("||").map(parse_band).collect();
        bands.map(|bands| Self { bands })
    }

    fn has(&self, version: Version) -> bool {
        self.bands.iter().any(|(from, to)| *from <= version && version < *to)
    }

    /// The version to take of those there are.
    pub fn choose(&self, available: &[Version]) -> Option<Version> {
        let fitting = || available.iter().copied().filter(|version| self.has(*version));
        fitting().filter(|version| version.major == DEFAULT_LINE).max().or_else(|| fitting().max())
    }
}

fn parse_band(text: &str) -> Option<(Version, Version)> {
    let text = text.trim();
    match text {
        "" | "*" | "latest" | "node" | "current" | "stable" => return Some((LOWEST, BEYOND)),
        "lts" | "lts/*" => return line(DEFAULT_LINE),
        "lts/gallium" => return line(16),
        "lts/hydrogen" => return line(18),
        "lts/iron" => return line(20),
        "lts/jod" => return line(22),
        "lts/krypton" => return line(24),
        _ => {}
    }
    if let Some((from, to)) = text.split_once(" - ") {
        return Some((Partial::parse(from)?.floor(), Partial::parse(to)?.after()));
    }
    // `>= 18` is written with and without the space.
    let mut joined = String::new();
    for word in text.split_whitespace() {
        if !joined.is_empty() && !joined.ends_with(['>', '<', '=', '^', '~']) {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined.split(' ').try_fold((LOWEST, BEYOND), |(from, to), word| {
        let (low, high) = comparator(word)?;
        Some((from.max(low), to.min(high)))
    })
}

fn line(major: u32) -> Option<(Version, Version)> {
    Some((Version { major, ..LOWEST }, Version { major: major + 1, ..LOWEST }))
}

fn comparator(word: &str) -> Option<(Version, Version)> {
    let digits = word.trim_start_matches(['>', '<', '=', '^', '~']);
    let operator = &word[..word.len() - digits.len()];
    let partial = Partial::parse(digits)?;
    let (floor, after) = (partial.floor(), partial.after());
    Some(match operator {
        "" | "=" => (floor, after),
        ">=" => (floor, BEYOND),
        ">" => (after, BEYOND),
        "<" => (LOWEST, floor),
        "<=" => (LOWEST, after),
        "~" | "~>" => {
            (floor, Partial { parts: [partial.parts[0], partial.parts[1], None] }.after())
        }
        "^" if floor.major > 0 => (floor, Version { major: floor.major + 1, ..LOWEST }),
        "^" => (floor, Partial { parts: [Some(0), partial.parts[1], None] }.after()),
        _ => return None,
    })
}

/// `22`, `22.1`, `22.x`, `v22.1.0`.
struct Partial {
    parts: [Option<u32>; 3],
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches(['v', 'V']);
        let mut parts = [None; 3];
        if text.is_empty() || text.split('.').count() > 3 {
            return None;
        }
        for (slot, word) in parts.iter_mut().zip(text.split('.')) {
            match word {
                "x" | "X" | "*" => break,
                // Small enough that one may be added.
                number => *slot = Some(number.parse().ok().filter(|number| *number < 1_000_000)?),
            }
        }
        Some(Self { parts })
    }

    fn floor(&self) -> Version {
        let [major, minor, patch] = self.parts.map(|part| part.unwrap_or(0));
        Version { major, minor, patch }
    }

    /// The first version that is no longer this one.
    fn after(&self) -> Version {
        let Version { major, minor, patch } = self.floor();
        match self.parts {
            [None, _, _] => BEYOND,
            [_, None, _] => Version { major: major + 1, minor: 0, patch: 0 },
            [_, _, None] => Version { major, minor: minor + 1, patch: 0 },
            [_, _, Some(_)] => Version { major, minor, patch: patch + 1 },
        }
    }
}

/// The newest version of each line, for the person whose wish could not be granted.
pub fn newest_of_each_line(available: &[Version]) -> Vec<Version> {
    let mut newest = std::collections::BTreeMap::new();
    for version in available {
        let entry = newest.entry(version.major).or_insert(*version);
        *entry = (*entry).max(*version);
    }
    newest.into_values().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_choose_as_people_expect() {
        let available: Vec<Version> =
            ["16.20.2", "18.20.8", "20.1.0", "20.20.2", "22.1.0", "22.23.3", "24.21.0", "26.10.0"]
                .map(|text| text.parse().unwrap())
                .to_vec();
        for (range, chosen) in [
            ("22.x", "22.23.3"),
            ("22", "22.23.3"),
            ("^20.1.0", "20.20.2"),
            ("~20.1", "20.1.0"),
            (">=18", "22.23.3"),
            (">= 18.0.0 < 21", "20.20.2"),
            (">=23", "26.10.0"),
            ("18 || 20", "20.20.2"),
            ("16.0.0 - 18", "18.20.8"),
            ("v20.1.0", "20.1.0"),
            ("=24", "24.21.0"),
            ("*", "22.23.3"),
            ("lts/*", "22.23.3"),
            ("lts/iron", "20.20.2"),
            ("<17", "16.20.2"),
            (">18 <=20.x", "20.20.2"),
        ] {
            let parsed = Range::parse(range).unwrap_or_else(|| panic!("{range}"));
            assert_eq!(parsed.choose(&available).unwrap().to_string(), chosen, "{range}");
        }
        assert_eq!(Range::parse("20.99.x").unwrap().choose(&available), None);
        for bad in ["twenty", "1.2.3.4", "^", ">=", "20..1", "99999999999"] {
            assert!(Range::parse(bad).is_none(), "{bad}");
        }
    }
}
