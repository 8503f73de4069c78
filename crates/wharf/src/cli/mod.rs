//! The command line: one file per command. It can do only what the API can, and works the same from a
//! laptop; it never touches the store, a deploy or a backend.

mod access;
mod apps;
mod archives;
mod ask;
mod attach;
mod auth;
mod builds;
mod certificates;
mod config_vars;
mod copy;
mod disk;
mod doctor;
mod domains;
mod edge;
mod explain;
mod https;
mod infer;
mod inspect;
mod links;
mod logs;
mod maintenance;
pub mod manual;
mod outbound;
mod pause;
mod printer;
mod ps;
mod releases;
mod rename;
mod routes;
mod run;
mod session;
mod settings;
mod sleep;
mod stats;
mod status;
mod table;
mod terminal;
mod timing;
mod top;
mod trace;
pub(crate) mod usage;
mod visitors;
mod volumes;
mod weight;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use model::problem::{Code, Problem};

use access::Change;
use session::Session;

/// `wharf …`
#[derive(Debug, Parser)]
#[command(
    name = "wharf",
    version,
    about = "git push, and your app is live on your own machine",
    after_help = "Start here:\n  wharf create shop     make an app and its git remote\n  \
                  git push wharf main   deploy it\n  wharf logs -t         watch it\n\n\
                  Roles: `wharf daemon --help`, `wharf proxy --help`",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 80
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// The app [default: the one of this folder's git remote]
    #[arg(
        short,
        long,
        global = true,
        env = "WHARF_APP",
        hide_env_values = true,
        value_name = "APP"
    )]
    app: Option<String>,
    /// Where the daemon is: http://host:port, https://host or unix:/path
    #[arg(long, global = true, env = "WHARF_API", hide_env_values = true, value_name = "URL")]
    api: Option<String>,
    /// What proves who you are [default: what `wharf auth:login` stored]
    #[arg(long, global = true, env = "WHARF_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an app, and the git remote to push it to
    #[command(visible_alias = "apps:create")]
    Create(apps::CreateArgs),
    /// List the apps
    Apps(apps::AppsArgs),
    /// Show one app
    #[command(visible_alias = "apps:info")]
    Info(apps::InfoArgs),
    /// Open the app in a browser
    Open(apps::OpenArgs),
    /// Give an app another name, and so another address
    #[command(visible_alias = "apps:rename")]
    Rename(rename::RenameArgs),
    /// Destroy an app and all that is its
    #[command(visible_alias = "apps:destroy")]
    Destroy(apps::DestroyArgs),
    /// Show the app's processes
    Ps(ps::PsArgs),
    /// Say how many of each process run
    #[command(name = "ps:scale", visible_alias = "scale")]
    PsScale(ps::ScaleArgs),
    /// Say how much each process may use
    #[command(name = "ps:resize", visible_alias = "resize")]
    PsResize(ps::ResizeArgs),
    /// Say how much of the requests each replica gets, beside the others
    #[command(name = "ps:weight")]
    PsWeight(weight::WeightArgs),
    /// Start all processes afresh, without a gap
    #[command(visible_alias = "ps:restart")]
    Restart(ps::RestartArgs),
    /// Stop one process, or all of one type
    #[command(name = "ps:stop")]
    PsStop(ps::StopArgs),
    /// Show all there is to see of one process: its container, limits, network, walls
    #[command(visible_alias = "ps:inspect")]
    Inspect(inspect::InspectArgs),
    /// Show what runs inside the app's processes, the busiest first
    #[command(visible_alias = "ps:top")]
    Top(top::TopArgs),
    /// Show what the app says, and what was done to it
    Logs(logs::LogsArgs),
    /// Show all that is known of one request, by its id
    Trace(trace::TraceArgs),
    /// Show the traffic now
    #[command(name = "proxy:stats", visible_alias = "stats")]
    ProxyStats(stats::StatsArgs),
    /// Show the config vars
    Config(config_vars::ConfigArgs),
    /// Set config vars
    #[command(name = "config:set")]
    ConfigSet(config_vars::SetArgs),
    /// Print one config var
    #[command(name = "config:get")]
    ConfigGet(config_vars::GetArgs),
    /// Take config vars away
    #[command(name = "config:unset")]
    ConfigUnset(config_vars::UnsetArgs),
    /// List the builds
    Builds(builds::BuildsArgs),
    /// Stop a build that runs; the push it belongs to is rejected
    #[command(name = "builds:cancel")]
    BuildsCancel(builds::CancelArgs),
    /// List the releases
    Releases(releases::ReleasesArgs),
    /// Show one release
    #[command(name = "releases:info")]
    ReleasesInfo(releases::InfoArgs),
    /// Show what differs between two releases
    #[command(name = "releases:diff")]
    ReleasesDiff(releases::DiffArgs),
    /// Go back to an earlier release, without a build
    #[command(visible_alias = "releases:rollback")]
    Rollback(releases::RollbackArgs),
    /// Run a command once, in a container of its own
    Run(run::RunArgs),
    /// Run a command once, in the background; its output goes to the app's log
    #[command(name = "run:detached")]
    RunDetached(run::RunArgs),
    /// Run a command inside a running process
    #[command(visible_alias = "ps:exec")]
    Exec(run::ExecArgs),
    /// Follow what a running process says, until it ends or you leave
    #[command(visible_alias = "ps:attach")]
    Attach(attach::AttachArgs),
    /// Copy files into a process's container or out of it
    #[command(name = "cp", visible_alias = "ps:copy")]
    Cp(copy::CopyArgs),
    /// List the domains
    Domains(domains::DomainsArgs),
    /// Add a domain
    #[command(name = "domains:add")]
    DomainsAdd(domains::DomainArgs),
    /// Remove a domain
    #[command(name = "domains:remove")]
    DomainsRemove(domains::DomainArgs),
    /// Show or say where the app is asked about domains nobody has
    #[command(name = "domains:ask")]
    DomainsAsk(ask::AskArgs),
    /// List the routes
    Routes(routes::RoutesArgs),
    /// Add a route: host, path, conditions and where they lead
    #[command(name = "routes:add")]
    RoutesAdd(routes::AddArgs),
    /// Remove a route
    #[command(name = "routes:remove")]
    RoutesRemove(routes::RemoveArgs),
    /// List the links: which other apps this one may reach, and who uses it
    Links(links::LinksArgs),
    /// Let the app reach another one as NAME.internal
    #[command(name = "links:add")]
    LinksAdd(links::AddArgs),
    /// Take a link away
    #[command(name = "links:remove")]
    LinksRemove(links::RemoveArgs),
    /// Show what the app may reach of the internet, and what it was refused
    Outbound(outbound::ShowArgs),
    /// Say how much of the internet the app may reach: on, off, only
    #[command(name = "outbound:set")]
    OutboundSet(outbound::SetArgs),
    /// Let the app reach these places, and nothing that is not on the list
    #[command(name = "outbound:allow")]
    OutboundAllow(outbound::PlacesArgs),
    /// Take places off the list
    #[command(name = "outbound:remove")]
    OutboundRemove(outbound::RemoveArgs),
    /// Show when the app sleeps, and whether it does
    Sleep(sleep::ShowArgs),
    /// Say when its web sleeps, and how long the previous release is kept
    #[command(name = "sleep:set")]
    SleepSet(sleep::SetArgs),
    /// Have the app never sleep
    #[command(name = "sleep:off")]
    SleepOff(sleep::OffArgs),
    /// Take back what was said, so that the app file holds again
    #[command(name = "sleep:unset")]
    SleepUnset(sleep::UnsetArgs),
    /// Wake the app now
    #[command(name = "sleep:wake")]
    SleepWake(sleep::WakeArgs),
    /// Show what the edge does for the app beside passing requests on
    Edge(edge::ShowArgs),
    /// Set what the edge does: compression, CORS, rates, headers, passwords
    #[command(name = "edge:set")]
    EdgeSet(edge::SetArgs),
    /// Take back what was set, so that the app file holds again
    #[command(name = "edge:unset")]
    EdgeUnset(edge::UnsetArgs),
    /// List which addresses are let in
    Access(access::ShowArgs),
    /// Let addresses in, and then no others
    #[command(name = "access:allow")]
    AccessAllow(access::ChangeArgs),
    /// Keep addresses out
    #[command(name = "access:deny")]
    AccessDeny(access::ChangeArgs),
    /// Say neither of addresses any more
    #[command(name = "access:remove")]
    AccessRemove(access::ChangeArgs),
    /// List who gets in by password
    Visitors(visitors::ListArgs),
    /// Give somebody a password, or another one
    #[command(name = "visitors:add")]
    VisitorsAdd(visitors::AddArgs),
    /// Take somebody's password away
    #[command(name = "visitors:remove")]
    VisitorsRemove(visitors::RemoveArgs),
    /// List the volumes
    Volumes(volumes::ListArgs),
    /// Mount a volume: storage that outlives replicas
    #[command(name = "volumes:add")]
    VolumesAdd(volumes::AddArgs),
    /// Take a volume off the app; what it holds is kept
    #[command(name = "volumes:detach")]
    VolumesDetach(volumes::DetachArgs),
    /// Remove a volume and all it holds
    #[command(name = "volumes:remove")]
    VolumesRemove(volumes::RemoveArgs),
    /// Keep what a volume holds now
    #[command(name = "volumes:snapshot")]
    VolumesSnapshot(volumes::OneArgs),
    /// List the snapshots of a volume
    #[command(name = "volumes:snapshots")]
    VolumesSnapshots(volumes::ListSnapshotsArgs),
    /// Remove a snapshot of a volume
    #[command(name = "volumes:snapshots:remove")]
    VolumesSnapshotsRemove(volumes::SnapshotArgs),
    /// Write what a volume holds to standard output, as tar
    #[command(name = "volumes:export")]
    VolumesExport(archives::ExportArgs),
    /// Have a volume hold what a tar file holds
    #[command(name = "volumes:import")]
    VolumesImport(archives::ImportArgs),
    /// Have a volume hold again what it held at a snapshot
    #[command(name = "volumes:restore")]
    VolumesRestore(volumes::RestoreArgs),
    /// List the certificates
    Certs(certificates::ListArgs),
    /// Add a certificate of your own
    #[command(name = "certs:add")]
    CertsAdd(certificates::AddArgs),
    /// Put another certificate in the place of one
    #[command(name = "certs:update")]
    CertsUpdate(certificates::UpdateArgs),
    /// Show one certificate
    #[command(name = "certs:info")]
    CertsInfo(certificates::OneArgs),
    /// Remove a certificate
    #[command(name = "certs:remove")]
    CertsRemove(certificates::OneArgs),
    /// List all tries to get certificates, and how they ended
    #[command(name = "certs:history")]
    CertsHistory(certificates::HistoryArgs),
    /// Try again now to get the certificates that are missing
    #[command(name = "certs:auto:refresh")]
    CertsRefresh(certificates::HistoryArgs),
    /// Print the local authority's certificate, and how to trust it
    #[command(name = "certs:trust")]
    CertsTrust(certificates::TrustArgs),
    /// Show what the app wants of HTTPS
    Https(https::ShowArgs),
    /// Send visitors to HTTPS, and keep them there
    #[command(name = "https:set")]
    HttpsSet(https::SetArgs),
    /// Whether visitors see the maintenance page
    Maintenance(maintenance::ShowArgs),
    /// Show visitors the maintenance page
    #[command(name = "maintenance:on")]
    MaintenanceOn(maintenance::OnArgs),
    /// Let visitors in again
    #[command(name = "maintenance:off")]
    MaintenanceOff(maintenance::OffArgs),
    /// Let requests wait, without an answer, until the app is resumed
    Pause(pause::PauseArgs),
    /// Let requests go on that wait
    Resume(pause::ResumeArgs),
    /// Whether the app's answers tell how long they took
    Timing(timing::ShowArgs),
    /// Have the app's answers tell how long they took
    #[command(name = "timing:on")]
    TimingOn(timing::SwitchArgs),
    /// Have the app's answers tell nothing of it
    #[command(name = "timing:off")]
    TimingOff(timing::SwitchArgs),
    /// Show how Wharf and all apps are
    Status(status::StatusArgs),
    /// Show what takes the room on the disk, and what a collect would free
    Disk(disk::DiskArgs),
    /// Check whether this machine has what Wharf needs
    Doctor(doctor::DoctorArgs),
    /// Say what an error code means, and what helps
    Explain(explain::ExplainArgs),
    /// Add the git remote of an app to this repository
    #[command(name = "remote:add")]
    RemoteAdd(apps::RemoteArgs),
    /// Store the token for an API
    #[command(name = "auth:login", visible_alias = "login")]
    AuthLogin(auth::LoginArgs),
    /// Forget the token for an API
    #[command(name = "auth:logout", visible_alias = "logout")]
    AuthLogout(auth::LogoutArgs),
    /// Answer git's question for a password
    #[command(name = "git-credential", hide = true)]
    GitCredential(auth::CredentialArgs),
    /// Print the version
    Version(status::VersionArgs),
}

