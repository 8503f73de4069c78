//! Who is asking: root at the other end of the unix socket, or the owner of a token.

use std::net::SocketAddr;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use model::problem::Problem;

use super::answer::Refusal;
use crate::apps::tokens;
use crate::context::Context;

/// The other end of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Unix { uid: Option<u32> },
    Tcp { address: SocketAddr },
}

impl Peer {
    /// Root, or the user the daemon runs as: who could read the token file anyway.
    pub(crate) fn is_the_machine(self) -> bool {
        match self {
            Self::Unix { uid: Some(uid) } => uid == 0 || uid == rustix::process::geteuid().as_raw(),
            Self::Unix { uid: None } | Self::Tcp { .. } => false,
        }
    }
}

/// The user a request is made as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user: String,
}

/// Lets nobody through who is not known.
pub(super) async fn guard(
    State(context): State<Context>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let peer = request.extensions().get::<Peer>().copied();
    let caller = identify(&context, peer, request.headers()).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

async fn identify(
    context: &Context,
    peer: Option<Peer>,
    headers: &HeaderMap,
) -> Result<Caller, Problem> {
    match token(headers) {
        Some(token) => Ok(Caller { user: tokens::owner(context, &token).await? }),
        None if peer.is_some_and(Peer::is_the_machine) => Ok(Caller { user: "root".to_owned() }),
        None => Err(tokens::refusal("no token was given")),
    }
}

/// The token: `Bearer TOKEN`, or the password of `Basic` (git and netrc can only do that).
fn token(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let plain = String::from_utf8(base64(rest.trim())?).ok()?;
    let (_, password) = plain.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

/// RFC 4648, as much as one header needs.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0_u32, 0);
    for character in text.trim_end_matches('=').bytes() {
        let digit = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = (held << 6) | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).expect("it was masked to eight bits"));
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<String> {
        token(&HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]))
    }

    #[test]
    fn tokens_are_found_as_clients_send_them() {
        assert_eq!(of("Bearer wharf-1").as_deref(), Some("wharf-1"));
        assert_eq!(of("bearer  wharf-1").as_deref(), Some("wharf-1"));
        // `me:wharf-12`, `:wharf-1`, and a name without a password.
        assert_eq!(of("Basic bWU6d2hhcmYtMTI=").as_deref(), Some("wharf-12"));
        assert_eq!(of("Basic OndoYXJmLTE=").as_deref(), Some("wharf-1"));
        assert_eq!(of("Basic bWU6"), None);
        assert_eq!(of("Basic !!"), None);
        assert_eq!(of("Digest x"), None);
    }

    #[test]
    fn only_root_on_the_socket_needs_no_token() {
        assert!(Peer::Unix { uid: Some(0) }.is_the_machine());
        assert!(!Peer::Unix { uid: Some(4711) }.is_the_machine());
        assert!(!Peer::Unix { uid: None }.is_the_machine());
        assert!(!Peer::Tcp { address: ([127, 0, 0, 1], 1).into() }.is_the_machine());
    }
}
