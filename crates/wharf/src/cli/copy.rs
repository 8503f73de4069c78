//! `cp`.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use engine::copy::{Skipped, Trouble, TroubleKind, pack, unpack};
use model::problem::{Code, Problem};
use tokio::sync::mpsc;

use super::Failure;
use super::session::{Session, escape};
use crate::api::copy::Copied;

/// Copy files into a process's container or out of it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf cp web.1:/app/data.db .        out of it\n  wharf cp dump.sql web.1:/tmp/        into it\n  wharf cp web.1:/app/logs ./logs      a folder\n  wharf cp web.1:/app/logs - | tar t   as a tar archive\n\nModes and times go along, set-user-id does not; links stay links. Inside, files are\nread and written as the app's own user. What a process writes is thrown away with\nit."
)]
pub(super) struct CopyArgs {
    /// A path here, or web.1:/path
    #[arg(value_name = "FROM")]
    from: String,
    /// A path here, or web.1:/path
    #[arg(value_name = "TO")]
    to: String,
}

/// Pieces under way between the connection and the files.
const PIECES: usize = 8;
const PIECE: usize = 256 * 1024;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Here(&'a str),
    Inside { replica: &'a str, path: &'a str },
}

/// `web.1:/path`, `web:data`; anything else is a path here, and `./a:b` is one, too.
fn side(text: &str) -> Side<'_> {
    let is_name = |name: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        name.starts_with(|letter: char| letter.is_ascii_alphabetic()) && name.bytes().all(fits)
    };
    match text.split_once(':') {
        Some((replica, path)) if is_name(replica) => Side::Inside { replica, path },
        _ => Side::Here(text),
    }
}

