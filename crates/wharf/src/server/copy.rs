//! `/wharf/apps/{app}/replicas/{replica}/files`: a stream of tar from a process inside, or to it.
//!
//! Nothing is kept on the way: as fast as the slower side. A client that hangs up ends the copy, since
//! the process inside then finds its stream closed; its end is always waited for.

use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use engine::copy::{Copy, Trouble, TroubleKind, Word};
use futures_util::stream;
use http::header::{CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use model::problem::{Code, Problem};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, ok};
use super::request::Asked;
use crate::api::copy::{COPIED_TRAILER, Copied, Skipped, TAR, one_line};
use crate::apps::lookup;
use crate::context::Context;
use crate::deploy::one_off::Job;
use crate::deploy::streams::{Kind, Stream, Streams};

/// As much is read of a stream at once.
const CHUNK: usize = 64 * 1024;
/// Of what could not be copied, so many are told.
const MOST_SKIPPED: usize = 20;
/// What a copy may say of itself.
const MOST_SAID: usize = 256 * 1024;
/// A client that is answered before it has sent all is read on for so long, so that it sees the answer.
const READ_ON: Duration = Duration::from_secs(30);

/// No disk is so slow that a piece takes longer; somebody inside stopped it.
const STALLED: Duration = Duration::from_secs(60);
/// What a copy without further input gets to end by itself.
const LAST_WORDS: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
pub(super) struct Place {
    path: PathBuf,
}

/// What comes out of a copy.
enum Piece {
    Data(Bytes),
    End(Copied),
}

