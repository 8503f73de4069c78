//! `run` and `exec`: a command far away on our own terminal or pipes.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use bytes::{Bytes, BytesMut};
use http::Method;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use model::problem::{Code, Problem};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;
use super::logs::path_of;
use super::session::{Session, is_replica};
use super::terminal::{self, Raw};
use crate::api::attach::Frame;
use crate::api::dyno::{CreateDyno, CreateExec, Dyno, Exec, command_line};

/// 128 + PIPE and 128 + INT: what a shell shows of a command that ended so.
const BROKEN_PIPE: u8 = 141;
const INTERRUPTED: u8 = 130;

/// Run a command once, in a container of its own
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf run bash\n  wharf run -a shop -- python manage.py migrate\n  wharf run psql < dump.sql\n  wharf run --detach npm run report     its output goes to the log"
)]
pub(super) struct RunArgs {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// More environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The memory limit: 1G
    #[arg(short, long)]
    size: Option<String>,
    /// Do not wait; the output goes to the app's log
    #[arg(short, long)]
    detach: bool,
    /// Pipes instead of a terminal
    #[arg(long)]
    no_tty: bool,
}

impl RunArgs {
    /// The same without waiting.
    pub(super) fn detached(self) -> Self {
        Self { detach: true, ..self }
    }
}

/// Run a command inside a running process
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf exec bash               in web.1\n  wharf exec web.2 -- ls -l\n  wharf exec -p worker ps aux"
)]
pub(super) struct ExecArgs {
    /// The command and its arguments, after the process it is for: web.2 -- ls
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Which one: web.2, or a type
    #[arg(short, long, visible_short_alias = 'd', visible_alias = "dyno", value_name = "NAME")]
    process: Option<String>,
    /// Pipes instead of a terminal
    #[arg(long)]
    no_tty: bool,
}

pub(super) async fn run(session: &Session, args: RunArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let is_tty = !args.detach && has_terminal(args.no_tty);
    let mut env = parse_env(&args.env)?;
    env.extend(terminal_env(is_tty));
    let command = command_line(&args.command);
    session.printer.begin(&format!("Running {command} on {app}"));
    let body = CreateDyno {
        command,
        attach: !args.detach,
        env,
        force_no_tty: !is_tty,
        size: args.size,
        ..CreateDyno::default()
    };
    let path = format!("/apps/{app}/dynos");
    let dyno: Dyno = session.client.call(Method::POST, &path, Some(&body)).await?.read()?;
    session.printer.end(&format!("{}, {}", if args.detach { "begun" } else { "up" }, dyno.name));
    match dyno.attach_url {
        Some(url) => join(session, &url, is_tty).await,
        None => {
            session.printer.say(format!("Its output: wharf logs -a {app} -p {}", dyno.name));
            Ok(())
        }
    }
}

pub(super) async fn exec(session: &Session, args: ExecArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let is_tty = has_terminal(args.no_tty);
    let env = terminal_env(is_tty);
    let (dyno, command) = split(args.process, args.command);
    let body = CreateExec { dyno, command, tty: is_tty, env };
    let path = format!("/wharf/apps/{app}/exec");
    let made: Exec = session.client.call(Method::POST, &path, Some(&body)).await?.read()?;
    join(session, &made.attach_url, is_tty).await
}

/// `web.2 -- ls` names the process before the command; so does `web.2 ls`, since no program is called that.
fn split(process: Option<String>, mut words: Vec<String>) -> (Option<String>, Vec<String>) {
    if process.is_none() && words.len() > 2 && words[1] == "--" {
        let command = words.split_off(2);
        return (words.into_iter().next(), command);
    }
    if process.is_none() && words.len() > 1 && is_replica(&words[0]) {
        let command = words.split_off(1);
        return (words.pop(), command);
    }
    (process, words)
}

fn has_terminal(no_tty: bool) -> bool {
    !no_tty && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

fn terminal_env(is_tty: bool) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    if is_tty {
        env.insert("TERM".to_owned(), std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()));
        if let Some((columns, rows)) = terminal::size() {
            env.insert("COLUMNS".to_owned(), columns.to_string());
            env.insert("LINES".to_owned(), rows.to_string());
        }
    }
    env
}

fn parse_env(vars: &[String]) -> Result<BTreeMap<String, String>, Problem> {
    vars.iter()
        .map(|var| match var.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Problem::new(Code::BadInput, format!("`{var}` is no NAME=value"))),
        })
        .collect()
}

/// Joins the command until it ends; its exit code becomes ours.
async fn join(session: &Session, url: &str, is_tty: bool) -> Result<(), Failure> {
    let stream = session.client.attach(path_of(url)).await?;
    let (from, to) = tokio::io::split(stream);
    let raw = if is_tty { Some(Raw::enter()?) } else { None };
    let result = tokio::select! {
        result = receive(from) => result,
        failure = send(to, is_tty) => Err(failure),
    };
    drop(raw);
    match result? {
        0 => Ok(()),
        code => Err(Failure::PassedOn(u8::try_from(code & 0xff).unwrap_or(1))),
    }
}