pub(super) async fn copy(session: &Session, args: &CopyArgs) -> Result<(), Failure> {
    let (from, to) = (side(&args.from), side(&args.to));
    let copied = match (from, to) {
        (Side::Inside { replica, path }, Side::Here(to)) => {
            let url = url(session, replica, path).await?;
            take_out(session, &url, to).await?
        }
        (Side::Here(from), Side::Inside { replica, path }) => {
            let url = url(session, replica, path).await?;
            put_in(session, &url, from).await?
        }
        (Side::Here(_), Side::Here(_)) => {
            let problem = Problem::new(Code::BadInput, "both paths are here")
                .why("one of them must be in a process: web.1:/path");
            return Err(problem.next(format!("wharf cp {} web.1:/tmp/", args.from)).into());
        }
        (Side::Inside { .. }, Side::Inside { .. }) => {
            let problem = Problem::new(Code::BadInput, "both paths are in processes")
                .why("one of them must be here");
            let through = format!("wharf cp {} - | wharf cp - {}", args.from, args.to);
            return Err(problem.next(through).into());
        }
    };
    for skipped in &copied.skipped {
        session.printer.say(format!("not copied: {} is {}", skipped.path, skipped.why));
    }
    match copied.problem {
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}

async fn url(session: &Session, replica: &str, path: &str) -> Result<String, Problem> {
    if path.is_empty() {
        return Err(Problem::new(Code::BadInput, format!("`{replica}:` names no path"))
            .why("after the colon comes a path inside, as in web.1:/tmp"));
    }
    let app = session.app(None).await?;
    let (replica, path) = (escape(replica), escape(path));
    Ok(format!("/wharf/apps/{app}/replicas/{replica}/files?path={path}"))
}

async fn take_out(session: &Session, url: &str, to: &str) -> Result<Copied, Failure> {
    let mut archive = session.client.download(url).await?;
    let (sender, pieces) = mpsc::channel::<Bytes>(PIECES);
    let place = (to != "-").then(|| PathBuf::from(to));
    let files = tokio::task::spawn_blocking(move || {
        let mut from = Reader { pieces, rest: Bytes::new() };
        match place {
            Some(place) => gathered(|skip| unpack(&place, &mut from, skip)),
            None => io::copy(&mut from, &mut io::stdout().lock())
                .map(|_| Vec::new())
                .map_err(|error| trouble_of("-", &error)),
        }
    });
    // Why it broke off there says more than that it broke off here.
    while let Some(piece) = archive.next().await? {
        if sender.send(piece).await.is_err() {
            // Here it ended: by a failure, or with the archive's last block but one.
            let skipped = done(files.await, to)?;
            while archive.next().await?.is_some() {}
            return Ok(with(archive.copied(), skipped));
        }
    }
    drop(sender);
    let files = files.await;
    let copied = archive.copied();
    if copied.problem.is_some() {
        return Ok(copied);
    }
    Ok(with(copied, done(files, to)?))
}

async fn put_in(session: &Session, url: &str, from: &str) -> Result<Copied, Failure> {
    if from != "-" {
        std::fs::metadata(from).map_err(|error| here(&trouble_of(from, &error)))?;
    }
    let (sender, pieces) = mpsc::channel(PIECES);
    let place = (from != "-").then(|| PathBuf::from(from));
    let files = tokio::task::spawn_blocking(move || {
        let mut to = Writer(sender);
        match place {
            Some(place) => gathered(|skip| pack(&place, &mut to, skip)),
            None => io::copy(&mut io::stdin().lock(), &mut to)
                .map(|_| Vec::new())
                .map_err(|error| trouble_of("-", &error)),
        }
    });
    let answer = session.client.upload(url, pieces).await;
    let files = files.await;
    let mut copied: Copied = match answer {
        Ok(reply) => reply.read()?,
        Err(problem) => {
            // An archive that broke off here is why it was refused there.
            if problem.code == Code::BadInput {
                done(files, from)?;
            }
            return Err(problem.into());
        }
    };
    copied.skipped.extend(done(files, from)?);
    Ok(copied)
}

fn with(mut copied: Copied, skipped: Vec<crate::api::copy::Skipped>) -> Copied {
    copied.skipped.extend(skipped);
    copied
}

type Done = Result<Vec<Skipped>, Trouble>;

fn gathered(work: impl FnOnce(&mut dyn FnMut(Skipped)) -> Result<(), Trouble>) -> Done {
    let mut all = Vec::new();
    work(&mut |skipped| all.push(skipped)).map(|()| all)
}

/// How the part that was done here ended.
fn done(
    files: Result<Done, tokio::task::JoinError>,
    place: &str,
) -> Result<Vec<crate::api::copy::Skipped>, Problem> {
    let files = files.map_err(|error| here(&trouble_of(place, &io::Error::other(error))))?;
    let skipped = files.map_err(|trouble| here(&trouble))?;
    let told = |one: Skipped| crate::api::copy::Skipped {
        path: one.path.display().to_string(),
        why: one.why,
    };
    Ok(skipped.into_iter().map(told).collect())
}

fn trouble_of(place: &str, error: &io::Error) -> Trouble {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => TroubleKind::NotThere,
        _ => TroubleKind::Other,
    };
    Trouble { kind, path: Path::new(place).to_owned(), why: error.to_string() }
}

fn here(trouble: &Trouble) -> Problem {
    let code = match trouble.kind {
        TroubleKind::NotThere => Code::NotFound,
        TroubleKind::BadArchive => Code::BadInput,
        TroubleKind::Denied | TroubleKind::NoSpace | TroubleKind::ReadOnly | TroubleKind::Other => {
            Code::CopyFailed
        }
    };
    Problem::new(code, format!("`{}` could not be copied here", trouble.path.display()))
        .why(trouble.why.clone())
}

/// What comes over the connection, for whoever reads and waits.
struct Reader {
    pieces: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Read for Reader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(into.len());
        into[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

/// The other way; an end of the connection is an end of the work.
struct Writer(mpsc::Sender<io::Result<Bytes>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE);
        let piece = Bytes::copy_from_slice(&bytes[..count]);
        self.0.blocking_send(Ok(piece)).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_inside_is_told_from_one_here() {
        let inside = |replica, path| Side::Inside { replica, path };
        assert_eq!(side("web.1:/tmp/x"), inside("web.1", "/tmp/x"));
        assert_eq!(side("web:data:2"), inside("web", "data:2"));
        for here in ["/a:b", "./a:b", "file", "-", "9:x", ":x"] {
            assert_eq!(side(here), Side::Here(here));
        }
    }
}
