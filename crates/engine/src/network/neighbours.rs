//! Other firewalls on the machine: what of them stands in the way out, and the one thing we do about it.
//!
//! In nftables a packet passes every table; an accept of ours is no word for the others. Docker, ufw and
//! many a hand-made firewall drop all that is forwarded and not known to them, in iptables' chain
//! `FORWARD`. There we ask for passage the way Docker documents it: two rules with our name in them, in
//! `DOCKER-USER` if there is one. They go with the teardown. Others are told of, not touched.
//!
//! Those rules are put in by `iptables` itself: it refuses to read a chain with a rule that `nft` wrote,
//! and Docker with it.

use std::fs;

use serde_json::Value;

use crate::error::Error;
use crate::network::outbound::OutboundConfig;
use crate::process::run;

/// Asks for passage where it is needed and not given yet. Returns what is left in the way.
pub(crate) fn pass(config: &OutboundConfig) -> Result<Vec<String>, Error> {
    let dropping = parse(&run("nft", "nftables", &["-j", "list", "chains"], None)?, &config.table);
    let (filter, mut left): (Vec<String>, Vec<String>) =
        dropping.into_iter().partition(|place| place == FILTER);
    // `iptables` itself is asked only where it has rules: asking makes some.
    let has_legacy = fs::read_to_string("/proc/thread-self/net/ip_tables_names")
        .is_ok_and(|names| names.lines().any(|name| name == "filter"));
    for (is_there, program) in [(!filter.is_empty(), NFT), (has_legacy, LEGACY)] {
        if !is_there {
            continue;
        }
        if let Err(error) = pass_filter(config, program) {
            left.push(format!("{program} FORWARD ({})", error.chain()));
        }
    }
    Ok(left)
}

/// Takes our rules out again.
pub(crate) fn leave(config: &OutboundConfig) {
    for program in [NFT, LEGACY] {
        for chain in CHAINS {
            // No such program, no such chain: nothing of ours in it.
            let text = iptables(program, &["-S", chain]).unwrap_or_default();
            for rule in rules(config).into_iter().filter(|rule| has(&text, rule)) {
                let gone = iptables(program, &[&["-D", chain][..], &words(&rule)].concat());
                if let Err(error) = gone {
                    tracing::warn!(chain, error = error.chain(), "a rule of ours is left");
                }
            }
        }
    }
}

const NFT: &str = "iptables-nft";
const LEGACY: &str = "iptables-legacy";
const FILTER: &str = "ip filter FORWARD";
/// The better one first.
const CHAINS: [&str; 2] = ["DOCKER-USER", "FORWARD"];

/// The chains that drop what is forwarded and not known to them, as `nft -j list chains` tells.
fn parse(text: &str, own_table: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let items = value["nftables"].as_array().into_iter().flatten();
    let drops = items.map(|item| &item["chain"]).filter(|chain| {
        chain["hook"] == "forward"
            && chain["policy"] == "drop"
            && chain["family"] != "ip6"
            && chain["table"] != own_table
    });
    let name = |chain: &Value| {
        let word = |key: &str| chain[key].as_str().unwrap_or("?").to_owned();
        [word("family"), word("table"), word("name")].join(" ")
    };
    drops.map(name).collect()
}

fn pass_filter(config: &OutboundConfig, program: &'static str) -> Result<(), Error> {
    if !iptables(program, &["-S", "FORWARD"])?.starts_with("-P FORWARD DROP") {
        return Ok(());
    }
    let chain = if iptables(program, &["-S", CHAINS[0]]).is_ok() { CHAINS[0] } else { CHAINS[1] };
    let text = iptables(program, &["-S", chain])?;
    for rule in rules(config).into_iter().filter(|rule| !has(&text, rule)) {
        // At the head: those of the chain return or drop.
        iptables(program, &[&["-I", chain][..], &words(&rule)].concat())?;
    }
    Ok(())
}

/// Out, and what belongs to it back in.
fn rules(config: &OutboundConfig) -> [Vec<String>; 2] {
    let OutboundConfig { prefix, table, .. } = config;
    let render = |text: String| text.split(' ').map(str::to_owned).collect();
    [
        render(format!("-i {prefix}+ -m comment --comment {table}-out -j ACCEPT")),
        render(format!(
            "-o {prefix}+ -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \
             {table}-back -j ACCEPT"
        )),
    ]
}

fn words(rule: &[String]) -> Vec<&str> {
    rule.iter().map(String::as_str).collect()
}

/// Whether that rule is listed, by its comment.
fn has(listed: &str, rule: &[String]) -> bool {
    let comment = rule.iter().skip_while(|word| *word != "--comment").nth(1);
    let is_it = |word: &str| comment.is_some_and(|comment| word.trim_matches('"') == comment);
    listed.lines().any(|line| line.split(' ').any(is_it))
}

fn iptables(program: &'static str, args: &[&str]) -> Result<String, Error> {
    run(program, "iptables", &[&["-w", "5"], args].concat(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drops_is_found_and_our_own_is_none_of_it() {
        let text = r#"{"nftables": [
            {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "mine", "name": "f", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip6", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}},
            {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "hook": "input", "policy": "drop"}},
            {"chain": {"family": "inet", "table": "wharf", "name": "forward", "hook": "forward", "policy": "drop"}}]}"#;
        assert_eq!(parse(text, "wharf"), [FILTER, "inet mine f"]);
        assert!(parse("", "wharf").is_empty());
    }

    #[test]
    fn a_rule_of_ours_is_known_by_its_comment() {
        let config = OutboundConfig {
            run_dir: "/run/wharf".into(),
            range: "10.213.0.0/16".parse().unwrap(),
            table: "wharf".into(),
            prefix: "wharf-".into(),
        };
        let [out, back] = rules(&config);
        let listed =
            "-N DOCKER-USER\n-A DOCKER-USER -i wharf-+ -m comment --comment wharf-out -j ACCEPT\n";
        assert!(has(listed, &out) && !has(listed, &back));
        assert!(!has("-A FORWARD -m comment --comment wharf-outer -j ACCEPT", &out));
    }
}
