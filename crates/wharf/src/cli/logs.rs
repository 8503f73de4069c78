//! `logs`.

use http::Method;
use jiff::Timestamp;
use model::problem::{Code, Problem};

use super::Failure;
use super::session::{AppArg, Session};
use super::table::parse_since;
use crate::api::log::{CreateLogSession, LogSession};

/// Show what the app says, and what was done to it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf logs\n  wharf logs -t -p web\n  wharf logs shop -n 500 --since 10m\n  wharf logs -p router     the requests\n  wharf logs --json"
)]
pub(super) struct LogsArgs {
    #[command(flatten)]
    named: AppArg,
    /// Stay and show new lines
    #[arg(short, long, visible_short_alias = 'f', visible_alias = "follow")]
    tail: bool,
    /// How many of the last lines
    #[arg(short = 'n', long = "num", default_value_t = 100, value_name = "LINES")]
    lines: usize,
    /// Only this process (web.1), type (web), or router
    #[arg(short, long, visible_short_alias = 'd', visible_alias = "dyno", value_name = "NAME")]
    process: Option<String>,
    /// Only lines at or after this: 90s, 10m, 2h, 3d or a time
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what the app prints (app) or what Wharf says of it (wharf)
    #[arg(short, long, value_name = "SOURCE")]
    source: Option<String>,
    /// Each line as a JSON object of its own
    #[arg(long)]
    json: bool,
}

pub(super) async fn show(session: &Session, args: &LogsArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let since = args.since.as_deref().map(|text| {
        parse_since(text, Timestamp::now()).ok_or_else(|| {
            Problem::new(Code::BadInput, format!("`{text}` is no time"))
                .why("it is a distance back (90s, 10m, 2h, 3d) or like 2026-11-21T05:00:00Z")
        })
    });
    let is_one = args.process.as_ref().is_some_and(|process| process.contains('.'));
    let (dyno, process) =
        if is_one { (args.process.clone(), None) } else { (None, args.process.clone()) };
    let body = CreateLogSession {
        lines: Some(args.lines),
        tail: args.tail,
        dyno,
        process,
        source: args.source.clone(),
        since: since.transpose()?,
    };
    let path = format!("/apps/{app}/log-sessions");
    let made: LogSession = session.client.call(Method::POST, &path, Some(&body)).await?.read()?;
    let mut lines = session.client.stream(path_of(&made.logplex_url)).await?;
    let mut is_empty = true;
    while let Some(line) = lines.next().await? {
        is_empty = false;
        session.printer.data(if args.json { object(&line).to_string() } else { line });
        if session.printer.is_closed() {
            break;
        }
    }
    let is_all = args.since.is_none() && args.source.is_none() && args.lines > 0;
    if is_empty && is_all && !args.tail {
        // Silence could be a slip of the hand.
        let of = args.process.as_ref().map_or(String::new(), |name| format!(" of `{name}`"));
        session.printer.say(format!("No line{of} is there. What runs: wharf ps -a {app}"));
    }
    Ok(())
}

/// `2026-11-21T05:00:00.000000+00:00 app[web.1]: hello` as an object.
fn object(line: &str) -> serde_json::Value {
    let split = || {
        let (at, rest) = line.split_once(' ')?;
        let (source, rest) = rest.split_once('[')?;
        let (process, text) = rest.split_once("]:")?;
        Some((at, source, process, text.strip_prefix(' ').unwrap_or(text)))
    };
    match split() {
        Some((at, source, process, text)) => serde_json::json!({
            "at": at, "source": source, "process": process, "text": text,
        }),
        None => serde_json::json!({ "text": line }),
    }
}

/// Path and query: the address itself may be one only the daemon's machine knows.
pub(super) fn path_of(url: &str) -> &str {
    let after = url.find("://").map_or(0, |at| at + 3);
    url[after..].find('/').map_or("/", |at| &url[after + at..])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_line_is_an_object() {
        let object = super::object("2026-11-21T05:00:00.000000+00:00 app[web.1]: a ]: b");
        assert_eq!(object["process"], "web.1");
        assert_eq!((&object["source"], &object["text"]), (&"app".into(), &"a ]: b".into()));
        assert_eq!(super::object("odd")["text"], "odd");
    }

    #[test]
    fn only_the_path_of_an_address_is_used() {
        assert_eq!(super::path_of("http://127.0.0.1:7070/wharf/x?y=1"), "/wharf/x?y=1");
        assert_eq!(super::path_of("/wharf/x"), "/wharf/x");
        assert_eq!(super::path_of("http://a"), "/");
    }
}
