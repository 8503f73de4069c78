//! The daemon's end of the control socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::certificate::CertificateTable;
use model::id::ReplicaId;
use model::name::DomainName;
use model::route::{RouteTable, TableChange};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{Applied, Event, Hello, Measures, PROTOCOL, Question, Reply, Status};
use crate::error::{Error, Result};

/// Speaks to a running proxy. Cheap to make and to clone: each call opens its own connection, so
/// that a worker started again between two calls is no error and a long wait blocks nobody.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

struct Connection {
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
}

impl Client {
    /// A client of the proxy at that socket, after one greeting to see that it is there.
    pub async fn connect(path: &Path) -> Result<Self> {
        let client = Self { path: path.to_owned() };
        client.open().await?;
        Ok(client)
    }

    /// Makes the proxy serve from this table: when it returns, every core does, no new request goes
    /// to a replica that is not in it, and the table is on disk. The table served already is fine;
    /// another one that is not newer is refused.
    pub async fn apply(&self, table: &RouteTable) -> Result<Applied> {
        match self.ask(&Question::Apply(Box::new(table.clone()))).await? {
            Reply::Applied(applied) => Ok(applied),
            reply => Err(unexpected(reply)),
        }
    }

    /// The same by what differs from the table served: costs by the change and not by the table. An
    /// [`Error::Stale`] when the proxy serves another version than the change is of.
    pub async fn change(&self, change: &TableChange) -> Result<Applied> {
        match self.ask(&Question::Change(Box::new(change.clone()))).await? {
            Reply::Applied(applied) => Ok(applied),
            Reply::Stale { served } => Err(Error::Stale { base: change.base, served }),
            reply => Err(unexpected(reply)),
        }
    }

    /// Makes the proxy serve these certificates: when it returns, every handshake from now on sees
    /// them, and they are kept, sealed, on disk.
    pub async fn certify(&self, table: &CertificateTable) -> Result<Applied> {
        match self.ask(&Question::Certify(Box::new(table.clone()))).await? {
            Reply::Applied(applied) => Ok(applied),
            reply => Err(unexpected(reply)),
        }
    }

    /// What the proxy is doing.
    pub async fn status(&self) -> Result<Status> {
        match self.ask(&Question::Status).await? {
            Reply::Status(status) => Ok(*status),
            reply => Err(unexpected(reply)),
        }
    }

    /// What it counted, of every app.
    pub async fn measures(&self) -> Result<Measures> {
        match self.ask(&Question::Measures).await? {
            Reply::Measures(measures) => Ok(*measures),
            reply => Err(unexpected(reply)),
        }
    }

    /// The table it serves from: what a daemon that was started again begins with.
    pub async fn table(&self) -> Result<RouteTable> {
        match self.ask(&Question::Table).await? {
            Reply::Table(table) => Ok(*table),
            reply => Err(unexpected(reply)),
        }
    }

    /// Waits until none of these replicas has a request any more, up to the limit, and says which
    /// still have one. Ask it after the table without them was applied.
    pub async fn wait_idle(
        &self,
        replicas: &[ReplicaId],
        limit: Duration,
    ) -> Result<Vec<ReplicaId>> {
        match self.ask(&Question::WaitIdle { replicas: replicas.to_vec(), limit }).await? {
            Reply::Busy(busy) => Ok(busy),
            reply => Err(unexpected(reply)),
        }
    }

    /// Nobody waits for that name any more, nor will for so long: it is nobody's, or no certificate
    /// will come for it now.
    pub async fn turn_away(&self, host: &DomainName, keep: Duration) -> Result<()> {
        match self.ask(&Question::TurnAway { host: host.clone(), keep }).await? {
            Reply::TurnedAway => Ok(()),
            reply => Err(unexpected(reply)),
        }
    }

    /// Events from now on. They are hints: some may be missed, `status` has the truth.
    pub async fn subscribe(&self) -> Result<Events> {
        let mut connection = self.open().await?;
        match connection.ask(&Question::Subscribe).await? {
            Reply::Subscribed => Ok(Events { connection }),
            reply => Err(unexpected(reply)),
        }
    }

    async fn ask(&self, question: &Question) -> Result<Reply> {
        self.open().await?.ask(question).await
    }

    async fn open(&self) -> Result<Connection> {
        let stream = UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|source| Error::Connect { path: self.path.clone(), source })?;
        let (reader, writer) = stream.into_split();
        let mut connection = Connection { lines: BufReader::new(reader).lines(), writer };
        let hello: Hello = connection.read().await?;
        if hello.protocol != PROTOCOL {
            return Err(Error::Protocol { theirs: hello.protocol, ours: PROTOCOL });
        }
        Ok(connection)
    }
}

/// A stream of events.
pub struct Events {
    connection: Connection,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// The next event; an error when the worker is gone.
    pub async fn next(&mut self) -> Result<Event> {
        self.connection.read().await
    }
}

impl Connection {
    async fn ask(&mut self, question: &Question) -> Result<Reply> {
        let mut line = serde_json::to_vec(question).map_err(|error| Error::Wire(error.into()))?;
        line.push(b'\n');
        self.writer.write_all(&line).await.map_err(Error::Wire)?;
        self.read().await
    }

    async fn read<T: DeserializeOwned>(&mut self) -> Result<T> {
        let line = self.lines.next_line().await.map_err(Error::Wire)?;
        let line = line.ok_or_else(|| Error::Wire(std::io::ErrorKind::UnexpectedEof.into()))?;
        serde_json::from_str(&line).map_err(|error| Error::Wire(error.into()))
    }
}

fn unexpected(reply: Reply) -> Error {
    match reply {
        Reply::Refused(why) => Error::Refused(why),
        Reply::Applied(_)
        | Reply::Stale { .. }
        | Reply::Status(_)
        | Reply::Measures(_)
        | Reply::Table(_)
        | Reply::Busy(_)
        | Reply::Subscribed
        | Reply::TurnedAway => Error::Wire(std::io::Error::other("an answer to another question")),
    }
}
