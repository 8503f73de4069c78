//! git over HTTP, and the hook's call back.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use model::app::App;
use model::problem::{Code, Problem};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::answer::{Answer, Refusal};
use super::auth::{Caller, Peer};
use super::request::{Asked, Input, too_large};
use super::stream::items;
use crate::api::error::status;
use crate::apps::lookup;
use crate::context::Context;
use crate::git::http::{Call, LARGEST_PUSH, Service};
use crate::git::pipeline::{Pipeline, Voice};
use crate::git::refs::Received;
use crate::git::repository;
use crate::git::spool::{Spool, SpoolError, Spooled};

/// A problem as git shows it: it prints an error's body only when it is plain text.
pub(super) struct Plain(Problem);

impl From<Problem> for Plain {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Plain {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(status(self.0.code)).expect("the table holds statuses");
        let kind = HeaderValue::from_static("text/plain; charset=utf-8");
        (code, [(CONTENT_TYPE, kind)], format!("{}\n", self.0)).into_response()
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Advertise {
    #[serde(default)]
    service: String,
}

/// `GET /{app}.git/info/refs?service=…`
pub(super) async fn advertise(
    State(context): State<Context>,
    Path(repository): Path<String>,
    Asked(asked): Asked<Advertise>,
    headers: HeaderMap,
) -> Result<Response, Plain> {
    let app = app_of(&context, &repository).await?;
    let service = Service::parse(&asked.service).ok_or_else(|| {
        Problem::new(Code::BadInput, "this git client is too old")
            .why("it does not speak smart HTTP")
    })?;
    let path = repository::ensure(&context.config, app.id).await.map_err(|error| inside(&error))?;
    let protocol = protocol(&headers);
    let call = Call { config: &context.config, repository: &path, service, protocol };
    let body = call.advertise().await.map_err(|error| inside(&error))?;
    Ok(answer(&service.content_type("advertisement"), Body::from(body)))
}

/// `POST /{app}.git/git-receive-pack`
pub(super) async fn receive_pack(
    State(context): State<Context>,
    Extension(pipeline): Extension<Pipeline>,
    caller: Caller,
    Path(repository): Path<String>,
    request: Request,
) -> Result<Response, Plain> {
    let began = Instant::now();
    let app = app_of(&context, &repository).await?;
    let (headers, body) = spooled(&context, request).await?;
    let ticket = pipeline.pushes.begin(app.clone(), caller.user, began);
    let path = repository::ensure(&context.config, app.id).await.map_err(|error| inside(&error))?;
    let call = Call {
        config: &context.config,
        repository: &path,
        service: Service::ReceivePack,
        protocol: protocol(&headers),
    };
    let output = call.serve(body, Some(ticket), &context.tasks).map_err(|error| inside(&error))?;
    Ok(answer(&Service::ReceivePack.content_type("result"), pieces(output)))
}

/// `POST /{app}.git/git-upload-pack`
pub(super) async fn upload_pack(
    State(context): State<Context>,
    Path(repository): Path<String>,
    request: Request,
) -> Result<Response, Plain> {
    let app = app_of(&context, &repository).await?;
    let (headers, body) = spooled(&context, request).await?;
    let path = repository::ensure(&context.config, app.id).await.map_err(|error| inside(&error))?;
    let call = Call {
        config: &context.config,
        repository: &path,
        service: Service::UploadPack,
        protocol: protocol(&headers),
    };
    let output = call.serve(body, None, &context.tasks).map_err(|error| inside(&error))?;
    Ok(answer(&Service::UploadPack.content_type("result"), pieces(output)))
}

/// `POST /wharf/pushes/{ticket}`, from our own hook only.
pub(super) async fn received(
    State(context): State<Context>,
    Extension(pipeline): Extension<Pipeline>,
    Extension(peer): Extension<Peer>,
    Path(ticket): Path<String>,
    Input(received): Input<Received>,
) -> Answer {
    let push = ticket.parse().ok().and_then(|ticket| pipeline.pushes.find(ticket));
    let Some(push) = push.filter(|_| peer.is_the_machine()) else {
        return Err(Problem::new(Code::NotFound, "there is no push with that ticket").into());
    };
    let repository = repository::path(&context.config, push.app.id);
    let is_inside = |path: &String| std::path::Path::new(path).starts_with(&repository);
    if !received.object_directory.iter().chain(&received.alternates).all(is_inside) {
        let problem = Problem::new(Code::BadInput, "the push's objects are not in its repository");
        return Err(Refusal::from(problem));
    }
    let (voice, ear) = Voice::new();
    context.tasks.spawn("push", pipeline.run(push, received, voice));
    Ok(items(ear))
}

/// `shop.git` → the app `shop`.
async fn app_of(context: &Context, repository: &str) -> Result<App, Problem> {
    let Some(name) = repository.strip_suffix(".git") else {
        return Err(Problem::new(Code::NotFound, format!("there is no repository `{repository}`"))
            .why("repositories are named APP.git"));
    };
    lookup::app(context, name).await
}

/// The whole body, unpacked.
async fn spooled(context: &Context, request: Request) -> Result<(HeaderMap, Spooled), Problem> {
    let (parts, mut body) = request.into_parts();
    let is_gzip = parts
        .headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| matches!(coding.as_bytes(), b"gzip" | b"x-gzip"));
    let mut spool = Spool::new(&repository::scratch_dir(&context.config), LARGEST_PUSH, is_gzip);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::new(Code::BadInput, "the push broke off").why(error.to_string())
        })?;
        if let Some(piece) = frame.data_ref() {
            spool.push(piece).map_err(|error| not_spooled(&error))?;
        }
    }
    let whole = spool.finish().map_err(|error| not_spooled(&error))?;
    Ok((parts.headers, whole))
}

fn not_spooled(error: &SpoolError) -> Problem {
    match error {
        SpoolError::TooLarge(limit) => too_large(*limit),
        SpoolError::NotGzip(_) => {
            Problem::new(Code::BadInput, "the push cannot be read").why(error.to_string())
        }
        SpoolError::Keep(_) => inside(error),
    }
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get("git-protocol").and_then(|value| value.to_str().ok())
}

fn answer(kind: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let kind = HeaderValue::from_str(kind).expect("letters, dashes and a slash");
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn pieces(output: mpsc::Receiver<Bytes>) -> Body {
    Body::from_stream(futures_util::stream::unfold(output, |mut output| async move {
        let piece = output.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), output))
    }))
}

fn inside(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "git could not be served");
    Problem::new(Code::Internal, "the repository could not be used")
        .why(error.to_string())
        .next("look at the daemon's log")
}
