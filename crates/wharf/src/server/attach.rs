//! `/wharf/attach/{session}`: somebody's terminal or pipes on one side, a command on the other, and
//! [`Frame`]s between them.
//!
//! The command begins when the connection has changed to the protocol. It ends with it, too: a client
//! that hung up, or says nothing more to our empty frames, is gone. What the command wrote is sent
//! before the word of its end, whatever time the client takes to read it.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use engine::attach::Attach;
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use model::id::AppId;
use model::problem::{Code, Problem};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::follow::{self, Followed};
use super::sessions::Sessions;
use crate::api::attach::{Frame, PROTOCOL};
use crate::context::Context;
use crate::deploy::one_off::{Command, Job, Ordered, Why};
use crate::deploy::streams::{Kind, Stream, Streams, TerminalSize};

/// Whoever was told an address came within this, or not at all.
const UPGRADE_LIMIT: Duration = Duration::from_secs(10);

/// An empty frame is sent when there was nothing to say for so long: that is how a client shows that
/// it is gone without a word.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// After a command's end, its output is over when there was nothing for so long: a process it left
/// behind in a replica may hold the pipe for ever.
const QUIET: Duration = Duration::from_millis(200);

/// As much is read of a stream at once.
const CHUNK: usize = 16 * 1024;

/// Ctrl-D: how a terminal is told that there is no more input.
const END_OF_INPUT: &[u8] = &[4];

/// What waits for somebody to attach.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) app: AppId,
    pub(super) what: What,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum What {
    Run(Box<Ordered>),
    Exec {
        replica: String,
        command: Command,
    },
    /// Of one that runs already, what it says.
    Follow(Box<Followed>),
}

/// Whoever is attached.
#[derive(Debug)]
struct Client {
    /// What it is sent.
    frames: mpsc::Sender<Frame>,
    /// It hung up.
    gone: CancellationToken,
}

