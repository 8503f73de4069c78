//! `/wharf/apps/{app}/edge` and `/wharf/apps/{app}/visitors`.

use axum::extract::{Path, State};
use model::address::AddressRange;
use model::manifest::edge::EdgeFile;
use model::name::VisitorName;
use model::problem::{Code, Problem};
use serde_json::{Map, Value};

use super::answer::{Answer, ok};
use super::auth::Caller;
use super::encode::app_ref;
use super::request::Input;
use crate::api::edge::{ChangeAccess, Edge, Password, Visitor};
use crate::apps::edge::{self, AccessChange, AppEdge};
use crate::context::Context;
use crate::store::edge::Visitor as StoredVisitor;

pub(super) async fn show(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    ok(&encode(&edge::show(&context, &key).await?)?)
}

pub(super) async fn set(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    // The fields are checked as the app file's are, unknown ones too.
    Input(patch): Input<Map<String, Value>>,
) -> Answer {
    ok(&encode(&edge::set(&context, &key, patch.into(), &caller.user).await?)?)
}

pub(super) async fn change_access(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<ChangeAccess>,
) -> Answer {
    let ChangeAccess { allow, deny, remove } = input;
    let wanted =
        AccessChange { allow: ranges(&allow)?, deny: ranges(&deny)?, remove: ranges(&remove)? };
    ok(&encode(&edge::change_access(&context, &key, wanted, &caller.user).await?)?)
}

pub(super) async fn visitors(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    let all = edge::show(&context, &key).await?.visitors;
    ok(&all.iter().map(visitor).collect::<Vec<_>>())
}

pub(super) async fn put_visitor(
    State(context): State<Context>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
    Input(input): Input<Password>,
) -> Answer {
    let name: VisitorName = name.parse().map_err(|error: model::name::NameError| {
        Problem::new(Code::BadInput, error.to_string()).still("nothing was changed")
    })?;
    let put = edge::put_visitor(&context, &key, name, input.password, &caller.user).await?;
    ok(&visitor(&put.1))
}

pub(super) async fn remove_visitor(
    State(context): State<Context>,
    caller: Caller,
    Path((key, name)): Path<(String, String)>,
) -> Answer {
    let (_, gone) = edge::remove_visitor(&context, &key, &name, &caller.user).await?;
    ok(&visitor(&gone))
}

fn ranges(texts: &[String]) -> Result<Vec<AddressRange>, Problem> {
    let parse = |text: &String| {
        text.parse().map_err(|error: model::address::AddressRangeError| {
            Problem::new(Code::BadInput, error.to_string())
                .still("nothing was changed")
                .next("wharf access:deny 203.0.113.0/24")
        })
    };
    texts.iter().map(parse).collect()
}

fn visitor(visitor: &StoredVisitor) -> Visitor {
    Visitor { name: visitor.name.to_string(), created_at: visitor.created_at.into() }
}

fn encode(edge: &AppEdge) -> Result<Edge, Problem> {
    Ok(Edge {
        app: app_ref(&edge.app),
        effective: fields(&edge.settings.over(&edge.file))?,
        settings: fields(&edge.settings)?,
        app_file: fields(&edge.file)?,
        visitors: edge.visitors.iter().map(visitor).collect(),
    })
}

fn fields(file: &EdgeFile) -> Result<Map<String, Value>, Problem> {
    match serde_json::to_value(file) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) | Err(_) => Err(Problem::new(Code::Internal, "the settings could not be written")),
    }
}
