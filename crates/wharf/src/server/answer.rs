//! Answers: JSON with an ETag, and problems in Heroku's error shape.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use model::id::AppId;
use model::problem::{Code, Problem};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::api::error::{self, ErrorBody};
use crate::api::{
    CURRENT_HEADER, DEPLOY_HEADER, RELEASE_HEADER, REQUEST_ID_HEADER, WARNING_HEADER,
};
use crate::apps::releases;
use crate::context::Context;
use crate::deploy::Seen;
use crate::deploy::release::Frozen;

/// What every handler returns.
pub(super) type Answer = Result<Response, Refusal>;

/// A problem on its way out.
#[derive(Debug)]
pub(crate) struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let is_about_the_token = self.0.code == Code::TokenWrong;
        let status = StatusCode::from_u16(error::status(self.0.code))
            .expect("every status of the table is one");
        let mut response = json(status, &ErrorBody::from(self.0));
        let headers = response.headers_mut();
        if is_about_the_token {
            // git asks for a password only when it is told so.
            let challenge = HeaderValue::from_static("Basic realm=\"wharf\", charset=\"UTF-8\"");
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(http::header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// A value as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("wire types are plain data");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// 200 and a value.
pub(super) fn ok(value: &impl Serialize) -> Answer {
    Ok(json(StatusCode::OK, value))
}

/// Ends the answer to a change: says in the headers which release it made and which deploy makes that
/// current, or which release stays when it made none.
pub(super) async fn changed(
    context: &Context,
    app: AppId,
    mut response: Response,
    frozen: Option<&Frozen>,
) -> Answer {
    match frozen {
        Some(frozen) => {
            put(&mut response, RELEASE_HEADER, &format!("v{}", frozen.release.version));
            if let Some(deploy) = &frozen.deploy {
                put(&mut response, DEPLOY_HEADER, &deploy.id.to_string());
            }
        }
        None => {
            if let Some(current) = releases::current(context, app).await? {
                put(&mut response, CURRENT_HEADER, &format!("v{current}"));
            }
        }
    }
    Ok(response)
}

/// The same for a change of what visitors meet: the answer comes when the next request meets it.
pub(super) async fn seen(
    context: &Context,
    app: AppId,
    response: Response,
    frozen: Option<&Frozen>,
) -> Answer {
    let deploy = frozen.and_then(|frozen| frozen.deploy.as_ref());
    let seen = context.deploys.wait_seen(app, deploy.map(|deploy| deploy.id)).await?;
    let mut response = changed(context, app, response, frozen).await?;
    let warning = match seen {
        Seen::AtTheEdge => None,
        // Its deploy is followed by whoever wants to know when.
        Seen::Later if deploy.is_some() => None,
        Seen::Later => Some("it is stored, and visitors see it when what is under way is done"),
        Seen::NoEdge => {
            response.headers_mut().remove(DEPLOY_HEADER);
            Some("it is stored, but the proxy does not answer: visitors see it when it does")
        }
    };
    Ok(with_warning(response, warning))
}

fn put(response: &mut Response, name: &'static str, text: &str) {
    let value = HeaderValue::from_str(text).expect("digits, letters and dashes");
    response.headers_mut().insert(HeaderName::from_static(name), value);
}

/// Says in a header what a person should know about a change that was made.
pub(super) fn with_warning(mut response: Response, warning: Option<&str>) -> Response {
    let value = warning.map(|text| text.replace(|c: char| c.is_control(), " "));
    if let Some(value) = value.and_then(|text| HeaderValue::from_bytes(text.as_bytes()).ok()) {
        response.headers_mut().insert(HeaderName::from_static(WARNING_HEADER), value);
    }
    response
}

/// Gives every answer its id, and the log line of the request.
pub(super) async fn with_request_id(request: Request, next: Next) -> Response {
    let id = uuid::Uuid::new_v4();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::info!(request_id = %id, %method, path, status, "api");
    let value = HeaderValue::from_str(&id.to_string()).expect("a UUID is letters and dashes");
    response.headers_mut().insert(HeaderName::from_static(REQUEST_ID_HEADER), value);
    response
}

/// Whole JSON answers to GET have an ETag; who has that already gets 304.
pub(super) async fn with_etag(request: Request, next: Next) -> Response {
    let known = request.headers().get(IF_NONE_MATCH).cloned();
    let is_get = request.method() == Method::GET;
    let response = next.run(request).await;
    let is_json =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !is_get || !is_json || !response.status().is_success() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "an answer made here could not be read");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let hash = Sha256::digest(&body);
    let tag: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = HeaderValue::from_str(&format!("\"{tag}\"")).expect("hexadecimal digits in quotes");
    parts.headers.insert(ETAG, tag.clone());
    let is_known =
        known.and_then(|known| known.to_str().ok().map(str::to_owned)).is_some_and(|known| {
            known
                .split(',')
                .any(|one| one.trim().trim_start_matches("W/").as_bytes() == tag.as_bytes())
        });
    if is_known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(CONTENT_TYPE);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}
