//! `certs`, `certs:add`, `certs:update`, `certs:info`, `certs:remove`, `certs:trust`.

use std::path::{Path, PathBuf};

use http::Method;
use model::problem::{Code, Problem};

use super::Failure;
use super::session::{AppArg, Json, Session, escape};
use super::table::table;
use crate::api::certificate::{Authority, CertificateOrder, PutSniEndpoint, SniEndpoint};

/// List the certificates
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf certs\n  wharf certs shop --json")]
pub(super) struct ListArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Add a certificate of your own
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf certs:add cert.pem key.pem\n  \
    cat shop.crt intermediate.crt > cert.pem\n  \
    wharf certs:add cert.pem key.pem -a shop")]
pub(super) struct AddArgs {
    /// PEM: the host's own certificate first, then those who signed it
    certificate: PathBuf,
    /// PEM: the private key, without a passphrase
    key: PathBuf,
    #[command(flatten)]
    json: Json,
}

/// Put another certificate in the place of one
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf certs:update new.pem key.pem --name cert-1a2b3c4d")]
pub(super) struct UpdateArgs {
    /// PEM: the host's own certificate first, then those who signed it
    certificate: PathBuf,
    /// PEM: the private key, without a passphrase
    key: PathBuf,
    /// Which one to replace [default: the only one there is]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    json: Json,
}

/// One of the certificates
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf certs:info\n  wharf certs:info cert-1a2b3c4d -a shop\n  \
    wharf certs:remove cert-1a2b3c4d"
)]
pub(super) struct OneArgs {
    /// Its name [default: the only one there is]
    name: Option<String>,
    #[command(flatten)]
    json: Json,
}

/// Tries to get certificates
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf certs:history\n  wharf certs:history shop --json\n  \
    wharf certs:auto:refresh")]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    named: AppArg,
    #[command(flatten)]
    json: Json,
}

/// Print the local authority's certificate, and how to trust it on this machine
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf certs:trust > wharf-authority.pem\n  \
    wharf certs:trust --json")]
pub(super) struct TrustArgs {
    #[command(flatten)]
    json: Json,
}

pub(super) async fn list(session: &Session, args: &ListArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/apps/{app}/sni-endpoints");
    let Some(list) = session.read_list::<SniEndpoint>(&path, args.json).await? else {
        return Ok(());
    };
    if list.is_empty() {
        session.printer.say(format!("{app} has no certificates. To add one: wharf certs:add"));
        return Ok(());
    }
    let head = ["Name", "Domains", "Expires", "Issuer"].map(str::to_owned).to_vec();
    let rows = list.iter().map(|one| {
        let cert = &one.ssl_cert;
        let expires = cert.expires_at.0.strftime("%Y-%m-%d").to_string();
        vec![one.name.clone(), cert.cert_domains.join(","), expires, common_name(&cert.issuer)]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    table(&rows).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

/// What people call an issuer: its common name.
fn common_name(name: &str) -> String {
    let common = name.split(", ").find_map(|part| part.strip_prefix("CN="));
    common.unwrap_or(name).to_owned()
}

fn read(path: &Path) -> Result<String, Problem> {
    std::fs::read_to_string(path).map_err(|error| {
        let what = format!("the file `{}` cannot be read", path.display());
        Problem::new(Code::CertificateUnreadable, what)
            .why(error.to_string())
            .still("nothing was changed")
    })
}

pub(super) async fn add(session: &Session, args: &AddArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let body = PutSniEndpoint {
        certificate_chain: read(&args.certificate)?,
        private_key: read(&args.key)?,
    };
    session.printer.begin(&format!("Adding a certificate to {app}"));
    let path = format!("/apps/{app}/sni-endpoints");
    let reply = session.client.call(Method::POST, &path, Some(&body)).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    } else {
        show(session, &reply.read()?);
    }
    Ok(())
}

pub(super) async fn update(session: &Session, args: &UpdateArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let body = PutSniEndpoint {
        certificate_chain: read(&args.certificate)?,
        private_key: read(&args.key)?,
    };
    let path = path_of_one(session, &app, args.name.as_deref()).await?;
    session.printer.begin(&format!("Replacing a certificate of {app}"));
    let reply = session.client.call(Method::PATCH, &path, Some(&body)).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    } else {
        show(session, &reply.read()?);
    }
    Ok(())
}

/// The named one, or the only one.
async fn path_of_one(session: &Session, app: &str, name: Option<&str>) -> Result<String, Problem> {
    let base = format!("/apps/{app}/sni-endpoints");
    if let Some(name) = name {
        return Ok(format!("{base}/{}", escape(name)));
    }
    let list = session.client.list(&base).await?;
    match list.as_slice() {
        [one] => Ok(format!("{base}/{}", one["id"].as_str().unwrap_or_default())),
        [] => Err(Problem::new(Code::CertificateUnknown, format!("`{app}` has no certificate"))
            .next("wharf certs:add cert.pem key.pem")),
        _ => Err(Problem::new(Code::BadInput, format!("`{app}` has several certificates"))
            .why("none was named")
            .next(format!("wharf certs -a {app}"))),
    }
}

pub(super) async fn info(session: &Session, args: &OneArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = path_of_one(session, &app, args.name.as_deref()).await?;
    if let Some(one) = session.read::<SniEndpoint>(&path, args.json).await? {
        show(session, &one);
    }
    Ok(())
}

pub(super) async fn remove(session: &Session, args: &OneArgs) -> Result<(), Failure> {
    let app = session.app(None).await?;
    let path = path_of_one(session, &app, args.name.as_deref()).await?;
    session.printer.begin(&format!("Removing a certificate from {app}"));
    let reply = session.client.call(Method::DELETE, &path, None::<&()>).await?;
    session.printer.end("done");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    }
    Ok(())
}

