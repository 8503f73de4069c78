//! Ways out of containers, and names.

use super::{check, fine, trouble};
use crate::api::doctor::{Check, Level};
use crate::dns::Resolver;

const AREA: &str = "network";

/// Builds fetch from there where nothing else is set.
const A_NAME: &str = "deb.debian.org";

pub(super) fn checks(is_root: bool) -> Vec<Check> {
    if !is_root {
        return Vec::new();
    }
    let forwards = engine::host::kernel().forwards;
    vec![
        tried("veth", engine::host::try_wires()),
        tried("nftables", engine::host::try_rules()),
        forwarding(forwards),
    ]
}

fn tried(name: &str, result: Result<(), engine::error::Error>) -> Check {
    match result {
        Ok(()) => fine(AREA, name, "tried, in a namespace of its own"),
        Err(error) => trouble(
            check(AREA, name, Level::Fail, engine::error::chain(&error)),
            "no app can be given a way out; the daemon does not start",
            "a kernel with veth and nf_tables: modprobe veth nf_tables",
        ),
    }
}

fn forwarding(is_on: Option<bool>) -> Check {
    match is_on {
        Some(true) => fine(AREA, "ip_forward", "on"),
        Some(false) => fine(AREA, "ip_forward", "off; the daemon turns it on"),
        None => trouble(
            check(AREA, "ip_forward", Level::Fail, "the kernel has no such switch"),
            "apps reach nothing outside",
            "a kernel with IPv4 routing",
        ),
    }
}

/// Whether this machine finds the addresses of others.
pub(super) async fn names(resolver: &Resolver) -> Check {
    match resolver.addresses(A_NAME).await {
        Ok(found) if !found.is_empty() => fine(AREA, "names", format!("{A_NAME} is {}", found[0])),
        Ok(_) => unfound(&format!("{A_NAME} has no address")),
        Err(error) => unfound(&error.to_string()),
    }
}

fn unfound(why: &str) -> Check {
    trouble(
        check(AREA, "names", Level::Warn, why),
        "nothing is fetched from elsewhere: packages of builds, base images, certificates",
        "check /etc/resolv.conf; without internet all the rest works",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_in_vain_fails_with_the_kernels_word() {
        let error = engine::error::Error::HostUnfit {
            what: "the program `nft` is missing".to_owned(),
            remedy: "apt-get install nftables".to_owned(),
        };
        let check = tried("nftables", Err(error));
        assert_eq!(check.level, Level::Fail);
        assert!(check.found.contains("apt-get install nftables"), "{check:?}");
        assert_eq!(forwarding(None).level, Level::Fail);
    }

    #[tokio::test]
    async fn a_machine_without_names_is_warned_only() {
        // Nobody answers there.
        let resolver = Resolver::new(Some(([127, 0, 0, 1], 1).into()));
        assert_eq!(names(&resolver).await.level, Level::Warn);
    }
}
