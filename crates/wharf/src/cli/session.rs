//! What every command has at hand: the client, the printer, the app that is meant, and the way a change
//! is made and followed to its end.

use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use model::problem::{Code, Problem};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::infer::{self, remotes};
use super::printer::Printer;
use super::settings::{self, File};
use super::{Failure, Global};
use crate::api::app::App;
use crate::api::progress::{self, Item};
use crate::api::{CURRENT_HEADER, DEPLOY_HEADER, RELEASE_HEADER, WARNING_HEADER};
use crate::client::{Client, Reply};

/// Whoever waits longer for what is only looked at is told that something happens.
const LONG: Duration = Duration::from_secs(1);

/// One run of the command line.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) printer: Printer,
    pub(super) client: Client,
    app: Option<String>,
}

/// Whether to wait until a change is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(super) struct Wait {
    /// Do not wait until the change is live
    #[arg(long)]
    pub(super) no_wait: bool,
}

/// An app named in the first place, as in `wharf info shop`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AppArg {
    /// The app [default: the one of this folder's git remote]
    #[arg(value_name = "APP")]
    pub(super) name: Option<String>,
}

/// Print what the API answered, for machines.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Json {
    /// Print the API's JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Whether it is the name of one process, as `web.2`: a type, which has no digit at its end where a version
/// would follow, and a number.
pub(super) fn is_replica(name: &str) -> bool {
    name.split_once('.').is_some_and(|(process, index)| {
        process.parse::<model::name::ProcessType>().is_ok()
            && !process.ends_with(|last: char| last.is_ascii_digit())
            && index.parse::<u32>().is_ok_and(|index| index > 0)
    })
}

impl Session {
    pub(super) fn open(global: &Global) -> Result<Self, Problem> {
        let file = File::read(&File::path())?;
        let has_socket = settings::has_socket();
        let access =
            settings::settle(global.api.as_deref(), global.token.as_deref(), &file, has_socket)?;
        let authorities = std::env::var_os("WHARF_CA").map(PathBuf::from);
        let client = Client::new(access.target, access.token, authorities);
        Ok(Self { printer: Printer::new(), client, app: global.app.clone() })
    }

    /// The app that is meant: named, else `-a`, else of the git remote.
    pub(super) async fn app(&self, named: Option<&AppArg>) -> Result<String, Problem> {
        let named = named.and_then(|arg| arg.name.clone()).or_else(|| self.app.clone());
        let name = match named {
            Some(name) => name,
            None => self.inferred().await?,
        };
        // Checked here too, so that a slip of the pen is no strange path.
        if name.parse::<uuid::Uuid>().is_err() {
            name.parse::<model::name::AppName>().map_err(|error| {
                let problem = Problem::new(Code::BadInput, error.to_string());
                match is_replica(&name) {
                    true => problem.next(format!("a process is named by `--process {name}`")),
                    false => problem,
                }
            })?;
        }
        Ok(name)
    }

    /// The app that was named, first or by `-a`; the git remote is not asked.
    pub(super) fn named<'a>(&'a self, first: Option<&'a str>) -> Option<&'a str> {
        first.or(self.app.as_deref())
    }

    async fn inferred(&self) -> Result<String, Problem> {
        let remotes = remotes().await;
        let named = infer::named_wharf(remotes.as_deref());
        if let Some(name) = named {
            return Ok(name);
        }
        let mut places = infer::places(self.client.target());
        if places.is_empty() && remotes.as_ref().is_some_and(|remotes| !remotes.is_empty()) {
            // A socket has no address a remote could lead to: its daemon says where git finds it.
            let apps: Vec<App> = self.client.get("/apps").await?;
            places = infer::places_of(apps.into_iter().map(|app| app.git_url));
        }
        infer::infer(remotes.as_deref(), &places)
    }

