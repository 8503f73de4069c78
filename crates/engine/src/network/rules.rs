//! The nftables rules of the way out, as text: pure. One table of our own, replaced in one step;
//! nobody else's is touched.
//!
//! What a container may not reach is refused, not dropped: its program learns it at once. Refusals of
//! slots with a policy are counted by where they wanted to go, and kept for an hour.

use std::collections::BTreeSet;
use std::net::IpAddr;

use model::outbound::NOT_THE_INTERNET;

use crate::network::outbound::OutboundConfig;
use crate::network::policy::{self, Policies};

/// The whole table, to be given to `nft -f -`. The first two lines make a repetition harmless.
pub(crate) fn render_rules(
    config: &OutboundConfig,
    servers: &[IpAddr],
    policies: &Policies,
) -> String {
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
    let nearer = NOT_THE_INTERNET.join(", ");
    let sets = policy::elements(config, policies);
    let elements = |set: &str| render_elements(&sets[set]);
    let (closed, hosts, ports) =
        (elements("closed"), elements("open_hosts"), elements("open_ports"));
    format!(
        "\
table inet {table}
delete table inet {table}
table inet {table} {{
  set closed {{ type ipv4_addr; {closed}}}
  set open_hosts {{ type ipv4_addr . ipv4_addr; {hosts}}}
  set open_ports {{ type ipv4_addr . ipv4_addr . inet_service; {ports}}}
  set refused {{
    type ipv4_addr . ipv4_addr . inet_service; flags dynamic, timeout; timeout 1h; size 65535;
  }}
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname != \"{prefix}*\" accept
    ct state established,related accept
    ip saddr @closed jump refuse
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
    meta nfproto ipv6 reject with icmpv6 type admin-prohibited
    ip saddr != {range} drop
    ip saddr @closed jump listed
    {dns}
    ip daddr {{ {nearer} }} reject with icmp type admin-prohibited
    accept
  }}
  chain listed {{
    ip daddr {{ {nearer} }} jump refuse
    ip saddr . ip daddr @open_hosts accept
    meta l4proto {{ tcp, udp }} ip saddr . ip daddr . th dport @open_ports accept
    jump refuse
  }}
  chain refuse {{
    meta l4proto {{ tcp, udp }} update @refused {{ ip saddr . ip daddr . th dport counter }}
    reject with icmpx type admin-prohibited
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {range} oifname != \"{prefix}*\" masquerade
  }}
}}
"
    )
}

fn render_elements(all: &BTreeSet<String>) -> String {
    if all.is_empty() {
        return String::new();
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    format!("elements = {{ {} }} ", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::policy::Policy;

    #[test]
    fn the_rules_of_the_way_out() {
        let config = OutboundConfig {
            run_dir: "/run/wharf".into(),
            range: "10.213.0.0/16".parse().unwrap(),
            table: "wharf".into(),
            prefix: "wharf-".into(),
        };
        let servers = ["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let policies = Policies::from([(0, Policy::Off), (1, Policy::On)]);
        insta::assert_snapshot!(render_rules(&config, &servers, &policies));
    }
}
