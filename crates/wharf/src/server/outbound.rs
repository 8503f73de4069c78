//! `/wharf/apps/{app}/outbound`.

use std::str::FromStr;

use axum::extract::{Path, State};
use model::outbound::Host;
use model::problem::{Code, Problem};

use super::answer::{Answer, ok};
use super::auth::Caller;
use super::encode::app_ref;
use super::request::Input;
use crate::api::outbound::{Allowed, ChangeOutbound, Outbound, Refused};
use crate::apps::outbound::{self, AppOutbound, Change};
use crate::context::Context;

pub(super) async fn show(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    ok(&encode(&outbound::show(&context, &key).await?))
}

pub(super) async fn change(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(body): Input<ChangeOutbound>,
) -> Answer {
    let change = match (body.mode, body.allow.as_slice(), body.remove.as_slice()) {
        (Some(mode), [], []) => Change::Mode(read(&mode)?),
        (None, [_, ..], []) => Change::Allow(read_all(&body.allow)?),
        (None, [], [_, ..]) => Change::Remove(read_all(&body.remove)?),
        _ => {
            return Err(Problem::new(Code::BadInput, "that is no change of what is open")
                .why("one of `mode`, `allow` and `remove` is needed")
                .still("nothing was changed")
                .into());
        }
    };
    ok(&encode(&outbound::change(&context, &key, change, &caller.user).await?))
}

fn read<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error: T::Err| {
        Problem::new(Code::BadInput, error.to_string()).still("nothing was changed")
    })
}

fn read_all<T: FromStr<Err: std::fmt::Display> + Ord, C: FromIterator<T>>(
    texts: &[String],
) -> Result<C, Problem> {
    texts.iter().map(|text| read(text)).collect()
}

fn encode(all: &AppOutbound) -> Outbound {
    let allow = all.said.allow.iter().map(|one| Allowed {
        place: one.to_string(),
        addresses: match &one.host {
            Host::Name(name) => all.found.get(name.as_str()).cloned().unwrap_or_default(),
            Host::Address(address) => vec![*address],
        },
    });
    let refused = all.refused.iter();
    let refused =
        refused.map(|(place, packets)| Refused { place: place.clone(), packets: *packets });
    Outbound {
        app: app_ref(&all.app),
        mode: all.said.mode.as_str().to_owned(),
        allow: allow.collect(),
        refused: refused.collect(),
    }
}
