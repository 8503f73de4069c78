//! The worker's end of the control socket, and the one owner of the table.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use model::certificate::CertificateTable;
use model::id::ReplicaId;
use model::name::DomainName;
use model::route::{RouteTable, TableChange};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, broadcast, mpsc, oneshot};
use tokio::time::Instant;

use super::{
    AppCounters, Applied, EndpointStatus, Event, Hello, Measures, PROTOCOL, Question, Reply, Status,
};
use crate::claims::Claims;
use crate::config::Config;
use crate::core::Mail;
use crate::error::{Error, Result};
use crate::log::Lost;
use crate::meter::{self, CoreMeter};
use crate::snapshot::{self, Keeper};
use crate::table::{PartEdit, Registry};
use crate::tasks::spawn_detached;
use crate::tls::{self, SealKey, Tls};
use crate::trace::Fate;
use crate::wall;

/// The worker's knowledge beside the requests.
pub(crate) struct Control {
    pub(crate) config: Arc<Config>,
    truth: Mutex<Kept>,
    tls: Arc<Tls>,
    seal_key: SealKey,
    mail: Vec<mpsc::UnboundedSender<Mail>>,
    meters: Arc<[CoreMeter]>,
    spans: Arc<Fate>,
    events: broadcast::Sender<Event>,
    lost: Arc<Lost>,
    owner: u32,
    holder: u32,
    started_at: jiff::Timestamp,
    started: Instant,
}

/// What was counted beside the table: by the cores, and of spans.
type Counted = (Arc<[CoreMeter]>, Arc<Fate>);

/// How often a worker that was replaced looks what the next one keeps.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);

/// What was told last.
pub(crate) struct Kept {
    pub(crate) registry: Registry,
    pub(crate) table: RouteTable,
    pub(crate) keeper: Keeper,
    pub(crate) certificates: CertificateTable,
    /// Whether what is served lies on the disk as well: the routes, the certificates.
    pub(crate) is_stored: (bool, bool),
}

/// Keeps the table that is served, after this change or whole; what it says is the reply.
async fn keep(truth: &mut Kept, change: Option<&TableChange>) -> Reply {
    let Kept { table, keeper, .. } = &mut *truth;
    let kept = match change {
        Some(change) => keeper.keep(change, table).await,
        None => keeper.keep_whole(table).await,
    };
    truth.is_stored.0 = kept.is_ok();
    match kept {
        Ok(()) => Reply::Applied(Applied { version: truth.table.version }),
        Err(error) => Reply::Refused(crate::error::chain(&error)),
    }
}

impl Control {
    pub(crate) fn new(
        (config, tls, seal_key): (Arc<Config>, Arc<Tls>, SealKey),
        kept: Kept,
        (mail, (meters, spans)): (Vec<mpsc::UnboundedSender<Mail>>, Counted),
        (events, lost, owner, holder): (broadcast::Sender<Event>, Arc<Lost>, u32, u32),
    ) -> Self {
        let truth = Mutex::new(kept);
        let started_at = wall::timestamp();
        let started = Instant::now();
        Self {
            config,
            truth,
            tls,
            seal_key,
            mail,
            meters,
            spans,
            events,
            lost,
            owner,
            holder,
            started_at,
            started,
        }
    }

    /// Has every core finish what it has. `is_replaced`: another worker serves already.
    pub(crate) fn stop_cores(&self, is_replaced: bool) {
        for core in &self.mail {
            // A core that is gone has stopped.
            let _gone = core.send(Mail::Stop { is_replaced });
        }
    }

    /// Makes the disk ready for changes while nobody waits for it.
    pub(crate) async fn begin_keeping(&self) {
        let Kept { table, keeper, .. } = &mut *self.truth.lock().await;
        if table.version > 0 {
            keeper.begin(table.clone());
        }
    }

    /// Serves from a whole table.
    async fn apply(&self, table: RouteTable) -> Reply {
        let mut truth = self.truth.lock().await;
        let served = truth.table.version;
        if table == truth.table && truth.is_stored.0 {
            return Reply::Applied(Applied { version: served });
        }
        if table == truth.table {
            return keep(&mut truth, None).await;
        }
        if table.version <= served {
            let version = table.version;
            return Reply::Refused(format!("version {version} is not newer than {served}"));
        }
        let change = truth.table.difference(&table);
        self.swap(&mut truth, &change, true).await
    }

    /// Serves from the last table with a change made.
    async fn change(&self, change: &TableChange) -> Reply {
        let mut truth = self.truth.lock().await;
        let served = truth.table.version;
        if change.base != served || change.version <= served {
            return Reply::Stale { served };
        }
        self.swap(&mut truth, change, false).await
    }