pub(super) async fn download(
    State(context): State<Context>,
    Path((key, replica)): Path<(String, String)>,
    Asked(Place { path }): Asked<Place>,
) -> Answer {
    let copy = Copy::Out(path);
    let (job, Streams { output, errors, .. }) = begin(&context, &key, &replica, &copy).await?;
    let (sender, mut pieces) = mpsc::channel(4);
    context.tasks.spawn("copy", async move {
        // Who hangs up ends it, also where somebody inside keeps it from going on.
        let (said, (), _) =
            tokio::join!(gather(errors), pump(output, &sender), job.see_out(sender.closed()));
        // Whoever hung up hears nothing of the end.
        let _ = sender.send(Piece::End(end(job, &copy, &said).await)).await;
    });
    let first = match pieces.recv().await {
        Some(Piece::End(Copied { problem: Some(problem), .. })) => return Err(problem.into()),
        first => first,
    };
    let frames = stream::unfold((first, pieces), |(first, mut pieces)| async move {
        let piece = match first {
            Some(piece) => piece,
            None => pieces.recv().await?,
        };
        Some((Ok::<_, std::convert::Infallible>(frame(piece)), (None, pieces)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TAR));
    headers.insert(TRAILER, HeaderValue::from_static(COPIED_TRAILER));
    Ok(response)
}

pub(super) async fn upload(
    State(context): State<Context>,
    Path((key, replica)): Path<(String, String)>,
    Asked(Place { path }): Asked<Place>,
    request: Request,
) -> Answer {
    let copy = Copy::In(path);
    let (job, Streams { input, errors, .. }) = begin(&context, &key, &replica, &copy).await?;
    let broken = CancellationToken::new();
    let given_up = async {
        broken.cancelled().await;
        // It sees the end of its input, and clears its draft away.
        tokio::time::sleep(LAST_WORDS).await;
    };
    let fed = async {
        let fed = feed(input, request.into_body()).await;
        if matches!(fed, Fed::Broken) {
            broken.cancel();
        }
        fed
    };
    let (said, fed, _) = tokio::join!(gather(errors), fed, job.see_out(given_up));
    let copied = end(job, &copy, &said).await;
    if let Fed::Refused(mut body) = fed {
        context.tasks.spawn_until_stop("copy", async move {
            let rest = async { while let Some(Ok(_)) = body.frame().await {} };
            // What a refused copy still sends is nobody's.
            let _ = tokio::time::timeout(READ_ON, rest).await;
        });
    }
    match copied.problem {
        Some(problem) => Err(problem.into()),
        None => ok(&copied),
    }
}

async fn begin(
    context: &Context,
    key: &str,
    replica: &str,
    copy: &Copy,
) -> Result<(Job, Streams), Problem> {
    let app = lookup::app(context, key).await?;
    let (streams, theirs) = Streams::open(Kind::Pipes).map_err(|error| {
        Problem::new(Code::HostUnfit, "there is no pipe for the copy").why(error.to_string())
    })?;
    let job = context.deploys.copy(app.id, replica, copy.clone(), theirs).await?;
    Ok((job, streams))
}

/// All the archive, as fast as it is taken.
async fn pump(output: Stream, to: &mpsc::Sender<Piece>) {
    let mut piece = vec![0; CHUNK];
    loop {
        match output.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                let data = Bytes::copy_from_slice(&piece[..count]);
                if to.send(Piece::Data(data)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// How an upload came to its end.
enum Fed {
    Whole,
    /// The client hung up, or the copy takes nothing more.
    Broken,
    /// The copy ended before; this is still to come.
    Refused(Body),
}

/// All that is sent, as fast as it is taken.
async fn feed(input: Stream, mut body: Body) -> Fed {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Fed::Broken };
        let Ok(data) = frame.into_data() else { continue };
        match tokio::time::timeout(STALLED, input.write_all(&data)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Fed::Refused(body),
            Err(_) => return Fed::Broken,
        }
    }
    Fed::Whole
}

/// What it says of itself, to its end.
async fn gather(errors: Option<Stream>) -> Vec<u8> {
    let (mut said, mut piece) = (Vec::new(), vec![0; 4096]);
    let Some(errors) = errors else { return said };
    while let Ok(count @ 1..) = errors.read(&mut piece).await {
        if said.len() < MOST_SAID {
            said.extend_from_slice(&piece[..count]);
        }
    }
    said
}

async fn end(job: Job, copy: &Copy, said: &[u8]) -> Copied {
    let name = job.name.clone();
    let code = job.finish().await;
    let (mut copied, mut failed) = (Copied::default(), None);
    for word in Word::parse_all(said) {
        match word {
            Word::Skipped(one) if copied.skipped.len() < MOST_SKIPPED => {
                let path = one.path.display().to_string();
                copied.skipped.push(Skipped { path, why: one.why });
            }
            Word::Skipped(_) => {}
            Word::Failed(trouble) => failed = Some(trouble),
        }
    }
    copied.problem = match (code, failed) {
        (0, _) => None,
        (_, Some(trouble)) => Some(problem(&name, copy, &trouble)),
        (code, None) => Some(cut_off(&name, code)),
    };
    copied
}

fn problem(name: &str, copy: &Copy, trouble: &Trouble) -> Problem {
    let place = trouble.path.display();
    let (what, still) = match copy {
        Copy::Out(_) => {
            (format!("`{place}` could not be copied out of `{name}`"), "it is as it was")
        }
        Copy::In(_) => (
            format!("`{place}` could not be copied into `{name}`"),
            "each file there is the old or the new one",
        ),
    };
    let problem = |code| Problem::new(code, what.clone()).why(trouble.why.clone()).still(still);
    let next = |command: &str| format!("wharf exec -p {name} -- {command}");
    match trouble.kind {
        TroubleKind::NotThere => problem(Code::NotFound).next(next("ls -la /")),
        TroubleKind::Denied => problem(Code::CopyFailed)
            .next(match copy {
                Copy::Out(_) => "files are read as the app's own user",
                Copy::In(_) => "files are written as the app's own user; below /tmp it may",
            })
            .next(next(&format!(
                "ls -la {}",
                trouble.path.parent().unwrap_or(&trouble.path).display()
            ))),
        TroubleKind::NoSpace => problem(Code::CopyFailed).next(next("df -h")).next("wharf disk"),
        TroubleKind::ReadOnly => {
            problem(Code::CopyFailed).next("its root is read-only; /tmp is not")
        }
        TroubleKind::BadArchive => problem(Code::BadInput),
        TroubleKind::Other => problem(Code::CopyFailed),
    }
}

fn cut_off(name: &str, code: i32) -> Problem {
    Problem::new(Code::CopyFailed, format!("the copy with `{name}` was cut off"))
        .why(format!("it ended with {code}: `{name}` ended, or has no memory left for it"))
        .still("what was copied before is there")
        .next(format!("wharf inspect {name}"))
}

fn frame(piece: Piece) -> Frame<Bytes> {
    let copied = match piece {
        Piece::Data(data) => return Frame::data(data),
        Piece::End(copied) => copied,
    };
    let mut trailers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(&one_line(&copied)) {
        trailers.insert(HeaderName::from_static(COPIED_TRAILER), value);
    }
    Frame::trailers(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_has_its_code_and_what_to_do() {
        let code = |kind| {
            let trouble = Trouble { kind, path: "/x/y".into(), why: "no".into() };
            let problem = problem("web.1", &Copy::In("/x/y".into()), &trouble);
            assert!(problem.what.contains("`/x/y`") && problem.why.is_some(), "{problem}");
            problem.code
        };
        assert_eq!(code(TroubleKind::NotThere), Code::NotFound);
        assert_eq!(code(TroubleKind::BadArchive), Code::BadInput);
        for kind in
            [TroubleKind::Denied, TroubleKind::NoSpace, TroubleKind::ReadOnly, TroubleKind::Other]
        {
            assert_eq!(code(kind), Code::CopyFailed);
        }
    }
}
