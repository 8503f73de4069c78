//! How much of an app's requests one replica gets, beside the others.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A replica's weight: 100 is ordinary, 50 half of that, 0 nothing new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Weight(u16);

/// A number or text that is no weight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a weight: a whole number from 0 (nothing new) to 1000; 100 is ordinary")]
pub struct WeightError(String);

impl Weight {
    /// What a replica has of whom nothing was said.
    pub const ORDINARY: Self = Self(100);
    const MOST: u16 = 1000;

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// Whether nothing was said.
    pub fn is_ordinary(&self) -> bool {
        *self == Self::ORDINARY
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ORDINARY
    }
}

impl TryFrom<u16> for Weight {
    type Error = WeightError;
    fn try_from(number: u16) -> Result<Self, WeightError> {
        if number > Self::MOST { Err(WeightError(number.to_string())) } else { Ok(Self(number)) }
    }
}

impl From<Weight> for u16 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl FromStr for Weight {
    type Err = WeightError;
    fn from_str(text: &str) -> Result<Self, WeightError> {
        let number: Option<u16> = text.parse().ok().filter(|_| !text.starts_with('+'));
        number.and_then(|number| number.try_into().ok()).ok_or_else(|| WeightError(text.to_owned()))
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_bounds() {
        assert_eq!("0".parse::<Weight>().unwrap().get(), 0);
        assert_eq!("1000".parse::<Weight>().unwrap().get(), 1000);
        for wrong in ["", "1001", "-1", "+1", "50%", "1.5"] {
            assert!(wrong.parse::<Weight>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Weight>("1001").is_err());
    }
}
