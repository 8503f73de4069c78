//! `/wharf/apps/{app}/links`.

use axum::extract::{Path, State};
use http::StatusCode;
use model::link::{DOMAIN, LinkSpec};
use model::problem::{Code, Problem};

use super::answer::{Answer, json, ok};
use super::auth::Caller;
use super::encode::app_ref;
use super::request::Input;
use crate::api::common::Named;
use crate::api::link::{AddLink, Link, Links};
use crate::api::route::RouteSource;
use crate::apps::links::{self, AppLink, AppLinks};
use crate::context::Context;

pub(super) async fn list(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    ok(&encode(&links::list(&context, &key).await?))
}

pub(super) async fn add(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(body): Input<AddLink>,
) -> Answer {
    let all = links::add(&context, &key, spec(&body)?, &caller.user).await?;
    Ok(json(StatusCode::CREATED, &encode(&all)))
}

pub(super) async fn remove(
    State(context): State<Context>,
    caller: Caller,
    Path((key, wanted)): Path<(String, String)>,
) -> Answer {
    ok(&encode(&links::remove(&context, &key, &wanted, &caller.user).await?))
}

fn spec(body: &AddLink) -> Result<LinkSpec, Problem> {
    fn read<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
        text.parse().map_err(|error: T::Err| {
            Problem::new(Code::BadInput, error.to_string()).still("nothing was changed")
        })
    }
    let plain = LinkSpec::to(read(&body.app)?);
    Ok(LinkSpec {
        process: body.process.as_deref().map_or(Ok(plain.process), read)?,
        name: body.name.as_deref().map_or(Ok(plain.name), read)?,
        ports: body.ports.iter().map(|port| read(port)).collect::<Result<_, _>>()?,
        app: plain.app,
    })
}

fn encode(all: &AppLinks) -> Links {
    Links {
        app: app_ref(&all.app),
        links: all.uses.iter().map(encode_one).collect(),
        used_by: all.used_by.iter().map(app_ref).collect(),
    }
}

fn encode_one(one: &AppLink) -> Link {
    let spec = &one.link.spec;
    Link {
        name: spec.name.to_string(),
        host: format!("{}.{DOMAIN}", spec.name),
        address: one.address,
        to: one.link.to.map(|id| Named { id: id.0, name: spec.app.to_string() }),
        to_name: spec.app.to_string(),
        process: spec.process.to_string(),
        ports: spec.ports.iter().map(ToString::to_string).collect(),
        open: one.open.clone(),
        answering: one.answering,
        source: if one.link.is_given { RouteSource::Settings } else { RouteSource::AppFile },
    }
}
