//! What the edge settles by the certificate table before an app is asked: challenges, connections
//! made for another name, redirects to HTTPS; and after it answered, the promise to stay there.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use model::certificate::Redirect;
use model::id::AppId;
use model::route::spec::{Ask, Route};

use crate::code::EdgeCode;
use crate::core::Core;
use crate::headers::Client;

/// The edge's own answer, or none when the app shall be asked.
pub(crate) fn answer<B>(
    core: &Core,
    client: &Client,
    request: &Request<B>,
    host: &str,
) -> Option<Result<Response<Bytes>, EdgeCode>> {
    let front = core.tls.front();
    match client.tls() {
        Some(session) if session.name != host && !front.may_share(&session.name, host) => {
            return Some(Err(EdgeCode::Misdirected));
        }
        Some(_) => {}
        None => {
            if let Some(answer) = front.answer(request.uri().path()) {
                return Some(Ok(challenge(answer)));
            }
        }
    }
    if front.is_plain() || client.is_secure(request.headers()) {
        return None;
    }
    let app = owner(core, request, host)?;
    let redirect = front.https(app)?.policy.redirect?;
    let port = core.config.listen_https.first()?.port();
    Some(Ok(towards_https(redirect, (host, port), request)))
}

/// Whose route takes the request.
fn owner<B>(core: &Core, request: &Request<B>, host: &str) -> Option<AppId> {
    let ask =
        Ask { host, path: request.uri().path(), method: request.method().as_str(), is_tls: false };
    let table = core.table();
    let placed = table.router.find(&ask, |name, wanted| {
        let mut values = request.headers().get_all(name).iter();
        values.any(|value| Route::header_matches(wanted, value.as_bytes()))
    })?;
    Some(placed.owner)
}

fn challenge(answer: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::copy_from_slice(answer.as_bytes()));
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn towards_https<B>(
    redirect: Redirect,
    (host, port): (&str, u16),
    request: &Request<B>,
) -> Response<Bytes> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let target = match port {
        443 => format!("https://{host}{path}"),
        port => format!("https://{host}:{port}{path}"),
    };
    let mut response = Response::new(Bytes::new());
    *response.status_mut() =
        StatusCode::from_u16(redirect.status()).unwrap_or(StatusCode::PERMANENT_REDIRECT);
    if let Ok(target) = HeaderValue::try_from(target) {
        response.headers_mut().insert(LOCATION, target);
    }
    // Browsers keep a permanent redirect for ever, and the setting may be taken back.
    let briefly = HeaderValue::from_static("max-age=3600");
    response.headers_mut().insert(CACHE_CONTROL, briefly);
    response
}

/// Adds the app's HSTS header to its own answer, unless the app says it itself.
pub(crate) fn promise_https(core: &Core, app: AppId, headers: &mut HeaderMap) {
    let front = core.tls.front();
    if let Some(value) = front.https(app).and_then(|https| https.hsts.clone()) {
        headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(value);
    }
}
