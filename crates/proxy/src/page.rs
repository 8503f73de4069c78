//! What a visitor sees when the edge answers: one small page, complete in itself, in the form asked for.

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::ResponseBody;
use crate::check::Broken;
use crate::code::EdgeCode;
use crate::files::FileBody;
use crate::headers::REQUEST_ID;
use crate::log::Record;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Html,
    Json,
    Text,
    /// A status of gRPC, and no page at all.
    Grpc,
}

impl Form {
    /// HTML only for those who name it: a browser does, curl does not.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let accepts = |kind: &str| {
            let mut values = headers.get_all(ACCEPT).iter();
            values.any(|value| value.to_str().is_ok_and(|value| value.contains(kind)))
        };
        if accepts("text/html") {
            Self::Html
        } else if accepts("application/json") || accepts("+json") {
            Self::Json
        } else {
            Self::Text
        }
    }

    /// The form for who asked for that: a gRPC client reads no pages.
    pub(crate) fn for_request(self, headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if kind.starts_with(b"application/grpc") { Self::Grpc } else { self }
    }
}

/// The status of gRPC that says about the same (grpc's own mapping from HTTP).
fn grpc_status(code: EdgeCode) -> u16 {
    match code.status().as_u16() {
        404 => 12,
        413 => 8,
        499 => 1,
        400..500 => 13,
        _ => 14,
    }
}

/// The whole answer, with its log record filled in.
pub(crate) fn answer(
    code: EdgeCode,
    rule: Option<Broken>,
    form: Form,
    record: Box<Record>,
) -> Response<ResponseBody> {
    answer_as(None, (code, rule), form, record)
}

/// The same with a page of the app's own, for those who ask for HTML.
pub(crate) fn answer_as(
    own: Option<&str>,
    (code, rule): (EdgeCode, Option<Broken>),
    form: Form,
    mut record: Box<Record>,
) -> Response<ResponseBody> {
    record.fail(code, rule.map(|rule| rule.0.into()));
    let id = record.request_id.to_str().unwrap_or("");
    let (kind, text) = match own.filter(|_| form == Form::Html) {
        Some(page) => (HTML, fill(page, code, id)),
        None => render(code, rule, form, id),
    };
    let mut response = Response::new(());
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, record.request_id.clone());
    headers.insert("x-wharf-error", HeaderValue::from_static(code.as_str()));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if form == Form::Grpc {
        headers.insert("grpc-status", HeaderValue::from(grpc_status(code)));
        // Nothing in it has to be encoded: no `%`, nothing beyond ASCII.
        let said = format!("{code} {}: {}", code.title(), code.explanation());
        if let Ok(said) = HeaderValue::try_from(said) {
            headers.insert("grpc-message", said);
        }
    }
    if code.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    if matches!(
        code,
        EdgeCode::BadRequest
            | EdgeCode::ClientStalled
            | EdgeCode::BodyTooLarge
            | EdgeCode::TargetTooLong
            | EdgeCode::HeadTooLarge
    ) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|()| ResponseBody::page(Bytes::from(text), record))
}

/// An answer that sends the visitor elsewhere.
pub(crate) fn redirect(
    status: StatusCode,
    location: HeaderValue,
    mut record: Box<Record>,
) -> Response<ResponseBody> {
    record.answer(status);
    let mut response = Response::new(());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, record.request_id.clone());
    headers.insert(LOCATION, location);
    response.map(|()| ResponseBody::page(Bytes::new(), record))
}

/// An answer the edge gives in the ordinary course of things: a redirect, a challenge's answer.
pub(crate) fn own(answer: Response<Bytes>, mut record: Box<Record>) -> Response<ResponseBody> {
    record.answer(answer.status());
    let (mut head, text) = answer.into_parts();
    head.headers.insert(REQUEST_ID, record.request_id.clone());
    Response::from_parts(head, ResponseBody::page(text, record))
}

/// An answer from one of the app's files.
pub(crate) fn file(answer: Response<FileBody>, mut record: Box<Record>) -> Response<ResponseBody> {
    record.answer(answer.status());
    let (mut head, body) = answer.into_parts();
    head.headers.insert(REQUEST_ID, record.request_id.clone());
    Response::from_parts(head, ResponseBody::file(body, record))
}

const HTML: &str = "text/html; charset=utf-8";

/// A page of an app's own with its gaps filled. What is filled in has no character HTML minds: our own
/// words, and an id of letters, digits and dashes.
fn fill(page: &str, code: EdgeCode, id: &str) -> String {
    let status = code.status().as_u16().to_string();
    [
        ("{{status}}", status.as_str()),
        ("{{code}}", code.as_str()),
        ("{{title}}", code.title()),
        ("{{message}}", code.explanation()),
        ("{{request_id}}", id),
    ]
    .iter()
    .fold(page.to_owned(), |page, (gap, value)| page.replace(gap, value))
}

fn render(code: EdgeCode, rule: Option<Broken>, form: Form, id: &str) -> (&'static str, String) {
    let (title, why, status) = (code.title(), code.explanation(), code.status().as_u16());
    let rule = rule.map(|rule| rule.0);
    match form {
        Form::Grpc => ("application/grpc", String::new()),
        Form::Text => {
            let rule = rule.map(|rule| format!(" ({rule})")).unwrap_or_default();
            let text = format!("{status} {title} [{code}]\n{why}{rule}\nrequest id: {id}\n");
            ("text/plain; charset=utf-8", text)
        }
        Form::Json => {
            let value = serde_json::json!({
                "id": code.as_str(), "status": status, "message": why,
                "rule": rule, "request_id": id,
            });
            ("application/json", format!("{value}\n"))
        }
        Form::Html => {
            let rule = rule.map(|rule| format!("<p>{rule}</p>")).unwrap_or_default();
            let page = include_str!("page.html")
                .replace("{title}", title)
                .replace("{why}", why)
                .replace("{rule}", &rule)
                .replace("{code}", code.as_str())
                .replace("{status}", &status.to_string())
                .replace("{id}", id);
            (HTML, page)
        }
    }
}
