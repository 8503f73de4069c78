//! `edge`, `edge:set`, `edge:unset`.

use std::collections::BTreeSet;

use http::Method;
use model::problem::{Code, Problem};
use serde_json::{Map, Value};

use super::Failure;
use super::session::{AppArg, Json, Session};
use super::table::table;
use crate::api::edge::Edge;

/// Show what the edge does for the app beside passing requests on, and who said so
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf edge\n  wharf edge shop --json")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Set what the edge does for the app; it holds at once and wins over the app file
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf edge:set compress=true secure_headers=true\n  \
                  wharf edge:set cors.origins=https://shop.example,https://*.shop.example\n  \
                  wharf edge:set rate.client=10/s rate.client_burst=50\n  \
                  wharf edge:set headers.X-Robots-Tag=noindex headers.Server=\n  \
                  wharf edge:set auth.paths=/admin\n\n\
                  The names are those of [edge] in the app file; lists are written with commas.")]
pub(super) struct SetArgs {
    /// A setting's name, =, and its value
    #[arg(required = true, value_name = "NAME=VALUE")]
    settings: Vec<String>,
    #[command(flatten)]
    json: Json,
}

/// Take back what was set, so that the app file holds again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf edge:unset compress rate.client\n  \
                  wharf edge:unset cors headers.Server")]
pub(super) struct UnsetArgs {
    /// A setting's name, or that of a group
    #[arg(required = true, value_name = "NAME")]
    settings: Vec<String>,
    #[command(flatten)]
    json: Json,
}

/// How a setting's value is written.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Switch,
    Number,
    Text,
    List,
}

const SETTINGS: &[(&str, Kind)] = &[
    ("compress", Kind::Switch),
    ("compress_types", Kind::List),
    ("compress_from", Kind::Number),
    ("secure_headers", Kind::Switch),
    ("cors.origins", Kind::List),
    ("cors.methods", Kind::List),
    ("cors.headers", Kind::List),
    ("cors.expose", Kind::List),
    ("cors.credentials", Kind::Switch),
    ("cors.max_age", Kind::Text),
    ("auth.required", Kind::Switch),
    ("auth.realm", Kind::Text),
    ("auth.paths", Kind::List),
    ("rate.client", Kind::Text),
    ("rate.client_burst", Kind::Number),
    ("rate.app", Kind::Text),
    ("rate.app_burst", Kind::Number),
    ("rate.key", Kind::Text),
];

/// What is unset as a whole.
const GROUPS: [&str; 4] = ["headers", "cors", "auth", "rate"];

pub(super) async fn show(session: &Session, args: &ShowArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/edge");
    let Some(edge) = session.read::<Edge>(&path, args.json).await? else { return Ok(()) };
    let rows = rows(&edge);
    if rows.is_empty() {
        session.printer.say(format!("the edge passes requests on to {app}, and does no more"));
    }
    table(&rows).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

fn rows(edge: &Edge) -> Vec<Vec<String>> {
    let (set, file) = (flat(&edge.settings), flat(&edge.app_file));
    let has = |all: &[(String, String)], name: &str| all.iter().any(|(own, _)| own == name);
    let mut rows: Vec<Vec<String>> = flat(&edge.effective)
        .into_iter()
        .map(|(name, value)| {
            let source = match (has(&set, &name), has(&file, &name)) {
                (false, true) => "(app file)",
                (true, true) if name.starts_with("access.") => "(and app file)",
                (true | false, _) => "",
            };
            vec![name, value, source.to_owned()]
        })
        .collect();
    if !edge.visitors.is_empty() {
        let names: Vec<&str> = edge.visitors.iter().map(|visitor| visitor.name.as_str()).collect();
        rows.push(vec!["visitors".to_owned(), names.join(", "), String::new()]);
    }
    rows
}

/// `cors.origins` and its value, for each that is there.
fn flat(fields: &Map<String, Value>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Object(inner) => {
                let inner = flat(inner).into_iter();
                all.extend(inner.map(|(own, value)| (format!("{name}.{own}"), value)));
            }
            other => all.push((name.clone(), plain(other))),
        }
    }
    all
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "(taken off)".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

pub(super) async fn set(session: &Session, args: &SetArgs) -> Result<(), Failure> {
    let mut patch = Map::new();
    for text in &args.settings {
        let Some((name, value)) = text.split_once('=') else {
            let what = format!("`{text}` is not a setting: a name, `=`, and a value");
            let problem = Problem::new(Code::BadInput, what);
            return Err(problem.next("wharf edge:set compress=true").into());
        };
        put(&mut patch, name, read(name, value)?);
    }
    send(session, patch, args.json, "Setting").await
}

pub(super) async fn unset(session: &Session, args: &UnsetArgs) -> Result<(), Failure> {
    let mut patch = Map::new();
    for name in &args.settings {
        if !GROUPS.contains(&name.as_str()) {
            kind(name)?;
        }
        put(&mut patch, name, Value::Null);
    }
    send(session, patch, args.json, "Taking back").await
}

