//! From a URL's path to a name below the folder. Refuses what two readers could read in two ways.

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Below the folder, decoded; empty is the folder itself.
    pub(super) relative: String,
    /// Whether it ended with a slash.
    pub(super) is_folder: bool,
}

impl Target {
    /// The file it stands for: itself, or its folder's index.
    pub(super) fn file(&self, index: &str) -> String {
        match self.is_folder {
            true => self.index(index),
            false if self.relative.is_empty() => ".".to_owned(),
            false => self.relative.clone(),
        }
    }

    /// The index it has, if it is a folder.
    pub(super) fn index(&self, index: &str) -> String {
        match self.relative.as_str() {
            "" => index.to_owned(),
            relative => format!("{relative}/{index}"),
        }
    }

    /// Whether its last part looks like a file's name.
    pub(super) fn has_extension(&self) -> bool {
        !self.is_folder && self.relative.rsplit('/').next().is_some_and(|last| last.contains('.'))
    }
}

/// Reads a path, still encoded, with its first slash. None is a path no file of ours has: one that
/// climbs, has empty or hidden parts, an encoded slash or a NUL, or is not UTF-8.
pub(super) fn target(path: &str) -> Option<Target> {
    let is_folder = path.ends_with('/');
    let path = path.strip_prefix('/').unwrap_or(path);
    let mut relative = String::with_capacity(path.len());
    if path.is_empty() {
        return Some(Target { relative, is_folder });
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    for (position, part) in path.split('/').enumerate() {
        let part = decode(part)?;
        let is_known = position == 0 && part == ".well-known";
        if part.is_empty() || part.contains(['/', '\\', '\0']) || part.starts_with('.') && !is_known
        {
            return None;
        }
        if position > 0 {
            relative.push('/');
        }
        relative.push_str(&part);
    }
    Some(Target { relative, is_folder })
}

fn decode(part: &str) -> Option<String> {
    if !part.contains('%') {
        return Some(part.to_owned());
    }
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        // `from_str_radix` takes a sign; a URL has none.
        if digits.starts_with('+') {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_what_is_below_or_nothing() {
        for (path, relative, is_folder) in [
            ("", "", false),
            ("/", "", true),
            ("/a", "a", false),
            ("/a/b/", "a/b", true),
            ("/a%20b/%C3%A4.txt", "a b/ä.txt", false),
            ("/.well-known/x", ".well-known/x", false),
        ] {
            let found = target(path).unwrap();
            assert_eq!((found.relative.as_str(), found.is_folder), (relative, is_folder), "{path}");
        }
        for path in [
            "/..",
            "/../etc/passwd",
            "/a/../b",
            "/%2e%2e/b",
            "/.env",
            "/%2eenv",
            "/a/.git/config",
            "/a/.well-known/x",
            "//a",
            "/a//b",
            "/a%2Fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/%ff",
            "/a//",
        ] {
            assert_eq!(target(path), None, "{path}");
        }
    }
}
