//! The worker: one core's thread for each core, and this thread for everything else: the control
//! socket, the signals, the kept table. It has no privilege at all.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use model::route::RouteTable;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use crate::confinement;
use crate::control::server::{self, Control, Kept};
use crate::core::{self, Birth, Mail};
use crate::error::{Error, Result};
use crate::handover;
use crate::log::Writer;
use crate::meter::CoreMeter;
use crate::outside::Outside;
use crate::snapshot::{self, Keeper};
use crate::statsd;
use crate::table::{PartEdit, Registry, Table};
use crate::tasks::spawn_detached;
use crate::tls::{self, Tls};
use crate::trace::{self, Fate, Span};

/// Runs the worker until its holder tells it to stop. Called before any thread exists; stdin is the
/// holder's channel.
pub fn worker_main() -> Result<()> {
    let system = |what| move |error: std::io::Error| Error::System(what, error);
    // The holder reads its signals from a descriptor; what it blocked for that is inherited.
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .map_err(|error| Error::System("unblock signals", error.into()))?;
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| Error::System("give up new privileges", error.into()))?;
    confinement::confine()?;
    let holder = std::io::stdin().as_fd().try_clone_to_owned().map_err(system("take stdin"))?;
    let (handover, sockets) = handover::receive(holder.as_fd())?;
    let config = Arc::new(handover.config);
    confinement::fence(&config)?;
    let (writer, log, lost) =
        Writer::start(config.log_dir.clone()).map_err(system("start the request log"))?;
    let mut registry = Registry::new(handover.cores);
    let meters: Arc<[CoreMeter]> = (0..handover.cores).map(|_| CoreMeter::default()).collect();
    let kept = snapshot::load(&config.state_dir);
    let (kept, table) = kept
        .and_then(|kept| compile(&mut registry, &kept).map(|table| (Some(kept), table)))
        .unwrap_or_default();
    let tls = Arc::new(Tls::new()?);
    let certificates = tls::load(&config.state_dir, &handover.seal_key).unwrap_or_default();
    if let Err(why) = tls.publish(&certificates) {
        tracing::error!(why, "the kept certificates cannot be used");
    }
    tls.know_routes(table.clone());
    let (events, _) = broadcast::channel(256);
    let fate = Arc::new(Fate::default());
    let (sender, spans) = mpsc::channel(trace::MOST_WAITING);
    let sender = config.trace.collector.is_some().then_some(sender);
    let birth = Birth {
        config: config.clone(),
        table,
        tls: tls.clone(),
        started: Instant::now(),
        log,
        lost: lost.clone(),
        events: events.clone(),
        spans: (sender, fate.clone()),
        meters: meters.clone(),
        number: 0,
    };
    let (threads, mail) = start_cores(&birth, sockets, handover.cores)?;
    drop(birth);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(system("start the control runtime"))?;
    let keeper = Keeper::new(&config.state_dir);
    let table = kept.unwrap_or_default();
    // From the disk, or the nothing that is there.
    let is_stored = (true, true);
    let kept = Kept { registry, table, keeper, certificates, is_stored };
    let told = (events, lost, handover.owner, handover.holder);
    let counted = (meters, fate.clone());
    let control = Control::new((config, tls, handover.seal_key), kept, (mail, counted), told);
    let served = runtime.block_on(serve(control, holder, (spans, fate)));
    drop(runtime);
    for thread in threads {
        // A core's panic has printed itself; the other cores still finish theirs.
        let _panic = thread.join();
    }
    writer.join();
    served
}

/// The kept table, ready to be served from.
fn compile(registry: &mut Registry, kept: &RouteTable) -> Option<Arc<Table>> {
    let edits: Vec<PartEdit<'_>> =
        kept.parts.iter().map(|(app, part)| (*app, None, Some(part.as_ref()))).collect();
    // Such a table was refused when it came; the daemon will bring a better one.
    let complain = |conflict: &_| tracing::error!(%conflict, "the kept table contradicts itself");
    registry.apply(&edits).inspect_err(complain).ok()
}

type Cores = (Vec<JoinHandle<()>>, Vec<mpsc::UnboundedSender<Mail>>);

fn start_cores(birth: &Birth, sockets: Vec<TcpListener>, cores: usize) -> Result<Cores> {
    let per_core = sockets.len() / cores.max(1);
    let mut sockets = sockets.into_iter();
    let (mut threads, mut mail) = (Vec::new(), Vec::new());
    for core in 0..cores {
        let (sender, receiver) = mpsc::unbounded_channel();
        let birth = Birth { number: core, ..birth.clone() };
        let sockets = sockets.by_ref().take(per_core).collect();
        let thread = std::thread::Builder::new().name(format!("core-{core}")).spawn(move || {
            pin(core);
            // A core without its thread would leave its sockets unserved: better none at all, for
            // the holder starts a new worker at once.
            let guard = AbortOnPanic;
            core::run(birth, sockets, receiver);
            drop(guard);
        });
        threads.push(thread.map_err(|error| Error::System("start a core", error))?);
        mail.push(sender);
    }
    Ok((threads, mail))
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Binds the thread to the core'th processor it may use; where that is refused it floats.
fn pin(core: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let mut usable = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    let count = usable.clone().count();
    if let Some(processor) = usable.nth(core % count.max(1)) {
        let mut own = CpuSet::new();
        own.set(processor);
        let _floats = sched_setaffinity(None, &own);
    }
}

async fn serve(
    control: Control,
    holder: OwnedFd,
    (spans, fate): (mpsc::Receiver<Span>, Arc<Fate>),
) -> Result<()> {
    let system = |what| move |error: std::io::Error| Error::System(what, error);
    let control = std::rc::Rc::new(control);
    let mut term = signal(SignalKind::terminate()).map_err(system("listen to signals"))?;
    let mut usr1 = signal(SignalKind::user_defined1()).map_err(system("listen to signals"))?;
    let listener = server::listen(&control.config.control_socket)?;
    handover::say_serving(holder.as_fd());
    let local = tokio::task::LocalSet::new();
    let served = local.run_until(async {
        control.begin_keeping().await;
        if let Some(collector) = control.config.trace.collector.clone() {
            let outside = Outside::new(control.config.external_authorities.clone());
            spawn_detached(trace::export(collector, outside, spans, fate));
        }
        if let Some(statsd) = control.config.statsd.clone() {
            spawn_detached(statsd::export(statsd, control.clone()));
        }
        tokio::select! {
            _ = term.recv() => false,
            _ = usr1.recv() => true,
            () = server::accept(control.clone(), listener) => false,
            () = orphaned_and_replaced(&control, holder) => true,
        }
    });
    let is_replaced = served.await;
    // Nobody answers on the conversations that are open: who asked must hear it and ask the next worker.
    drop(local);
    control.stop_cores(is_replaced);
    if is_replaced {
        control.follow_the_next().await;
    }
    Ok(())
}

/// Without a holder the worker serves on; it ends when another worker took the control socket.
async fn orphaned_and_replaced(control: &Control, holder: OwnedFd) {
    let holder = std::os::unix::net::UnixStream::from(holder);
    let holder = holder.set_nonblocking(true).and_then(|()| UnixStream::from_std(holder));
    if let Ok(holder) = holder {
        // The holder never writes: readable is its end.
        let _ended = holder.readable().await;
    }
    let inode = |path| {
        std::fs::metadata(path).map(|found| std::os::unix::fs::MetadataExt::ino(&found)).ok()
    };
    let path = &control.config.control_socket;
    let own = inode(path);
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(200));
    while inode(path) == own {
        tick.tick().await;
    }
}
