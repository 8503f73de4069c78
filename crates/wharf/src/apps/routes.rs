//! Routes of an app: those of its app file, and those it was given.

use jiff::Timestamp;
use model::app::App;
use model::event::Event;
use model::id::RouteId;
use model::manifest::MOST_ROUTES;
use model::problem::{Code, Problem};
use model::route::written::RouteSpec;

use super::{decide, lookup, settled};
use crate::context::Context;
use crate::deploy::release::serving_release;
use crate::store::routes::{self, StoredRoute};
use crate::store::{Tx, domains, events};

/// An app's routes, by where they come from.
#[derive(Debug, Clone)]
pub struct AppRoutes {
    pub app: App,
    /// Given by command; they win over the file's.
    pub given: Vec<StoredRoute>,
    /// Of the release that serves.
    pub file: Vec<RouteSpec>,
}

/// The routes an app has, its own hosts aside.
pub async fn list(context: &Context, key: &str) -> Result<AppRoutes, Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let given = routes::list(tx, app.id)?;
        let release = serving_release(tx, app.id)?;
        let file = release.map(|release| release.shape.routes).unwrap_or_default();
        Ok(Ok(AppRoutes { app, given, file }))
    })
    .await
}

/// Gives an app a route. One that it has already is given back as it is.
pub async fn add(
    context: &Context,
    key: &str,
    spec: RouteSpec,
    user: &str,
) -> Result<(App, StoredRoute), Problem> {
    let now = list(context, key).await?;
    if let Some(same) = now.given.iter().find(|route| route.spec == spec) {
        return Ok((now.app, same.clone()));
    }
    if now.given.len() >= MOST_ROUTES {
        let what = format!("`{}` has {MOST_ROUTES} routes already", now.app.name);
        return Err(Problem::new(Code::BadInput, what).still("nothing was changed"));
    }
    let mut layer: Vec<RouteSpec> = now.given.into_iter().map(|route| route.spec).collect();
    layer.push(spec.clone());
    context.deploys.check_routes(now.app.id, vec![layer, now.file]).await?;
    let route = StoredRoute {
        id: RouteId(uuid::Uuid::new_v4()),
        app: now.app.id,
        spec,
        created_at: Timestamp::now(),
    };
    let (stored, user, app) = (route.clone(), user.to_owned(), now.app.clone());
    decide(context, move |tx| {
        let subject = stored.spec.subject();
        let mut others = routes::list(tx, stored.app)?.into_iter();
        if let Some(other) = others.find(|other| other.spec.subject() == subject) {
            return Ok(Err(had_already(&app, &other)));
        }
        routes::insert(tx, &stored)?;
        let event = Event::RouteAdded { route: subject };
        events::append(tx, Some(stored.app), Some(&user), &event, stored.created_at)?;
        Ok(Ok(()))
    })
    .await?;
    context.deploys.wait_routed(now.app.id).await;
    Ok((now.app, route))
}

/// Takes a route from an app; by its id, or by what it is for.
pub async fn remove(
    context: &Context,
    key: &str,
    wanted: &str,
    user: &str,
) -> Result<(App, StoredRoute), Problem> {
    let (key, wanted, user) = (key.to_owned(), wanted.to_owned(), user.to_owned());
    let now = Timestamp::now();
    let (app, route) = decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let given = routes::list(tx, app.id)?;
        let found = given.iter().find(|route| {
            route.spec.subject() == wanted
                || route.id.to_string() == wanted
                || route.spec.subject() == format!("…{wanted}")
        });
        let Some(route) = found else { return unknown(tx, &app, &given, &wanted) };
        routes::delete(tx, route.id)?;
        let event = Event::RouteRemoved { route: route.spec.subject() };
        events::append(tx, Some(app.id), Some(&user), &event, now)?;
        Ok(Ok((app, route.clone())))
    })
    .await?;
    context.deploys.wait_routed(app.id).await;
    Ok((app, route))
}

fn had_already(app: &App, other: &StoredRoute) -> Problem {
    let subject = other.spec.subject();
    Problem::new(Code::RouteTaken, format!("`{}` has a route for `{subject}` already", app.name))
        .why("two routes for the same requests would contradict each other")
        .still("nothing was changed")
        .next(format!("wharf routes:remove '{subject}' -a {}", app.name))
}

fn unknown<T>(tx: &Tx<'_>, app: &App, given: &[StoredRoute], wanted: &str) -> super::Decision<T> {
    let what = format!("`{}` was not given a route for `{wanted}`", app.name);
    let problem = Problem::new(Code::RouteUnknown, what).still("nothing was changed");
    let file = serving_release(tx, app.id)?.map(|release| release.shape.routes).unwrap_or_default();
    let is_wanted = |subject: String| subject == wanted || subject == format!("…{wanted}");
    let is_host = domains::list(tx, app.id)?.iter().any(|domain| domain.host.as_str() == wanted)
        || wanted.split('.').next() == Some(app.name.as_str());
    let known: Vec<String> = given.iter().map(|route| route.spec.subject()).collect();
    Ok(Err(if file.iter().any(|spec| is_wanted(spec.subject())) {
        problem.why("it is in the app file").next("take it out there, commit and push")
    } else if is_host {
        problem.why("it is one of its hosts").next(format!("wharf domains -a {}", app.name))
    } else {
        match lookup::nearest(wanted, &known) {
            Some(subject) => problem.next(format!("did you mean `{subject}`?")),
            None => problem.next(format!("wharf routes -a {}", app.name)),
        }
    }))
}