pub(super) async fn history(session: &Session, args: &HistoryArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    let path = format!("/wharf/apps/{app}/certificate-orders");
    let Some(list) = session.read::<Vec<CertificateOrder>>(&path, args.json).await? else {
        return Ok(());
    };
    if list.is_empty() {
        session.printer.say(format!("No certificate was ever ordered for {app}."));
        return Ok(());
    }
    let minute = |at: crate::api::common::Time| at.0.strftime("%m-%d %H:%M:%S").to_string();
    let rows = list.iter().map(|one| {
        let phase = format!("{:?}", one.phase).to_lowercase();
        let problem = one.problem.as_ref();
        let why = problem.map(|problem| {
            let why = problem.why.as_ref().unwrap_or(&problem.what);
            format!("{} {why}", problem.code)
        });
        vec![minute(one.created_at), one.hostname.clone(), phase, why.unwrap_or_default()]
    });
    let head = ["Began (UTC)", "Domain", "Phase", "Why"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    table(&rows).iter().for_each(|line| session.printer.data(line));
    Ok(())
}

pub(super) async fn refresh(session: &Session, args: &HistoryArgs) -> Result<(), Failure> {
    let app = session.app(Some(&args.named)).await?;
    session.printer.begin(&format!("Trying again for {app}"));
    let path = format!("/wharf/apps/{app}/certificate-orders");
    let reply = session.client.call(Method::POST, &path, None::<&()>).await?;
    session.printer.end("begun");
    if args.json.json {
        session.printer.json(&reply.read::<serde_json::Value>()?);
    } else {
        session.printer.say("How it goes: wharf certs:history");
    }
    Ok(())
}

fn show(session: &Session, one: &SniEndpoint) {
    let cert = &one.ssl_cert;
    let date = |at: crate::api::common::Time| at.0.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let signed = if cert.is_self_signed { "by itself" } else { "by an authority" };
    session.printer.data(format!("=== {}", one.name));
    let rows = [
        ("Domains:", cert.cert_domains.join(", ")),
        ("Subject:", cert.subject.clone()),
        ("Issuer:", cert.issuer.clone()),
        ("Signed:", signed.to_owned()),
        ("Valid from:", date(cert.starts_at)),
        ("Valid until:", date(cert.expires_at)),
    ];
    let rows: Vec<_> = rows.map(|(name, value)| vec![name.to_owned(), value]).to_vec();
    table(&rows).iter().for_each(|line| session.printer.data(line));
}

pub(super) async fn trust(session: &Session, args: &TrustArgs) -> Result<(), Failure> {
    let Some(authority) = session.read::<Authority>("/wharf/authority", args.json).await? else {
        return Ok(());
    };
    let printer = &session.printer;
    printer.data(authority.certificate.trim_end());
    printer.say(format!("SHA-256 {}", authority.fingerprint));
    printer.say("Whoever trusts it trusts every certificate this Wharf signs for its own hosts.");
    printer.say("Debian, Ubuntu:");
    printer.say("  wharf certs:trust | sudo tee /usr/local/share/ca-certificates/wharf.crt");
    printer.say("  sudo update-ca-certificates");
    printer.say("macOS:");
    printer.say("  wharf certs:trust > wharf.pem");
    printer
        .say("  sudo security add-trusted-cert -d -k /Library/Keychains/System.keychain wharf.pem");
    printer.say("Firefox: Settings, Certificates, Authorities, Import");
    Ok(())
}
