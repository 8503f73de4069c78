//! `sleep`, `sleep:set`, `sleep:off`, `sleep:unset`, `sleep:wake`.

use http::Method;
use model::manifest::parse_duration;
use model::replica::render_span;

use super::Failure;
use super::session::{AppArg, Json, Session};
use crate::api::sleep::{ChangeSleep, Sleep};

/// Show when the app sleeps, and whether it does
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf sleep\n  wharf sleep shop --json")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Say when the app's web sleeps, and for how long the previous release is kept; it holds at once,
/// without a release
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf sleep:set --freeze-after 15m\n  \
                  wharf sleep:set --freeze-after 15m --stop-after 2h\n  \
                  wharf sleep:set --stop-after never\n  \
                  wharf sleep:set --keep-previous 10m   a rollback within that is a thaw")]
#[group(id = "what", required = true, multiple = true)]
pub(super) struct SetArgs {
    /// Its replicas stand still, and answer within a millisecond; or `never`
    #[arg(long, value_name = "TIME", group = "what")]
    freeze_after: Option<String>,
    /// It is stopped, and is started for the next request; or `never`
    #[arg(long, value_name = "TIME", group = "what")]
    stop_after: Option<String>,
    /// After a deploy the release before stays frozen so long, for a quick rollback; or `never`
    #[arg(long, value_name = "TIME", group = "what")]
    keep_previous: Option<String>,
    #[command(flatten)]
    json: Json,
}

/// Have the app never sleep and keep nothing, whatever its app file says
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf sleep:off\n  wharf sleep:off shop")]
pub(super) struct OffArgs {
    #[command(flatten)]
    of: ShowArgs,
}

/// Take back what was said, so that the app file holds again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf sleep:unset")]
pub(super) struct UnsetArgs {
    #[command(flatten)]
    of: ShowArgs,
}

/// Wake the app now, as a visitor would
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf sleep:wake shop")]
pub(super) struct WakeArgs {
    #[command(flatten)]
    of: ShowArgs,
}

pub(super) async fn show(session: &Session, args: &ShowArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/sleep");
    let Some(sleep) = session.read::<Sleep>(&path, args.json).await? else { return Ok(()) };
    for line in lines(&sleep) {
        session.printer.data(line);
    }
    Ok(())
}

fn lines(sleep: &Sleep) -> Vec<String> {
    let by = match sleep.said_by.as_str() {
        "command" => " (by command)",
        "app-file" => " (by the app file)",
        "both" => " (by app file and command)",
        _ => "",
    };
    let mut lines = rules(sleep);
    lines[0].push_str(by);
    lines.push(match sleep.state.as_str() {
        "frozen" => "now: frozen, the next request wakes it".to_owned(),
        "asleep" => "now: asleep (stopped), the next request starts it".to_owned(),
        state => format!("now: {state}"),
    });
    lines
}

/// When it sleeps, and what it keeps, if so.
fn rules(sleep: &Sleep) -> Vec<String> {
    let span = |text: &String| parse_duration(text).map_or_else(|| text.clone(), render_span);
    let freeze = sleep.freeze_after.as_ref().map(|after| format!("frozen after {}", span(after)));
    let stop = sleep.stop_after.as_ref().map(|after| format!("stopped after {}", span(after)));
    let said: Vec<String> = freeze.into_iter().chain(stop).collect();
    let sleeps = match said.is_empty() {
        true => "never sleeps".to_owned(),
        false => format!("{} without a request", said.join(", ")),
    };
    let keeps = |kept: &String| format!("keeps the previous release for {}", span(kept));
    [sleeps].into_iter().chain(sleep.keep_previous.as_ref().map(keeps)).collect()
}

pub(super) async fn set(session: &Session, args: &SetArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let body = ChangeSleep {
        freeze_after: args.freeze_after.clone(),
        stop_after: args.stop_after.clone(),
        keep_previous: args.keep_previous.clone(),
    };
    change(session, &app, (Method::PATCH, Some(body)), args.json).await
}

pub(super) async fn off(session: &Session, args: &OffArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.of.named)).await?;
    let never = || Some("never".to_owned());
    let body = ChangeSleep { freeze_after: never(), stop_after: never(), keep_previous: never() };
    change(session, &app, (Method::PATCH, Some(body)), args.of.json).await
}

pub(super) async fn unset(session: &Session, args: &UnsetArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.of.named)).await?;
    change(session, &app, (Method::DELETE, None), args.of.json).await
}

async fn change(
    session: &Session,
    app: &str,
    (method, body): (Method, Option<ChangeSleep>),
    json: Json,
) -> Result<(), Failure> {
    session.printer.begin(&format!("Changing when {app} sleeps"));
    let path = format!("/wharf/apps/{app}/sleep");
    let reply = session.client.call(method, &path, body.as_ref()).await?;
    session.printer.end(&format!("done\n{}", rules(&reply.read::<Sleep>()?).join("\n")));
    if json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

pub(super) async fn wake(session: &Session, args: &WakeArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.of.named)).await?;
    session.printer.begin(&format!("Waking {app}"));
    let path = format!("/wharf/apps/{app}/sleep/wake");
    let reply = session.client.call(Method::POST, &path, None::<&()>).await?;
    session.printer.end("done");
    if args.of.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_said_in_words() {
        let said = |freeze: Option<&str>, stop: Option<&str>, by: &str, state: &str| {
            let kept = freeze.filter(|_| by == "app-file");
            let sleep = serde_json::json!({
                "app": {"id": uuid::Uuid::nil(), "name": "shop"},
                "freeze_after": freeze, "stop_after": stop, "keep_previous": kept,
                "said_by": by, "state": state,
            });
            lines(&serde_json::from_value(sleep).unwrap()).join("\n")
        };
        insta::assert_snapshot!(said(None, None, "default", "awake"), @r"
        never sleeps
        now: awake
        ");
        insta::assert_snapshot!(said(Some("900s"), Some("7200s"), "command", "frozen"), @r"
        frozen after 15 min, stopped after 2 h without a request (by command)
        now: frozen, the next request wakes it
        ");
        insta::assert_snapshot!(said(None, Some("7200s"), "app-file", "asleep"), @r"
        stopped after 2 h without a request (by the app file)
        now: asleep (stopped), the next request starts it
        ");
        insta::assert_snapshot!(said(Some("600s"), None, "app-file", "awake"), @r"
        frozen after 10 min without a request (by the app file)
        keeps the previous release for 10 min
        now: awake
        ");
    }
}
