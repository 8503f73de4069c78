//! What the edge does for an app: said in its app file, or set by command over that; and the visitors
//! who get in by password.

use jiff::Timestamp;
use model::address::AddressRange;
use model::app::App;
use model::event::Event;
use model::manifest::edge::EdgeFile;
use model::name::VisitorName;
use model::problem::{Code, Problem};
use serde_json::Value;

use super::{decide, lookup, settled};
use crate::context::Context;
use crate::deploy::release::serving_release;
use crate::secrets::hash_password;
use crate::store::edge::{self, Visitor};
use crate::store::{StoreError, Tx, events};

/// So many visitors one app may have, and so many address ranges by command.
const MOST: usize = 1000;

/// The longest that what was set by command may be, as JSON.
const LONGEST: usize = 64 * 1024;

/// An app's settings, by where they come from.
#[derive(Debug, Clone)]
pub struct AppEdge {
    pub app: App,
    /// Set by command; they win over the file's.
    pub settings: EdgeFile,
    /// Of the release that serves.
    pub file: EdgeFile,
    pub visitors: Vec<Visitor>,
}

/// Ranges that are let in or kept out from now on, and those of which neither is said any more.
#[derive(Debug, Clone, Default)]
pub struct AccessChange {
    pub allow: Vec<AddressRange>,
    pub deny: Vec<AddressRange>,
    pub remove: Vec<AddressRange>,
}

/// What holds of an app's edge, and why.
pub async fn show(context: &Context, key: &str) -> Result<AppEdge, Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        Ok(Ok(read(tx, app)?))
    })
    .await
}

fn read(tx: &Tx<'_>, app: App) -> Result<AppEdge, StoreError> {
    let settings = edge::settings(tx, app.id)?;
    let file = serving_release(tx, app.id)?.map(|release| release.shape.edge).unwrap_or_default();
    let visitors = edge::visitors(tx, app.id)?;
    Ok(AppEdge { app, settings, file, visitors })
}

/// Changes what was set by command, as a JSON merge patch (RFC 7396): null takes back to the app file.
pub async fn set(
    context: &Context,
    key: &str,
    patch: Value,
    user: &str,
) -> Result<AppEdge, Problem> {
    change(context, key, user, move |before| {
        let mut value = serde_json::to_value(before).unwrap_or_default();
        merge(&mut value, lower_headers(patch));
        serde_json::from_value(value).map_err(|error| refused(error.to_string()))
    })
    .await
}

/// Lets address ranges in, keeps them out, or says neither of them any more.
pub async fn change_access(
    context: &Context,
    key: &str,
    wanted: AccessChange,
    user: &str,
) -> Result<AppEdge, Problem> {
    let file = show(context, key).await?.file;
    change(context, key, user, move |before| {
        let mut after = before.clone();
        for range in &wanted.remove {
            let was_there = after.access.allow.remove(range) | after.access.deny.remove(range);
            if !was_there {
                return Err(not_said(range, &file));
            }
        }
        after.access.deny.retain(|range| !wanted.allow.contains(range));
        after.access.allow.retain(|range| !wanted.deny.contains(range));
        after.access.allow.extend(&wanted.allow);
        after.access.deny.extend(&wanted.deny);
        Ok(after)
    })
    .await
}

fn not_said(range: &AddressRange, file: &EdgeFile) -> Problem {
    let what = format!("nothing was said of `{range}` by command");
    let problem = Problem::new(Code::NotFound, what).still("nothing was changed");
    if file.access.allow.contains(range) || file.access.deny.contains(range) {
        problem.why("it is in the app file").next("take it out there, commit and push")
    } else {
        problem.next("wharf access")
    }
}

/// Decides on new settings and stores them; the next request goes by them.
async fn change(
    context: &Context,
    key: &str,
    user: &str,
    next: impl FnOnce(&EdgeFile) -> Result<EdgeFile, Problem> + Send + 'static,
) -> Result<AppEdge, Problem> {
    let (key, user) = (key.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let changed = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let before = read(tx, app)?;
        let settings = settled!(next(&before.settings).and_then(|next| {
            let is_checked = next.over(&before.file).check();
            is_checked.map_err(refused)?;
            within(&next)?;
            Ok(next)
        }));
        if settings != before.settings {
            edge::set(tx, before.app.id, &settings)?;
            let event = Event::EdgeChanged { settings: Box::new(settings.clone()) };
            events::append(tx, Some(before.app.id), Some(&user), &event, now)?;
        }
        Ok(Ok(AppEdge { settings, ..before }))
    })
    .await?;
    context.deploys.wait_routed(changed.app.id).await;
    Ok(changed)
}

