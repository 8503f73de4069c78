//! What is mounted inside: `/proc/<pid>/mountinfo`.

/// One mount as a process inside sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    pub target: String,
    /// The kind of file system: `overlay`, `proc`, `tmpfs` …
    pub kind: String,
    /// Of its file system, what is shown: `/` is all of it.
    pub part: String,
    pub is_read_only: bool,
    /// `nosuid`, `nodev`, `noexec`, as far as they are set.
    pub options: Vec<String>,
}

pub(super) fn of(pid: u32) -> Vec<Mounted> {
    let table = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    table.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Mounted> {
    let (front, back) = line.split_once(" - ")?;
    let mut fields = front.split(' ').skip(3);
    let (part, target, options) = (fields.next()?, fields.next()?, fields.next()?);
    let has = |word: &str| options.split(',').any(|option| option == word);
    let walls = ["nosuid", "nodev", "noexec"].into_iter().filter(|word| has(word));
    Some(Mounted {
        target: unescape(target),
        kind: back.split(' ').next()?.to_owned(),
        part: unescape(part),
        is_read_only: has("ro"),
        options: walls.map(str::to_owned).collect(),
    })
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'\\').then(|| after.get(..3)).flatten();
        let code = code.and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_what_it_forbids() {
        let line =
            r"700 690 0:60 /a\040b /data\134x ro,nosuid,nodev,relatime master:1 - ext4 /dev/vda rw";
        let seen = parse(line).unwrap();
        assert_eq!((seen.part.as_str(), seen.target.as_str()), ("/a b", r"/data\x"));
        assert_eq!((seen.kind.as_str(), seen.is_read_only), ("ext4", true));
        assert_eq!(seen.options, ["nosuid", "nodev"]);
        assert_eq!(parse("no mount"), None);
    }
}
