//! What the edge has of an app itself: files that are answered with, and pages for what it answers.
//!
//! Opened when the table comes in; what cannot be opened is not there, and the requests go to the app.

use std::collections::BTreeMap;
use std::path::Path;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use model::route::edge::Edge;
use model::route::edge::files::{Files, Missing, Occasion};
use model::route::path::normal;

use super::Stop;
use crate::check::Broken;
use crate::code::EdgeCode;
use crate::files::{Ask, Folder, Options};

/// Longest page that is read.
const MOST_PAGE: usize = 64 * 1024;

/// One app's folders and pages.
#[derive(Debug)]
pub(super) struct Shelf {
    /// The longest path first.
    files: Vec<Shelved>,
    pages: BTreeMap<Occasion, String>,
}

#[derive(Debug)]
struct Shelved {
    settings: Files,
    /// The release's own first.
    folders: Vec<Folder>,
}

impl Shelf {
    /// None when the app has neither.
    pub(super) fn open(settings: &Edge) -> Option<Self> {
        if settings.files.is_empty() && settings.pages.is_empty() {
            settings.maintenance_page.as_ref()?;
        }
        let mut files: Vec<Shelved> = settings.files.iter().map(Shelved::open).collect();
        files.sort_by_key(|shelved| std::cmp::Reverse(shelved.settings.path.len()));
        let occasions = settings.pages.keys().copied().chain([Occasion::Maintenance]);
        let pages = occasions.filter_map(|occasion| {
            let text = read(settings.page(occasion)?)?;
            Some((occasion, text))
        });
        Some(Self { files, pages: pages.collect() })
    }

    /// The page for a code, if the app has one.
    pub(super) fn page(&self, code: EdgeCode) -> Option<&str> {
        let own = match code {
            EdgeCode::Maintenance => self.pages.get(&Occasion::Maintenance),
            _ => None,
        };
        let status = Occasion::Status(code.status().as_u16());
        own.or_else(|| self.pages.get(&status)).map(String::as_str)
    }

    /// The answer to a request for a file; none when it is the app's.
    pub(super) async fn answer(&self, request: &Parts) -> Option<Stop> {
        if self.files.is_empty() {
            return None;
        }
        let path = normal(request.uri.path())?;
        let below = |shelved: &Shelved| shelved.settings.rest(&path).map(str::to_owned);
        let (shelved, rest) =
            self.files.iter().find_map(|shelved| Some((shelved, below(shelved)?)))?;
        let is_ours = shelved.settings.missing == Missing::NotFound;
        if !matches!(request.method, Method::GET | Method::HEAD) {
            return is_ours.then(|| plain(StatusCode::METHOD_NOT_ALLOWED));
        }
        let Parts { method, uri, headers, .. } = request;
        let ask = Ask { method, uri, rest: &rest, headers };
        for (age, folder) in shelved.folders.iter().enumerate() {
            // An older release has nothing to say but for what never changes.
            if age > 0 && !Folder::is_fixed(&rest) {
                break;
            }
            match folder.answer(ask).await {
                Ok(Some(answer)) => return Some(Stop::File(answer)),
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(path = %request.uri.path(), %error, "a file cannot be read");
                    let rule = Broken("the file cannot be read");
                    return Some(Stop::Refused(EdgeCode::Internal, Some(rule), None));
                }
            }
        }
        is_ours.then(|| plain(StatusCode::NOT_FOUND))
    }
}

impl Shelved {
    fn open(settings: &Files) -> Self {
        let fallback = settings.fallback.clone();
        let (fixed, max_age) = (settings.fixed, settings.max_age);
        let folders = settings.roots.iter().enumerate().filter_map(|(age, root)| {
            let fallback = fallback.clone().filter(|_| age == 0);
            Folder::open(root, Options { fallback, fixed, max_age })
                .inspect_err(|error| {
                    tracing::error!(folder = %root.display(), %error, "cannot serve its files");
                })
                .ok()
        });
        Self { settings: settings.clone(), folders: folders.collect() }
    }
}

/// Nothing of that name, or nothing that could be done with it.
fn plain(status: StatusCode) -> Stop {
    let text = match status {
        StatusCode::NOT_FOUND => "there is no such file\n",
        _ => "only GET and HEAD are understood here\n",
    };
    let mut answer = Response::new(text.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    Stop::Answered(answer)
}

fn read(path: &Path) -> Option<String> {
    let complain = |error: &dyn std::fmt::Display| {
        tracing::error!(page = %path.display(), %error, "cannot show it");
    };
    let bytes = std::fs::read(path).inspect_err(|error| complain(error)).ok()?;
    if bytes.len() > MOST_PAGE {
        complain(&"longer than 64 KiB");
        return None;
    }
    String::from_utf8(bytes).inspect_err(|error| complain(error)).ok()
}
