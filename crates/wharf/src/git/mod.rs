//! Git over smart HTTP, and what a push sets off.
//!
//! ```text
//! git push ─► server ─► http ─► git receive-pack ─► pre-receive hook (hook.rs, own process)
//!                                                        │ refs, over the unix socket
//!                          lines ◄── pipeline ◄──────────┘
//!                                    (queue → extract → build → release → follow)
//! ```
//! The real git takes the pack and keeps it in quarantine until the hook says yes; so a ref moves
//! exactly when its deploy went live. A client that hangs up stops nothing: git's output is read to
//! its end whether somebody wants it or not. This room never starts a container and never routes.

pub mod repository;

pub mod refs;

pub mod spool;

pub mod http;

pub mod pushes;

pub mod builds;

pub mod source;

pub mod pipeline;

pub mod hook;

use std::process::ExitCode;

use model::problem::{Code, Problem};

use crate::config::Config;

/// The role this program has when git calls it `pre-receive`.
pub fn hook_main() -> ExitCode {
    hook::run()
}

/// Makes ready for pushes, before the server listens.
pub async fn prepare(config: &Config) -> Result<(), Problem> {
    repository::prepare(config).map_err(|error| {
        tracing::error!(error = &error as &dyn std::error::Error, "git is not ready");
        Problem::new(Code::HostUnfit, "pushes cannot be taken")
            .why(format!(
                "{error}: {}",
                std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
            ))
            .next("look at the data directory's owner and at the disk: `df -h`")
    })
}
