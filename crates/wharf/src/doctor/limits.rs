//! Bounds of the machine that many apps run into together.

use rustix::process::{Resource, getrlimit};

use super::{check, fine, number, trouble};
use crate::api::doctor::{Check, Level};

const AREA: &str = "limits";

/// One bound, and from where on it is in the way.
struct Bound {
    name: &'static str,
    found: Option<u64>,
    enough: u64,
    costs: &'static str,
    next: &'static str,
}

pub(super) fn checks() -> Vec<Check> {
    let files = getrlimit(Resource::Nofile).maximum;
    [
        Bound {
            name: "open files",
            found: files,
            enough: 65_536,
            costs: "fewer connections at once, and less for apps than they may ask for",
            next: "LimitNOFILE=1048576 in the unit, or ulimit -n",
        },
        Bound {
            name: "pids",
            found: number("/proc/sys/kernel/pid_max"),
            enough: 32_768,
            costs: "fewer processes and threads on the machine than apps may have together",
            next: "sysctl kernel.pid_max=4194304",
        },
        Bound {
            name: "threads",
            found: number("/proc/sys/kernel/threads-max"),
            enough: 32_768,
            costs: "fewer processes and threads on the machine than apps may have together",
            next: "sysctl kernel.threads-max=200000",
        },
        Bound {
            name: "inotify instances",
            found: number("/proc/sys/fs/inotify/max_user_instances"),
            enough: 128,
            costs: "apps that watch files fail, a few of each app's processes at once",
            next: "sysctl fs.inotify.max_user_instances=512",
        },
        Bound {
            name: "inotify watches",
            found: number("/proc/sys/fs/inotify/max_user_watches"),
            enough: 8_192,
            costs: "apps that watch many files fail",
            next: "sysctl fs.inotify.max_user_watches=524288",
        },
    ]
    .into_iter()
    .map(|bound| judge(&bound))
    .collect()
}

fn judge(bound: &Bound) -> Check {
    match bound.found {
        Some(found) if found < bound.enough => {
            let found = format!("{found}, {} are better", bound.enough);
            trouble(check(AREA, bound.name, Level::Warn, found), bound.costs, bound.next)
        }
        Some(found) => fine(AREA, bound.name, found.to_string()),
        None => fine(AREA, bound.name, "no bound"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_is_too_low_is_told_with_what_is_better() {
        let bound = |found| Bound { name: "x", found, enough: 10, costs: "c", next: "n" };
        assert_eq!(judge(&bound(Some(10))).level, Level::Ok);
        assert_eq!(judge(&bound(None)).found, "no bound");
        let low = judge(&bound(Some(9)));
        assert_eq!((low.level, low.found.as_str()), (Level::Warn, "9, 10 are better"));
    }
}
