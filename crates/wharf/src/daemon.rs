//! The daemon: puts the rooms together in order, and takes them apart in order.
//!
//! It may die between any two lines. What it finds at start is looked at, not replayed: containers
//! through their shims, the route table through the proxy, the rest in the store.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::image::layer::LayerStore;
use engine::image::store::ImageStore;
use engine::network::outbound::OutboundPool;
use engine::{Engine, EngineConfig};
use jiff::Timestamp;
use model::problem::{Code, Problem};
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};

use crate::backend::local::Local;
use crate::backend::network::outbound_config;
use crate::backend::published::Published;
use crate::backend::volumes::Volumes;
use crate::certificates::Certificates;
use crate::certificates::acme::Orders;
use crate::claims;
use crate::config::Config;
use crate::context::Context;
use crate::deploy::routes::Routes;
use crate::deploy::{Deploys, Parts, store_problem};
use crate::logs::AppLogs;
use crate::proxy_guard::ProxyGuard;
use crate::proxy_link::ProxyLink;
use crate::secrets::{self, Vault};
use crate::store::builds::BuildPhase;
use crate::store::{self, Store, StoreError};
use crate::tasks::Tasks;
use crate::{build, collect, git, logs, server};

/// How long a stopping daemon waits for what is under way.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for the lock of a daemon that was killed a moment ago.
const LOCK_LIMIT: Duration = Duration::from_secs(1);

/// Runs the daemon until it is told to stop.
pub fn run(config: Config) -> Result<(), Problem> {
    let lock = lock(&config)?;
    use_all_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()
        .map_err(|error| host_problem("cannot start the runtime", &error))?;
    let result = runtime.block_on(serve(Arc::new(config)));
    // A build on a blocking thread is not waited for: the next start clears its container away.
    runtime.shutdown_timeout(Duration::from_secs(1));
    drop(lock);
    result
}

/// Each replica takes a descriptor of ours, and shells give 1,024: takes as many as the machine allows.
fn use_all_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the bound of open files stays as it is");
    }
}

async fn serve(config: Arc<Config>) -> Result<(), Problem> {
    let tasks = Tasks::default();
    let store = open_store(&config)?;
    let token = first_token(&config, &store).await?;
    let backend = open_backend(&config).await?;
    let link = ProxyLink::new(config.proxy_socket());
    ProxyGuard::new(&config, link.clone()).ensure().await?;
    let config = Arc::new(with_real_ports(&config, &link).await?);
    let routes = Routes::adopt(link.clone())
        .await
        .map_err(|error| host_problem("cannot learn what the proxy serves", &error))?;
    let logs = AppLogs::new(config.log_dir());
    let deploys = Deploys::new(Parts {
        store: store.clone(),
        backend: Arc::clone(&backend),
        routes: routes.clone(),
        link: link.clone(),
        logs: logs.clone(),
        tasks: tasks.clone(),
        domain: config.domain.clone(),
        sockets: config.sockets.clone(),
        resolver: crate::dns::Resolver::new(config.resolver),
        memory_reserve: config.memory_reserve,
    });
    let certificates = Certificates::new(store.clone(), link.clone(), Arc::clone(&config));
    let context = Context {
        config: Arc::clone(&config),
        store: store.clone(),
        deploys,
        backend,
        link: link.clone(),
        certificates: certificates.clone(),
        logs,
        tasks: tasks.clone(),
        started_at: Timestamp::now(),
    };
    settle_the_past(&context, &routes).await?;
    git::prepare(&context.config).await?;
    let builder = git::pipeline::builder::builder(&context)?;
    let served = server::serve(&context, builder).await?;
    context.deploys.keep_all().await.map_err(|error| store_problem(&error))?;
    collect::spawn(&context);
    ProxyGuard::new(&config, link).watch(&tasks, (routes, certificates.clone()));
    certificates.keep(&tasks);
    let orders = Orders::new(store, certificates, Arc::clone(&config), tasks.clone());
    if let Some(orders) = orders {
        orders.keep();
    }
    claims::spawn(&context);
    announce(&config, &served, token.is_some())?;
    wait_for_the_end().await?;
    tracing::info!("stopping; apps and proxy go on serving");
    let cut = tasks.shut_down(SHUTDOWN_LIMIT).await;
    if cut > 0 {
        tracing::warn!(cut, "tasks were cut off after {} s", SHUTDOWN_LIMIT.as_secs());
    }
    Ok(())
}

/// Takes the data directory for this process alone.
fn lock(config: &Config) -> Result<std::fs::File, Problem> {
    make_dir(&config.data_dir, 0o711)?;
    make_dir(&config.run_dir, 0o711)?;
    let path = config.lock_path();
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| host_problem(&format!("cannot open {}", path.display()), &error))?;
    match take(&file) {
        Ok(()) => {
            // Whoever wants this daemon to end finds its pid here.
            let written = file
                .set_len(0)
                .and_then(|()| (&file).write_all(std::process::id().to_string().as_bytes()));
            written.map_err(|error| host_problem("cannot write the lock", &error))?;
            Ok(file)
        }
        Err(_) => Err(Problem::new(
            Code::AnotherDaemon,
            format!("another daemon uses `{}`", config.data_dir.display()),
        )
        .why(format!("`{}` is locked", path.display()))
        .still("that daemon and all it serves")
        .next("stop it first, or give this one its own --data-dir and --run-dir")),
    }
}

