//! What a volume holds as a tar stream: a snapshot goes out, a stream comes in.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};
use model::app::App;
use model::event::Event;
use model::id::TreeId;
use model::problem::Problem;
use tokio::sync::mpsc;

use super::on_disk;
use super::snapshots::{adopt, list, one};
use crate::context::Context;
use crate::deploy::release::Frozen;

/// A piece of a stream, or why there are no more.
pub type Piece = io::Result<Bytes>;

/// So many pieces wait for who is slower.
const WAITING: usize = 8;

/// The content of a snapshot, piece by piece.
pub async fn export(
    context: &Context,
    key: &str,
    name: &str,
    number: u64,
) -> Result<mpsc::Receiver<Piece>, Problem> {
    let kept = list(context, key, name).await?;
    let (volume, snapshot) = (kept.volume.id, one(&kept, number)?.id);
    let (sender, pieces) = mpsc::channel(WAITING);
    let busy = context.backend.volumes.busy(snapshot.0);
    let backend = std::sync::Arc::clone(&context.backend);
    tokio::task::spawn_blocking(move || {
        let _busy = busy;
        let to = io::BufWriter::with_capacity(1 << 16, Sink(sender.clone()));
        if let Err(error) = backend.volumes.pack(volume, snapshot, to) {
            // Who left needs no word of it.
            let _ = sender.blocking_send(Err(io::Error::other(error)));
        }
    });
    Ok(pieces)
}

/// Has the volume hold what a stream brings. What runs is replaced by replicas that see it.
pub async fn import(
    context: &Context,
    key: &str,
    name: &str,
    pieces: mpsc::Receiver<Piece>,
    user: &str,
) -> Result<(App, Option<Frozen>), Problem> {
    let kept = list(context, key, name).await?;
    let (app, volume) = (kept.app, kept.volume);
    let tree = TreeId(uuid::Uuid::now_v7());
    let _busy = context.backend.volumes.busy(tree.0);
    let (id, size) = (volume.id, volume.size);
    on_disk(context, format!("`{name}` was not filled"), move |backend| {
        let source = Source { pieces, now: Bytes::new() };
        Ok(backend.volumes.make_from(id, (tree, size), source)?)
    })
    .await?;
    let fact = Event::VolumeImported { volume: volume.name.clone() };
    let frozen = adopt(context, &app, (volume, tree), fact, user).await?;
    Ok((app, frozen))
}

/// A channel for the pieces of a body that somebody else reads.
pub fn channel() -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    mpsc::channel(WAITING)
}

struct Sink(mpsc::Sender<Piece>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Source {
    pieces: mpsc::Receiver<Piece>,
    now: Bytes,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.now = piece?,
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.now.len());
        self.now.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}
