//! Texts with stars: `*` is any run of characters, none and `/` among them.
//!
//! Matching is linear in the text whatever the pattern, because the text is a stranger's.

/// Whether the whole text is of the pattern.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        // The leftmost place leaves most for what comes after.
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// How many characters of the pattern stand for themselves.
pub fn literals(pattern: &str) -> usize {
    pattern.bytes().filter(|byte| *byte != b'*').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a star means, said as plainly as it can be.
    fn plainly(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', pattern @ ..], text) => {
                (0..=text.len()).any(|from| plainly(pattern, &text[from..]))
            }
            ([first, pattern @ ..], [same, text @ ..]) if first == same => plainly(pattern, text),
            _ => false,
        }
    }

    #[test]
    fn stars_match_as_said() {
        for (pattern, text, expected) in [
            ("*/styles/*.*", "/shop/styles/a.css", true),
            ("*/styles/*.*", "/styles/deep/er/a.css", true),
            ("*/styles/*.*", "/styles/none", false),
            ("*/*.action", "/x.action", true),
            ("*/*.action", "/x.action/y", false),
            ("/a*b", "/ab", true),
            ("/a*a", "/a", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn every_short_pattern_agrees_with_the_plain_meaning() {
        let words = |letters: &str, longest: u32| {
            let letters: Vec<char> = letters.chars().collect();
            (0..=longest).flat_map(move |length| {
                let letters = letters.clone();
                (0..letters.len().pow(length)).map(move |mut number| {
                    let mut word = String::new();
                    for _ in 0..length {
                        word.push(letters[number % letters.len()]);
                        number /= letters.len();
                    }
                    word
                })
            })
        };
        let texts: Vec<String> = words("ab", 6).collect();
        for pattern in words("ab*", 5) {
            for text in &texts {
                let expected = plainly(pattern.as_bytes(), text.as_bytes());
                assert_eq!(matches(&pattern, text), expected, "{pattern} {text}");
            }
        }
    }
}
