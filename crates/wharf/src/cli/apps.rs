//! `create`, `apps`, `info`, `open`, `destroy`, `remote:add`.

use std::io::IsTerminal;
use std::path::PathBuf;

use http::Method;
use jiff::Timestamp;
use model::problem::{Code, Problem};

use super::Failure;
use super::infer::remotes;
use super::session::{AppArg, Json, Session, escape};
use super::table::{ago, moment, table};
use crate::api::app::{App, CreateApp};
use crate::api::domain::Domain;
use crate::api::formation::Formation;
use crate::api::link::Links;
use crate::process::Invocation;

/// Make an app, and the git remote to push it to
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf create shop\n  wharf create                 a name is made up\n  wharf create shop --no-remote"
)]
pub(super) struct CreateArgs {
    /// 2 to 30 of a-z, 0-9 and -, starting with a letter
    name: Option<String>,
    /// What the git remote is called
    #[arg(long, default_value = "wharf", value_name = "NAME")]
    remote: String,
    /// Do not touch the git repository here
    #[arg(long)]
    no_remote: bool,
    #[command(flatten)]
    json: Json,
}

/// List the apps
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf apps\n  wharf apps --json")]
pub(super) struct AppsArgs {
    #[command(flatten)]
    json: Json,
}

/// Show one app
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf info\n  wharf info shop\n  wharf info shop --json")]
pub(super) struct InfoArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Open the app in a browser
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf open\n  wharf open shop\n  wharf open shop --path /admin"
)]
pub(super) struct OpenArgs {
    #[command(flatten)]
    named: AppArg,
    /// The page to open
    #[arg(long, default_value = "/")]
    path: String,
}

/// Destroy an app and all that is its
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf destroy shop\n  wharf destroy shop --confirm shop     asks nothing"
)]
pub(super) struct DestroyArgs {
    #[command(flatten)]
    named: AppArg,
    /// The app's name once more, instead of being asked
    #[arg(long, value_name = "APP")]
    confirm: Option<String>,
}

/// Add the git remote of an app to this repository
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf remote:add shop\n  wharf remote:add shop-staging --remote staging"
)]
pub(super) struct RemoteArgs {
    #[command(flatten)]
    named: AppArg,
    /// What the git remote is called
    #[arg(long, default_value = "wharf", value_name = "NAME")]
    remote: String,
}

pub(super) async fn create(session: &Session, args: CreateArgs) -> Result<(), Failure> {
    let printer = &session.printer;
    printer.begin("Creating app");
    let name = match args.name {
        Some(name) => name,
        None => made_up_name()?,
    };
    let body = CreateApp { name: Some(name) };
    let reply = session.client.call(Method::POST, "/apps", Some(&body)).await?;
    let app: App = reply.read()?;
    session.warn(&reply);
    printer.end(&format!("done, {}", app.name));
    if args.json.json {
        printer.json(&reply.read::<serde_json::Value>()?);
    } else {
        let web = app.web_url.as_deref().unwrap_or("-");
        printer.data(format!("{web} | {}", app.git_url));
    }
    if !args.no_remote {
        put_remote(session, &app, &args.remote).await?;
    }
    Ok(())
}

/// Adds or corrects the remote; outside of a repository it says what to do later.
pub(super) async fn put_remote(session: &Session, app: &App, remote: &str) -> Result<(), Problem> {
    let printer = &session.printer;
    let Some(remotes) = remotes().await else {
        printer.say("This folder is in no git repository. When there is one:");
        printer.say("  git init -b main");
        printer.say(format!("  wharf remote:add {}", app.name));
        return Ok(());
    };
    let present = remotes.iter().find(|present| present.name == remote);
    let verb = match present {
        Some(present) if present.url == app.git_url => return trust(session, app).await,
        Some(present) => {
            printer.say(format!("The remote {remote} led to {}", present.url));
            "set-url"
        }
        None => "add",
    };
    git(["remote", verb, remote, &app.git_url]).await?;
    trust(session, app).await?;
    printer.say(format!("Set git remote {remote} to {}", app.git_url));
    printer.say(format!("Deploy with: git push {remote} {}", deploy_ref().await));
    Ok(())
}