async fn send(
    session: &Session,
    patch: Map<String, Value>,
    json: Json,
    doing: &str,
) -> Result<(), Failure> {
    let app = session.app(None).await?;
    session.printer.begin(&format!("{doing} what the edge does for {app}"));
    let path = format!("/wharf/apps/{app}/edge");
    let reply = session.client.call(Method::PATCH, &path, Some(&patch)).await?;
    session.printer.end("done");
    if json.json {
        session.printer.json(&reply.read::<Value>()?);
    } else {
        table(&rows(&reply.read()?)).iter().for_each(|line| session.printer.data(line));
    }
    Ok(())
}

/// How the value of a setting is written; a header's is text.
fn kind(name: &str) -> Result<Kind, Problem> {
    if let Some((_, kind)) = SETTINGS.iter().find(|(own, _)| *own == name) {
        return Ok(*kind);
    }
    if name.strip_prefix("headers.").is_some_and(|header| !header.is_empty()) {
        return Ok(Kind::Text);
    }
    let problem = Problem::new(Code::BadInput, format!("there is no setting `{name}`"));
    if name.starts_with("access") {
        return Err(problem.next("wharf access:allow, wharf access:deny, wharf access:remove"));
    }
    let groups: BTreeSet<&str> = SETTINGS
        .iter()
        .filter_map(|(own, _)| own.split_once('.'))
        .map(|(group, _)| group)
        .collect();
    let near = |own: &&(&str, Kind)| match own.0.split_once('.') {
        Some((group, last)) => name.ends_with(last) || name.starts_with(group),
        None => name.starts_with(own.0) || own.0.starts_with(name),
    };
    let mut near: Vec<&str> = SETTINGS.iter().filter(near).map(|(own, _)| *own).collect();
    if near.is_empty() {
        near = SETTINGS.iter().map(|(own, _)| *own).filter(|own| !own.contains('.')).collect();
        near.extend(groups);
    }
    Err(problem.why(format!("there is {}, and headers.NAME", near.join(", "))))
}

fn read(name: &str, value: &str) -> Result<Value, Problem> {
    let wrong = |rule: &str| {
        let what = format!("`{value}` is not a value of `{name}`: {rule}");
        Err(Problem::new(Code::BadInput, what).still("nothing was changed"))
    };
    match kind(name)? {
        Kind::Switch => match value {
            "true" | "on" | "yes" => Ok(true.into()),
            "false" | "off" | "no" => Ok(false.into()),
            _ => wrong("`true` or `false`"),
        },
        Kind::Number => match value.parse::<u32>() {
            Ok(number) => Ok(number.into()),
            Err(_) => wrong("a whole number"),
        },
        Kind::Text => Ok(value.into()),
        Kind::List => {
            let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(Value::from).collect())
        }
    }
}

/// Puts a value where its name says: `cors.origins` into `cors`.
fn put(patch: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            patch.insert(name.to_owned(), value);
        }
        Some((group, rest)) => {
            let group = patch.entry(group).or_insert_with(|| Map::new().into());
            if let Some(group) = group.as_object_mut() {
                group.insert(rest.to_owned(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_their_kind() {
        let mut patch = Map::new();
        for (name, value) in [
            ("compress", "on"),
            ("cors.origins", "https://a.example, https://b.example"),
            ("auth.paths", ""),
            ("rate.client", "off"),
            ("rate.client_burst", "5"),
            ("headers.X.y", "a=b"),
        ] {
            put(&mut patch, name, read(name, value).unwrap());
        }
        insta::assert_snapshot!(Value::from(patch), @r#"
        {"auth":{"paths":[]},"compress":true,"cors":{"origins":["https://a.example","https://b.example"]},"headers":{"X.y":"a=b"},"rate":{"client":"off","client_burst":5}}
        "#);
        // What the command line knows is what the app file knows.
        for (name, kind) in SETTINGS {
            let value = match kind {
                Kind::Switch => true.into(),
                Kind::Number => 5.into(),
                Kind::Text if name.ends_with("age") => "5s".into(),
                Kind::Text if name.starts_with("rate") && *name != "rate.key" => "5/s".into(),
                Kind::Text => "x".into(),
                Kind::List => Value::Array(Vec::new()),
            };
            let mut patch = Map::new();
            put(&mut patch, name, value);
            let read: Result<model::manifest::edge::EdgeFile, _> =
                serde_json::from_value(patch.into());
            assert!(read.is_ok(), "{name}: {read:?}");
        }
    }

    #[test]
    fn a_slip_is_told() {
        let mut shown = String::new();
        for (name, value) in [
            ("compress", "maybe"),
            ("rate.client_burst", "x"),
            ("origins", "x"),
            ("cors", "x"),
            ("compres", "true"),
            ("access.allow", "1.2.3.4"),
            ("zip", "x"),
        ] {
            let problem = read(name, value).unwrap_err();
            shown += &format!("{} | {}\n", problem.what, problem.why.unwrap_or_default());
        }
        insta::assert_snapshot!(shown, @r"
        `maybe` is not a value of `compress`: `true` or `false` | 
        `x` is not a value of `rate.client_burst`: a whole number | 
        there is no setting `origins` | there is cors.origins, and headers.NAME
        there is no setting `cors` | there is cors.origins, cors.methods, cors.headers, cors.expose, cors.credentials, cors.max_age, and headers.NAME
        there is no setting `compres` | there is compress, compress_types, compress_from, and headers.NAME
        there is no setting `access.allow` | 
        there is no setting `zip` | there is compress, compress_types, compress_from, secure_headers, auth, cors, rate, and headers.NAME
        ");
    }
}
