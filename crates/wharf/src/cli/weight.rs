//! `ps:weight`.

use std::collections::BTreeMap;

use http::Method;
use model::problem::{Code, Problem};
use model::route::weight::Weight;

use super::Failure;
use super::session::{Json, Session};
use crate::api::app::{UpdateWeights, Weights};

/// Say how much of the requests each replica gets, beside the others
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf ps:weight                  how it is now, to paste back\n  wharf ps:weight web.2=10         a tenth of what an ordinary one gets\n  wharf ps:weight web.2=0          nothing new; what it has may finish\n  wharf ps:weight web.2=default\n\nA weight is 0 to 1000, and 100 without a word. It serves at once, is no release, and stays\nwith the number: the next web.2 has it too. Where all are 0, none counts."
)]
pub(super) struct WeightArgs {
    /// web.2=50, web.2=0 or web.2=default
    #[arg(value_name = "REPLICA=WEIGHT")]
    changes: Vec<String>,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn weight(session: &Session, args: &WeightArgs) -> Result<(), Failure> {
    let changes = args.changes.iter().map(|text| parse(text)).collect::<Result<_, Problem>>()?;
    let app = session.app(None).await?;
    let path = format!("/wharf/apps/{app}/weights");
    let now: Weights = if args.changes.is_empty() {
        session.client.get(&path).await?
    } else {
        session.printer.begin(&format!("Sharing the requests of {app}"));
        let body: UpdateWeights = changes;
        let reply = session.client.call(Method::PATCH, &path, Some(&body)).await?;
        let now: Weights = reply.read()?;
        session.printer.end(&format!("done: {}", pasteable(&now.weights)));
        now
    };
    if args.json.json {
        session.printer.json(&now);
    } else if args.changes.is_empty() && now.weights.is_empty() {
        session.printer.say("There is no web replica.");
    } else if args.changes.is_empty() {
        session.printer.data(pasteable(&now.weights));
    }
    Ok(())
}

fn pasteable(weights: &BTreeMap<String, Weight>) -> String {
    let mut all: Vec<_> = weights.iter().collect();
    // `web.10` comes after `web.9`.
    all.sort_by_key(|(name, _)| (name.len(), (*name).clone()));
    all.iter().map(|(name, weight)| format!("{name}={weight}")).collect::<Vec<_>>().join(" ")
}

/// Reads `web.2=50`.
fn parse(text: &str) -> Result<(String, Option<Weight>), Problem> {
    let broken = |why: String| {
        Problem::new(Code::BadInput, format!("`{text}` is no weight of a replica"))
            .why(why)
            .still("nothing was changed")
    };
    match text.split_once('=') {
        Some((name, "default")) if !name.is_empty() => Ok((name.to_owned(), None)),
        Some((name, weight)) if !name.is_empty() => {
            let weight = weight.parse::<Weight>().map_err(|error| broken(error.to_string()))?;
            Ok((name.to_owned(), Some(weight)))
        }
        _ => Err(broken("it is `web.2=50`, `web.2=0` or `web.2=default`".to_owned())),
    }
}
