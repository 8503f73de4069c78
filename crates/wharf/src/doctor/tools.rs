//! Programs of others that Wharf calls.

use std::path::{Path, PathBuf};

use super::{check, fine, trouble};
use crate::api::doctor::{Check, Level};
use crate::config::Config;

const AREA: &str = "tools";

struct Tool {
    name: &'static str,
    package: &'static str,
    without: Level,
    costs: &'static str,
}

const TOOLS: [Tool; 6] = [
    Tool {
        name: "ip",
        package: "iproute2",
        without: Level::Fail,
        costs: "no app can be given a way out, and none starts",
    },
    Tool {
        name: "nft",
        package: "nftables",
        without: Level::Fail,
        costs: "no app can be given a way out, and the daemon does not start",
    },
    Tool { name: "git", package: "git", without: Level::Fail, costs: "nobody can push" },
    Tool {
        name: "mmdebstrap",
        package: "mmdebstrap",
        without: Level::Warn,
        costs: "the base system cannot be made from Debian packages (P204)",
    },
    Tool {
        name: "mkfs.ext4",
        package: "e2fsprogs",
        without: Level::Warn,
        costs: "no volume can have a `--size` (P524)",
    },
    Tool {
        name: "iptables",
        package: "iptables",
        without: Level::Warn,
        costs: "beside Docker or a closed FORWARD chain, apps reach nothing outside",
    },
];

pub(super) fn checks(config: &Config) -> Vec<Check> {
    // Where the engine and the builder look for them, too.
    let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
    let find = |name: &str| {
        folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
    };
    let is_needed = |tool: &&Tool| tool.name != "mmdebstrap" || config.base.is_none();
    TOOLS.iter().filter(is_needed).map(|tool| judge(tool, find(tool.name))).collect()
}

fn judge(tool: &Tool, found: Option<PathBuf>) -> Check {
    match found {
        Some(path) => fine(AREA, tool.name, path.display().to_string()),
        None => {
            let next = format!("apt-get install {}", tool.package);
            trouble(check(AREA, tool.name, tool.without, "not there"), tool.costs, &next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_told_with_its_package() {
        let check = judge(&TOOLS[3], None);
        assert_eq!(check.level, Level::Warn);
        assert_eq!(check.next.as_deref(), Some("apt-get install mmdebstrap"));
        assert_eq!(judge(&TOOLS[0], Some("/bin/ip".into())).found, "/bin/ip");
    }
}