    /// A read that is printed as it came with `--json`; otherwise its value.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        path: &str,
        json: Json,
    ) -> Result<Option<T>, Problem> {
        let value: serde_json::Value = self.patiently(self.client.get(path)).await?;
        self.shown(value, json)
    }

    /// The same for a list of many pages.
    pub(super) async fn read_list<T: DeserializeOwned>(
        &self,
        path: &str,
        json: Json,
    ) -> Result<Option<Vec<T>>, Problem> {
        let values = self.patiently(self.client.list(path)).await?;
        self.shown(values.into(), json)
    }

    /// Waits for an answer; one that takes long is said to be under way.
    async fn patiently<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        match tokio::time::timeout(LONG, answer.as_mut()).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                self.printer.say("The daemon is looking…");
                answer.await
            }
        }
    }

    fn shown<T: DeserializeOwned>(
        &self,
        value: serde_json::Value,
        json: Json,
    ) -> Result<Option<T>, Problem> {
        if json.json {
            self.printer.json(&value);
            return Ok(None);
        }
        serde_json::from_value(value).map(Some).map_err(|error| {
            Problem::new(Code::Internal, "the daemon's answer could not be read")
                .why(error.to_string())
                .next("compare `wharf version` with the daemon's: wharf status")
        })
    }

    /// Makes a change and follows it until it is live or failed.
    pub(super) async fn change(
        &self,
        change: Change<'_, impl Serialize + Sync>,
    ) -> Result<Reply, Failure> {
        self.printer.begin(change.label);
        let body = change.body.as_ref();
        let reply = self.client.call(change.method, &change.path, body).await?;
        self.see_through(reply, change.app, change.wait, change.note).await
    }

    /// Follows a change that was begun, until it is live or failed.
    pub(super) async fn see_through(
        &self,
        reply: Reply,
        app: &str,
        wait: Wait,
        note: &str,
    ) -> Result<Reply, Failure> {
        self.warn(&reply);
        let Some(release) = reply.header(RELEASE_HEADER) else {
            self.printer.end(&format!("nothing to do, it is so already; {}", stays(&reply)));
            return Ok(reply);
        };
        let deploy = reply.header(DEPLOY_HEADER);
        if deploy.is_some() && wait.no_wait {
            self.printer.end(&format!("begun, {release}"));
            return Ok(reply);
        }
        if let Some(deploy) = deploy {
            self.follow(&progress::path(app, deploy)).await?;
        }
        self.printer.end(&format!("done, {release}{note}"));
        Ok(reply)
    }

    /// A change that makes no release: a switch of the app, or of what runs. `how` is how it is now.
    pub(super) async fn switch(
        &self,
        label: &str,
        (method, path): (Method, &str),
        body: Option<&(impl Serialize + Sync)>,
        how: &str,
    ) -> Result<Reply, Problem> {
        self.printer.begin(label);
        let reply = self.client.call(method, path, body).await?;
        self.warn(&reply);
        self.printer.end(&format!("done, {how}; {}", stays(&reply)));
        Ok(reply)
    }

    /// What a person should know about a change that was made.
    pub(super) fn warn(&self, reply: &Reply) {
        if let Some(warning) = reply.headers.get(WARNING_HEADER) {
            let warning = String::from_utf8_lossy(warning.as_bytes());
            self.printer.step(&format!("warning: {warning}"));
        }
    }

    /// Shows a deploy's steps to its end.
    async fn follow(&self, path: &str) -> Result<(), Failure> {
        let mut lines = self.client.stream(path).await?;
        while let Some(line) = lines.next().await? {
            if line.is_empty() {
                continue;
            }
            let item: Item = serde_json::from_str(&line).map_err(|error| {
                Problem::new(Code::Internal, "the deploy's progress could not be read")
                    .why(error.to_string())
            })?;
            match item {
                Item::Line(line) => self.printer.step(&line),
                Item::Live => return Ok(()),
                Item::Failed(problem) => return Err(problem.into()),
            }
        }
        Err(Problem::new(Code::DaemonUnreachable, "the deploy's progress broke off")
            .still("the deploy goes on without you")
            .next("wharf releases")
            .into())
    }
}

/// A call that changes something.
#[derive(Debug)]
pub(super) struct Change<'a, T> {
    pub(super) app: &'a str,
    /// `Restarting shop`
    pub(super) label: &'a str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<T>,
    pub(super) wait: Wait,
    /// Said at the end, after the release.
    pub(super) note: &'a str,
}

/// `the release stays v8`, after a change that made none.
fn stays(reply: &Reply) -> String {
    match reply.header(CURRENT_HEADER) {
        Some(current) => format!("the release stays {current}"),
        None => "there is no release yet".to_owned(),
    }
}

/// A value as one segment of a path, or in a query.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
