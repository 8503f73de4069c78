//! One slot: a network namespace with a wire to the host. Made, settled, and unmade.
//!
//! A bind mount keeps it until somebody lives in it, and no longer: every start copies the machine's
//! table of mounts, and lets go again of each namespace in it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::Error;
use crate::network::namespace;
use crate::network::outbound::{OutboundConfig, Slot};
use crate::process::{own_mounts, run};

/// The Debian package of `ip`.
const IP_PACKAGE: &str = "iproute2";

/// Where slots are kept.
pub(crate) fn folder(config: &OutboundConfig) -> PathBuf {
    config.run_dir.join("net")
}

fn link(config: &OutboundConfig, index: u32) -> String {
    format!("{}{index}", config.prefix)
}

/// The hardware address of one end of a wire. Both ends know each other's from the beginning: nobody has
/// to ask, and the kernel's table of neighbours, which all namespaces share and which is full with 1,024
/// that were found by asking, does not count those it was told.
fn hardware(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    // The 2 says that no maker has given it.
    format!("02:57:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Makes slot `index`. The file is the slot: a link without file is an orphan that `unmake` takes.
pub(crate) fn make(config: &OutboundConfig, index: u32) -> Result<Slot, Error> {
    let path = folder(config).join(index.to_string());
    File::create(&path).map_err(Error::file("create", &path))?;
    let [host, address] = config.range.slot(index);
    let link = link(config, index);
    let home = format!("/proc/self/task/{}/ns/net", rustix::thread::gettid().as_raw_nonzero());
    // `self` would be `ip` itself once it reads the path.
    let home = home.replace("self", &std::process::id().to_string());
    // A thread may have a namespace of its own, and what it runs is born there. It ends with its
    // namespace, so no other work can ever be done in the wrong place.
    let (near, far) = (hardware(address), hardware(host));
    let inside = format!(
        "link add eth0 address {near} type veth peer name {link} address {far} netns {home}\n\
         addr add {address}/30 dev eth0\nlink set eth0 up\nroute add default via {host}\n\
         neigh add {host} lladdr {far} dev eth0 nud permanent\n"
    );
    let build = || -> Result<(), Error> {
        namespace::enter_new()?;
        bind(Path::new("/proc/thread-self/ns/net"), &path)?;
        // Version 6 has no way out; without an address programs do not try.
        let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        run("ip", IP_PACKAGE, &["-batch", "-"], Some(&inside)).map(drop)
    };
    let built = std::thread::scope(|scope| scope.spawn(build).join());
    built.unwrap_or_else(|_| Err(Error::BadSpec("making a network namespace panicked".into())))?;
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1");
    let outside = format!(
        "addr add {host}/30 dev {link}\nlink set {link} up\n\
         neigh add {address} lladdr {near} dev {link} nud permanent\n"
    );
    run("ip", IP_PACKAGE, &["-batch", "-"], Some(&outside))?;
    Ok(Slot { path, index, address })
}

/// Takes slot `index` out of the table of mounts: from here on whoever lives in it keeps it. Its file
/// stays, and says that the number is in use. What is not there is fine.
pub(crate) fn settle(config: &OutboundConfig, index: u32) {
    let _ = umount2(&folder(config).join(index.to_string()), MntFlags::MNT_DETACH);
}

/// Every slot that a mount keeps.
pub(crate) fn kept(config: &OutboundConfig) -> BTreeSet<u32> {
    numbers(&own_mounts(), &folder(config))
}

fn numbers(mounts: &str, folder: &Path) -> BTreeSet<u32> {
    let namespaces = mounts.lines().filter(|line| line.contains(" - nsfs "));
    let places = namespaces.filter_map(|line| line.split(' ').nth(4).map(Path::new));
    let own = places.filter(|place| place.parent() == Some(folder));
    own.filter_map(|place| place.file_name()?.to_str()?.parse().ok()).collect()
}

/// Lets go of slot `index`. A namespace somebody still lives in stays until they leave; its wire is
/// cut. What is not there is fine.
pub(crate) fn unmake(config: &OutboundConfig, index: u32) -> Result<(), Error> {
    let link = link(config, index);
    match run("ip", IP_PACKAGE, &["link", "del", &link], None) {
        // A namespace that nobody lives in takes its wire along, maybe this moment.
        Err(Error::Program { output, .. })
            if output.contains("Cannot find device") || output.contains("No such device") => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    settle(config, index);
    let path = folder(config).join(index.to_string());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::file("remove", &path)(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Every index of which a file or a link is left, by our names only.
pub(crate) fn left(config: &OutboundConfig) -> Result<Vec<u32>, Error> {
    let folder = folder(config);
    let mut all = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::file("read", &folder))?.flatten() {
        all.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    let links = run("ip", IP_PACKAGE, &["-o", "link", "show", "type", "veth"], None)?;
    // `7: wharf-3@if2: <BROADCAST…`
    let names = links.lines().filter_map(|line| line.split(": ").nth(1)?.split('@').next());
    all.extend(names.filter_map(|name| name.strip_prefix(&config.prefix)?.parse::<u32>().ok()));
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn bind(from: &Path, to: &Path) -> Result<(), Error> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(Error::kernel("keep a network namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_a_mount_keeps_are_told_from_all_other_mounts() {
        let mounts = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
70 27 0:4 net:[4026532301] /run/wharf/net/7 rw shared:9 - nsfs nsfs rw
71 27 0:4 net:[4026532302] /run/other/net/8 rw - nsfs nsfs rw
72 27 0:4 net:[4026532303] /run/wharf/net/range rw - nsfs nsfs rw
73 27 0:30 / /run/wharf/net/9 rw - tmpfs tmpfs rw
";
        assert_eq!(numbers(mounts, Path::new("/run/wharf/net")), BTreeSet::from([7]));
    }
}
