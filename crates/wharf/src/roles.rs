//! The roles of the one binary: which one this process has, and how the daemon calls the others.

use model::problem::Problem;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use model::address::AddressRange;
use proxy::config::{Collector, Door, LogForm, StatsdConfig, TraceConfig};

use crate::backend::published::PUBLISHED;
use crate::config::{Config, Seen, Settings};

/// Flags of `wharf proxy`, as the daemon or a systemd unit gives them.
#[derive(Debug, clap::Args)]
pub struct ProxyArgs {
    /// Where visitors arrive, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "0.0.0.0:80")]
    pub listen: Vec<SocketAddr>,
    /// Where visitors arrive by HTTPS, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub listen_https: Vec<SocketAddr>,
    /// Doors behind a load balancer that sends PROXY headers: http, https
    #[arg(long, value_delimiter = ',')]
    pub proxied: Vec<Door>,
    /// Load balancers that may come by those doors
    #[arg(long, value_delimiter = ',')]
    pub proxied_from: Vec<AddressRange>,
    /// Proxies whose X-Forwarded headers are believed
    #[arg(long, value_delimiter = ',')]
    pub trusted_peers: Vec<AddressRange>,
    /// Most bytes of a request's body; 0 is any
    #[arg(long, default_value_t = 0)]
    pub most_body_bytes: u64,
    /// Most bytes of a request's head
    #[arg(long, default_value_t = 32 * 1024)]
    pub most_head_bytes: usize,
    /// Write the request log as JSON
    #[arg(long)]
    pub json_log: bool,
    /// Continue visitors' traces, and begin one where there is none
    #[arg(long)]
    pub trace: bool,
    /// Send the spans of requests to this collector
    #[arg(long)]
    pub otlp: Option<Collector>,
    /// Of a thousand traces that begin here, record so many
    #[arg(long, default_value_t = 10)]
    pub trace_rate: u16,
    /// Send statistics to this statsd server
    #[arg(long)]
    pub statsd: Option<SocketAddr>,
    /// What the names of statistics begin with
    #[arg(long, default_value = "wharf")]
    pub statsd_prefix: String,
    /// Where the daemon tells it what to do
    #[arg(long, default_value = "/run/wharf/proxy/control.sock")]
    pub control: PathBuf,
    /// Where it keeps the last routes it was told
    #[arg(long, default_value = "/var/lib/wharf/proxy")]
    pub state_dir: PathBuf,
    /// Opens the certificates it keeps; made when it is not there, and read by root alone
    #[arg(long, default_value = "/var/lib/wharf/proxy.key")]
    pub key_file: PathBuf,
    /// Where request logs go
    #[arg(long, default_value = "/var/lib/wharf/logs/router")]
    pub log_dir: PathBuf,
    /// A folder whose files may be served; without any, all that its user may read
    #[arg(long)]
    pub served: Vec<PathBuf>,
    /// The user and group it serves as
    #[arg(long, default_value_t = 65534)]
    pub uid: u32,
    /// How many cores serve [default: all]
    #[arg(long)]
    pub workers: Option<usize>,
}

/// The arguments that start a proxy for this configuration.
pub fn proxy_arguments(config: &Config) -> Vec<OsString> {
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let mut arguments: Vec<OsString> = vec!["--listen".into(), listen.join(",").into()];
    if !config.listen_https.is_empty() {
        let listen: Vec<String> = config.listen_https.iter().map(ToString::to_string).collect();
        arguments.extend(["--listen-https".into(), listen.join(",").into()]);
    }
    for (flag, value) in [
        ("--control", config.proxy_socket()),
        ("--key-file", config.proxy_key_path()),
        ("--state-dir", config.proxy_state_dir()),
        ("--log-dir", config.request_log_dir()),
        ("--served", config.data_dir.join(PUBLISHED)),
    ] {
        arguments.extend([flag.into(), value.into()]);
    }
    let edge = &config.edge;
    for door in &edge.proxied {
        arguments.extend(["--proxied".into(), door.as_str().into()]);
    }
    for (flag, peers) in
        [("--proxied-from", &edge.proxied_from), ("--trusted-peers", &edge.trusted_peers)]
    {
        for peer in peers {
            arguments.extend([flag.into(), String::from(*peer).into()]);
        }
    }
    for (flag, size) in
        [("--most-body-bytes", edge.most_body), ("--most-head-bytes", edge.most_head)]
    {
        arguments.extend([flag.into(), size.0.to_string().into()]);
    }
    arguments.extend(seen_arguments(&config.seen));
    arguments.extend(["--uid".into(), config.proxy_uid.to_string().into()]);
    arguments
}

