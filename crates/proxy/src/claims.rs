//! Visitors who came with a name that no app has, and wait until it is known whether it becomes one's.
//!
//! ```text
//! hello, unknown name ─► may wait? ─► the daemon is told ─► certificate and route there: handshake
//!                           └ no: as ever                └─► turned away, or too long: no handshake
//! ```
//!
//! Few wait, each name and each client has few of them, and none does while no app has an ask rule: then
//! one flag is read for a handshake, and that is all. What the daemon answers comes by the tables, or by
//! `turn_away`; a name that was turned away is not waited for again for a while. See
//! docs/decisions/0009-names-are-claimed-by-the-first-visitor.md.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::name::DomainName;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::{StartHandshake, TlsStream};

use crate::connection::HANDSHAKE_TIMEOUT;
use crate::core::Core;
use crate::edge::rate::network;
use crate::tls::ACME_ALPN;

/// So many wait in all.
const MOST_WAITING: usize = 256;
/// So many of one client.
const MOST_OF_A_CLIENT: u32 = 16;
/// So many names are remembered as turned away; those beyond are asked about again.
const MOST_AWAY: usize = 4096;
/// So long a handshake waits. Browsers give up later than that.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(15);
/// So long a request over plain HTTP waits: no certificate has to come.
const REQUEST_WAIT: Duration = Duration::from_secs(10);

/// What all cores share of it.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    are_possible: AtomicBool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    /// By [`network`].
    clients: HashMap<u128, u32>,
    names: HashMap<DomainName, u32>,
    away: HashMap<DomainName, Instant>,
}

/// One who waits, until dropped.
#[derive(Debug)]
struct Place {
    claims: Arc<Claims>,
    host: DomainName,
    client: u128,
    /// Whether nobody waited for that name before.
    is_first: bool,
}

impl Claims {
    /// Whether any app has an ask rule.
    pub(crate) fn are_possible(&self) -> bool {
        self.are_possible.load(Relaxed)
    }

    /// Apps have ask rules now, or none has any more.
    pub(crate) fn set_possible(&self, are_possible: bool) {
        self.are_possible.store(are_possible, Relaxed);
    }

    /// A table changed: everybody looks again.
    pub(crate) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// The names somebody waits for.
    pub(crate) fn waited_for(&self) -> Vec<DomainName> {
        self.state().names.keys().cloned().collect()
    }

    /// Whoever waits for that name goes, and nobody waits for it for so long.
    pub(crate) fn turn_away(&self, host: &DomainName, keep: Duration) {
        let now = Instant::now();
        let mut state = self.state();
        if state.away.len() >= MOST_AWAY {
            state.away.retain(|_, until| *until > now);
        }
        if state.away.len() < MOST_AWAY || state.names.contains_key(host) {
            state.away.insert(host.clone(), now + keep);
        }
        drop(state);
        self.wake();
    }

