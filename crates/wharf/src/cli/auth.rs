//! `auth:login`, `auth:logout`, and git's question for a password.

use std::io::Read;

use model::problem::{Code, Problem};

use super::session::Session;
use super::settings::{self, File};
use super::{Failure, Global, terminal};
use crate::api::account::Account;
use crate::api::status::Status;
use crate::client::{Client, Target};

/// Where a daemon keeps what is its own, unless told otherwise.
const DATA_DIR: &str = "/var/lib/wharf";

/// Store the token for an API
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  wharf auth:login --api https://wharf.example.com\n  ssh root@box cat /var/lib/wharf/token | wharf auth:login --api https://wharf.example.com"
)]
pub(super) struct LoginArgs {}

/// Forget the token for an API
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  wharf auth:logout --api https://wharf.example.com")]
pub(super) struct LogoutArgs {}

/// Answer git's question for a password
#[derive(Debug, clap::Args)]
pub(super) struct CredentialArgs {
    /// get, store or erase: only get is answered
    operation: String,
}

pub(super) async fn login(session: &Session, _: &LoginArgs) -> Result<(), Failure> {
    let target = session.client.target().clone();
    if matches!(target, Target::Unix(_)) {
        session.printer.say("This machine's socket asks for no token. For another: --api <url>");
        return Ok(());
    }
    let token = match session.client.token() {
        Some(token) if is_given() => token.to_owned(),
        _ => ask(session)?,
    };
    session.printer.begin(&format!("Logging in to {target}"));
    let client = Client::new(target.clone(), Some(token.clone()), authorities());
    let account: Account = client.get("/account").await?;
    let path = File::path();
    let mut file = File::read(&path)?;
    file.api = Some(target.to_string());
    file.tokens.insert(target.to_string(), token);
    file.write(&path)?;
    session.printer.end(&format!("done, as {}", account.email));
    Ok(())
}

pub(super) fn logout(session: &Session, _: &LogoutArgs) -> Result<(), Failure> {
    let path = File::path();
    let mut file = File::read(&path)?;
    let target = session.client.target().to_string();
    let was_known = file.tokens.remove(&target).is_some();
    if file.api.as_deref() == Some(target.as_str()) {
        file.api = None;
    }
    file.write(&path)?;
    let word = if was_known { "Forgot the token for" } else { "There was no token for" };
    session.printer.say(format!("{word} {target}"));
    Ok(())
}

fn authorities() -> Option<std::path::PathBuf> {
    std::env::var_os("WHARF_CA").map(Into::into)
}

/// Whether a token came by flag or variable, and not from the file we are about to renew.
fn is_given() -> bool {
    std::env::var_os("WHARF_TOKEN").is_some()
        || std::env::args_os().any(|argument| argument.to_string_lossy().starts_with("--token"))
}

fn ask(session: &Session) -> Result<String, Problem> {
    let question = "Token (as root on that machine: cat /var/lib/wharf/token):";
    let token = terminal::hidden(&session.printer, question);
    token.map_err(|why| Problem::new(Code::TokenWrong, "no token was given").why(why))
}

/// Speaks git's credential protocol: `key=value` lines in, username and password out. Without a token
/// it says nothing, and git asks its person.
pub(super) async fn credential(global: &Global, args: &CredentialArgs) -> Result<(), Problem> {
    if args.operation != "get" {
        return Ok(());
    }
    let mut question = String::new();
    // git does not care for our words here; without an answer it goes on by itself.
    let _ = std::io::stdin().read_to_string(&mut question);
    let file = File::read(&File::path())?;
    let access = settings::settle(global.api.as_deref(), global.token.as_deref(), &file, false)?;
    let token = match access.token {
        Some(token) => Some(token),
        None => first_token(&access.target).await,
    };
    if let Some(token) = token {
        let printer = super::printer::Printer::new();
        printer.data("username=wharf");
        printer.data(format!("password={}", token.trim()));
    }
    Ok(())
}

/// The token a daemon of this machine made at its first start; it lies where root alone can read it.
/// Who has its socket asks it where that is.
async fn first_token(target: &Target) -> Option<String> {
    let data_dir = match target {
        Target::Unix(_) => {
            let client = Client::new(target.clone(), None, None);
            client.get::<Status>("/wharf/status").await.ok()?.data_dir
        }
        Target::Http { host, .. } => {
            let is_local = matches!(host.as_str(), "127.0.0.1" | "localhost" | "[::1]");
            is_local.then(|| DATA_DIR.to_owned())?
        }
    };
    std::fs::read_to_string(std::path::Path::new(&data_dir).join("token")).ok()
}
