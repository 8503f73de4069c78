//! `routes`, `routes:add`, `routes:remove`.

use std::collections::BTreeMap;

use http::Method;
use model::problem::{Code, Problem};

use super::Failure;
use super::session::{AppArg, Json, Session, escape};
use super::table::table;
use crate::api::route::{Route, RouteFields, RouteSource};

/// List the routes: where which requests go, beside everything on the app's hosts
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf routes\n  wharf routes shop --json")]
pub(super) struct RoutesArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Give the app a route; it serves at once and wins over the app file's
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf routes:add --path /api --strip --to shop-api\n  \
                  wharf routes:add --path /blog --to https://old.example\n  \
                  wharf routes:add --host www.example.com --redirect bare\n  \
                  wharf routes:add --split shop-next=10")]
pub(super) struct AddArgs {
    /// shop.example.com, *.example.com or * [default: every host of the app]
    #[arg(long)]
    host: Option<String>,
    /// /api and below, =/up alone, or a pattern like */styles/*.*
    #[arg(long)]
    path: Option<String>,
    /// A method, like GET; may be given again
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<String>,
    /// A header the request must have, in which a star is any text; may be given again
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Of two routes for one request, the heavier one wins [0 to 1000]
    #[arg(long)]
    weight: Option<u16>,
    /// Another app, or https://… [default: the app itself]
    #[arg(long, value_name = "DESTINATION")]
    to: Option<String>,
    /// So many percent go elsewhere; may be given again
    #[arg(long, value_name = "DESTINATION=PERCENT")]
    split: Vec<String>,
    /// Take the path prefix off
    #[arg(long)]
    strip: bool,
    /// Send a server elsewhere the visitor's Host
    #[arg(long)]
    keep_host: bool,
    /// https, www, bare, or an address, at its end perhaps a star
    #[arg(long, value_name = "WHERE")]
    redirect: Option<String>,
    /// 301, 302, 307 or 308
    #[arg(long)]
    status: Option<u16>,
    #[command(flatten)]
    json: Json,
}

/// Take a route away that was given by command
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf routes:remove /api\n  wharf routes:remove '*.x.example/'"
)]
pub(super) struct RemoveArgs {
    /// What the route is for, as `wharf routes` shows it, or its id
    route: String,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn list(session: &Session, args: &RoutesArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/routes");
    let Some(routes) = session.read::<Vec<Route>>(&path, args.json).await? else {
        return Ok(());
    };
    let printer = &session.printer;
    if routes.is_empty() {
        printer.say(format!("{app} has no routes of its own: all on its hosts goes to it"));
        return Ok(());
    }
    let rows: Vec<Vec<String>> = routes.iter().map(row).collect();
    table(&rows).iter().for_each(|line| printer.data(line));
    Ok(())
}

fn row(route: &Route) -> Vec<String> {
    let source = match route.source {
        RouteSource::Settings => "",
        RouteSource::AppFile => "(app file)",
    };
    vec![route.subject.clone(), action(&route.fields), source.to_owned()]
}

/// What becomes of the requests, in a few words.
fn action(fields: &RouteFields) -> String {
    let mut words = Vec::new();
    if let Some(to) = &fields.redirect {
        let status = fields.status.map(|status| format!(" ({status})")).unwrap_or_default();
        words.push(format!("redirect {to}{status}"));
    } else {
        words.push(format!("to {}", fields.to.as_deref().unwrap_or("the app")));
    }
    words.extend(fields.split.iter().map(|(to, percent)| format!("{percent} % to {to}")));
    words.extend(fields.strip.filter(|is_on| *is_on).map(|_| "prefix off".to_owned()));
    words.extend(fields.keep_host.filter(|is_on| *is_on).map(|_| "keeping Host".to_owned()));
    words.extend(fields.weight.map(|weight| format!("weight {weight}")));
    words.join(", ")
}

pub(super) async fn add(session: &Session, args: AddArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let json = args.json;
    let fields = fields(args)?;
    session.printer.begin(&format!("Adding a route to {app}"));
    let path = format!("/wharf/apps/{app}/routes");
    let reply = session.client.call(Method::POST, &path, Some(&fields)).await?;
    let route: Route = reply.read()?;
    session.printer.end(&format!("done, {}", route.subject));
    if json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

fn fields(args: AddArgs) -> Result<RouteFields, Problem> {
    let mut split = BTreeMap::new();
    for (to, percent) in pairs("--split", &args.split)? {
        let percent = percent.trim_end_matches('%').parse().map_err(|_| {
            let what = format!("`{percent}` is not a percentage: a whole number up to 100");
            Problem::new(Code::BadInput, what).next("wharf routes:add --split shop-next=10")
        })?;
        split.insert(to, percent);
    }
    Ok(RouteFields {
        host: args.host,
        path: args.path,
        methods: args.methods,
        headers: pairs("--header", &args.headers)?,
        weight: args.weight,
        to: args.to,
        split,
        strip: args.strip.then_some(true),
        keep_host: args.keep_host.then_some(true),
        redirect: args.redirect,
        status: args.status,
    })
}

fn pairs(flag: &str, given: &[String]) -> Result<BTreeMap<String, String>, Problem> {
    let pair = |text: &String| match text.rsplit_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => {
            let what = format!("`{text}` is not a value of {flag}: a name, `=`, and a value");
            Err(Problem::new(Code::BadInput, what))
        }
    };
    given.iter().map(pair).collect()
}

pub(super) async fn remove(session: &Session, args: &RemoveArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    session.printer.begin(&format!("Removing {} from {app}", args.route));
    let path = format!("/wharf/apps/{app}/routes/{}", escape(&args.route));
    let reply = session.client.call(Method::DELETE, &path, None::<&()>).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}
