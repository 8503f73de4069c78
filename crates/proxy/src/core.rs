//! One core: a thread, a runtime, its own listeners, connections, timers and counters.
//!
//! Requests never leave the core they came in on. The control thread speaks to a core only through
//! its mailbox; a table counts as applied when every core has said so.

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt;
use model::id::ReplicaId;
use model::name::DomainName;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::balance::Turns;
use crate::budget::Budgets;
use crate::checker;
use crate::clock;
use crate::config::{Config, Door};
use crate::connection::{self, Protocols};
use crate::control::Event;
use crate::draws::Draws;
use crate::h2c;
use crate::hold::Rooms;
use crate::log::{Batch, Lost, Sink};
use crate::meter::CoreMeter;
use crate::outside::Outside;
use crate::pool::{ConnectFailure, Pool};
use crate::proxied::Ends;
use crate::request_id::RequestIds;
use crate::table::{Table, Upstream};
use crate::tasks::{Tasks, spawn_detached};
use crate::tls::Tls;
use crate::trace::{self, Tracer};

/// How long a core that is full waits before it looks for room by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What the control thread asks of a core.
#[derive(Debug)]
pub(crate) enum Mail {
    /// Serve from this table; answered when no new request can go by an older one.
    Table(Arc<Table>, oneshot::Sender<()>),
    /// Accept no more, finish what is there; another may serve already.
    Stop { is_replaced: bool },
}

/// What every core is born with.
#[derive(Debug, Clone)]
pub(crate) struct Birth {
    pub(crate) config: Arc<Config>,
    pub(crate) table: Arc<Table>,
    pub(crate) tls: Arc<Tls>,
    pub(crate) started: Instant,
    pub(crate) log: SyncSender<Batch>,
    pub(crate) lost: Arc<Lost>,
    pub(crate) events: broadcast::Sender<Event>,
    /// Where spans go.
    pub(crate) spans: trace::Way,
    /// Every core's.
    pub(crate) meters: Arc<[CoreMeter]>,
    /// Which core it is; the first does what one must do for all.
    pub(crate) number: usize,
}

/// What the requests of one core share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) number: usize,
    pub(crate) config: Arc<Config>,
    pub(crate) pool: Pool,
    pub(crate) h2c: h2c::Connections,
    pub(crate) turns: Turns,
    pub(crate) draws: Draws,
    pub(crate) ids: RequestIds,
    pub(crate) rooms: Rooms,
    pub(crate) budgets: Budgets,
    pub(crate) sink: Sink,
    pub(crate) tasks: Tasks,
    pub(crate) tls: Arc<Tls>,
    /// None unless traces are asked for.
    pub(crate) tracer: Option<Rc<Tracer>>,
    table: RefCell<Arc<Table>>,
    /// The second and its `Date`.
    date: RefCell<(u64, String)>,
    started: Instant,
    events: broadcast::Sender<Event>,
    stop: CancellationToken,
    is_stopping: Cell<bool>,
    is_replaced: Cell<bool>,
}

/// Runs a core to its end; called on a thread of its own.
pub(crate) fn run(birth: Birth, listeners: Vec<TcpListener>, mail: mpsc::UnboundedReceiver<Mail>) {
    let is_first = birth.number == 0;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_park(clock::end_turn)
        .on_thread_unpark(clock::end_turn)
        .build();
    let runtime = runtime.expect("a runtime needs only an epoll and an eventfd");
    let drain_limit = birth.config.drain_limit;
    clock::keep_turns();
    LocalSet::new().block_on(&runtime, async move {
        let core = Rc::new(Core::new(birth));
        spawn_detached(core.sink.clone().run());
        if is_first {
            spawn_detached(checker::run(core.clone()));
        }
        let plain = core.config.listen.len();
        for (position, listener) in listeners.into_iter().enumerate() {
            let door = if position < plain { Door::Http } else { Door::Https };
            connection::prepare(&listener);
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => core.tasks.spawn(accept(core.clone(), listener, door)),
                Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
            }
        }
        let mut mail = mail;
        core.read_mail(&mut mail).await;
        // Who waits for a replica goes by what the next worker is told.
        let waiting = core.clone();
        spawn_detached(async move { waiting.read_mail(&mut mail).await });
        // Asked for with every request, and so no question to what other threads may hold.
        core.is_stopping.set(true);
        core.stop.cancel();
        if tokio::time::timeout(drain_limit, core.tasks.wait_none()).await.is_err() {
            tracing::warn!("requests were cut off at the end of the drain limit");
        }
        core.sink.stop();
    });
}

