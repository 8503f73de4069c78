//! Files as answers: a folder, a path, a request's conditions, and what to say (RFC 9110).
//!
//! Used by the edge for an app's `[[edge.files]]` and by `wharf static` inside a container. The kernel
//! sees to it that nothing outside the folder is opened (`openat2`, beneath); dot files, encoded slashes
//! and what climbs are not there. What is in the page cache is read at once, everything else on another
//! thread: a slow disk holds up nobody but who waits for it. Knows nothing of hosts, apps or routes.

mod body;
mod condition;
mod encoding;
mod fingerprint;
mod kind;
mod open;
mod path;
mod range;

use std::io;
use std::path::Path;
use std::time::Duration;

use http::header::{
    ACCEPT, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, LAST_MODIFIED, LOCATION, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use model::route::edge::files::Fixed;

pub use body::FileBody;

use condition::Verdict;
use encoding::Encoding;
use open::{Node, Opened, Root};
use path::Target;

/// What a folder of a site is called by itself.
const INDEX: &str = "index.html";

/// A folder whose files are answers.
#[derive(Debug, Clone)]
pub struct Folder {
    root: Root,
    options: Options,
}

/// How they are served.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The file that answers for pages that are no file, relative to the folder (single-page apps).
    pub fallback: Option<String>,
    /// Which names never change their content.
    pub fixed: Fixed,
    /// How long others may be kept without asking again; zero is not at all.
    pub max_age: Duration,
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// GET or HEAD; others are for the caller to refuse.
    pub method: &'a Method,
    /// As it came, for redirects.
    pub uri: &'a Uri,
    /// What is left of its path below the folder's own, encoded, with its first slash.
    pub rest: &'a str,
    /// Conditions, ranges, encodings.
    pub headers: &'a HeaderMap,
}

impl<'a> Ask<'a> {
    /// A request for a folder that is the whole site.
    pub fn whole<B>(request: &'a Request<B>) -> Self {
        let uri = request.uri();
        Self { method: request.method(), uri, rest: uri.path(), headers: request.headers() }
    }
}

impl Folder {
    /// Takes hold of a folder; what is moved in its place later is not seen.
    pub fn open(root: &Path, options: Options) -> io::Result<Self> {
        Ok(Self { root: Root::open(root)?, options })
    }

    /// The answer; none when there is nothing of that name to be seen.
    pub async fn answer(&self, ask: Ask<'_>) -> io::Result<Option<Response<FileBody>>> {
        let Some(target) = path::target(ask.rest) else { return Ok(None) };
        let name = target.file(INDEX);
        let found = match self.root.look(name.clone()).await? {
            Node::File(opened) => Some(opened),
            Node::Folder if !target.is_folder => {
                return Ok(match self.root.look(target.index(INDEX)).await? {
                    Node::File(_) => Some(towards_folder(ask.uri)),
                    Node::Folder | Node::Missing => self.fall_back(ask, &target).await?,
                });
            }
            Node::Folder | Node::Missing => None,
        };
        match found {
            Some(opened) => self.serve(ask, &name, opened).await.map(Some),
            None => self.fall_back(ask, &target).await,
        }
    }

    /// Whether the name has a fingerprint: an older release's folder may be asked for it.
    pub fn is_fixed(rest: &str) -> bool {
        path::target(rest).is_some_and(|target| fingerprint::has(&target.relative))
    }

