//! `https`, `https:set`.

use http::Method;
use model::problem::{Code, Problem};

use super::Failure;
use super::session::{AppArg, Json, Session};
use crate::api::certificate::{Hsts, Https, UpdateHttps};

/// Show what the app wants of HTTPS
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf https\n  wharf https shop --json")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Change it; the next request goes by it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf https:set --redirect 308\n  \
    wharf https:set --hsts 31536000 --subdomains\n  \
    wharf https:set --redirect off --hsts off -a shop")]
pub(super) struct SetArgs {
    /// Send plain requests to HTTPS: 308 (keeps method and body), 301, or off
    #[arg(long, value_parser = ["301", "308", "off"])]
    redirect: Option<String>,
    /// Have browsers come by HTTPS only, for so many seconds; or off
    #[arg(long)]
    hsts: Option<String>,
    /// Also on every name below
    #[arg(long, requires = "hsts")]
    subdomains: bool,
    /// Allow it to be built into browsers
    #[arg(long, requires_all = ["hsts", "subdomains"])]
    preload: bool,
    #[command(flatten)]
    json: Json,
}

pub(super) async fn show(session: &Session, args: &ShowArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/https");
    if let Some(https) = session.read::<Https>(&path, args.json).await? {
        print(session, &https);
    }
    Ok(())
}

pub(super) async fn set(session: &Session, args: &SetArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let body = UpdateHttps {
        redirect: args.redirect.as_deref().map(|text| text.parse().ok()),
        hsts: args.hsts.as_deref().map(|text| hsts(args, text)).transpose()?,
    };
    if body == UpdateHttps::default() {
        let problem = Problem::new(Code::BadInput, "nothing to change was given");
        return Err(problem.next("wharf https:set --redirect 308").into());
    }
    session.printer.begin(&format!("Changing HTTPS of {app}"));
    let path = format!("/wharf/apps/{app}/https");
    let reply = session.client.call(Method::PATCH, &path, Some(&body)).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    } else {
        print(session, &reply.read()?);
    }
    Ok(())
}

fn hsts(args: &SetArgs, text: &str) -> Result<Option<Hsts>, Problem> {
    if text == "off" {
        return Ok(None);
    }
    let max_age = text.parse().map_err(|_| {
        Problem::new(Code::BadInput, format!("`{text}` is neither seconds nor `off`"))
            .next("a year is 31536000: wharf https:set --hsts 31536000")
    })?;
    let (include_subdomains, preload) = (args.subdomains, args.preload);
    Ok(Some(Hsts { max_age, include_subdomains, preload }))
}

fn print(session: &Session, https: &Https) {
    let redirect = https.redirect.map_or("off".to_owned(), |status| status.to_string());
    session.printer.data(format!("redirect: {redirect}"));
    let hsts = https.hsts.map_or("off".to_owned(), |hsts| {
        let mut text = format!("{} s", hsts.max_age);
        if hsts.include_subdomains {
            text.push_str(", with subdomains");
        }
        if hsts.preload {
            text.push_str(", preload");
        }
        text
    });
    session.printer.data(format!("hsts:     {hsts}"));
}
