//! The nftables rules of the way out, as text: pure. One table of our own, replaced in one step;
//! nobody else's is touched.
//!
//! What a container may not reach is refused, not dropped: its program learns it at once.

use std::net::IpAddr;

use crate::network::outbound::OutboundConfig;

/// Nearer than the internet, or no place at all: never reached from a container.
const NOT_THE_INTERNET: &str = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, \
    169.254.0.0/16, 172.16.0.0/12, 192.0.0.0/24, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3";

/// The whole table, to be given to `nft -f -`. The first two lines make a repetition harmless.
pub(crate) fn render_rules(config: &OutboundConfig, servers: &[IpAddr]) -> String {
    let OutboundConfig { table, prefix, range, .. } = config;
    let servers: Vec<String> =
        servers.iter().filter(|server| server.is_ipv4()).map(ToString::to_string).collect();
    let dns = if servers.is_empty() {
        "# the host names no server a container could ask".to_owned()
    } else {
        format!(
            "ip daddr {{ {} }} meta l4proto {{ tcp, udp }} th dport 53 accept",
            servers.join(", ")
        )
    };
    format!(
        "\
table inet {table}
delete table inet {table}
table inet {table} {{
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname != \"{prefix}*\" accept
    ct state established,related accept
    {dns}
    reject with icmpx type admin-prohibited
  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    iifname \"{prefix}*\" jump outbound
    oifname \"{prefix}*\" ct state established,related accept
    oifname \"{prefix}*\" drop
  }}
  chain outbound {{
    oifname \"{prefix}*\" reject with icmpx type admin-prohibited
    meta nfproto ipv6 drop
    ip saddr != {range} drop
    {dns}
    ip daddr {{ {NOT_THE_INTERNET} }} reject with icmp type admin-prohibited
    accept
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {range} oifname != \"{prefix}*\" masquerade
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_the_way_out() {
        let config = OutboundConfig {
            run_dir: "/run/wharf".into(),
            range: "10.213.0.0/16".parse().unwrap(),
            table: "wharf".into(),
            prefix: "wharf-".into(),
        };
        let servers = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        insta::assert_snapshot!(render_rules(&config, &servers));
    }
}