fn seen_arguments(seen: &Seen) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    if seen.request_log == LogForm::Json {
        arguments.push("--json-log".into());
    }
    if seen.trace.is_continued {
        arguments.push("--trace".into());
    }
    if let Some(collector) = &seen.trace.collector {
        arguments.extend(["--otlp".into(), String::from(collector.clone()).into()]);
    }
    arguments.extend(["--trace-rate".into(), seen.trace.rate.to_string().into()]);
    if let Some(statsd) = &seen.statsd {
        arguments.extend(["--statsd".into(), statsd.address.to_string().into()]);
        arguments.extend(["--statsd-prefix".into(), statsd.prefix.clone().into()]);
    }
    arguments
}

impl ProxyArgs {
    /// The proxy's own configuration.
    pub fn config(self, program: PathBuf) -> proxy::config::Config {
        let base = self.state_dir.clone();
        proxy::config::Config {
            listen: self.listen,
            listen_https: self.listen_https,
            key_file: self.key_file,
            proxied: self.proxied,
            proxied_from: self.proxied_from,
            trusted_peers: self.trusted_peers,
            most_body_bytes: self.most_body_bytes,
            most_head_bytes: self.most_head_bytes,
            // The target is part of the head; it may take a quarter of it.
            most_target_bytes: self.most_head_bytes / 4,
            log_form: if self.json_log { LogForm::Json } else { LogForm::Logfmt },
            trace: TraceConfig {
                is_continued: self.trace,
                collector: self.otlp,
                rate: self.trace_rate,
            },
            statsd: self.statsd.map(|address| StatsdConfig {
                address,
                prefix: self.statsd_prefix,
                every: Duration::from_secs(10),
            }),
            control_socket: self.control,
            state_dir: self.state_dir,
            log_dir: self.log_dir,
            served: self.served,
            uid: self.uid,
            gid: self.uid,
            workers: self.workers.unwrap_or(0),
            ..proxy::config::Config::new(&base, program)
        }
    }
}

/// `wharf daemon`
#[derive(Debug, clap::Parser)]
#[command(name = "wharf daemon", about = "Run the control plane on this machine", version)]
pub struct DaemonArgs {
    /// A settings file (TOML); the same names as the flags, with _ for -
    #[arg(long, env = "WHARF_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
    /// Start nothing: look whether this machine has what a daemon with these settings needs
    #[arg(long)]
    pub check: bool,
    /// With --check: print it as JSON
    #[arg(long, requires = "check")]
    pub json: bool,
}

/// `wharf teardown`
#[derive(Debug, clap::Parser)]
#[command(
    name = "wharf teardown",
    about = "Stop Wharf on this machine and take everything it made away",
    version
)]
pub struct TeardownArgs {
    /// The settings file the daemon was started with
    #[arg(long, env = "WHARF_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
    /// Also remove the data directory: apps, releases, images, logs
    #[arg(long)]
    pub with_data: bool,
}

/// `wharf proxy`
#[derive(Debug, clap::Parser)]
#[command(name = "wharf proxy", about = "Run the data plane on this machine", version)]
struct ProxyCommand {
    /// The daemon's settings file: everything is taken from there, and no other flag counts
    #[arg(long, exclusive = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    args: ProxyArgs,
}

impl ProxyCommand {
    /// The flags, or those a daemon with that settings file would give.
    fn settle(self) -> Result<ProxyArgs, Problem> {
        let Some(file) = self.config else { return Ok(self.args) };
        let config = settle(Some(file), Settings::default())?;
        let words = std::iter::once(OsString::from("wharf proxy")).chain(proxy_arguments(&config));
        Ok(<Self as clap::Parser>::parse_from(words).args)
    }
}

