//! Answers that come line by line, for as long as there is something to say.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use futures_util::StreamExt;
use http::header::{CONTENT_TYPE, HeaderValue};
use model::id::DeployId;
use model::problem::{Code, Problem};
use tokio::sync::mpsc;

use super::answer::Answer;
use crate::api::progress::Item;
use crate::apps::releases;
use crate::context::Context;
use crate::deploy::progress::News;

/// `/wharf/apps/{app}/deploys/{deploy}/progress`.
pub(super) async fn progress(
    State(context): State<Context>,
    Path((key, deploy)): Path<(String, String)>,
) -> Answer {
    let missing = || Problem::new(Code::NotFound, format!("`{key}` has no deploy `{deploy}`"));
    let id: DeployId = deploy.parse().map_err(|_| missing())?;
    let (_, views) = releases::list(&context, &key).await?;
    if !views.iter().flat_map(|view| &view.deploys).any(|deploy| deploy.id == id) {
        return Err(missing().into());
    }
    let (sender, receiver) = mpsc::unbounded_channel();
    let mut news = context.deploys.follow(id).await;
    context.tasks.spawn_until_stop("progress", async move {
        loop {
            let piece = tokio::select! {
                piece = news.recv() => piece,
                // A reader who left needs no more of it.
                () = sender.closed() => return,
            };
            let item = match piece {
                Some(News::Line(line)) => Item::Line(line),
                Some(News::Over(Ok(_))) => Item::Live,
                Some(News::Over(Err(problem))) => Item::Failed(problem),
                None => return,
            };
            if sender.send(item).is_err() {
                return;
            }
        }
    });
    Ok(items(receiver))
}

/// One JSON object a line, each sent as soon as it is there.
pub(super) fn items(receiver: mpsc::UnboundedReceiver<Item>) -> Response {
    let lines = futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
    .map(|item| {
        let mut line = serde_json::to_vec(&item).expect("wire types are plain data");
        line.push(b'\n');
        Ok::<_, std::convert::Infallible>(line)
    });
    let mut response = Response::new(Body::from_stream(lines));
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
