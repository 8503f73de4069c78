//! `/wharf/apps/{app}/replicas/{replica}/attach`: whoever comes to the address it gives sees what a running
//! replica says, as it says it, until it ends or they leave. Neither ends the other.
//!
//! What a replica says is read from where its shim writes it, so any number may be attached, and nobody who
//! reads slowly holds it up. Its stdin is empty, so there is nothing to send.

use std::time::Duration;

use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use http::StatusCode;
use model::id::AppId;
use model::problem::{Code, Problem};
use model::replica::{EndingKind, Replica};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::answer::{Answer, json};
use super::attach::{Wanted, What};
use super::request::Asked;
use super::router::Base;
use super::sessions::Sessions;
use crate::api::attach::Frame;
use crate::api::dyno::Exec;
use crate::apps::replicas;
use crate::context::Context;
use crate::deploy::streams::Kind;
use crate::logs::{self, Line, Query, Source};

/// Nobody begins with more of the past.
const MOST_LINES: usize = 10_000;

/// Its shim writes all that was said before the word of its end; within this it is found.
const LAST_WORDS: Duration = Duration::from_millis(300);

#[derive(Debug, Deserialize)]
pub(super) struct From {
    lines: Option<usize>,
}

/// What is followed.
#[derive(Debug)]
pub(super) struct Followed {
    replica: Replica,
    lines: usize,
}

pub(super) async fn attach(
    State(context): State<Context>,
    Extension(sessions): Extension<Sessions<Wanted>>,
    base: Base,
    Path((key, name)): Path<(String, String)>,
    Asked(From { lines }): Asked<From>,
) -> Answer {
    let (app, mut running) = replicas::find(&context, &key, &name).await?;
    // Who wants to see it is somebody who is there.
    match running.view.status {
        "asleep" => {
            context.deploys.wake_up(app.id).await;
            running = replicas::find(&context, &key, &name).await?.1;
        }
        "frozen" if !running.view.is_kept() => context.deploys.rouse(app.id),
        _ => {}
    }
    let view = running.view;
    if !matches!(view.status, "up" | "starting" | "stopping" | "frozen") {
        let what = format!("`{name}` does not run");
        let problem = Problem::new(Code::ReplicaUnknown, what).why(view.note.unwrap_or_default());
        return Err(problem.next(format!("wharf logs -a {} -p {name}", app.name)).into());
    }
    let lines = lines.unwrap_or(0).min(MOST_LINES);
    let dyno = view.replica.name();
    let what = What::Follow(Box::new(Followed { replica: view.replica, lines }));
    let id = sessions.put(Wanted { app: app.id, what, kind: Kind::Pipes });
    let attach_url = format!("{}/wharf/attach/{id}", base.as_str());
    Ok(json(StatusCode::CREATED, &Exec { id, dyno, attach_url }))
}

/// Sends what it says, until its end; the last frame.
pub(super) async fn follow(
    context: &Context,
    app: AppId,
    followed: &Followed,
    frames: &mpsc::Sender<Frame>,
) -> Frame {
    let Followed { replica, lines } = followed;
    let query = Query {
        lines: *lines,
        source: Some(Source::App),
        replica: Some(replica.id),
        is_following: true,
        ..Query::default()
    };
    let mut said = logs::open(context.logs.places(app), query);
    let ended = context.backend.wait_ended(replica.id);
    tokio::pin!(ended);
    let ending = loop {
        tokio::select! {
            biased;
            batch = said.next() => match batch {
                Ok(Some(batch)) => send(&batch, frames).await,
                Ok(None) => {}
                Err(error) => return Frame::Error(unreadable(&error)),
            },
            ending = &mut ended => break ending,
        }
    };
    while let Ok(Ok(Some(batch))) = tokio::time::timeout(LAST_WORDS, said.next()).await {
        send(&batch, frames).await;
    }
    Frame::Exit(code(&ending))
}

async fn send(batch: &[Line], frames: &mpsc::Sender<Frame>) {
    for line in batch {
        let data = Bytes::from(format!("{}\n", line.text));
        let frame = if line.is_error { Frame::Stderr(data) } else { Frame::Stdout(data) };
        // Who left hears no more; they are noticed elsewhere.
        let _ = frames.send(frame).await;
    }
}

fn code(ending: &EndingKind) -> i32 {
    match ending {
        EndingKind::Exited(code) => *code,
        EndingKind::OutOfMemory | EndingKind::OverDisk => 137,
        EndingKind::Unhealthy(_)
        | EndingKind::NotStarted(_)
        | EndingKind::Lost
        | EndingKind::TooLong(_)
        | EndingKind::Stopped => 1,
    }
}

fn unreadable(error: &std::io::Error) -> Problem {
    Problem::new(Code::StoreFailed, "what it says cannot be read")
        .why(error.to_string())
        .still("it runs as before")
}