pub(super) async fn join(
    State(context): State<Context>,
    Extension(sessions): Extension<Sessions<Wanted>>,
    Path(id): Path<String>,
    mut request: Request,
) -> Answer {
    let asked = request.headers().get(UPGRADE).and_then(|value| value.to_str().ok());
    let is_asked = asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case(PROTOCOL));
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().filter(|_| is_asked);
    let upgrade = upgrade.ok_or_else(|| {
        Problem::new(Code::BadInput, "a command is attached to with an upgrade of the connection")
            .why(format!("the request has no `Upgrade: {PROTOCOL}`"))
            .still("the address is still good")
    })?;
    let wanted = sessions.take(&id).ok_or_else(|| {
        Problem::new(Code::NotFound, "there is no such command to attach to")
            .why("its address works once, and for five minutes")
            .next("wharf run")
    })?;
    let mine = context.clone();
    context.tasks.spawn("attach", async move {
        match tokio::time::timeout(UPGRADE_LIMIT, upgrade).await {
            Ok(Ok(upgraded)) => serve(mine, wanted, upgraded).await,
            Ok(Err(error)) => tracing::debug!(%error, "nobody attached"),
            Err(_) => tracing::debug!("nobody attached in time"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

async fn serve(context: Context, wanted: Wanted, upgraded: Upgraded) {
    let (from, to) = tokio::io::split(TokioIo::new(upgraded));
    let (frames, queue) = mpsc::channel(8);
    let gone = CancellationToken::new();
    let client = Client { frames, gone: gone.clone() };
    let work = async {
        let last = match begin(&context, wanted).await {
            Begun::Job(job, streams) => run(&context, *job, streams, from, &client).await,
            Begun::Following(followed, app) => {
                tokio::select! {
                    last = follow::follow(&context, app, &followed, &client.frames) => last,
                    () = until_gone(from) => {
                        client.gone.cancel();
                        Frame::Exit(0)
                    }
                }
            }
            Begun::Not(problem) => Frame::Error(problem),
        };
        // A client that left needs no last word.
        let _ = client.frames.send(last).await;
        drop(client);
    };
    tokio::join!(work, send(to, queue, &gone));
}

/// What there is to be served.
enum Begun {
    Job(Box<Job>, Streams),
    Following(Box<Followed>, AppId),
    Not(Problem),
}

async fn begin(context: &Context, Wanted { app, what, kind }: Wanted) -> Begun {
    let deploys = &context.deploys;
    let started = match what {
        What::Follow(followed) => return Begun::Following(followed, app),
        What::Run(ordered) => start(kind, |theirs| deploys.run_once(*ordered, theirs)).await,
        What::Exec { replica, command } => {
            start(kind, |theirs| deploys.exec(app, &replica, command, theirs)).await
        }
    };
    match started {
        Ok((job, streams)) => Begun::Job(Box::new(job), streams),
        Err(problem) => Begun::Not(problem),
    }
}

/// Reads until the client hung up; what it says is for nobody.
async fn until_gone(mut from: ReadHalf<TokioIo<Upgraded>>) {
    let mut piece = [0; 1024];
    while let Ok(1..) = from.read(&mut piece).await {}
}

async fn start<F>(kind: Kind, begin: impl FnOnce(Attach) -> F) -> Result<(Job, Streams), Problem>
where
    F: Future<Output = Result<Job, Problem>>,
{
    let (streams, theirs) = Streams::open(kind).map_err(|error| {
        tracing::error!(%error, "no streams for a command");
        Problem::new(Code::HostUnfit, "there is no terminal or pipe for the command")
            .why(error.to_string())
    })?;
    Ok((begin(theirs).await?, streams))
}

/// From the command's start to its last word.
async fn run(
    context: &Context,
    job: Job,
    streams: Streams,
    from: ReadHalf<TokioIo<Upgraded>>,
    Client { frames, gone }: &Client,
) -> Frame {
    let ended = CancellationToken::new();
    let Streams { input, output, errors, is_terminal } = streams;
    let screen = is_terminal.then(|| output.clone());
    let over = async {
        let why = tokio::select! {
            why = job.see_out(gone.cancelled()) => why,
            () = context.tasks.stopped() => {
                job.see_out(std::future::ready(())).await;
                Why::Stopped
            }
        };
        ended.cancel();
        why
    };
    let said = async {
        let ((), ()) = tokio::join!(pump(&output, Frame::Stdout, frames, &ended), async {
            if let Some(errors) = &errors {
                pump(errors, Frame::Stderr, frames, &ended).await;
            }
        });
    };
    let whole = async { tokio::join!(over, said).0 };
    let (pieces, inbox) = mpsc::channel(64);
    let heard = async {
        listen(from, &job, screen, pieces).await;
        gone.cancel();
        std::future::pending::<()>().await;
    };
    let fed = async {
        feed(input, is_terminal, inbox).await;
        std::future::pending::<()>().await;
    };
    let why = tokio::select! {
        why = whole => why,
        () = heard => Why::GivenUp,
        () = fed => Why::GivenUp,
    };
    let name = job.name.clone();
    let code = job.finish().await;
    match why {
        Why::Ended | Why::GivenUp | Why::TimeUp => Frame::Exit(code),
        Why::Stopped => Frame::Error(
            Problem::new(Code::BuildInterrupted, format!("`{name}` was ended"))
                .why("somebody stopped it, its app was destroyed, or the daemon is stopping"),
        ),
    }
}

/// Sends what the command says, until it has said everything.
async fn pump(
    stream: &Stream,
    frame: fn(Bytes) -> Frame,
    frames: &mpsc::Sender<Frame>,
    ended: &CancellationToken,
) {
    let mut piece = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            biased;
            read = stream.read(&mut piece) => read,
            () = quiet_after(ended) => return,
        };
        match read {
            Ok(0) => return,
            Ok(count) => {
                let data = Bytes::copy_from_slice(&piece[..count]);
                // Nobody reads any more; the command is being ended.
                let _ = frames.send(frame(data)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "a command's output cannot be read");
                return;
            }
        }
    }
}

async fn quiet_after(ended: &CancellationToken) {
    ended.cancelled().await;
    tokio::time::sleep(QUIET).await;
}

/// Takes what the client sends, until it is gone.
async fn listen(
    mut from: ReadHalf<TokioIo<Upgraded>>,
    job: &Job,
    screen: Option<Stream>,
    pieces: mpsc::Sender<Option<Bytes>>,
) {
    let mut buffer = BytesMut::with_capacity(CHUNK);
    loop {
        match Frame::decode(&mut buffer) {
            Ok(None) => match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
            // A command that reads no more has no use for it.
            Ok(Some(Frame::Stdin(data))) => drop(pieces.send(Some(data)).await),
            Ok(Some(Frame::StdinEnd)) => drop(pieces.send(None).await),
            Ok(Some(Frame::Resize { columns, rows })) => {
                let resized = screen.as_ref().map(|it| it.resize(TerminalSize { columns, rows }));
                if let Some(Err(error)) = resized {
                    tracing::debug!(%error, "a terminal was not resized");
                }
            }
            Ok(Some(Frame::Signal(number))) => job.signal(i32::from(number)).await,
            Ok(Some(Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exit(_) | Frame::Error(_))) => {}
            Err(error) => {
                tracing::debug!(%error, "a client does not speak the attach protocol");
                return;
            }
        }
    }
}

/// Gives the command its input; ends when there is no more, or it takes no more.
async fn feed(input: Stream, is_terminal: bool, mut pieces: mpsc::Receiver<Option<Bytes>>) {
    while let Some(Some(data)) = pieces.recv().await {
        if input.write_all(&data).await.is_err() {
            return;
        }
    }
    if is_terminal {
        // A terminal that is gone needs no end.
        let _ = input.write_all(END_OF_INPUT).await;
    }
}

/// Writes the frames; when the client takes them no more, it is gone, and they go nowhere.
async fn send(
    mut to: WriteHalf<TokioIo<Upgraded>>,
    mut queue: mpsc::Receiver<Frame>,
    gone: &CancellationToken,
) {
    let mut bytes = BytesMut::new();
    loop {
        let frame = match tokio::time::timeout(HEARTBEAT, queue.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(_) => Frame::Stdout(Bytes::new()),
        };
        if gone.is_cancelled() {
            continue;
        }
        bytes.clear();
        frame.encode(&mut bytes);
        let written = async {
            to.write_all(&bytes).await?;
            to.flush().await
        };
        let is_written = tokio::select! {
            written = written => written.is_ok(),
            () = gone.cancelled() => false,
        };
        if !is_written {
            gone.cancel();
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}
