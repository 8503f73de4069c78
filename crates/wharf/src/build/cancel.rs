//! The word that a build is to stop: heard by blocking loops through a descriptor, by async ones as a
//! future, and kept with the reason for whoever waits for the build.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use model::problem::Problem;
use rustix::event::{EventfdFlags, eventfd};
use tokio_util::sync::CancellationToken;

/// One build's; clones are the same.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: CancellationToken,
    why: Mutex<Option<Problem>>,
    /// Readable from the word on. None when there were no descriptors left: then the word is heard
    /// between two steps only.
    fd: Option<OwnedFd>,
}

impl Default for Cancel {
    fn default() -> Self {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        Self(Arc::new(Inner { token: CancellationToken::new(), why: Mutex::new(None), fd }))
    }
}

impl Cancel {
    /// Says it; the first reason counts.
    pub fn cancel(&self, why: Problem) {
        self.0.why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.0.token.cancel();
        if let Some(fd) = &self.0.fd {
            // It only fails when it is readable already.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }

    /// Why, once it was said.
    pub fn why(&self) -> Option<Problem> {
        self.0.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it was said.
    pub fn is_cancelled(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Ends when it is said.
    pub async fn cancelled(&self) {
        self.0.token.cancelled().await;
    }

    /// Readable when it was said.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.fd.as_ref().map(AsFd::as_fd)
    }
}
