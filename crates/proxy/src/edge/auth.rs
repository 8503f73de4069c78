//! Who must give a password (RFC 7617), and whether it is right.
//!
//! The hash is made to be slow, so it is worked out beside the cores, by few at once, and what came of
//! it is remembered for as long as the settings stand: as a digest under a key that is drawn for it
//! and never leaves this process. A name nobody has takes as long as a wrong password.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use model::route::edge::Auth;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::Stop;
use crate::check::Broken;
use crate::code::EdgeCode;

const FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");

/// So many hashes are worked out at once, each with 19 MiB; the rest waits, up to so many.
static AT_WORK: Semaphore = Semaphore::const_new(2);
static WAITING: AtomicUsize = AtomicUsize::new(0);
const MOST_WAITING: usize = 64;

/// Wrong passwords that are remembered; past it all are forgotten.
const MOST_WRONG: usize = 1024;

/// What is checked for a name nobody has; no password is right for it.
static DECOY: LazyLock<Option<String>> =
    LazyLock::new(|| Some(Argon2::default().hash_password(&random()).ok()?.to_string()));

/// The password rules of one app.
#[derive(Debug)]
pub(super) struct Door {
    auth: Auth,
    challenge: HeaderValue,
    key: [u8; 32],
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// One for each visitor at most.
    right: HashSet<[u8; 32]>,
    wrong: HashSet<[u8; 32]>,
}

/// Who got through, as the app is told.
#[derive(Debug, Clone)]
pub(crate) struct Passed {
    /// None where no password is asked for.
    visitor: Option<HeaderValue>,
}

impl Passed {
    /// Tells the app who it is; nobody else may, and the password is not the app's to see.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        headers.remove(FORWARDED_USER);
        if let Some(visitor) = &self.visitor {
            headers.remove(AUTHORIZATION);
            headers.insert(FORWARDED_USER, visitor.clone());
        }
    }
}

impl Door {
    pub(super) fn new(auth: &Auth) -> Self {
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", auth.realm);
        let bare = HeaderValue::from_static("Basic realm=\"\"");
        Self {
            challenge: HeaderValue::try_from(challenge).unwrap_or(bare),
            auth: auth.clone(),
            key: random(),
            known: Mutex::default(),
        }
    }

    /// Lets the request in, or asks for a password.
    pub(super) async fn admit(&self, head: &Parts) -> Result<Passed, Stop> {
        if !self.auth.covers(head.uri.path()) {
            return Ok(Passed { visitor: None });
        }
        let given = head.headers.get(AUTHORIZATION).and_then(read);
        let Some((name, password)) = given else { return Err(self.ask(None)) };
        let passed = || Passed { visitor: HeaderValue::from_str(&name).ok() };
        let digest = self.digest(&name, &password);
        let known = self.known();
        if known.right.contains(&digest) {
            return Ok(passed());
        }
        let is_wrong = known.wrong.contains(&digest);
        drop(known);
        let wrong = Some(Broken("the name or the password is wrong"));
        if is_wrong {
            return Err(self.ask(wrong));
        }
        let hash = self.auth.visitors.get(&name).cloned();
        let is_right = verify(hash, password).await?;
        let mut known = self.known();
        if is_right {
            known.right.insert(digest);
            return Ok(passed());
        }
        if known.wrong.len() >= MOST_WRONG {
            known.wrong.clear();
        }
        known.wrong.insert(digest);
        drop(known);
        Err(self.ask(wrong))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digest(&self, name: &str, password: &[u8]) -> [u8; 32] {
        let digest = Sha256::new().chain_update(self.key).chain_update(name).chain_update([b':']);
        digest.chain_update(password).finalize().into()
    }

    fn ask(&self, rule: Option<Broken>) -> Stop {
        let header = (WWW_AUTHENTICATE, self.challenge.clone());
        Stop::Refused(EdgeCode::PasswordNeeded, rule, Some(header))
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes for whoever asks");
    bytes
}

/// Name and password; a name has no colon.
fn read(header: &HeaderValue) -> Option<(String, Vec<u8>)> {
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    let pair =
        STANDARD.decode(rest.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(pair[..colon].to_vec()).ok()?;
    Some((name, pair[colon + 1..].to_vec()))
}

/// One that waits for its turn; leaving is what it does when its client leaves.
struct Waiting;

impl Waiting {
    fn enter() -> Option<Self> {
        let before = WAITING.fetch_add(1, Relaxed);
        let waiting = Self;
        (before < MOST_WAITING).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Relaxed);
    }
}

/// Whether the password is the one of that hash, or of none.
async fn verify(hash: Option<String>, password: Vec<u8>) -> Result<bool, Stop> {
    let waiting = Waiting::enter().ok_or_else(|| {
        let rule = Broken("too many passwords wait to be checked");
        let again = (RETRY_AFTER, HeaderValue::from_static("1"));
        Stop::Refused(EdgeCode::TooOften, Some(rule), Some(again))
    })?;
    let permit = AT_WORK.acquire().await;
    let work = move || {
        // Held to the end of the work, also when the client left.
        let _permit = permit;
        let is_somebody = hash.is_some();
        let hash = hash.or_else(|| DECOY.clone()).unwrap_or_default();
        let Ok(hash) = PasswordHash::new(&hash) else { return false };
        Argon2::default().verify_password(&password, &hash).is_ok() && is_somebody
    };
    // What did not come to its end admits nobody.
    let is_right = tokio::task::spawn_blocking(work).await.unwrap_or(false);
    drop(waiting);
    Ok(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_password_are_read() {
        let of = |text: &str| read(&HeaderValue::from_str(text).unwrap());
        let ann = Some(("ann".to_owned(), b"pass:word".to_vec()));
        assert_eq!(of("Basic YW5uOnBhc3M6d29yZA=="), ann);
        assert_eq!(of("bAsIc   YW5uOnBhc3M6d29yZA=="), ann);
        for wrong in ["", "Basic", "Basic !", "Bearer YW5uOnBhc3M6d29yZA==", "Basic YW5u"] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn what_was_worked_out_is_not_worked_out_again() {
        let hash = Argon2::default().hash_password(b"a").unwrap().to_string();
        let visitors = [("ann".to_owned(), hash)].into();
        let mut door = Door::new(&Auth { realm: String::new(), paths: [].into(), visitors });
        let request = |pair: &str| {
            let value = format!("Basic {}", STANDARD.encode(pair));
            http::Request::get("/").header(AUTHORIZATION, value).body(()).unwrap().into_parts().0
        };
        assert!(door.admit(&request("ann:a")).await.is_ok());
        assert!(door.admit(&request("ann:b")).await.is_err());
        // Without a hash to work on, only memory can say so.
        let hash = door.auth.visitors.remove("ann").unwrap();
        assert!(door.admit(&request("ann:a")).await.is_ok());
        door.auth
            .visitors
            .insert("ann".to_owned(), Argon2::default().hash_password(b"b").unwrap().to_string());
        assert!(door.admit(&request("ann:b")).await.is_err());
        // Another door remembers nothing.
        let door = Door::new(&Auth { visitors: [("bob".to_owned(), hash)].into(), ..door.auth });
        assert!(door.admit(&request("ann:a")).await.is_err());
        for number in 0..2 * MOST_WRONG {
            door.known().wrong.insert(door.digest("x", number.to_string().as_bytes()));
        }
        assert!(door.admit(&request("x:y")).await.is_err());
        assert!(door.known().wrong.len() <= MOST_WRONG);
    }
}
