//! Request bodies and queries as typed input, refused with a problem that names the place.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;
use http::request::Parts;
use model::problem::{Code, Problem};
use serde::de::DeserializeOwned;

use super::answer::Refusal;
use super::auth::Caller;
use crate::context::Context;

/// No API body is larger. Pushes have their own limit.
const LARGEST: usize = 1 << 20;

/// A JSON body. None at all counts as `{}`, because Heroku's tools send none.
pub(super) struct Input<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let bytes = read(request.into_body()).await?;
        let bytes: &[u8] = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { &bytes };
        serde_json::from_slice(bytes).map(Self).map_err(|error| {
            Problem::new(Code::BadInput, "the request's body is not what this path takes")
                .why(error.to_string())
                .still("nothing was changed")
                .into()
        })
    }
}

async fn read(body: Body) -> Result<bytes::Bytes, Problem> {
    use http_body_util::{BodyExt, LengthLimitError, Limited};
    match Limited::new(body, LARGEST).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large(LARGEST as u64)),
        Err(error) => Err(Problem::new(Code::BadInput, "the request's body broke off")
            .why(error.to_string())
            .still("nothing was changed")),
    }
}

/// P017.
pub(super) fn too_large(limit: u64) -> Problem {
    let limit = model::size::ByteSize(limit);
    Problem::new(Code::TooLarge, "the request is too large")
        .why(format!("{limit} is the most that is taken here"))
        .still("nothing was changed")
}

/// The query, typed.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(rejection) => {
                Err(Problem::new(Code::BadInput, "the query is not what this path takes")
                    .why(rejection.body_text())
                    .into())
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            Problem::new(Code::Internal, "a request came past the guard unnamed").into()
        })
    }
}

/// Runs a change to its end even when whoever asked for it hangs up: a dropped connection drops the
/// handler, and half a change helps nobody.
pub(super) async fn to_the_end(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let (sender, receiver) = tokio::sync::oneshot::channel();
    context.tasks.spawn("change", async move {
        // Nobody may wait any more: the change itself is done.
        let _ = sender.send(next.run(request).await);
    });
    receiver.await.unwrap_or_else(|_| {
        let problem = Problem::new(Code::Internal, "the change broke off");
        Refusal::from(problem.next("look at the daemon's log")).into_response()
    })
}