    /// Swaps the next table in on every core, then keeps it. Serving comes first: a crash between the
    /// two is mended by the daemon, which did not hear of success and applies again.
    async fn swap(&self, truth: &mut Kept, change: &TableChange, is_whole: bool) -> Reply {
        if let Err(conflict) = self.serve(truth, change).await {
            return Reply::Refused(conflict);
        }
        keep(truth, (!is_whole).then_some(change)).await
    }

    /// Has every core serve from the changed table.
    async fn serve(
        &self,
        truth: &mut Kept,
        change: &TableChange,
    ) -> std::result::Result<(), String> {
        let Kept { registry, table, .. } = &mut *truth;
        let edits: Vec<PartEdit<'_>> = change
            .parts
            .iter()
            .map(|(app, after)| (*app, table.parts.get(app).map(Arc::as_ref), after.as_deref()))
            .collect();
        let compiled = registry.apply(&edits).map_err(|conflict| conflict.to_string())?;
        self.tls.know_routes(compiled.clone());
        let mut answers = Vec::new();
        for core in &self.mail {
            let (applied, answer) = oneshot::channel();
            // A core that is gone serves nothing any more.
            let _gone = core.send(Mail::Table(compiled.clone(), applied));
            answers.push(answer);
        }
        for answer in answers {
            let _gone = answer.await;
        }
        // Not before every core has the table: who waited for a name goes on by it.
        self.tls.claims().wake();
        registry.forget_gone(change.parts.keys().copied());
        let _is_of_this_version = table.change(change);
        Ok(())
    }

    /// Until the cores have finished what they have: what waits for a replica, or tries one, goes by the
    /// table that the worker in this one's place keeps. Nobody tells this one any more, and it keeps nothing.
    pub(crate) async fn follow_the_next(&self) {
        let folder = &self.config.state_dir;
        let mut tick = tokio::time::interval(FOLLOW_EVERY);
        let mut known = None;
        while self.mail.iter().any(|core| !core.is_closed()) {
            tick.tick().await;
            let mark = snapshot::mark(folder);
            if known.as_ref() == Some(&mark) {
                continue;
            }
            known = Some(mark);
            let mut truth = self.truth.lock().await;
            let next = snapshot::load(folder).filter(|next| next.version > truth.table.version);
            let Some(next) = next else { continue };
            let change = truth.table.difference(&next);
            if let Err(conflict) = self.serve(&mut truth, &change).await {
                tracing::error!(conflict, "the next worker's table contradicts itself");
            }
        }
    }

    /// Puts certificates in place: serving first, then the disk, as with routes.
    async fn certify(&self, table: CertificateTable) -> Reply {
        let mut truth = self.truth.lock().await;
        let served = truth.certificates.version;
        let is_served = table == truth.certificates;
        if is_served && truth.is_stored.1 {
            return Reply::Applied(Applied { version: served });
        }
        if table.version <= served && !is_served {
            let version = table.version;
            return Reply::Refused(format!("version {version} is not newer than {served}"));
        }
        if let Err(why) = self.tls.publish(&table) {
            return Reply::Refused(why);
        }
        let stored = tls::store(&self.config.state_dir, &table, &self.seal_key);
        let version = table.version;
        truth.certificates = table;
        truth.is_stored.1 = stored.is_ok();
        match stored {
            Ok(()) => Reply::Applied(Applied { version }),
            Err(error) => Reply::Refused(crate::error::chain(&error)),
        }
    }

    async fn status(&self) -> Status {
        let truth = self.truth.lock().await;
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let endpoints = truth.registry.replicas.iter().filter_map(|(id, stats)| {
            let status = EndpointStatus {
                in_flight: stats.in_flight(),
                is_serving: truth.registry.is_serving(*id),
                is_down: stats.is_down(now),
                is_ejected: stats.is_ejected(now),
                is_unwell: stats.is_unwell(),
            };
            (status.is_serving || status.in_flight > 0).then_some((*id, status))
        });
        let apps = truth.registry.apps.iter().map(|(id, stats)| {
            let counters = AppCounters {
                requests: stats.requests(),
                edge_errors: stats.edge_errors.load(Relaxed),
                retries: stats.retries.load(Relaxed),
                held: stats.held.load(Relaxed) + u64::from(stats.queue.waiting()),
                held_total: stats.held_total.load(Relaxed),
            };
            (*id, counters)
        });
        Status {
            version: truth.table.version,
            pid: std::process::id(),
            holder_pid: Some(std::os::unix::process::parent_id())
                .filter(|parent| *parent == self.holder),
            started_at: self.started_at,
            listening: self.config.listen.clone(),
            listening_https: self.config.listen_https.clone(),
            certificates_version: truth.certificates.version,
            endpoints: endpoints.collect(),
            apps: apps.collect(),
            log_lines_lost: self.lost.total(),
        }
    }

