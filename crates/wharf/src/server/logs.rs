//! `/apps/{app}/log-sessions`, and the stream its answer points at.

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use model::problem::{Code, Problem};

use super::answer::{Answer, json};
use super::request::Input;
use super::router::Base;
use super::sessions::Sessions;
use crate::api::log::{CreateLogSession, LogSession};
use crate::apps::lookup;
use crate::context::Context;
use crate::logs::{self, Lines, Places, Query, Source};

/// No session begins with more lines.
const MOST_LINES: usize = 10_000;

/// What a session will show.
#[derive(Debug)]
pub(super) struct Wanted {
    places: Places,
    query: Query,
}

pub(super) async fn create(
    State(context): State<Context>,
    Extension(sessions): Extension<Sessions<Wanted>>,
    base: Base,
    Path(key): Path<String>,
    Input(input): Input<CreateLogSession>,
) -> Answer {
    let app = lookup::app(&context, &key).await?;
    let query = query(input)?;
    let id = sessions.put(Wanted { places: context.logs.places(app.id), query });
    let now = Timestamp::now().into();
    Ok(json(
        StatusCode::CREATED,
        &LogSession {
            id,
            logplex_url: format!("{}/wharf/log-sessions/{id}", base.as_str()),
            created_at: now,
            updated_at: now,
        },
    ))
}

fn query(input: CreateLogSession) -> Result<Query, Problem> {
    let source = match input.source.as_deref() {
        None => None,
        Some(text) => Some(Source::parse(text).ok_or_else(|| {
            Problem::new(Code::BadInput, format!("there is no log source `{text}`"))
                .why("the sources are `app`, `wharf` and `router`")
        })?),
    };
    Ok(Query {
        lines: input.lines.unwrap_or(Query::default().lines).min(MOST_LINES),
        process: input.dyno.or(input.process),
        source,
        since: input.since,
        replica: None,
        is_following: input.tail,
    })
}

/// The lines, as long as the reader stays when it tails.
pub(super) async fn stream(
    State(context): State<Context>,
    Extension(sessions): Extension<Sessions<Wanted>>,
    Path(id): Path<String>,
) -> Answer {
    let wanted = sessions.take(&id).ok_or_else(|| {
        Problem::new(Code::NotFound, "there is no such log session")
            .why("its address works once, and for five minutes")
            .next("wharf logs")
    })?;
    let stop = context.tasks.stop_token();
    let lines = logs::open(wanted.places, wanted.query);
    let batches = futures_util::stream::unfold((lines, stop), |(mut lines, stop)| async move {
        let batch = tokio::select! {
            batch = next(&mut lines) => batch?,
            () = stop.cancelled() => return None,
        };
        Some((batch, (lines, stop)))
    });
    let mut response = Response::new(Body::from_stream(batches));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The next batch as text; none at the end.
async fn next(lines: &mut Lines) -> Option<Result<String, std::io::Error>> {
    match lines.next().await {
        Ok(Some(batch)) => Some(Ok(batch.iter().map(|line| format!("{line}\n")).collect())),
        Ok(None) => None,
        Err(error) => {
            tracing::error!(%error, "an app's log cannot be read");
            Some(Err(error))
        }
    }
}
