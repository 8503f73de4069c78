//! One request, put together from all that was written of it: the edge's line, what its app printed with
//! its id, and what happened to the replicas it went to around that time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::app::App;
use model::name::AppName;
use model::problem::{Code, Problem};

use super::decide;
use crate::api::trace::{Trace, TraceLine, TracedRequest, Try};
use crate::context::Context;
use crate::logs::search::{self, Search};
use crate::logs::{Line, Places, Source};
use crate::store::apps;

/// A request that just ended is in the log after so long, at most so many times over.
const FLUSHED_AFTER: Duration = Duration::from_millis(150);
const LOOKS: usize = 4;
/// What happened to a replica this long before and after a request may have to do with it.
const AROUND: SignedDuration = SignedDuration::from_secs(30);
/// The proxy's clock and that of a replica's log are read one after the other.
const BEFORE: SignedDuration = SignedDuration::from_millis(100);
/// No more requests of one id, and no more lines of one file.
const MOST_REQUESTS: usize = 20;
const MOST_LINES: usize = 200;

/// Where a request may have been written down.
struct Place {
    app: Option<(AppName, Places)>,
    requests: PathBuf,
}

/// All that is known of the requests with that id; only those of one app where one is given.
pub async fn find(context: &Context, id: &str, app: Option<App>) -> Result<Trace, Problem> {
    check(id)?;
    let places = places(context, app).await?;
    for look in 1..=LOOKS {
        let (wanted, places) = (id.to_owned(), places.clone());
        let found = tokio::task::spawn_blocking(move || look_for(&wanted, &places)).await;
        let found = found.map_err(|error| unreadable(&error))?;
        let requests = found.map_err(|error| unreadable(&error))?;
        if !requests.is_empty() {
            return Ok(Trace { request_id: id.to_owned(), requests });
        }
        if look < LOOKS {
            tokio::time::sleep(FLUSHED_AFTER).await;
        }
    }
    Err(Problem::new(Code::NotFound, format!("no request with the id `{id}` is in the log"))
        .why("it is still under way, or so old that its log was removed, or never came here")
        .next("wharf logs -p router"))
}

/// What the edge takes for an id, and gives.
fn check(id: &str) -> Result<(), Problem> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._+/=-".contains(&byte);
    if (20..=200).contains(&id.len()) && id.bytes().all(is_letter) {
        return Ok(());
    }
    Err(Problem::new(Code::BadInput, format!("`{id}` is no request id"))
        .why("an id has 20 to 200 of the characters A-Z a-z 0-9 . _ + / = -")
        .next("it is in the answer's header X-Request-ID, on the error page and in `wharf logs`"))
}

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Problem {
    tracing::error!(error, "a log cannot be searched");
    Problem::new(Code::Internal, "the logs could not be searched").why(error.to_string())
}

async fn places(context: &Context, app: Option<App>) -> Result<std::sync::Arc<[Place]>, Problem> {
    let is_of_one = app.is_some();
    let all = match app {
        Some(app) => vec![app],
        None => decide(context, |tx| Ok(Ok(apps::list(tx)?))).await?,
    };
    let edge = context.config.request_log_dir().join("edge.log");
    let edge = (!is_of_one).then_some(Place { app: None, requests: edge });
    let own = all.into_iter().map(|app| {
        let places = context.logs.places(app.id);
        Place { requests: places.requests.clone(), app: Some((app.name, places)) }
    });
    Ok(own.chain(edge).collect())
}

fn look_for(id: &str, places: &[Place]) -> std::io::Result<Vec<TracedRequest>> {
    let search =
        Search { text: id.to_owned(), from: born_at(id), until: None, most: MOST_REQUESTS };
    let mut requests = Vec::new();
    for place in places {
        for line in search::requests(&place.requests, &search)? {
            let edge = fields(&line.text);
            if edge.get("request_id").map(String::as_str) == Some(id) {
                requests.push(put_together(id, place, line.at, edge)?);
            }
        }
    }
    requests.sort_by_key(|request| request.began_at);
    Ok(requests)
}

/// When an id of ours was made, and a little before: nothing of it was written earlier (UUID v7).
fn born_at(id: &str) -> Option<Timestamp> {
    let id = id.parse::<uuid::Uuid>().ok().filter(|id| id.get_version_num() == 7)?;
    let millis = id.as_bytes()[..6].iter().fold(0_i64, |sum, byte| (sum << 8) | i64::from(*byte));
    Timestamp::from_millisecond(millis).ok()?.checked_sub(SignedDuration::from_secs(1)).ok()
}

