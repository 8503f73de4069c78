//! When a booting replica is ready: facts in, verdict out.

use std::net::IpAddr;
use std::time::Duration;

use crate::release::RunSettings;
use crate::replica::Unhealthy;

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The port took a connection (and the health path, if any, answered well).
    Well,
    /// Nobody listens on the expected port.
    Refused,
    /// The health path did not answer well: `GET /up answered 500`.
    BadAnswer(String),
}

/// What follows from the probes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Ready,
    /// Ask again after this long.
    Again(Duration),
    GiveUp(Unhealthy),
}

/// The gate one replica must pass before it may serve.
#[derive(Debug, Clone)]
pub struct Gate {
    settings: RunSettings,
    /// How long the one before it took, if that is known.
    known: Option<Duration>,
    began: Duration,
    tries: u32,
}

impl Gate {
    /// A gate for a replica started now; the one before it took so long.
    pub fn new(settings: RunSettings, known: Option<Duration>, now: Duration) -> Self {
        Self { settings, known, began: now, tries: 0 }
    }

    /// One more finding, and what listens in the replica's namespace right now.
    pub fn judge(&mut self, finding: &Finding, listening: &[u16], now: Duration) -> Verdict {
        self.tries += 1;
        let waited = now.saturating_sub(self.began);
        if *finding == Finding::Well {
            return Verdict::Ready;
        }
        if waited < self.settings.boot_timeout {
            return Verdict::Again(interval(waited, self.known));
        }
        let port = self.settings.port;
        let spent = format!("within {} s ({} tries", waited.as_secs(), self.tries);
        Verdict::GiveUp(match finding {
            Finding::BadAnswer(answer) => {
                Unhealthy::BadAnswer(format!("no good answer {spent}, last: {answer})"))
            }
            Finding::Well | Finding::Refused => match listening {
                [] | [_] => Unhealthy::NeverListened(format!(
                    "nothing listened on port {port} {spent}, last: connection refused)"
                )),
                several => Unhealthy::SeveralPorts(several.to_vec()),
            },
        })
    }
}

/// Often at first, because a small app is up in milliseconds; then rarely, because a slow one is not. Where
/// the one before it took a known time: less often until then, since each try takes processor time from what
/// boots, and most often about then.
fn interval(waited: Duration, known: Option<Duration>) -> Duration {
    const LEAST: Duration = Duration::from_millis(1);
    const MOST: Duration = Duration::from_millis(20);
    let usual = Duration::from_millis(match waited.as_millis() {
        0..=499 => 3,
        500..=2_999 => 20,
        3_000..=9_999 => 100,
        _ => 500,
    });
    let Some(known) = known else { return usual };
    let near = known * 3 / 4;
    if waited < near {
        // One that is quicker this time is not to wait for it.
        usual.max(MOST.min(known / 8)).min(near - waited).max(LEAST)
    } else if waited < known * 2 {
        (known / 64).clamp(LEAST, MOST)
    } else {
        usual
    }
}

/// How often what listens in a booting replica's namespace is looked at, which costs milliseconds.
/// Knocking at the expected port costs next to nothing and is done with every try.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Whether to look now, so long after the start and, if so, after the last look.
pub fn is_look_due(waited: Duration, looked: Option<Duration>) -> bool {
    waited.saturating_sub(looked.unwrap_or_default()) >= LOOK_EVERY
}

/// Where to reach a replica that listens on these sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortChoice {
    /// On the port it was given.
    Expected(IpAddr),
    /// On one other port: that one is used, and said.
    Other(IpAddr, u16),
    /// On nothing yet, or on several others: keep waiting for the port it was given.
    None,
}

/// How long only *another* port may be listening before it is taken for the app's own.
pub const OTHER_PORT_AFTER: Duration = Duration::from_millis(1500);

