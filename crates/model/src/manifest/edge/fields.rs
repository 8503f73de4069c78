//! The fields of `[edge]` as they are read: each refused with the rule it breaks.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, de::Error as _};

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(is_fine)
}

/// What frames a message or names a request is not the app's to change.
const OURS: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "date",
    "keep-alive",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

pub(super) fn headers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let given = BTreeMap::<String, String>::deserialize(deserializer)?;
    let wrong = |text: String| Err(D::Error::custom(text));
    let mut read = BTreeMap::new();
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        if !is_token(&name) {
            return wrong(format!("`{name}` is not a header name"));
        }
        if OURS.contains(&lower.as_str()) {
            return wrong(format!(
                "`{name}` is not an app's to set: it frames or names the answer"
            ));
        }
        let is_fine = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
        if !value.bytes().all(is_fine) || value.trim() != value || value.len() > 4096 {
            return wrong(format!(
                "the value of `{name}` is not one: ASCII without line breaks, no space around it, at \
                 most 4096 characters"
            ));
        }
        read.insert(lower, value);
    }
    Ok(read)
}

pub(super) fn header_name<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if is_token(&name) {
        return Ok(Some(name.to_ascii_lowercase()));
    }
    Err(D::Error::custom(format!("`{name}` is not a header name")))
}

pub(super) fn header_names<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    let given = Option::<Vec<String>>::deserialize(deserializer)?;
    match given.iter().flatten().find(|name| !is_token(name)) {
        Some(wrong) => Err(D::Error::custom(format!("`{wrong}` is not a header name"))),
        None => Ok(given),
    }
}

pub(super) fn methods<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    let given = Option::<Vec<String>>::deserialize(deserializer)?;
    let is_method = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase());
    match given.iter().flatten().find(|text| !is_method(text)) {
        Some(wrong) => {
            Err(D::Error::custom(format!("`{wrong}` is not a method: letters in upper case")))
        }
        None => Ok(given),
    }
}

pub(super) fn media_types<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeSet<String>>, D::Error> {
    let Some(given) = Option::<BTreeSet<String>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let is_type = |text: &String| {
        text.split_once('/').is_some_and(|(kind, rest)| is_token(kind) && is_token(rest))
    };
    match given.iter().find(|text| !is_type(text)) {
        Some(wrong) => Err(D::Error::custom(format!(
            "`{wrong}` is not a media type, like `text/html` or `text/*`"
        ))),
        None => Ok(Some(given.iter().map(|text| text.to_ascii_lowercase()).collect())),
    }
}

pub(super) fn realm<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let Some(realm) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let is_fine = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\';
    if realm.len() <= 100 && realm.bytes().all(is_fine) {
        return Ok(Some(realm));
    }
    let rule = "at most 100 ASCII characters without `\"` and `\\`";
    Err(D::Error::custom(format!("`{realm}` is not a realm: {rule}")))
}

pub(super) fn paths<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeSet<String>>, D::Error> {
    let given = Option::<BTreeSet<String>>::deserialize(deserializer)?;
    let is_path = |path: &str| {
        path.starts_with('/') && !path.contains(['%', '\\', ';', '?', '#']) && !path.contains("//")
    };
    match given.iter().flatten().find(|path| !is_path(path)) {
        Some(wrong) => Err(D::Error::custom(format!(
            "`{wrong}` is not a path prefix: it starts with / and is written plainly, nothing encoded"
        ))),
        None => Ok(given),
    }
}

pub(super) fn burst<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        Some(0) => Err(D::Error::custom("a burst is at least 1, not 0")),
        given => Ok(given),
    }
}