/// Why a command ends with something else than 0.
#[derive(Debug)]
pub(crate) enum Failure {
    Problem(Box<Problem>),
    /// The exit code of the command that was run for us.
    PassedOn(u8),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::PassedOn(code) => *code,
            Self::Problem(problem) if problem.code == Code::NoAppGiven => 2,
            Self::Problem(problem)
                if matches!(problem.code, Code::Internal | Code::DaemonUnreachable) =>
            {
                3
            }
            Self::Problem(_) => 1,
        }
    }
}

/// Reads the arguments (the program's name first), does what they say, says how it ended.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(join_words(arguments)) {
        Ok(cli) => cli,
        Err(error) => return usage::tell(&error, "nothing was asked of the daemon"),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let problem = Problem::new(Code::Internal, "no runtime").why(error.to_string());
            printer::Printer::new().problem(&problem);
            return ExitCode::from(3);
        }
    };
    let result = runtime.block_on(Box::pin(start(cli)));
    // A thread that still reads our stdin must not keep us.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Failure::Problem(problem) = &failure {
                printer::Printer::new().problem(problem);
            }
            ExitCode::from(failure.code())
        }
    }
}

/// Prints what a look at this machine found, for the role that looks before there is a daemon.
pub fn print_report(report: &crate::api::doctor::Report, as_json: bool) {
    doctor::print(&printer::Printer::new(), report, as_json);
}

