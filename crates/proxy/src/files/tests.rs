use super::*;
use std::fs;
use std::os::unix::fs::symlink;

use http::header::{ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{HeaderName, request};
use http_body::Body as _;

struct Site {
    place: tempfile::TempDir,
    folder: Folder,
}

/// What came back, as text.
struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Got {
    fn field(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Site {
    fn new(files: &[(&str, &str)], options: Options) -> Self {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let folder = Folder::open(&root, options).unwrap();
        Self { place, folder }
    }

    async fn ask(&self, request: request::Builder) -> Option<Got> {
        let request = request.body(()).unwrap();
        let response = self.folder.answer(Ask::whole(&request)).await.unwrap()?;
        let (head, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        while let Some(frame) =
            std::future::poll_fn(|ctx| std::pin::Pin::new(&mut body).poll_frame(ctx)).await
        {
            bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        let body = String::from_utf8(bytes).unwrap();
        Some(Got { status: head.status.as_u16(), headers: head.headers, body })
    }

    async fn get(&self, path: &str, fields: &[(HeaderName, &str)]) -> Option<Got> {
        let mut request = Request::builder().uri(path);
        for (name, value) in fields {
            request = request.header(name, *value);
        }
        self.ask(request).await
    }
}

#[tokio::test]
async fn files_and_indexes_are_served_and_folders_are_redirected() {
    let files = [("index.html", "home"), ("docs/index.html", "docs"), ("bare/x", "x")];
    let site = Site::new(&files, Options::default());
    let home = site.get("/", &[]).await.unwrap();
    assert_eq!((home.status, home.body.as_str()), (200, "home"));
    assert_eq!(home.field(CONTENT_TYPE), "text/html; charset=utf-8");
    assert_eq!((home.field(CACHE_CONTROL), home.field(CONTENT_LENGTH)), ("no-cache", "4"));
    assert_eq!(site.get("/docs/", &[]).await.unwrap().body, "docs");
    let away = site.get("/docs?q=1", &[]).await.unwrap();
    assert_eq!((away.status, away.field(LOCATION)), (307, "./docs/?q=1"));
    assert!(site.get("/bare", &[]).await.is_none(), "a folder without an index");
    assert!(site.get("/bare/", &[]).await.is_none());
    assert!(site.get("/index.html/", &[]).await.is_none(), "a file is no folder");
    assert!(site.get("/none", &[]).await.is_none());
    let head = site.ask(Request::builder().method("HEAD").uri("/")).await.unwrap();
    assert_eq!((head.status, head.field(CONTENT_LENGTH), head.body.as_str()), (200, "4", ""));
}

#[tokio::test]
async fn conditions_are_kept() {
    let site = Site::new(&[("a.txt", "0123456789")], Options::default());
    let first = site.get("/a.txt", &[]).await.unwrap();
    let (etag, date) = (first.field(ETAG).to_owned(), first.field(LAST_MODIFIED).to_owned());
    for (name, value, expected) in [
        (IF_NONE_MATCH, etag.as_str(), 304),
        (IF_NONE_MATCH, &format!("\"x\", W/{etag}"), 304),
        (IF_NONE_MATCH, "*", 304),
        (IF_NONE_MATCH, "\"x\"", 200),
        (IF_MODIFIED_SINCE, &date, 304),
        (IF_MODIFIED_SINCE, "Fri, 01 Jan 2100 00:00:00 GMT", 200),
        (http::header::IF_MATCH, &etag, 200),
        (http::header::IF_MATCH, &format!("W/{etag}"), 412),
        (http::header::IF_UNMODIFIED_SINCE, "Fri, 01 Jan 1999 00:00:00 GMT", 412),
    ] {
        let got = site.get("/a.txt", &[(name.clone(), value)]).await.unwrap();
        assert_eq!(got.status, expected, "{name}: {value}");
        assert_eq!(got.body.is_empty(), expected != 200, "{name}: {value}");
    }
    let both = [(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, date.as_str())];
    assert_eq!(site.get("/a.txt", &both).await.unwrap().status, 200, "the tag counts");
    // The same name, length and moment of change, and another file.
    let path = site.place.path().join("root/a.txt");
    let was = fs::metadata(&path).unwrap().modified().unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "9876543210").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(was).unwrap();
    let got = site.get("/a.txt", &[(IF_NONE_MATCH, &etag)]).await.unwrap();
    assert_eq!((got.status, got.body.as_str()), (200, "9876543210"));
}

#[tokio::test]
async fn one_range_is_a_part() {
    let site = Site::new(&[("a.bin", "0123456789")], Options::default());
    let etag = site.get("/a.bin", &[]).await.unwrap().field(ETAG).to_owned();
    let part = site.get("/a.bin", &[(RANGE, "bytes=2-4")]).await.unwrap();
    assert_eq!((part.status, part.body.as_str()), (206, "234"));
    assert_eq!(part.field(CONTENT_RANGE), "bytes 2-4/10");
    assert_eq!(part.field(CONTENT_LENGTH), "3");
    let behind = site.get("/a.bin", &[(RANGE, "bytes=10-")]).await.unwrap();
    assert_eq!((behind.status, behind.field(CONTENT_RANGE)), (416, "bytes */10"));
    let several = site.get("/a.bin", &[(RANGE, "bytes=0-1,4-5")]).await.unwrap();
    assert_eq!((several.status, several.body.len()), (200, 10));
    for (value, expected) in [(etag.as_str(), 206), ("\"x\"", 200), (&format!("W/{etag}"), 200)] {
        let got = site.get("/a.bin", &[(RANGE, "bytes=0-1"), (IF_RANGE, value)]).await.unwrap();
        assert_eq!(got.status, expected, "{value}");
    }
    let head = Request::builder().method("HEAD").uri("/a.bin").header(RANGE, "bytes=0-1");
    assert_eq!(site.ask(head).await.unwrap().status, 200, "a range is for GET");
}

#[tokio::test]
async fn ready_made_neighbours_are_chosen_by_what_the_client_takes() {
    let files = [
        ("app.js", "plain"),
        ("app.js.br", "brotli"),
        ("app.js.gz", "gzip"),
        ("pic.png", "plain"),
        ("pic.png.gz", "gzip"),
    ];
    let site = Site::new(&files, Options::default());
    let mut tags = std::collections::BTreeSet::new();
    for (accepted, body, encoding) in [
        ("gzip, br", "brotli", "br"),
        ("gzip", "gzip", "gzip"),
        ("zstd", "plain", ""),
        ("identity", "plain", ""),
    ] {
        let got = site.get("/app.js", &[(ACCEPT_ENCODING, accepted)]).await.unwrap();
        assert_eq!(
            (got.body.as_str(), got.field(CONTENT_ENCODING)),
            (body, encoding),
            "{accepted}"
        );
        assert_eq!(got.field(CONTENT_TYPE), "text/javascript; charset=utf-8");
        assert_eq!(got.field(VARY), "Accept-Encoding");
        tags.insert(got.field(ETAG).to_owned());
    }
    assert_eq!(tags.len(), 3, "each has a tag of its own");
    let picture = site.get("/pic.png", &[(ACCEPT_ENCODING, "gzip")]).await.unwrap();
    assert_eq!((picture.body.as_str(), picture.field(VARY)), ("plain", ""));
}

#[tokio::test]
async fn what_is_outside_or_hidden_is_not_there() {
    let files =
        [("in.txt", "in"), (".env", "s"), (".git/config", "s"), (".well-known/security.txt", "w")];
    let site = Site::new(&files, Options::default());
    let root = site.place.path().join("root");
    fs::write(site.place.path().join("secret"), "secret").unwrap();
    fs::create_dir(site.place.path().join("beside")).unwrap();
    fs::write(site.place.path().join("beside/secret"), "secret").unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink(site.place.path().join("secret"), root.join("absolute")).unwrap();
    symlink("../beside", root.join("beside")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("in.txt", root.join("inside")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        0o644.into(),
        0,
    )
    .unwrap();
    for path in [
        "/out",
        "/absolute",
        "/beside/secret",
        "/loop",
        "/pipe",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/../secret",
        "/%2e%2e/secret",
        "/in.txt%00",
        "/x/..%2fin.txt",
        "//in.txt",
    ] {
        assert!(site.get(path, &[]).await.is_none(), "{path}");
    }
    assert_eq!(site.get("/inside", &[]).await.unwrap().body, "in", "a link within is followed");
    assert_eq!(site.get("/.well-known/security.txt", &[]).await.unwrap().body, "w");
}

#[tokio::test]
async fn a_single_page_answers_for_pages_and_not_for_scripts() {
    let files = [("index.html", "app"), ("a.js", "js")];
    let options = Options { fallback: Some("index.html".to_owned()), ..Options::default() };
    let site = Site::new(&files, options);
    let page = site.get("/deep/link", &[]).await.unwrap();
    assert_eq!((page.status, page.body.as_str()), (200, "app"));
    assert_eq!(page.field(CACHE_CONTROL), "no-cache");
    assert_eq!(site.get("/a.js", &[]).await.unwrap().body, "js");
    assert!(site.get("/gone.3f2a9c1b.js", &[]).await.is_none());
    let named = site.get("/jane.doe", &[(ACCEPT, "text/html,*/*")]).await.unwrap();
    assert_eq!(named.body, "app", "a browser that goes there wants a page");
}

#[tokio::test]
async fn names_with_a_fingerprint_are_kept_for_good() {
    let files = [("app.3f2a9c1b.js", "1"), ("app.js", "2")];
    for (fixed, max_age, hashed, plain) in [
        (Fixed::Fingerprinted, 0, "public, max-age=31536000, immutable", "no-cache"),
        (Fixed::Nothing, 60, "public, max-age=60", "public, max-age=60"),
        (
            Fixed::All,
            0,
            "public, max-age=31536000, immutable",
            "public, max-age=31536000, immutable",
        ),
    ] {
        let max_age = Duration::from_secs(max_age);
        let site = Site::new(&files, Options { fixed, max_age, ..Options::default() });
        let got = site.get("/app.3f2a9c1b.js", &[]).await.unwrap();
        assert_eq!(got.field(CACHE_CONTROL), hashed);
        assert_eq!(site.get("/app.js", &[]).await.unwrap().field(CACHE_CONTROL), plain);
    }
}

#[tokio::test]
async fn a_large_file_comes_whole_and_one_that_shrinks_breaks_off() {
    let text = "0123456789abcdef".repeat(64 * 1024);
    let site = Site::new(&[("large", &text)], Options::default());
    assert!(site.get("/large", &[]).await.unwrap().body == text);
    let request = Request::builder().uri("/large").body(()).unwrap();
    let mut body = site.folder.answer(Ask::whole(&request)).await.unwrap().unwrap().into_body();
    fs::File::options()
        .write(true)
        .open(site.place.path().join("root/large"))
        .unwrap()
        .set_len(100_000)
        .unwrap();
    let mut last = None;
    while let Some(frame) =
        std::future::poll_fn(|ctx| std::pin::Pin::new(&mut body).poll_frame(ctx)).await
    {
        if let Err(error) = frame {
            last = Some(error.kind());
            break;
        }
    }
    assert_eq!(last, Some(io::ErrorKind::UnexpectedEof));
}