/// Chooses the port of a replica that has been up for so long.
pub fn choose_port(expected: u16, listening: &[(IpAddr, u16)], waited: Duration) -> PortChoice {
    let reach = |ip: IpAddr| match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        // `::` takes IPv4 too unless the app said otherwise; `::1` certainly works.
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        IpAddr::V4(_) | IpAddr::V6(_) => ip,
    };
    if let Some((ip, _)) = listening.iter().find(|(_, port)| *port == expected) {
        return PortChoice::Expected(reach(*ip));
    }
    let mut ports: Vec<u16> = listening.iter().map(|(_, port)| *port).collect();
    ports.sort_unstable();
    ports.dedup();
    match (ports.as_slice(), listening.first()) {
        ([port], Some((ip, _))) if waited >= OTHER_PORT_AFTER => {
            PortChoice::Other(reach(*ip), *port)
        }
        _ => PortChoice::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> (IpAddr, u16) {
        let address: std::net::SocketAddr = text.parse().unwrap();
        (address.ip(), address.port())
    }

    #[test]
    fn one_is_asked_most_often_when_the_one_before_it_was_ready() {
        let at = Duration::from_millis;
        let known = Some(at(100));
        let pause = |waited| interval(at(waited), known).as_millis();
        assert_eq!([pause(0), pause(70), pause(75), pause(199), pause(200)], [12, 5, 1, 1, 3]);
        // A slow one, and one that was there at once.
        let slow = Some(Duration::from_secs(20));
        assert_eq!(interval(at(0), slow), at(20));
        assert_eq!(interval(at(16_000), slow), at(20));
        assert_eq!(interval(at(0), Some(at(3))), Duration::from_micros(2250));
        assert_eq!(interval(at(0), None), at(3));
    }

    #[test]
    fn it_is_looked_at_now_and_then() {
        let at = Duration::from_millis;
        assert!(!is_look_due(at(499), None));
        assert!(is_look_due(at(500), None));
        assert!(!is_look_due(at(900), Some(at(500))));
        assert!(is_look_due(at(1000), Some(at(500))));
    }

    #[test]
    fn the_expected_port_wins_wherever_it_is_bound() {
        let late = Duration::from_secs(9);
        let choice = choose_port(8080, &[at("0.0.0.0:9000"), at("127.0.0.1:8080")], late);
        assert_eq!(choice, PortChoice::Expected(at("127.0.0.1:0").0));
        let choice = choose_port(8080, &[at("[::]:8080")], Duration::ZERO);
        assert_eq!(choice, PortChoice::Expected(at("[::1]:0").0));
    }

    #[test]
    fn one_other_port_is_taken_after_a_while_and_several_never() {
        let late = Duration::from_secs(9);
        assert_eq!(choose_port(8080, &[at("0.0.0.0:3000")], Duration::ZERO), PortChoice::None);
        assert_eq!(
            choose_port(8080, &[at("0.0.0.0:3000")], late),
            PortChoice::Other(at("127.0.0.1:0").0, 3000)
        );
        assert_eq!(
            choose_port(8080, &[at("0.0.0.0:3000"), at("0.0.0.0:3001")], late),
            PortChoice::None
        );
    }

    #[test]
    fn giving_up_keeps_the_last_reason() {
        let settings =
            RunSettings { boot_timeout: Duration::from_secs(30), ..RunSettings::default() };
        let mut gate = Gate::new(settings, None, Duration::ZERO);
        let second = Duration::from_secs(1);
        assert!(matches!(gate.judge(&Finding::Refused, &[], second), Verdict::Again(_)));
        let end = Duration::from_secs(30);
        let bad = Finding::BadAnswer("GET /up answered 500".into());
        assert_eq!(
            gate.clone().judge(&bad, &[8080], end),
            Verdict::GiveUp(Unhealthy::BadAnswer(
                "no good answer within 30 s (2 tries, last: GET /up answered 500)".into()
            ))
        );
        assert_eq!(
            gate.clone().judge(&Finding::Refused, &[1, 2], end),
            Verdict::GiveUp(Unhealthy::SeveralPorts(vec![1, 2]))
        );
        assert_eq!(gate.judge(&Finding::Well, &[8080], end), Verdict::Ready);
    }
}
