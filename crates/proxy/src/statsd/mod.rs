//! Counters, timers and gauges for a statsd server: what changed since the last time, a few UDP packets
//! every few seconds, from the control thread. However many requests there were, their timers are one
//! sampled line for each duration's place.

mod lines;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use tokio::net::UdpSocket;

use crate::config::StatsdConfig;
use crate::control::server::Control;

/// Fits into one frame of any ordinary network.
const MOST_BYTES: usize = 1432;

/// Sends for ever; what cannot be sent is lost, as with any UDP.
pub(crate) async fn export(config: StatsdConfig, control: Rc<Control>) {
    let own: SocketAddr = match config.address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = match UdpSocket::bind(own).await {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "no statistics are sent: no socket"),
    };
    let mut tick = tokio::time::interval(config.every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tick.tick().await;
        let now = control.measures().await;
        for packet in packets(&lines::since(&config.prefix, last.as_ref(), &now)) {
            // Nobody listening there is nobody's loss but the listener's.
            let _not_there = socket.send_to(packet.as_bytes(), config.address).await;
        }
        last = Some(now);
    }
}

/// Lines in as few packets as hold them.
fn packets(lines: &[String]) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in lines {
        match packets.last_mut() {
            Some(packet) if packet.len() + 1 + line.len() <= MOST_BYTES => {
                packet.push('\n');
                packet.push_str(line);
            }
            Some(_) | None => packets.push(line.clone()),
        }
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_full_and_never_too_large() {
        let lines: Vec<String> =
            (0..500).map(|number| format!("wharf.shop.{number}:1|c")).collect();
        let packets = packets(&lines);
        assert!(packets.iter().all(|packet| packet.len() <= MOST_BYTES), "{packets:?}");
        assert!(packets[..packets.len() - 1].iter().all(|packet| packet.len() > MOST_BYTES - 30));
        assert_eq!(packets.join("\n"), lines.join("\n"));
    }
}