    /// A file as the whole body, whatever the request's conditions: a site's own error page.
    pub async fn page(&self, name: &str) -> io::Result<Option<Response<FileBody>>> {
        let Node::File(opened) = self.root.look(name.to_owned()).await? else { return Ok(None) };
        let mut response = Response::new(FileBody::of(&opened, 0..opened.length));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind::of(name).text));
        headers.insert(CONTENT_LENGTH, opened.length.into());
        Ok(Some(response))
    }

    /// The one page of a single-page app, for what looks like a page: a script that is gone must not
    /// come back as HTML.
    async fn fall_back(
        &self,
        ask: Ask<'_>,
        target: &Target,
    ) -> io::Result<Option<Response<FileBody>>> {
        let Some(name) = &self.options.fallback else { return Ok(None) };
        if target.has_extension() && !wants_html(ask.headers) {
            return Ok(None);
        }
        match self.root.look(name.clone()).await? {
            Node::File(opened) => self.serve(ask, name, opened).await.map(Some),
            Node::Folder | Node::Missing => Ok(None),
        }
    }

    async fn serve(
        &self,
        ask: Ask<'_>,
        name: &str,
        plain: Opened,
    ) -> io::Result<Response<FileBody>> {
        let kind = kind::of(name);
        let (opened, encoding) = match kind.is_compressible {
            true => self.encoded(ask.headers, name, plain).await?,
            false => (plain, None),
        };
        let mut response = Response::new(FileBody::empty());
        let headers = response.headers_mut();
        headers.insert(ETAG, opened.etag.clone());
        headers.insert(LAST_MODIFIED, opened.modified.clone());
        headers.insert(CACHE_CONTROL, self.cache_control(name));
        headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if kind.is_compressible {
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        let length = opened.length;
        let part = match condition::judge(ask.method, ask.headers, &opened) {
            Verdict::Whole => 0..length,
            Verdict::Part(part) => part,
            Verdict::NotModified => {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
            Verdict::Failed => {
                *response.status_mut() = StatusCode::PRECONDITION_FAILED;
                return Ok(response);
            }
            Verdict::Unsatisfiable => {
                let range = HeaderValue::try_from(format!("bytes */{length}"));
                headers.insert(CONTENT_RANGE, range.expect("a number is a header value"));
                *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
                return Ok(response);
            }
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind.text));
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
        }
        headers.insert(CONTENT_LENGTH, (part.end - part.start).into());
        if part != (0..length) {
            let last = part.end.saturating_sub(1);
            let range = HeaderValue::try_from(format!("bytes {}-{last}/{length}", part.start));
            headers.insert(CONTENT_RANGE, range.expect("numbers are a header value"));
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        }
        if *ask.method == Method::GET {
            *response.body_mut() = FileBody::of(&opened, part);
        }
        Ok(response)
    }

    /// The neighbour that was compressed before, when the client takes it.
    async fn encoded(
        &self,
        headers: &HeaderMap,
        name: &str,
        plain: Opened,
    ) -> io::Result<(Opened, Option<Encoding>)> {
        for encoding in encoding::wanted(headers) {
            let neighbour = format!("{name}.{}", encoding.extension());
            if let Node::File(opened) = self.root.look(neighbour).await? {
                return Ok((opened, Some(encoding)));
            }
        }
        Ok((plain, None))
    }

    fn cache_control(&self, name: &str) -> HeaderValue {
        let is_fixed = match self.options.fixed {
            Fixed::Fingerprinted => fingerprint::has(name),
            Fixed::All => true,
            Fixed::Nothing => false,
        };
        match self.options.max_age.as_secs() {
            _ if is_fixed => HeaderValue::from_static("public, max-age=31536000, immutable"),
            // Files keep their names from release to release: ask again, answer 304.
            0 => HeaderValue::from_static("no-cache"),
            seconds => HeaderValue::try_from(format!("public, max-age={seconds}"))
                .expect("a number is a header value"),
        }
    }
}

fn wants_html(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(ACCEPT).iter();
    values.any(|value| value.to_str().is_ok_and(|value| value.contains("text/html")))
}

/// To the same address with a slash behind. Relative, so that it holds whatever the prefix was, and can
/// never name another host.
fn towards_folder(uri: &Uri) -> Response<FileBody> {
    let last = uri.path().rsplit('/').next().unwrap_or_default();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(FileBody::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::try_from(format!("./{last}/{query}")) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests;
