//! Names for apps nobody named.

use model::name::AppName;

use crate::secrets::random;

const FIRST: [&str; 16] = [
    "amber", "bold", "calm", "clear", "deep", "early", "fair", "gentle", "keen", "lucky", "misty",
    "quiet", "salty", "steady", "sunny", "windy",
];
const SECOND: [&str; 16] = [
    "anchor", "bay", "beacon", "buoy", "cove", "dock", "ferry", "gull", "harbor", "island",
    "jetty", "keel", "lagoon", "mast", "pier", "tide",
];

/// `calm-harbor-4711`; one of a few million, so that trying again is rare.
pub fn made_up() -> AppName {
    let [first, second, high, low] = random::<4>();
    let number = u16::from_be_bytes([high, low]) % 10_000;
    let pick = |words: &[&'static str; 16], byte: u8| words[usize::from(byte) % words.len()];
    format!("{}-{}-{number:04}", pick(&FIRST, first), pick(&SECOND, second))
        .parse()
        .expect("short lower-case words and digits make an app name")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_combination_is_a_name() {
        for first in super::FIRST {
            for second in super::SECOND {
                let name = format!("{first}-{second}-0000");
                assert!(name.parse::<model::name::AppName>().is_ok(), "{name}");
            }
        }
        assert_ne!(super::made_up().as_str(), "");
    }
}
