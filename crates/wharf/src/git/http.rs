//! Smart HTTP, as git-http-backend(1) does it: two services, each advertised by GET and spoken by
//! POST. The real git does the talking; here is only how its pipes meet the connection.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use super::repository::{git, hook_dir};
use super::spool::Spooled;
use super::{hook, pushes::Ticket};
use crate::config::Config;
use crate::process::{Invocation, ProcessError};
use crate::tasks::Tasks;

/// A pack larger than this is refused, as git sees it and as the body arrives.
pub const LARGEST_PUSH: u64 = 2 << 30;

/// A client that takes nothing for this long is taken for gone; git's output is then thrown away.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// How many pieces of git's output may wait for the client.
const PIECES: usize = 16;

/// The two services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    ReceivePack,
    UploadPack,
}

impl Service {
    /// From `service=git-receive-pack`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "git-receive-pack" => Some(Self::ReceivePack),
            "git-upload-pack" => Some(Self::UploadPack),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::ReceivePack => "receive-pack",
            Self::UploadPack => "upload-pack",
        }
    }

    /// The content type of its advertisement or result.
    pub fn content_type(self, kind: &str) -> String {
        format!("application/x-git-{}-{kind}", self.word())
    }
}

/// One call of one service on one repository.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    pub config: &'a Config,
    pub repository: &'a Path,
    pub service: Service,
    /// The client's `Git-Protocol` header.
    pub protocol: Option<&'a str>,
}

impl Call<'_> {
    fn invocation(&self) -> Invocation {
        let mut call = git(self.repository);
        if self.service == Service::ReceivePack {
            for setting in [
                format!("core.hooksPath={}", hook_dir(self.config).display()),
                // A power cut must not leave an object that was promised, or half of one.
                "core.fsync=all".to_owned(),
                format!("receive.maxInputSize={LARGEST_PUSH}"),
                "receive.fsckObjects=true".to_owned(),
                "receive.denyNonFastForwards=false".to_owned(),
                "receive.denyDeletes=false".to_owned(),
                // Housekeeping that outlives the push would outlive the app too.
                "gc.autoDetach=false".to_owned(),
                "maintenance.autoDetach=false".to_owned(),
            ] {
                call = call.args(["-c", &setting]);
            }
        }
        if let Some(protocol) = self.protocol.filter(|text| is_sane(text)) {
            call = call.env("GIT_PROTOCOL", protocol);
        }
        call.args([self.service.word(), "--stateless-rpc"])
    }

    /// What `info/refs` answers.
    pub async fn advertise(&self) -> Result<Vec<u8>, ProcessError> {
        let refs =
            self.invocation().arg("--http-backend-info-refs").arg(self.repository).run().await?;
        let is_v2 = self.service == Service::UploadPack
            && self.protocol.is_some_and(|text| text.contains("version=2"));
        if is_v2 {
            return Ok(refs);
        }
        let line = format!("# service=git-{}\n", self.service.word());
        let mut answer = format!("{:04x}{line}0000", line.len() + 4).into_bytes();
        answer.extend(refs);
        Ok(answer)
    }

    /// Runs the service on a whole request; its output comes piece by piece. It runs to its end even
    /// when nobody takes them, and the ticket is good until then.
    pub fn serve(
        &self,
        body: Spooled,
        ticket: Option<Ticket>,
        tasks: &Tasks,
    ) -> io::Result<mpsc::Receiver<Bytes>> {
        let mut invocation = self.invocation().arg(self.repository);
        if let Some(ticket) = &ticket {
            invocation = invocation
                .env(hook::SOCKET_ENV, self.config.api_socket())
                .env(hook::TICKET_ENV, ticket.id().to_string());
        }
        let mut command = invocation.command();
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let fed = match body {
            Spooled::File(file) => {
                command.stdin(Stdio::from(file));
                None
            }
            Spooled::Memory(bytes) => {
                command.stdin(Stdio::piped());
                Some(bytes)
            }
        };
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().zip(fed);
        let stdout = child.stdout.take().expect("it was asked for");
        let (sender, receiver) = mpsc::channel(PIECES);
        let word = self.service.word();
        tasks.spawn("git", async move {
            let ((), ()) = tokio::join!(feed(stdin), pump(stdout, sender));
            end(child, word).await;
            drop(ticket);
        });
        Ok(receiver)
    }
}

/// `version=2`, and what else a client may say there.
fn is_sane(protocol: &str) -> bool {
    protocol.len() < 200
        && protocol
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'=' | b':' | b'-' | b'.'))
}

async fn feed(stdin: Option<(ChildStdin, Vec<u8>)>) {
    if let Some((mut stdin, bytes)) = stdin {
        // git that stops reading early says why on its output.
        let _ = stdin.write_all(&bytes).await;
    }
}

async fn pump(mut stdout: ChildStdout, sender: mpsc::Sender<Bytes>) {
    let mut client = Some(sender);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match stdout.read(&mut buffer).await {
            Ok(0) => return,
            Ok(count) => count,
            Err(error) => {
                tracing::warn!(%error, "git's output broke off");
                return;
            }
        };
        let piece = Bytes::copy_from_slice(&buffer[..count]);
        if let Some(sender) = &client
            && sender.send_timeout(piece, STALLED_AFTER).await.is_err()
        {
            tracing::info!("the git client is gone; git goes on without it");
            client = None;
        }
    }
}

async fn end(child: Child, word: &str) {
    match child.wait_with_output().await {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            tracing::warn!(service = word, status = %output.status, said = %said.trim(), "git failed");
        }
        Err(error) => tracing::warn!(service = word, %error, "git could not be waited for"),
    }
}