fn within(settings: &EdgeFile) -> Result<(), Problem> {
    let length = serde_json::to_string(settings).map_or(usize::MAX, |text| text.len());
    let ranges = settings.access.allow.len() + settings.access.deny.len();
    if length <= LONGEST && ranges <= MOST {
        return Ok(());
    }
    Err(refused(format!("at most {MOST} address ranges, and {LONGEST} characters in all")))
}

fn refused(why: String) -> Problem {
    Problem::new(Code::BadInput, "the edge cannot be set like this")
        .why(why)
        .still("nothing was changed")
        .next("the fields are those of the app file: see docs/manual/edge.md")
}

/// Puts a patch over a value.
fn merge(value: &mut Value, patch: Value) {
    let Value::Object(fields) = patch else {
        *value = patch;
        return;
    };
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
    }
    let Some(object) = value.as_object_mut() else { return };
    for (name, field) in fields {
        if field.is_null() {
            object.remove(&name);
        } else {
            merge(object.entry(name).or_insert(Value::Null), field);
        }
    }
}

/// Header names are stored in lower case, and are to be found again in any.
fn lower_headers(mut patch: Value) -> Value {
    if let Some(Value::Object(headers)) = patch.get_mut("headers") {
        let lower = |(name, value): (String, Value)| (name.to_ascii_lowercase(), value);
        *headers = std::mem::take(headers).into_iter().map(lower).collect();
    }
    patch
}

/// Gives somebody a password, or another one.
pub async fn put_visitor(
    context: &Context,
    key: &str,
    name: VisitorName,
    password: String,
    user: &str,
) -> Result<(App, Visitor), Problem> {
    // An unknown app is told of before the work of a hash.
    lookup::app(context, key).await?;
    let (key, user) = (key.to_owned(), user.to_owned());
    let created_at = Timestamp::now();
    let hash = tokio::task::spawn_blocking(move || hash_password(&password)).await;
    let hash = hash.ok().flatten().ok_or_else(|| {
        Problem::new(Code::BadInput, "that is no password")
            .why("8 to 256 characters, none of them a control character")
            .still("nothing was changed")
    })?;
    let (app, visitor) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let others = edge::visitors(tx, app.id)?;
        let known = others.iter().find(|other| other.name == name);
        if known.is_none() && others.len() >= MOST {
            let what = format!("`{}` has {MOST} visitors already", app.name);
            return Ok(Err(Problem::new(Code::BadInput, what).still("nothing was changed")));
        }
        let created_at = known.map_or(created_at, |known| known.created_at);
        let visitor = Visitor { name, hash, created_at };
        edge::put_visitor(tx, app.id, &visitor)?;
        let event = Event::VisitorAdded { visitor: visitor.name.clone() };
        events::append(tx, Some(app.id), Some(&user), &event, Timestamp::now())?;
        Ok(Ok((app, visitor)))
    })
    .await?;
    context.deploys.wait_routed(app.id).await;
    Ok((app, visitor))
}

/// Takes somebody's password away.
pub async fn remove_visitor(
    context: &Context,
    key: &str,
    name: &str,
    user: &str,
) -> Result<(App, Visitor), Problem> {
    let (key, name, user) = (key.to_owned(), name.to_owned(), user.to_owned());
    let (app, visitor) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let all = edge::visitors(tx, app.id)?;
        let Some(visitor) = all.iter().find(|one| one.name.as_str() == name) else {
            let what = format!("`{}` has no visitor `{name}`", app.name);
            let problem = Problem::new(Code::NotFound, what).still("nothing was changed");
            let known: Vec<String> = all.iter().map(|one| one.name.to_string()).collect();
            return Ok(Err(match lookup::nearest(&name, &known) {
                Some(near) => problem.next(format!("did you mean `{near}`?")),
                None => problem.next(format!("wharf visitors -a {}", app.name)),
            }));
        };
        edge::delete_visitor(tx, app.id, &visitor.name)?;
        let event = Event::VisitorRemoved { visitor: visitor.name.clone() };
        events::append(tx, Some(app.id), Some(&user), &event, Timestamp::now())?;
        Ok(Ok((app, visitor.clone())))
    })
    .await?;
    context.deploys.wait_routed(app.id).await;
    Ok((app, visitor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_changes_what_it_names() {
        let mut value = json!({"compress": true, "headers": {"a": "1", "b": "2"}});
        let patch = json!({"compress": null, "headers": {"A": "3", "B": null, "c": ""},
                           "cors": {"origins": ["*"], "max_age": null}});
        merge(&mut value, lower_headers(patch));
        assert_eq!(value, json!({"headers": {"a": "3", "c": ""}, "cors": {"origins": ["*"]}}));
        merge(&mut value, json!({"headers": null, "cors": null}));
        assert_eq!(value, json!({}));
    }
}