fn put_together(
    id: &str,
    place: &Place,
    ended_at: Timestamp,
    edge: BTreeMap<String, String>,
) -> std::io::Result<TracedRequest> {
    let parts = ["connect", "service"].map(|name| millis(&edge, name));
    // Waiting is part of the service time; what is cut off of two whole milliseconds is put back.
    let took = SignedDuration::from_millis(parts[0] + parts[1] + 2);
    let began_at = ended_at.checked_sub(took).unwrap_or(ended_at);
    let tries = tries(&edge);
    let mut lines = Vec::new();
    if let Some((_, places)) = &place.app {
        let printed = Search {
            text: id.to_owned(),
            from: began_at.checked_sub(BEFORE).ok(),
            until: None,
            most: MOST_LINES,
        };
        lines = search::said(places, &printed)?;
        let happened = Search {
            text: String::new(),
            from: began_at.checked_sub(AROUND).ok(),
            until: ended_at.checked_add(AROUND).ok(),
            most: MOST_LINES,
        };
        let is_of_it = |line: &Line| {
            line.source == Source::Wharf
                && (tries.iter().any(|own| own.replica == line.who) || line.who == "deploy")
        };
        let wharf = search::wharf(places, &happened)?;
        lines.extend(wharf.into_iter().filter(is_of_it));
        lines.sort_by_key(|line| line.at);
        lines.dedup();
    }
    Ok(TracedRequest {
        app: place.app.as_ref().map(|(name, _)| name.clone()),
        began_at: began_at.into(),
        ended_at: ended_at.into(),
        edge,
        tries,
        lines: lines.into_iter().map(wire).collect(),
    })
}

fn wire(line: Line) -> TraceLine {
    let source = if line.source == Source::App { "app" } else { "wharf" };
    TraceLine { at: line.at.into(), source: source.to_owned(), who: line.who, text: line.text }
}

/// `12ms`, or the number of a JSON line.
fn millis(edge: &BTreeMap<String, String>, name: &str) -> i64 {
    let text = edge.get(name).map(|text| text.trim_end_matches("ms"));
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Those that came to nothing, and the last one.
fn tries(edge: &BTreeMap<String, String>) -> Vec<Try> {
    let failed = edge.get("tried").into_iter().flat_map(|tried| tried.split(", "));
    let mut tries: Vec<Try> = failed
        .filter_map(|one| {
            let mut words = one.split(' ');
            let (replica, outcome, took) = (words.next()?, words.next()?, words.next()?);
            Some(Try {
                replica: replica.to_owned(),
                outcome: outcome.to_owned(),
                took_ms: took.trim_end_matches("ms").parse().ok()?,
            })
        })
        .collect();
    if let (Some(replica), Some(status), true) =
        (edge.get("replica"), edge.get("status"), edge.contains_key("first"))
    {
        tries.push(Try {
            replica: replica.clone(),
            outcome: status.clone(),
            took_ms: u64::try_from(millis(edge, "first")).unwrap_or(0),
        });
    }
    tries
}

/// A request's line by field, from either form.
fn fields(text: &str) -> BTreeMap<String, String> {
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text) {
        let plain = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let name = |name: String| name.strip_suffix("_ms").map(str::to_owned).unwrap_or(name);
        return object.into_iter().map(|(own, value)| (name(own), plain(value))).collect();
    }
    let mut fields = BTreeMap::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = after.find(' ').unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        fields.insert(name.trim_start().to_owned(), value);
        rest = left;
    }
    fields
}

/// A quoted value, and what follows its end.
fn unquote(quoted: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_line_have_the_same_fields() {
        let words = fields("at=info path=\"/a=b \\\"c\" connect=1ms status=200");
        let json =
            fields("{\"at\":\"info\",\"path\":\"/a=b \\\"c\",\"connect_ms\":1,\"status\":200}");
        assert_eq!(words["path"], "/a=b \"c");
        assert_eq!((millis(&words, "connect"), millis(&json, "connect")), (1, 1));
        assert_eq!(words.keys().collect::<Vec<_>>(), json.keys().collect::<Vec<_>>());
    }

    #[test]
    fn tries_are_those_that_failed_and_the_last() {
        let edge = fields(
            "tried=\"web.1 refused 0ms, web.2 503 12ms\" replica=web.3 first=7ms status=200",
        );
        let shown: Vec<_> = tries(&edge)
            .iter()
            .map(|t| format!("{} {} {}", t.replica, t.outcome, t.took_ms))
            .collect();
        assert_eq!(shown, ["web.1 refused 0", "web.2 503 12", "web.3 200 7"]);
        assert!(tries(&fields("tried=\"\" replica=web.1 status=503")).is_empty());
    }

    #[test]
    fn an_id_of_ours_tells_its_age() {
        let at = born_at("019317a0-0000-7000-8000-000000000000").unwrap();
        assert_eq!(at.as_millisecond(), 0x0193_17a0_0000 - 1000);
        assert_eq!(born_at("an-id-of-a-client-of-ours"), None);
        assert!(check("an-id-of-a-client-of-ours").is_ok() && check("short").is_err());
        assert!(check("an-id-of-a-client-of-ours\n").is_err());
    }
}