/// The lock, at once or within a moment: a child that the last daemon had just forked when it was killed
/// holds it until its program begins.
fn take(file: &std::fs::File) -> rustix::io::Result<()> {
    let until = std::time::Instant::now() + LOCK_LIMIT;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(_) if std::time::Instant::now() < until => {
                std::thread::park_timeout(Duration::from_millis(20));
            }
            result => return result,
        }
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), Problem> {
    let made = std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)));
    made.map_err(|error| host_problem(&format!("cannot make `{}`", path.display()), &error))
}

fn open_store(config: &Config) -> Result<Store, Problem> {
    let vault = Vault::open_or_create(&config.key_path())
        .map_err(|error| host_problem("cannot use the key", &error))?;
    let path = config.store_path();
    let store = Store::open(&path, vault).map_err(|error| store_problem(&error))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| host_problem("cannot protect the store", &error))?;
    Ok(store)
}

/// The token of whoever set this machine up; made once, and kept where root can read it.
async fn first_token(config: &Config, store: &Store) -> Result<Option<String>, Problem> {
    let count = store.run(store::tokens::count).await.map_err(|error| store_problem(&error))?;
    if count > 0 {
        return Ok(None);
    }
    let token = secrets::new_token();
    crate::files::write_atomic(&config.token_path(), format!("{token}\n").as_bytes(), 0o600)
        .map_err(|error| host_problem("cannot write the token file", &error))?;
    let stored = token.clone();
    store
        .run(move |tx| store::tokens::insert(tx, &stored, "admin", Timestamp::now()))
        .await
        .map_err(|error| store_problem(&error))?;
    Ok(Some(token))
}

async fn open_backend(config: &Arc<Config>) -> Result<Arc<Local>, Problem> {
    let config = Arc::clone(config);
    let opened = tokio::task::spawn_blocking(move || open_backend_blocking(config)).await;
    opened.unwrap_or_else(|error| Err(host_problem("cannot open the engine", &error)))
}

fn open_backend_blocking(config: Arc<Config>) -> Result<Arc<Local>, Problem> {
    let engine = Engine::open(EngineConfig {
        run_dir: config.run_dir.clone(),
        scratch_dir: config.data_dir.join("scratch"),
        program: config.program.clone(),
        cgroup_parent: config.cgroup.clone(),
        dial_gid: config.proxy_uid,
    })
    .map_err(|error| host_problem("this machine cannot run containers", &error))?;
    let is_given = config.outbound_range.is_some();
    let pool = outbound_config(&config)
        .and_then(|outbound| engine::network::routes::choose(outbound, is_given))
        .and_then(OutboundPool::open)
        .map_err(|error| host_problem("cannot prepare the way out for apps", &error))?;
    let layers = LayerStore::open(&config.data_dir)
        .map_err(|error| host_problem("cannot open the layers", &error))?;
    let images = ImageStore::open(&config.data_dir)
        .map_err(|error| host_problem("cannot open the images", &error))?;
    let (layers, images) = (Arc::new(layers), Arc::new(images));
    let shared = (Arc::clone(&layers), Arc::clone(&images));
    let published = Published::open(&config.data_dir, config.proxy_uid, shared)
        .map_err(|error| host_problem("cannot make room for files at the edge", &error))?;
    let volumes = Volumes::open(config.volume_dir())
        .map_err(|error| host_problem("cannot make room for volumes", &error))?;
    let images = (images, published, volumes);
    Ok(Arc::new(Local::new(Arc::new(engine), Arc::new(pool), layers, images, config)))
}

