//! One slot: a network namespace with a wire to the host. Made, settled, and unmade.
//!
//! A bind mount keeps it until somebody lives in it, and no longer: every start copies the machine's
//! table of mounts, and lets go again of each namespace in it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::Error;
use crate::network::namespace;
use crate::network::netlink::{End, Hardware, Netlink};
use crate::network::outbound::{OutboundConfig, Slot};
use crate::process::own_mounts;

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
fn hardware(address: Ipv4Addr) -> Hardware {
    let [a, b, c, d] = address.octets();
    // The 2 says that no maker has given it.
    [0x02, 0x57, a, b, c, d]
}

/// Makes slot `index`. The file is the slot: a link without file is an orphan that `unmake` takes.
pub(crate) fn make(config: &OutboundConfig, index: u32) -> Result<Slot, Error> {
    let path = folder(config).join(index.to_string());
    File::create(&path).map_err(Error::file("create", &path))?;
    let [host, address] = config.range.slot(index);
    let link = link(config, index);
    let here = Path::new("/proc/thread-self/ns/net");
    let home = File::open(here).map_err(Error::file("open", here))?;
    // A thread may have a namespace of its own. It ends with its namespace, so no other work can ever be
    // done in the wrong place.
    let build = || -> Result<(), Error> {
        namespace::enter_new()?;
        bind(here, &path)?;
        // Version 6 has no way out; without an address programs do not try.
        namespace::set(&[("ipv6/conf/default/disable_ipv6", "1")]);
        let inside = Netlink::open()?;
        let near = End { name: "eth0", hardware: hardware(address) };
        let far = End { name: &link, hardware: hardware(host) };
        inside.add_wire(&near, &far, home.as_fd())?;
        inside.settle_end("eth0", address, (host, hardware(host)))?;
        inside.add_default_route(host)
    };
    let built = std::thread::scope(|scope| scope.spawn(build).join());
    built.unwrap_or_else(|_| Err(Error::BadSpec("making a network namespace panicked".into())))?;
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1");
    Netlink::open()?.settle_end(&link, host, (address, hardware(address)))?;
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
    // A namespace that nobody lives in takes its wire along, maybe this moment.
    Netlink::open()?.remove(&link)?;
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
    let devices = Path::new("/proc/thread-self/net/dev");
    let text = fs::read_to_string(devices).map_err(Error::file("read", devices))?;
    // `wharf-3: 0 0 …`, below two lines of heads.
    let names = text.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
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