    /// All that was counted, added up.
    pub(crate) async fn measures(&self) -> Measures {
        let truth = self.truth.lock().await;
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let apps = truth.registry.upstreams().filter_map(|upstream| {
            let part = truth.table.parts.get(&upstream.app)?;
            Some((upstream.app, meter::app(part, upstream, now)))
        });
        Measures {
            at: wall::timestamp(),
            started_at: self.started_at,
            table_version: truth.table.version,
            log_lines_lost: self.lost.total(),
            spans: self.spans.counts(),
            cores: self.meters.iter().map(meter::core).collect(),
            errors: meter::errors(self.meters.iter()),
            apps: apps.collect(),
        }
    }

    /// Waits until none of these has a request; says which still have one at the limit.
    async fn wait_idle(&self, replicas: &[ReplicaId], limit: Duration) -> Vec<ReplicaId> {
        let until = Instant::now() + limit;
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            let truth = self.truth.lock().await;
            let is_busy = |id: &ReplicaId| {
                truth.registry.replicas.get(id).is_some_and(|stats| stats.in_flight() > 0)
            };
            let busy: Vec<_> = replicas.iter().copied().filter(is_busy).collect();
            if busy.is_empty() || Instant::now() >= until {
                return busy;
            }
        }
    }

    async fn converse(&self, stream: UnixStream) -> io::Result<()> {
        let peer = stream.peer_cred()?.uid();
        if peer != 0 && peer != self.owner {
            return Ok(());
        }
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        say(&mut writer, &Hello { protocol: PROTOCOL }).await?;
        while let Some(line) = lines.next_line().await? {
            let reply = match serde_json::from_str(&line) {
                Ok(Question::Apply(table)) => self.apply(*table).await,
                Ok(Question::Change(change)) => self.change(&change).await,
                Ok(Question::Certify(table)) => self.certify(*table).await,
                Ok(Question::Status) => Reply::Status(Box::new(self.status().await)),
                Ok(Question::Measures) => Reply::Measures(Box::new(self.measures().await)),
                Ok(Question::Table) => {
                    Reply::Table(Box::new(self.truth.lock().await.table.clone()))
                }
                Ok(Question::WaitIdle { replicas, limit }) => {
                    Reply::Busy(self.wait_idle(&replicas, limit).await)
                }
                Ok(Question::TurnAway { host, keep }) => {
                    self.tls.claims().turn_away(&host, keep);
                    Reply::TurnedAway
                }
                Ok(Question::Subscribe) => {
                    let events = self.events.subscribe();
                    let claims = self.tls.claims();
                    // What comes from here on is an event, so what was before is looked up first.
                    let waited_for = claims.waited_for();
                    say(&mut writer, &Reply::Subscribed).await?;
                    say_unknown(waited_for, &mut writer).await?;
                    return tell(events, claims, &mut writer, lines).await;
                }
                Err(error) => Reply::Refused(format!("not understood: {error}")),
            };
            say(&mut writer, &reply).await?;
        }
        Ok(())
    }
}

type Writer = tokio::net::unix::OwnedWriteHalf;
type Lines = tokio::io::Lines<BufReader<tokio::net::unix::OwnedReadHalf>>;

async fn say(writer: &mut Writer, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

async fn say_unknown(hosts: Vec<DomainName>, writer: &mut Writer) -> io::Result<()> {
    for host in hosts {
        say(writer, &Event::UnknownHost { host }).await?;
    }
    Ok(())
}

/// Passes events on until the subscriber hangs up.
async fn tell(
    mut events: broadcast::Receiver<Event>,
    claims: &Claims,
    writer: &mut Writer,
    mut lines: Lines,
) -> io::Result<()> {
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => say(writer, &event).await?,
                // Events are hints; who reads too slowly asks for the status instead. Of names that are
                // waited for there is none.
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    say_unknown(claims.waited_for(), writer).await?;
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            _ = lines.next_line() => return Ok(()),
        }
    }
}

/// Makes the socket; one that a dead worker left is in the way and goes.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    let listen = || {
        let draft = path.with_extension(format!("{}", std::process::id()));
        let listener = UnixListener::bind(&draft)?;
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&draft, path)?;
        Ok(listener)
    };
    listen().map_err(|error| Error::System("listen on the control socket", error))
}

/// Serves every connection in a task of its own.
pub(crate) async fn accept(control: Rc<Control>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let control = control.clone();
                spawn_detached(async move {
                    // A client that hangs up in the middle has nobody to be told.
                    let _hung_up = control.converse(stream).await;
                });
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
