//! Whether a file's name has a fingerprint of its content in it, as bundlers write them. In doubt it has
//! none: a browser that asks again loses little, one that never asks again keeps an old file for a year.

/// Shortest fingerprint, and how long one must be that is the whole name.
const SHORTEST: usize = 8;
const SHORTEST_ALONE: usize = 16;

/// Looks at the last part of a path: `app.3f2a9c1b.js`, `index-BX2k3f9a.css`, `chunk-JW3NZ5YQ.js`.
pub(super) fn has(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((stem, _)) = name.rsplit_once('.') else { return false };
    let mut parts = stem.split(['.', '-']).filter(|part| !part.is_empty());
    let Some(first) = parts.next() else { return false };
    is_hex(first) && first.len() >= SHORTEST_ALONE
        || parts.any(|part| is_hex(part) || is_mixed(part) || is_base32(part))
}

/// `3f2a9c1b`: digits and letters, so that neither a date nor a word is one.
fn is_hex(part: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let is_letter = |byte: u8| (b'a'..=b'f').contains(&byte);
    part.len() >= SHORTEST
        && part.bytes().all(|byte| is_digit(byte) || is_letter(byte))
        && part.bytes().any(is_digit)
        && part.bytes().any(is_letter)
}

/// `BX2k3f9a`: digits, small and large letters.
fn is_mixed(part: &str) -> bool {
    let is_one = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    part.len() >= SHORTEST
        && part.bytes().all(is_one)
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_lowercase())
        // One large letter at its start is a word's.
        && part.bytes().skip(1).any(|byte| byte.is_ascii_uppercase())
}

/// `JW3NZ5YQ`: eight of base 32, and not a word.
fn is_base32(part: &str) -> bool {
    let is_digit = |byte: u8| (b'2'..=b'7').contains(&byte);
    let digits = part.bytes().filter(|byte| is_digit(*byte)).count();
    part.len() == SHORTEST
        && (2..SHORTEST).contains(&digits)
        && part.bytes().all(|byte| byte.is_ascii_uppercase() || is_digit(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_told_from_words_dates_and_versions() {
        for name in [
            "app.3f2a9c1b.js",
            "a/b/index-BX2k3f9a.js",
            "main.8d969eef6ecad3c29a3a.chunk.js.map",
            "chunk-JW3NZ5YQ.js",
            "3f2a9c1b7d8e9f0a1b2c.css",
            "logo-5d3k9XaQ.svg",
        ] {
            assert!(has(name), "{name}");
        }
        for name in [
            "app.js",
            "jquery-3.7.1.min.js",
            "report-20240101.pdf",
            "IMG-20240101T1200.jpg",
            "date-picker.js",
            "x-DatePicker.js",
            "jquery-validate.min.js",
            "deadbeef.js",
            "notes-release2024.html",
            "doc-VERSIONS.pdf",
            "3f2a9c1b",
            "a.3f2a9c1b/app.js",
            ".js",
        ] {
            assert!(!has(name), "{name}");
        }
    }
}
