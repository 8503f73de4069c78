//! `config`, `config:set`, `config:get`, `config:unset`.

use http::Method;
use model::name::ConfigKey;
use model::problem::{Code, Problem};

use super::Failure;
use super::session::{AppArg, Change, Json, Session, Wait};
use crate::api::app::{ConfigVars, UpdateConfigVars};

/// Show the config vars
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf config\n  wharf config --shell > .env\n  wharf config -a shop --json"
)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    named: AppArg,
    /// As lines a shell can read
    #[arg(short, long)]
    shell: bool,
    #[command(flatten)]
    json: Json,
}

/// Set config vars
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf config:set LOG_LEVEL=debug\n  wharf config:set A=1 B=2 -a shop\n  wharf config:set KEY=@private.pem     from a file\n  pass show key | wharf config:set KEY=-     from stdin, not in the shell's history"
)]
pub(super) struct SetArgs {
    /// NAME=value; the value `-` is read from stdin, `@file` from a file
    #[arg(required = true, value_name = "NAME=VALUE")]
    vars: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

/// Print one config var
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf config:get DATABASE_URL\n  psql \"$(wharf config:get DATABASE_URL)\""
)]
pub(super) struct GetArgs {
    name: ConfigKey,
    #[command(flatten)]
    json: Json,
}

/// Take config vars away
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf config:unset LOG_LEVEL\n  wharf config:unset A B -a shop"
)]
pub(super) struct UnsetArgs {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<ConfigKey>,
    #[command(flatten)]
    wait: Wait,
}

pub(super) async fn list(session: &Session, args: &ConfigArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/apps/{app}/config-vars");
    let Some(vars) = session.read::<ConfigVars>(&path, args.json).await? else { return Ok(()) };
    let printer = &session.printer;
    if args.shell {
        vars.iter().for_each(|(key, value)| {
            printer.data(format!("{key}={}", crate::api::dyno::quoted(value)));
        });
        return Ok(());
    }
    if vars.is_empty() {
        printer.say(format!("{app} has no config vars. Set one: wharf config:set NAME=value"));
        return Ok(());
    }
    let width = vars.keys().map(String::len).max().unwrap_or(0) + 1;
    printer.data(format!("=== {app} Config Vars"));
    for (key, value) in vars {
        printer.data(format!("{:<width$} {value}", format!("{key}:")));
    }
    Ok(())
}

pub(super) async fn get(session: &Session, args: &GetArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let vars: ConfigVars = session.client.get(&format!("/apps/{app}/config-vars")).await?;
    let value = vars.get(args.name.as_str());
    match value {
        _ if args.json.json => session.printer.json(&value),
        Some(value) => session.printer.data(value),
        None => {
            let what = format!("`{app}` has no config var `{}`", args.name);
            return Err(Problem::new(Code::NotFound, what)
                .next(format!("wharf config -a {app}"))
                .into());
        }
    }
    Ok(())
}

pub(super) async fn set(session: &Session, args: &SetArgs) -> Result<(), Failure> {
    let mut update = UpdateConfigVars::new();
    for var in &args.vars {
        let (key, value) = parse(var)?;
        update.insert(key.to_string(), Some(load(value)?));
    }
    apply(session, "Setting", update, args.wait).await
}

pub(super) async fn unset(session: &Session, args: &UnsetArgs) -> Result<(), Failure> {
    let update = args.names.iter().map(|name| (name.to_string(), None)).collect();
    apply(session, "Unsetting", update, args.wait).await
}

async fn apply(
    session: &Session,
    verb: &str,
    update: UpdateConfigVars,
    wait: Wait,
) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let names: Vec<&str> = update.keys().map(String::as_str).collect();
    let label = format!("{verb} {} and restarting {app}", names.join(", "));
    let path = format!("/apps/{app}/config-vars");
    let body = Some(update);
    let (method, note) = (Method::PATCH, "");
    let change = Change { app: &app, label: &label, method, path, body, wait, note };
    session.change(change).await?;
    Ok(())
}

fn parse(var: &str) -> Result<(ConfigKey, &str), Problem> {
    let still = "nothing was changed";
    let Some((key, value)) = var.split_once('=') else {
        return Err(Problem::new(Code::BadInput, format!("`{var}` sets nothing"))
            .why("it has no `=` between name and value")
            .still(still)
            .next(format!("wharf config:set {var}=value, or to read it: wharf config:get {var}")));
    };
    let key: ConfigKey = key.parse().map_err(|error: model::name::NameError| {
        Problem::new(Code::BadInput, error.to_string()).still(still)
    })?;
    Ok((key, value))
}

/// The value itself, or what stdin or a file holds, less one newline at its end.
fn load(value: &str) -> Result<String, Problem> {
    let read = if value == "-" {
        std::io::read_to_string(std::io::stdin())
    } else if let Some(path) = value.strip_prefix('@') {
        std::fs::read_to_string(path)
    } else {
        return Ok(value.to_owned());
    };
    let text = read.map_err(|error| {
        Problem::new(Code::BadInput, format!("the value `{value}` could not be read"))
            .why(error.to_string())
            .still("nothing was changed")
    })?;
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}