/// What to push so that it is deployed: the branch we are on, as one of the two that are.
async fn deploy_ref() -> String {
    let asked = Invocation::new("git").args(["symbolic-ref", "--quiet", "--short", "HEAD"]);
    let branch = asked.run().await.unwrap_or_default();
    match String::from_utf8_lossy(&branch).trim() {
        "" => "main".to_owned(),
        branch @ ("main" | "master") => branch.to_owned(),
        other => format!("{other}:main"),
    }
}

/// Tells git to ask us for the password of this daemon, in this repository only.
async fn trust(session: &Session, app: &App) -> Result<(), Problem> {
    let Some(scheme_end) = app.git_url.find("://") else { return Ok(()) };
    let host_end = app.git_url[scheme_end + 3..].find('/').map(|at| at + scheme_end + 3);
    let base = &app.git_url[..host_end.unwrap_or(app.git_url.len())];
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("wharf"));
    let api = session.client.target().to_string();
    let program = crate::api::dyno::quoted(&program.to_string_lossy());
    let helper = format!("!{program} git-credential --api {}", crate::api::dyno::quoted(&api));
    git(["config", "--replace-all", &format!("credential.{base}.helper"), &helper]).await
}

async fn git<const N: usize>(arguments: [&str; N]) -> Result<(), Problem> {
    match Invocation::new("git").args(arguments).run().await {
        Ok(_) => Ok(()),
        Err(error) => Err(Problem::new(Code::BadInput, "the git remote was not set")
            .why(error.to_string())
            .still("the app is there")
            .next(format!("git {}", arguments.join(" ")))),
    }
}

pub(super) async fn add_remote(session: &Session, args: &RemoteArgs) -> Result<(), Failure> {
    let name = session.app(Some(&args.named)).await?;
    let app: App = session.client.get(&format!("/apps/{name}")).await?;
    Ok(put_remote(session, &app, &args.remote).await?)
}

pub(super) async fn list(session: &Session, args: &AppsArgs) -> Result<(), Failure> {
    let Some(apps) = session.read_list::<App>("/apps", args.json).await? else { return Ok(()) };
    let printer = &session.printer;
    if apps.is_empty() {
        printer.say("There are no apps yet. Make one: wharf create");
        return Ok(());
    }
    let now = Timestamp::now();
    printer.data("=== Apps");
    let rows: Vec<Vec<String>> = apps
        .into_iter()
        .map(|app| {
            let note = match app.released_at {
                _ if app.maintenance => "in maintenance".to_owned(),
                Some(at) => format!("released {}", ago(at.0, now)),
                None => "nothing released yet".to_owned(),
            };
            vec![app.name.to_string(), app.web_url.unwrap_or_default(), note]
        })
        .collect();
    table(&rows).iter().for_each(|line| printer.data(line));
    Ok(())
}

pub(super) async fn info(session: &Session, args: &InfoArgs) -> Result<(), Failure> {
    let name = session.app(Some(&args.named)).await?;
    let path = format!("/apps/{name}");
    let Some(app) = session.read::<App>(&path, args.json).await? else { return Ok(()) };
    let formation: Vec<Formation> = session.client.get(&format!("{path}/formation")).await?;
    let domains: Vec<Domain> = session.client.get(&format!("{path}/domains")).await?;
    let counts: Vec<String> =
        formation.iter().map(|one| format!("{}={}", one.process, one.quantity)).collect();
    let domains: Vec<String> = domains.into_iter().map(|domain| domain.hostname).collect();
    let now = Timestamp::now();
    let or_none = |list: Vec<String>| if list.is_empty() { "none".into() } else { list.join(" ") };
    let released = app.released_at.map_or("never".to_owned(), |at| moment(at.0, now));
    let rows = [
        ("Web URL:", app.web_url.unwrap_or_default()),
        ("Git URL:", app.git_url),
        ("Processes:", or_none(counts)),
        ("Domains:", or_none(domains)),
        ("Created:", moment(app.created_at.0, now)),
        ("Released:", released),
        ("Maintenance:", if app.maintenance { "on" } else { "off" }.to_owned()),
        ("Id:", app.id.to_string()),
    ];
    session.printer.data(format!("=== {}", app.name));
    for (name, value) in rows {
        session.printer.data(format!("{name:<13} {value}"));
    }
    Ok(())
}

