//! `links`, `links:add`, `links:remove`.

use http::Method;

use super::Failure;
use super::session::{AppArg, Json, Session, escape};
use super::table::table;
use crate::api::link::{AddLink, Link, Links};
use crate::api::route::RouteSource;

/// List the links: which other apps this one may reach, and who uses it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf links\n  wharf links shop --json")]
pub(super) struct LinksArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Let the app reach another one as NAME.internal; it holds at once, without a release
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf links:add api\n  wharf links:add shop-db --as db\n  \
                  wharf links:add api --to-process grpc --port 50051\n  \
                  wharf links:add names --port 53/udp --port 53")]
pub(super) struct AddArgs {
    /// The app to reach
    #[arg(value_name = "OTHER")]
    to: String,
    /// What it is called inside, before .internal [default: its own name]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Which of its processes answers [default: web]
    #[arg(long, value_name = "PROCESS")]
    to_process: Option<String>,
    /// A port, for UDP 53/udp; may be given again [default: all it listens on]
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<String>,
    #[command(flatten)]
    json: Json,
}

/// Take a link away that was given by command; open connections stay
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf links:remove api\n  wharf links:remove db -a shop")]
pub(super) struct RemoveArgs {
    /// The link's name, as `wharf links` shows it
    name: String,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn list(session: &Session, args: &LinksArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/links");
    let Some(all) = session.read::<Links>(&path, args.json).await? else { return Ok(()) };
    let printer = &session.printer;
    if all.links.is_empty() {
        printer.say(format!("{app} uses no other app: wharf links:add OTHER -a {app}"));
    }
    let rows: Vec<Vec<String>> = all.links.iter().map(row).collect();
    table(&rows).iter().for_each(|line| printer.data(line));
    if !all.used_by.is_empty() {
        let names: Vec<&str> = all.used_by.iter().map(|app| app.name.as_str()).collect();
        printer.say(format!("used by {}", names.join(", ")));
    }
    Ok(())
}

fn row(link: &Link) -> Vec<String> {
    let ports = match (link.open.as_slice(), link.to.is_some()) {
        (_, false) => format!("there is no app {}", link.to_name),
        ([], true) => "nothing listens yet".to_owned(),
        (open, true) => format!("port {}", open.join(", ")),
    };
    let answering = match link.answering {
        1 => "1 replica".to_owned(),
        count => format!("{count} replicas"),
    };
    let source = match link.source {
        RouteSource::Settings => "",
        RouteSource::AppFile => "(app file)",
    };
    let to = format!("{} {}", link.to_name, link.process);
    vec![link.host.clone(), to, ports, answering, source.to_owned()]
}

pub(super) async fn add(session: &Session, args: AddArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let body =
        AddLink { app: args.to, process: args.to_process, name: args.name, ports: args.ports };
    session.printer.begin(&format!("Linking {app} to {}", body.app));
    let path = format!("/wharf/apps/{app}/links");
    let reply = session.client.call(Method::POST, &path, Some(&body)).await?;
    let all: Links = reply.read()?;
    let name = body.name.as_deref().unwrap_or(&body.app);
    let link = all.links.iter().find(|link| link.name == name);
    session.printer.end(&match link {
        Some(link) if link.open.is_empty() => format!("done, {}", link.host),
        Some(link) => format!("done, {}:{}", link.host, link.open[0].replace("/udp", " (UDP)")),
        None => "done".to_owned(),
    });
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

pub(super) async fn remove(session: &Session, args: &RemoveArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    session.printer.begin(&format!("Taking the link {} from {app}", args.name));
    let path = format!("/wharf/apps/{app}/links/{}", escape(&args.name));
    let reply = session.client.call(Method::DELETE, &path, None::<&()>).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}