/// What a daemon that died left half done: builds that cannot go on, containers nobody knows, routes
/// of apps that are gone.
async fn settle_the_past(context: &Context, routes: &Routes) -> Result<(), Problem> {
    let now = Timestamp::now();
    let (replicas, apps) = context
        .store
        .run(move |tx| {
            for mut build in store::builds::list_running(tx)? {
                build.phase = BuildPhase::Failed(interrupted());
                build.updated_at = now;
                store::builds::update(tx, &build)?;
            }
            let replicas = store::replicas::list_all(tx)?;
            Ok::<_, StoreError>((replicas, store::apps::list(tx)?))
        })
        .await
        .map_err(|error| store_problem(&error))?;
    let apps: Vec<_> = apps.iter().map(|app| app.id).collect();
    let backend = Arc::clone(&context.backend);
    let gone_on = tokio::task::spawn_blocking(move || backend.let_all_go_on()).await;
    if let Ok(Err(error)) = gone_on {
        tracing::error!(error = error.for_people(), "what stood still for a snapshot still does");
    }
    let adopted = context.deploys.adopt_one_offs(&apps).await;
    let adopted = adopted.map_err(|error| host_problem("cannot look for detached runs", &error))?;
    let known = replicas.iter().map(|replica| replica.id).chain(adopted).collect();
    let removed = context
        .backend
        .remove_orphans(known)
        .await
        .map_err(|error| host_problem("cannot clear away what is nobody's", &error))?;
    if removed > 0 {
        tracing::info!(removed, "cleared away containers that were nobody's");
    }
    routes.keep_only(&apps).await.map_err(|error| host_problem("cannot tell the proxy", &error))?;
    build::run::clean_leftovers(&context.config)?;
    let cleaner = context.clone();
    context.tasks.spawn_until_stop("log cleaner", async move {
        loop {
            clean_logs(&cleaner).await;
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
    });
    let pool = Arc::clone(&context.backend.pool);
    let ready = usize::try_from(context.config.outbound_ready).unwrap_or(4);
    let stop = context.tasks.stop_token();
    context.tasks.spawn("outbound", refill(pool, ready, stop));
    context.tasks.spawn_until_stop("stash", Arc::clone(&context.backend).keep_stash());
    let backend = Arc::clone(&context.backend);
    context.tasks.spawn_until_stop("outbound guard", async move {
        if let Err(error) = backend.guard_ways().await {
            tracing::warn!(error = error.for_people(), "the firewall is not watched");
        }
    });
    Ok(())
}

/// Removes what is too old or too much of every app's logs.
async fn clean_logs(context: &Context) {
    let apps = context.store.run(|tx| {
        store::apps::list(tx)?
            .into_iter()
            .map(|app| Ok((app.id, store::replicas::list(tx, app.id)?)))
            .collect::<Result<Vec<_>, StoreError>>()
    });
    let Ok(apps) = apps.await else { return };
    for (app, replicas) in apps {
        let folder = context.logs.app_folder(app);
        let live = replicas.iter().map(|replica| replica.id.to_string()).collect();
        let cleaned = tokio::task::spawn_blocking(move || {
            let retention = logs::clean::Retention::default();
            logs::clean::clean(&folder, &live, retention, std::time::SystemTime::now())
        });
        if let Ok(Err(error)) = cleaned.await {
            tracing::warn!(%app, %error, "cannot clean an app's logs");
        }
    }
}

/// Keeps so many ways out ready that no start waits for one.
async fn refill(pool: Arc<OutboundPool>, ready: usize, stop: tokio_util::sync::CancellationToken) {
    while !stop.is_cancelled() {
        let pool_too = Arc::clone(&pool);
        if pool.is_due(ready) {
            let filled = tokio::task::spawn_blocking(move || pool_too.refill(ready)).await;
            if let Ok(Err(error)) = filled {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot prepare a way out"
                );
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(Duration::from_millis(250)) => {}
        }
    }
}

fn interrupted() -> Problem {
    Problem::new(Code::BuildInterrupted, "the build was cut off")
        .why("the daemon ended while it ran")
        .still("what was serving went on serving")
        .next("push again")
}

/// The configuration with the addresses the proxy really got: a port of 0 is another one by now, and
/// a proxy started later must get the same.
async fn with_real_ports(config: &Config, link: &ProxyLink) -> Result<Config, Problem> {
    let status = link.status().await;
    let status = status.map_err(|error| host_problem("the proxy does not answer", &error))?;
    let (mut listen, mut listen_https) = (status.listening, status.listening_https);
    listen.dedup();
    listen_https.dedup();
    Ok(Config { listen, listen_https, ..config.clone() })
}

/// Says where everything is, in the log and in a file for scripts.
fn announce(config: &Config, served: &server::Served, has_new_token: bool) -> Result<(), Problem> {
    let endpoints = serde_json::json!({
        "pid": std::process::id(),
        "api": served.api,
        "socket": config.api_socket(),
        "edge": config.listen.first(),
        "edge_https": config.listen_https.first(),
    });
    let path = config.run_dir.join("endpoints.json");
    crate::files::write_atomic(&path, endpoints.to_string().as_bytes(), 0o644)
        .map_err(|error| host_problem("cannot write the endpoints file", &error))?;
    tracing::info!(
        api = %served.api,
        socket = %config.api_socket().display(),
        apps = config.app_url("<app>"),
        "wharf is up"
    );
    if has_new_token {
        tracing::info!(file = %config.token_path().display(), "the first token is in this file");
    }
    Ok(())
}

async fn wait_for_the_end() -> Result<(), Problem> {
    let listen =
        |kind| signal(kind).map_err(|error| host_problem("cannot listen for signals", &error));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// What a person is told when the machine does not do its part.
pub fn host_problem(what: &str, error: &(dyn std::error::Error + 'static)) -> Problem {
    let mut why = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        why = format!("{why}: {error}");
        source = error.source();
    }
    Problem::new(Code::HostUnfit, what).why(why)
}

/// This program's own path, as it can be run again.
pub fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}