pub(super) async fn open(session: &Session, args: &OpenArgs) -> Result<(), Failure> {
    let name = session.app(Some(&args.named)).await?;
    let app: App = session.client.get(&format!("/apps/{name}")).await?;
    let base = app.web_url.unwrap_or_default();
    let path = args.path.trim_start_matches('/');
    let url = format!("{}/{path}", base.trim_end_matches('/'));
    session.printer.data(&url);
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut invocation = Invocation::new(opener).arg(&url);
    for key in ["DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"] {
        if let Some(value) = std::env::var_os(key) {
            invocation = invocation.env(key, value);
        }
    }
    if invocation.run().await.is_err() {
        session.printer.say("No browser could be opened from here: open that address yourself.");
    }
    Ok(())
}

/// Who loses something with the app is told of before anybody confirms.
async fn tell_users(session: &Session, name: &str) -> Result<(), Failure> {
    let links: Links = session.client.get(&format!("/wharf/apps/{name}/links")).await?;
    let users: Vec<&str> = links.used_by.iter().map(|app| app.name.as_str()).collect();
    if !users.is_empty() {
        session.printer.say(format!("{} uses {name}, and loses it", users.join(", ")));
    }
    Ok(())
}

pub(super) async fn destroy(session: &Session, args: &DestroyArgs) -> Result<(), Failure> {
    let name = session.app(Some(&args.named)).await?;
    let app: App = session.client.get(&format!("/apps/{name}")).await?;
    tell_users(session, &name).await?;
    let typed = match &args.confirm {
        Some(typed) => typed.clone(),
        None => ask(session, app.name.as_str()).await?,
    };
    if typed != app.name.as_str() {
        return Err(not_confirmed(app.name.as_str(), &format!("`{typed}` is not its name")).into());
    }
    session.printer.begin(&format!("Destroying {}", app.name));
    let path = format!("/apps/{}?confirm={}", app.id, escape(&typed));
    session.client.call(Method::DELETE, &path, None::<&()>).await?;
    session.printer.end("done");
    Ok(())
}

async fn ask(session: &Session, name: &str) -> Result<String, Problem> {
    if !std::io::stdin().is_terminal() {
        return Err(not_confirmed(name, "there is no terminal to ask on"));
    }
    let printer = &session.printer;
    printer.say(format!("This destroys {name}: its processes, releases, config vars, logs."));
    printer.say(format!("There is no way back. Type its name to go on: {name}"));
    let typed = tokio::task::spawn_blocking(|| {
        let mut typed = String::new();
        std::io::stdin().read_line(&mut typed).map(|_| typed)
    });
    match typed.await {
        Ok(Ok(typed)) => Ok(typed.trim().to_owned()),
        Ok(Err(error)) => Err(not_confirmed(name, &error.to_string())),
        Err(error) => Err(not_confirmed(name, &error.to_string())),
    }
}

fn not_confirmed(name: &str, why: &str) -> Problem {
    Problem::new(Code::NotConfirmed, format!("`{name}` was not destroyed"))
        .why(why)
        .still("it runs on as before")
        .next(format!("wharf destroy {name} --confirm {name}"))
}

/// `quiet-harbor-42`
fn made_up_name() -> Result<String, Problem> {
    const FIRST: [&str; 16] = [
        "quiet", "bright", "calm", "brisk", "amber", "salty", "mellow", "sunny", "misty", "bold",
        "gentle", "silver", "windy", "early", "lucky", "merry",
    ];
    const SECOND: [&str; 16] = [
        "harbor", "otter", "anchor", "gull", "tide", "reef", "ferry", "lantern", "pier", "heron",
        "island", "current", "seal", "dune", "beacon", "sail",
    ];
    let random = getrandom::u64().map_err(|error| {
        Problem::new(Code::BadInput, "no name could be made up")
            .why(error.to_string())
            .next("wharf create <name>")
    })?;
    let pick = |words: [&'static str; 16], shift: u32| {
        words[usize::try_from(random >> shift & 15).expect("below 16")]
    };
    Ok(format!("{}-{}-{}", pick(FIRST, 0), pick(SECOND, 4), 10 + (random >> 8) % 990))
}

#[cfg(test)]
mod tests {
    #[test]
    fn made_up_names_are_names() {
        for _ in 0..200 {
            let name = super::made_up_name().unwrap();
            name.parse::<model::name::AppName>().unwrap();
        }
    }
}