/// The definition, for the manual and its test.
pub fn definition() -> clap::Command {
    Cli::command()
}

async fn start(cli: Cli) -> Result<(), Failure> {
    // These work without any daemon, and with a broken configuration.
    match cli.command {
        Command::Explain(args) => explain::explain(&args).map_err(Failure::from),
        Command::GitCredential(args) => {
            auth::credential(&cli.global, &args).await.map_err(Failure::from)
        }
        command => {
            let session = Session::open(&cli.global)?;
            Box::pin(dispatch(command, &session)).await
        }
    }
}

async fn dispatch(command: Command, session: &Session) -> Result<(), Failure> {
    match command {
        Command::Create(args) => apps::create(session, args).await,
        Command::Apps(args) => apps::list(session, &args).await,
        Command::Info(args) => apps::info(session, &args).await,
        Command::Open(args) => apps::open(session, &args).await,
        Command::Rename(args) => rename::rename(session, args).await,
        Command::Destroy(args) => apps::destroy(session, &args).await,
        Command::RemoteAdd(args) => apps::add_remote(session, &args).await,
        Command::Ps(args) => ps::list(session, &args).await,
        Command::PsScale(args) => ps::scale(session, &args).await,
        Command::PsResize(args) => ps::resize(session, &args).await,
        Command::PsWeight(args) => weight::weight(session, &args).await,
        Command::Restart(args) => ps::restart(session, &args).await,
        Command::PsStop(args) => ps::stop(session, &args).await,
        Command::Inspect(args) => inspect::show(session, &args).await,
        Command::Top(args) => top::show(session, &args).await,
        Command::Logs(args) => logs::show(session, &args).await,
        Command::Trace(args) => trace::show(session, &args).await,
        Command::ProxyStats(args) => stats::show(session, &args).await,
        Command::Config(args) => config_vars::list(session, &args).await,
        Command::ConfigSet(args) => config_vars::set(session, &args).await,
        Command::ConfigGet(args) => config_vars::get(session, &args).await,
        Command::ConfigUnset(args) => config_vars::unset(session, &args).await,
        Command::Builds(args) => builds::list(session, &args).await,
        Command::BuildsCancel(args) => builds::cancel(session, &args).await,
        Command::Releases(args) => releases::list(session, &args).await,
        Command::ReleasesInfo(args) => releases::info(session, &args).await,
        Command::ReleasesDiff(args) => releases::diff(session, &args).await,
        Command::Rollback(args) => releases::roll_back(session, &args).await,
        Command::Run(args) => run::run(session, args).await,
        Command::RunDetached(args) => run::run(session, args.detached()).await,
        Command::Exec(args) => run::exec(session, args).await,
        Command::Attach(args) => attach::attach(session, &args).await,
        Command::Cp(args) => copy::copy(session, &args).await,
        Command::Domains(args) => domains::list(session, &args).await,
        Command::DomainsAdd(args) => domains::add(session, &args).await,
        Command::DomainsRemove(args) => domains::remove(session, &args).await,
        Command::DomainsAsk(args) => ask::ask(session, &args).await,
        Command::Routes(args) => routes::list(session, &args).await,
        Command::RoutesAdd(args) => routes::add(session, args).await,
        Command::RoutesRemove(args) => routes::remove(session, &args).await,
        Command::Links(args) => links::list(session, &args).await,
        Command::LinksAdd(args) => links::add(session, args).await,
        Command::LinksRemove(args) => links::remove(session, &args).await,
        Command::Outbound(args) => outbound::show(session, &args).await,
        Command::OutboundSet(args) => outbound::set(session, &args).await,
        Command::OutboundAllow(args) => outbound::allow(session, &args).await,
        Command::OutboundRemove(args) => outbound::remove(session, &args).await,
        Command::Sleep(args) => sleep::show(session, &args).await,
        Command::SleepSet(args) => sleep::set(session, &args).await,
        Command::SleepOff(args) => sleep::off(session, &args).await,
        Command::SleepUnset(args) => sleep::unset(session, &args).await,
        Command::SleepWake(args) => sleep::wake(session, &args).await,
        Command::Edge(args) => edge::show(session, &args).await,
        Command::EdgeSet(args) => edge::set(session, &args).await,
        Command::EdgeUnset(args) => edge::unset(session, &args).await,
        Command::Access(args) => access::show(session, &args).await,
        Command::AccessAllow(args) => access::change(session, &args, Change::Allow).await,
        Command::AccessDeny(args) => access::change(session, &args, Change::Deny).await,
        Command::AccessRemove(args) => access::change(session, &args, Change::Remove).await,
        Command::Visitors(args) => visitors::list(session, &args).await,
        Command::VisitorsAdd(args) => visitors::add(session, &args).await,
        Command::VisitorsRemove(args) => visitors::remove(session, &args).await,
        Command::Volumes(args) => volumes::list(session, &args).await,
        Command::VolumesAdd(args) => volumes::add(session, args).await,
        Command::VolumesDetach(args) => volumes::detach(session, &args).await,
        Command::VolumesRemove(args) => volumes::remove(session, &args).await,
        Command::VolumesSnapshot(args) => volumes::snapshot(session, &args).await,
        Command::VolumesSnapshots(args) => volumes::snapshots(session, &args).await,
        Command::VolumesSnapshotsRemove(args) => volumes::remove_snapshot(session, &args).await,
        Command::VolumesExport(args) => archives::export(session, &args).await,
        Command::VolumesImport(args) => archives::import(session, &args).await,
        Command::VolumesRestore(args) => volumes::restore(session, &args).await,
        Command::Certs(args) => certificates::list(session, &args).await,
        Command::CertsAdd(args) => certificates::add(session, &args).await,
        Command::CertsUpdate(args) => certificates::update(session, &args).await,
        Command::CertsInfo(args) => certificates::info(session, &args).await,
        Command::CertsRemove(args) => certificates::remove(session, &args).await,
        Command::CertsHistory(args) => certificates::history(session, &args).await,
        Command::CertsRefresh(args) => certificates::refresh(session, &args).await,
        Command::CertsTrust(args) => certificates::trust(session, &args).await,
        Command::Https(args) => https::show(session, &args).await,
        Command::HttpsSet(args) => https::set(session, &args).await,
        Command::Maintenance(args) => maintenance::show(session, &args).await,
        Command::MaintenanceOn(args) => maintenance::on(session, &args).await,
        Command::MaintenanceOff(args) => maintenance::off(session, &args).await,
        Command::Timing(args) => timing::show(session, &args).await,
        Command::TimingOn(args) => timing::switch(session, &args, true).await,
        Command::TimingOff(args) => timing::switch(session, &args, false).await,
        Command::Pause(args) => pause::pause(session, &args).await,
        Command::Resume(args) => pause::resume(session, &args).await,
        Command::Status(args) => status::show(session, &args).await,
        Command::Disk(args) => disk::show(session, &args).await,
        Command::Doctor(args) => doctor::show(session, &args).await,
        Command::Version(args) => status::version(session, &args).await,
        Command::AuthLogin(args) => auth::login(session, &args).await,
        Command::AuthLogout(args) => auth::logout(session, &args),
        Command::Explain(_) | Command::GitCredential(_) => Ok(()),
    }
}

/// `wharf config set A=b` is `wharf config:set A=b`: fingers that know other tools are understood.
fn join_words(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let definition = Cli::command();
    let is_known = |name: &str| {
        definition.get_subcommands().any(|command| {
            command.get_name() == name || command.get_all_aliases().any(|alias| alias == name)
        })
    };
    let mut position = 1;
    while let Some(word) = arguments.get(position).and_then(|word| word.to_str()) {
        match word {
            "-a" | "--app" | "--api" | "--token" => position += 2,
            flag if flag.starts_with('-') => position += 1,
            first => {
                let second = arguments.get(position + 1).and_then(|word| word.to_str());
                if let Some(joined) = second.map(|second| format!("{first}:{second}"))
                    && !first.contains(':')
                    && is_known(&joined)
                {
                    arguments.splice(position..=position + 1, [joined.into()]);
                }
                break;
            }
        }
    }
    arguments
}

#[cfg(test)]
mod tests;