async fn accept(core: Rc<Core>, listener: tokio::net::TcpListener, door: Door) {
    let protocols = Rc::new(Protocols::new(&core.config));
    let port = listener.local_addr().map_or(0, |own| own.port());
    let welcome = |(stream, client)| {
        let ends = Ends { client, port };
        connection::serve(core.clone(), protocols.clone(), (stream, ends), door)
    };
    let full = full_at();
    let last = Cell::new(0);
    let next = async || {
        // Who finds no room waits in the kernel's backlog.
        while last.get() >= full && lowest_free(&listener) >= full {
            core.tasks.wait_end(LOOK_AGAIN).await;
        }
        listener.accept().await
    };
    loop {
        tokio::select! {
            accepted = next() => match accepted {
                Ok(came) => {
                    last.set(came.0.as_raw_fd());
                    core.tasks.spawn(welcome(came));
                }
                // No descriptor free, or the client is gone already: the backlog keeps the others.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            () = core.stop.cancelled() => break,
        }
    }
    // Who is in the backlog has been accepted by the kernel already.
    while let Some(Ok(came)) = listener.accept().now_or_never() {
        core.tasks.spawn(welcome(came));
    }
}

/// The descriptor whose number says that no more clients are let in: an eighth of all is left for the
/// other ends of requests, for files and for whoever gives orders. The kernel gives the lowest number that
/// is free, so one tells how many there are, of all cores. A request that needs one when all are in use
/// waits for it ([`Pool::connect`]).
fn full_at() -> RawFd {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| RawFd::try_from(limit / 8 * 7).ok()).unwrap_or(RawFd::MAX)
}

fn lowest_free(any: &impl AsFd) -> RawFd {
    rustix::io::dup(any).map_or(RawFd::MAX, |copy| copy.as_raw_fd())
}

impl Core {
    fn new(birth: Birth) -> Self {
        Self {
            number: birth.number,
            pool: Pool::new(
                Outside::new(birth.config.external_authorities.clone()),
                birth.config.dead_timeout,
            ),
            h2c: h2c::Connections::default(),
            turns: Turns::default(),
            draws: Draws::random(),
            ids: RequestIds::default(),
            rooms: Rooms::default(),
            budgets: Budgets::default(),
            sink: Sink::new(
                (birth.log, birth.lost),
                (birth.meters, birth.number),
                birth.config.log_form,
            ),
            tasks: Tasks::default(),
            tracer: Tracer::new(&birth.config.trace, birth.spans).map(Rc::new),
            config: birth.config,
            tls: birth.tls,
            table: RefCell::new(birth.table),
            date: RefCell::default(),
            started: birth.started,
            events: birth.events,
            stop: CancellationToken::new(),
            is_stopping: Cell::new(false),
            is_replaced: Cell::new(false),
        }
    }

    async fn read_mail(&self, mail: &mut mpsc::UnboundedReceiver<Mail>) {
        while let Some(mail) = mail.recv().await {
            match mail {
                Mail::Table(table, applied) => {
                    self.pool.retain(|replica| table.has_replica(replica));
                    self.h2c.retain(|replica| table.has_replica(replica));
                    *self.table.borrow_mut() = table;
                    self.rooms.wake_all();
                    // Nobody waits any more when the asker gave up.
                    let _asker_gone = applied.send(());
                }
                Mail::Stop { is_replaced } => return self.is_replaced.set(is_replaced),
            }
        }
    }

    pub(crate) fn meter(&self) -> &CoreMeter {
        self.sink.meter()
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    /// Milliseconds since the worker began, the same on every core; never 0.
    pub(crate) fn now_ms(&self) -> u64 {
        let since = clock::now().saturating_duration_since(self.started);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX) + 1
    }

    pub(crate) fn epoch_ms(&self) -> u64 {
        u64::try_from(clock::since_epoch().as_millis()).unwrap_or(u64::MAX)
    }

    /// Gives the present time as a `Date`'s value (RFC 9110, 5.6.7); written once a second.
    pub(crate) fn with_date(&self, write: impl FnOnce(&[u8])) {
        let mut date = self.date.borrow_mut();
        let now = self.epoch_ms() / 1000;
        if date.0 != now || date.1.is_empty() {
            *date = (now, httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now)));
        }
        write(date.1.as_bytes());
    }

    /// Ends when the core is told to stop.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// Whether there is no hurry to stop: another worker serves.
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_replaced.get()
    }

    pub(crate) fn tell_endpoint_down(&self, replica: ReplicaId, failure: ConnectFailure) {
        let reason = match failure {
            ConnectFailure::Refused => "refused",
            ConnectFailure::TimedOut => "timed out",
            ConnectFailure::NameUnknown => "name unknown",
            ConnectFailure::NotTrusted => "not trusted",
            ConnectFailure::NotHttp2 => "not HTTP/2",
        };
        // Without a subscriber there is nobody to tell.
        let _no_subscriber =
            self.events.send(Event::EndpointDown { replica, reason: reason.into() });
    }

    pub(crate) fn tell_unknown_host(&self, host: &DomainName) {
        let _no_subscriber = self.events.send(Event::UnknownHost { host: host.clone() });
    }

    pub(crate) fn tell_held(&self, upstream: &Upstream) {
        if upstream.stats.held.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            let _no_subscriber = self.events.send(Event::RequestHeld { app: upstream.app });
        }
    }
}