impl DaemonArgs {
    /// The settled configuration.
    pub fn settle(self) -> Result<Config, Problem> {
        settle(self.config, self.settings)
    }
}

fn settle(file: Option<PathBuf>, settings: Settings) -> Result<Config, Problem> {
    let from_file = match file {
        Some(path) => Settings::read(&path)?,
        None => Settings::default(),
    };
    let program = crate::daemon::own_program()
        .map_err(|error| crate::daemon::host_problem("cannot find this program", &error))?;
    settings.or(from_file).settle(program)
}

/// Chooses the role. Roles that must be single-threaded end here; no thread exists yet.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().map(PathBuf::from).unwrap_or_default();
    if name.file_name().is_some_and(|name| name == "pre-receive") {
        return crate::git::hook_main();
    }
    let rest = arguments.get(2..).unwrap_or_default();
    match arguments.get(1).and_then(|role| role.to_str()) {
        Some("shim") => code(engine::shim::shim_main(rest)),
        Some("shim-exec") => code(engine::exec::shim_exec_main(rest)),
        Some("wire") => code(engine::wire::wire_main(rest)),
        Some("stash") => code(engine::stash::stash_main(rest)),
        Some("proxy-worker") => proxy_end(proxy::worker_main()),
        Some("proxy") => with_args("wharf proxy", rest, proxy_role),
        Some("static") => crate::static_site::static_main(rest),
        Some("daemon") => with_args("wharf daemon", rest, daemon_role),
        Some("teardown") => with_args("wharf teardown", rest, |args| finish(teardown_role(args))),
        Some(_) | None => crate::cli::run(arguments),
    }
}

/// Does a role with its arguments, or says what is wrong with them.
fn with_args<T: clap::Parser>(
    name: &str,
    rest: &[OsString],
    role: impl FnOnce(T) -> ExitCode,
) -> ExitCode {
    match T::try_parse_from(std::iter::once(OsString::from(name)).chain(rest.iter().cloned())) {
        Ok(args) => role(args),
        Err(error) => crate::cli::usage::tell(&error, "nothing was started or changed"),
    }
}

fn proxy_role(command: ProxyCommand) -> ExitCode {
    log_to_stderr();
    let program = crate::daemon::own_program()
        .map_err(|error| crate::daemon::host_problem("cannot find this program", &error));
    match program.and_then(|program| Ok(command.settle()?.config(program))) {
        Ok(config) => proxy_end(proxy::holder_main(config)),
        Err(problem) => finish(Err(problem)),
    }
}

fn daemon_role(args: DaemonArgs) -> ExitCode {
    let (is_check, as_json) = (args.check, args.json);
    if !is_check {
        log_to_stderr();
    }
    match args.settle() {
        Ok(config) if is_check => check_role(config, as_json),
        Ok(config) => finish(crate::daemon::run(config)),
        Err(problem) => finish(Err(problem)),
    }
}

/// Looks at the machine as a daemon would find it; fails when one would not run.
fn check_role(config: Config, as_json: bool) -> ExitCode {
    let config = std::sync::Arc::new(config);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return finish(Err(crate::daemon::host_problem("no runtime", &error))),
    };
    let report = runtime.block_on(crate::doctor::look(&config, crate::doctor::Asked::Before));
    crate::cli::print_report(&report, as_json);
    if report.is_fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn teardown_role(args: TeardownArgs) -> Result<(), Problem> {
    log_to_stderr();
    let config = settle(args.config, args.settings)?;
    crate::teardown::run(&config, args.with_data)
}

/// Logs of the long-running roles: to stderr, `WHARF_LOG` says how much.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WHARF_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal && std::env::var_os("NO_COLOR").is_none())
        .init();
}

fn proxy_end(result: proxy::error::Result<()>) -> ExitCode {
    finish(result.map_err(|error| {
        let problem = crate::daemon::host_problem("the proxy ended", &error);
        Problem { code: model::problem::Code::ProxyDown, ..problem }
    }))
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[expect(clippy::print_stderr, reason = "the last word of a role that has no printer")]
fn finish(result: Result<(), Problem>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}