pub(super) async fn receive(mut from: ReadHalf<TokioIo<Upgraded>>) -> Result<i32, Failure> {
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    loop {
        loop {
            let frame = Frame::decode(&mut buffer).map_err(|error| {
                Problem::new(Code::Internal, "the daemon's frames could not be read")
                    .why(error.to_string())
            })?;
            match frame {
                None => break,
                Some(Frame::Stdout(data)) => pass(std::io::stdout().lock(), &data)?,
                Some(Frame::Stderr(data)) => pass(std::io::stderr().lock(), &data)?,
                Some(Frame::Exit(code)) => return Ok(code),
                Some(Frame::Error(problem)) => return Err(problem.into()),
                Some(
                    Frame::Stdin(_) | Frame::StdinEnd | Frame::Resize { .. } | Frame::Signal(_),
                ) => {}
            }
        }
        match from.read_buf(&mut buffer).await {
            Ok(0) => return Err(lost("it was closed before the command ended").into()),
            Ok(_) => {}
            Err(error) => return Err(lost(&error.to_string()).into()),
        }
    }
}

/// What the command printed, as it is. When nobody reads it any more (`| head`), we end as the command
/// would have here, and it is ended there.
fn pass(mut out: impl Write, data: &[u8]) -> Result<(), Failure> {
    match out.write_all(data).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(_) => Err(Failure::PassedOn(BROKEN_PIPE)),
    }
}

fn lost(why: &str) -> Problem {
    Problem::new(Code::DaemonUnreachable, "the connection to the command was lost").why(why)
}

/// Sends our input, the size of our terminal and signals. Ends only when it cannot any more.
async fn send(mut to: WriteHalf<TokioIo<Upgraded>>, is_tty: bool) -> Failure {
    let signals = [SignalKind::window_change(), SignalKind::interrupt(), SignalKind::terminate()];
    let mut listeners = Vec::with_capacity(signals.len());
    for kind in signals {
        match signal(kind) {
            Ok(listener) => listeners.push(listener),
            Err(error) => return lost(&error.to_string()).into(),
        }
    }
    let [resized, interrupted, terminated] = listeners.as_mut_slice() else {
        return lost("signals cannot be heard").into();
    };
    let mut stdin = tokio::io::stdin();
    let mut input = vec![0; 16 * 1024];
    let mut is_open = true;
    let mut next = if is_tty { size_frame() } else { None };
    loop {
        if let Some(frame) = next.take() {
            let mut bytes = BytesMut::new();
            frame.encode(&mut bytes);
            let written = async {
                to.write_all(&bytes).await?;
                to.flush().await
            };
            let written = tokio::select! {
                written = written => written,
                // The command takes no more input, and so nothing behind it: hanging up ends it.
                () = heard(interrupted) => return Failure::PassedOn(INTERRUPTED),
            };
            if written.is_err() {
                // Why is told by what is received: the exit code may be on its way.
                std::future::pending::<()>().await;
            }
        }
        next = tokio::select! {
            read = stdin.read(&mut input), if is_open => match read {
                Ok(0) | Err(_) => {
                    is_open = false;
                    Some(Frame::StdinEnd)
                }
                Ok(length) => Some(Frame::Stdin(Bytes::copy_from_slice(&input[..length]))),
            },
            () = heard(resized) => if is_tty { size_frame() } else { None },
            () = heard(interrupted) => Some(Frame::Signal(2)),
            () = heard(terminated) => Some(Frame::Signal(15)),
        };
    }
}

async fn heard(listener: &mut Signal) {
    if listener.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

fn size_frame() -> Option<Frame> {
    terminal::size().map(|(columns, rows)| Frame::Resize { columns, rows })
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn a_process_may_be_named_before_the_command() {
        let of = |process: Option<&str>, words: &str| {
            let words = words.split(' ').map(str::to_owned).collect();
            let (process, command) = split(process.map(str::to_owned), words);
            (process, command.join(" "))
        };
        assert_eq!(of(None, "web.2 -- ls -l"), (Some("web.2".into()), "ls -l".into()));
        assert_eq!(of(None, "git -- x"), (Some("git".into()), "x".into()));
        assert_eq!(of(None, "ls --"), (None, "ls --".into()));
        assert_eq!(of(None, "web.2 ls -l"), (Some("web.2".into()), "ls -l".into()));
        assert_eq!(of(None, "web.2"), (None, "web.2".into()));
        assert_eq!(of(None, "mkfs.ext4 x"), (None, "mkfs.ext4 x".into()));
        assert_eq!(of(None, "python3.11 x"), (None, "python3.11 x".into()));
        assert_eq!(of(Some("web"), "git -- x"), (Some("web".into()), "git -- x".into()));
    }
}
