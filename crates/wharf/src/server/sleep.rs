//! `/wharf/apps/{app}/sleep`.

use axum::extract::{Path, State};
use model::manifest::render_duration;
use model::problem::{Code, Problem};
use model::sleep::{Said, Time};

use super::answer::{Answer, ok};
use super::auth::Caller;
use super::encode::app_ref;
use super::request::Input;
use crate::api::sleep::{ChangeSleep, Sleep};
use crate::apps::sleep::{self, AppSleep, SaidBy};
use crate::context::Context;

pub(super) async fn show(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    ok(&encode(&sleep::show(&context, &key).await?))
}

pub(super) async fn change(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(body): Input<ChangeSleep>,
) -> Answer {
    let more = Said {
        freeze_after: body.freeze_after.map(read).transpose()?,
        stop_after: body.stop_after.map(read).transpose()?,
        keep_previous: body.keep_previous.map(read).transpose()?,
    };
    if more == Said::default() {
        return Err(Problem::new(Code::BadInput, "that is no change of when it sleeps")
            .why("`freeze_after`, `stop_after` or `keep_previous` is needed")
            .still("nothing was changed")
            .into());
    }
    ok(&encode(&sleep::change(&context, &key, more, &caller.user).await?))
}

pub(super) async fn unset(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
) -> Answer {
    ok(&encode(&sleep::unset(&context, &key, &caller.user).await?))
}

pub(super) async fn wake(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    ok(&encode(&sleep::wake(&context, &key).await?))
}

fn read(text: String) -> Result<Time, Problem> {
    Time::try_from(text).map_err(|error| {
        Problem::new(Code::BadInput, error.to_string())
            .why("it is a whole number and ms, s, m or h, like 15m, or `never`")
            .still("nothing was changed")
    })
}

fn encode(all: &AppSleep) -> Sleep {
    let said_by = match all.said_by {
        SaidBy::Command => "command",
        SaidBy::Both => "both",
        SaidBy::AppFile => "app-file",
        SaidBy::Default => "default",
    };
    Sleep {
        app: app_ref(&all.app),
        freeze_after: all.sleep.freeze_after.map(render_duration),
        stop_after: all.sleep.stop_after.map(render_duration),
        keep_previous: all.sleep.keep_previous.map(render_duration),
        said_by: said_by.to_owned(),
        state: all.state.to_owned(),
    }
}