    fn enter(self: &Arc<Self>, host: &DomainName, client: IpAddr) -> Option<Place> {
        let client = network(client);
        let mut state = self.state();
        if state.is_away(host) || state.waiting >= MOST_WAITING {
            return None;
        }
        let of_client = state.clients.entry(client).or_default();
        if *of_client >= MOST_OF_A_CLIENT {
            return None;
        }
        *of_client += 1;
        state.waiting += 1;
        let of_name = state.names.entry(host.clone()).or_default();
        *of_name += 1;
        let is_first = *of_name == 1;
        Some(Place { claims: self.clone(), host: host.clone(), client, is_first })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_away(&mut self, host: &DomainName) -> bool {
        match self.away.get(host) {
            Some(until) if *until > Instant::now() => true,
            Some(_) => {
                self.away.remove(host);
                false
            }
            None => false,
        }
    }
}

impl Place {
    /// Waits until it is there; not longer than until it is turned away, or the limit.
    async fn wait(&self, limit: Duration, is_there: impl Fn() -> bool) {
        let deadline = Instant::now() + limit;
        loop {
            // Made before the look, so that no change is missed between the two.
            let changed = self.claims.changed.notified();
            let may_come = self.claims.are_possible();
            if is_there() || !may_come || self.claims.state().is_away(&self.host) {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(deadline) => return,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.claims.state();
        state.waiting -= 1;
        fewer(&mut state.clients, &self.client);
        fewer(&mut state.names, &self.host);
    }
}

/// Counts one less; what has none left is not kept.
fn fewer<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// A handshake that waits for its certificate, if somebody may say that the name is theirs. Those whose
/// certificate is there lose no time and no read.
pub(crate) async fn shake_hands(
    core: &Core,
    stream: TcpStream,
    client: IpAddr,
) -> Result<io::Result<TlsStream<TcpStream>>, Elapsed> {
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    let begun = match timeout(HANDSHAKE_TIMEOUT, hello).await? {
        Ok(begun) => begun,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(host) = waits_for(core, &begun) {
        tokio::select! {
            () = wait(core, &host, (client, HANDSHAKE_WAIT), || is_covered(core, host.as_str())) => {}
            () = core.stopped() => {}
            () = gone(&begun.io) => return Ok(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
    timeout(HANDSHAKE_TIMEOUT, begun.into_stream(core.tls.server())).await
}

/// The name a hello is for, if it has no certificate and may be claimed. Who checks a challenge has a
/// certificate of its own or none.
fn waits_for(core: &Core, begun: &StartHandshake<TcpStream>) -> Option<DomainName> {
    let hello = begun.client_hello();
    if hello.alpn().is_some_and(|mut offered| offered.any(|one| one == ACME_ALPN)) {
        return None;
    }
    let name = hello.server_name()?.to_ascii_lowercase();
    let front = core.tls.front();
    if front.certificate(&name).is_some() || is_covered(core, &name) {
        return None;
    }
    front.claimable(&name)
}

fn is_covered(core: &Core, host: &str) -> bool {
    core.tls.front().covers_routed(host) && core.table().has_host(host)
}

/// A request over a connection of another name, or of none: it waits until the name is routed.
pub(crate) async fn wait_routed(core: &Core, host: &str, client: IpAddr) {
    let Some(host) = core.tls.front().claimable(host) else { return };
    let is_routed = || core.table().answers(host.as_str());
    tokio::select! {
        () = wait(core, &host, (client, REQUEST_WAIT), is_routed) => {}
        () = core.stopped() => {}
    }
}

async fn wait(
    core: &Core,
    host: &DomainName,
    (client, limit): (IpAddr, Duration),
    is_there: impl Fn() -> bool,
) {
    let Some(place) = core.tls.claims().enter(host, client) else { return };
    if place.is_first {
        core.tell_unknown_host(host);
    }
    place.wait(limit, is_there).await;
}

/// Ends when the client hung up. One that speaks before it was answered is there.
async fn gone(stream: &TcpStream) {
    match stream.peek(&mut [0]).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> DomainName {
        format!("n{number}.example").parse().unwrap()
    }

    fn client(number: usize) -> IpAddr {
        IpAddr::from((u32::try_from(number).unwrap() + (10 << 24)).to_be_bytes())
    }

    #[test]
    fn few_wait_and_fewer_of_one_client() {
        let claims = Arc::new(Claims::default());
        let own = |number| claims.enter(&name(number), client(0));
        let of_one: Vec<_> = (0..20).filter_map(own).collect();
        assert_eq!(of_one.len(), 16);
        let others: Vec<_> =
            (0..300).filter_map(|number| claims.enter(&name(0), client(number / 4 + 1))).collect();
        assert_eq!(others.len(), 240);
        assert!(others.iter().all(|place| !place.is_first), "the first one was told of");
        drop((of_one, others));
        assert!(claims.enter(&name(0), client(0)).is_some_and(|place| place.is_first));
        let state = claims.state();
        assert!(state.waiting == 0 && state.clients.is_empty() && state.names.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_was_turned_away_is_not_waited_for() {
        let claims = Arc::new(Claims::default());
        claims.set_possible(true);
        let place = claims.enter(&name(0), client(0)).unwrap();
        let other = claims.enter(&name(1), client(0)).unwrap();
        let began = Instant::now();
        let turned = async { claims.turn_away(&name(0), Duration::from_secs(60)) };
        tokio::join!(place.wait(Duration::from_secs(15), || false), turned);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert!(claims.enter(&name(0), client(0)).is_none());
        other.wait(Duration::from_secs(15), || false).await;
        assert_eq!(began.elapsed(), Duration::from_secs(15));
        tokio::time::advance(Duration::from_secs(50)).await;
        assert!(claims.enter(&name(0), client(0)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_were_turned_away_fill_no_memory() {
        let claims = Arc::new(Claims::default());
        for number in 0..2 * MOST_AWAY {
            claims.turn_away(&name(number), Duration::from_secs(60));
        }
        assert_eq!(claims.state().away.len(), MOST_AWAY);
        tokio::time::advance(Duration::from_secs(61)).await;
        claims.turn_away(&name(0), Duration::from_secs(60));
        assert_eq!(claims.state().away.len(), 1);
    }
}
