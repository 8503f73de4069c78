//! What a file is, by its name: the content type, and whether it shrinks.

/// A kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// As `Content-Type` has it.
    pub(super) text: &'static str,
    /// Whether a compressed neighbour is looked for.
    pub(super) is_compressible: bool,
}

const TEXT: [(&str, &str); 25] = [
    ("atom", "application/atom+xml"),
    ("bmp", "image/bmp"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("eot", "application/vnd.ms-fontobject"),
    ("geojson", "application/geo+json"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("otf", "font/otf"),
    ("rss", "application/rss+xml"),
    ("svg", "image/svg+xml"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("xml", "text/xml; charset=utf-8"),
];

const BINARY: [(&str, &str); 24] = [
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apng", "image/apng"),
    ("avif", "image/avif"),
    ("br", "application/octet-stream"),
    ("flac", "audio/flac"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("m4a", "audio/mp4"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("ogg", "audio/ogg"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// By the last part of its name; what is not known is bytes.
pub(super) fn of(name: &str) -> Kind {
    let last = name.rsplit('/').next().unwrap_or(name);
    let extension = last.rsplit_once('.').map_or("", |(_, extension)| extension);
    let extension = extension.to_ascii_lowercase();
    let find = |table: &[(&str, &'static str)]| {
        let place = table.binary_search_by_key(&extension.as_str(), |(name, _)| *name).ok()?;
        table.get(place).map(|(_, text)| *text)
    };
    if let Some(text) = find(&TEXT) {
        return Kind { text, is_compressible: true };
    }
    let text = find(&BINARY).unwrap_or("application/octet-stream");
    Kind { text, is_compressible: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_known_by_their_names() {
        assert!(TEXT.is_sorted() && BINARY.is_sorted());
        assert_eq!(of("a/B.HTML").text, "text/html; charset=utf-8");
        assert!(of("x.min.js").is_compressible && !of("x.woff2").is_compressible);
        assert_eq!(of("js").text, "application/octet-stream");
        assert_eq!(of("a.b/c").text, "application/octet-stream");
    }
}
