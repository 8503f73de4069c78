//! `POST /apps/{app}/dynos`: a command in a container of its own; `/wharf/apps/{app}/exec`: one inside a
//! replica. Attached ones begin when somebody comes to the address they are given here.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use http::StatusCode;
use jiff::Timestamp;
use model::app::App;
use model::name::ProcessType;
use model::problem::{Code, Problem};
use model::size::ByteSize;

use super::answer::{Answer, json};
use super::attach::{Wanted, What};
use super::encode::{app_ref, release_ref, size};
use super::request::Input;
use super::router::Base;
use super::sessions::Sessions;
use crate::api::dyno::{CreateDyno, CreateExec, Dyno, Exec, command_line};
use crate::apps::lookup;
use crate::context::Context;
use crate::deploy::one_off::{Command, Order, Ordered};
use crate::deploy::streams::{Kind, TerminalSize};

pub(super) async fn create(
    State(context): State<Context>,
    Extension(sessions): Extension<Sessions<Wanted>>,
    base: Base,
    Path(key): Path<String>,
    Input(input): Input<CreateDyno>,
) -> Answer {
    let app = lookup::app(&context, &key).await?;
    let (is_attached, kind) = (input.attach, kind(!input.force_no_tty, &input.env));
    let ordered = context.deploys.order(app.id, order(input)?).await?;
    let mut dyno = described(&app, &ordered);
    if is_attached {
        let what = What::Run(Box::new(ordered));
        let id = sessions.put(Wanted { app: app.id, what, kind });
        dyno.attach_url = Some(format!("{}/wharf/attach/{id}", base.as_str()));
    } else {
        context.deploys.run_detached(ordered).await?;
    }
    Ok(json(StatusCode::CREATED, &dyno))
}

pub(super) async fn exec(
    State(context): State<Context>,
    Extension(sessions): Extension<Sessions<Wanted>>,
    base: Base,
    Path(key): Path<String>,
    Input(input): Input<CreateExec>,
) -> Answer {
    if input.command.is_empty() {
        return Err(no_command().into());
    }
    let app = lookup::app(&context, &key).await?;
    let name = input.dyno.as_deref().unwrap_or("web");
    let name = context.deploys.running_replica(app.id, name).await?;
    let kind = kind(input.tty, &input.env);
    let command = Command { line: command_line(&input.command), env: input.env };
    let what = What::Exec { replica: name.clone(), command };
    let id = sessions.put(Wanted { app: app.id, what, kind });
    let attach_url = format!("{}/wharf/attach/{id}", base.as_str());
    Ok(json(StatusCode::CREATED, &Exec { id, dyno: name, attach_url }))
}

fn order(input: CreateDyno) -> Result<Order, Problem> {
    if input.command.trim().is_empty() {
        return Err(no_command());
    }
    let bad = |what: &str, why: String| {
        Problem::new(Code::BadInput, what).why(why).still("nothing was started")
    };
    let process: Option<ProcessType> = match input.process {
        Some(text) => {
            let parsed = text.parse();
            Some(parsed.map_err(|error: model::name::NameError| {
                bad(&format!("`{text}` is no process type"), error.to_string())
            })?)
        }
        None => None,
    };
    let memory: Option<ByteSize> = match input.size {
        Some(text) => {
            let parsed = text.parse();
            Some(parsed.map_err(|error: model::size::SizeError| {
                bad(&format!("`{text}` is no size"), error.to_string())
            })?)
        }
        None => None,
    };
    Ok(Order {
        command: input.command,
        env: input.env,
        memory,
        process,
        time_to_live: input.time_to_live.map(Duration::from_secs),
    })
}

fn no_command() -> Problem {
    Problem::new(Code::BadInput, "there is nothing to run")
        .why("`command` is empty")
        .still("nothing was started")
}

/// What shall be on the other end of the command: the variables shape a terminal, as on Heroku.
fn kind(is_terminal: bool, env: &BTreeMap<String, String>) -> Kind {
    let number = |key: &str| env.get(key)?.parse().ok().filter(|number| *number > 0);
    let ordinary = TerminalSize::default();
    if !is_terminal {
        return Kind::Pipes;
    }
    Kind::Terminal(TerminalSize {
        columns: number("COLUMNS").unwrap_or(ordinary.columns),
        rows: number("LINES").unwrap_or(ordinary.rows),
    })
}

fn described(app: &App, ordered: &Ordered) -> Dyno {
    let now = Timestamp::now();
    Dyno {
        id: ordered.replica.id,
        name: ordered.replica.name(),
        process: ordered.replica.process.to_string(),
        command: ordered.command.clone(),
        state: "starting".to_owned(),
        size: size(&ordered.limits),
        app: app_ref(app),
        release: release_ref(&ordered.release),
        attach_url: None,
        created_at: now.into(),
        updated_at: now.into(),
    }
}
