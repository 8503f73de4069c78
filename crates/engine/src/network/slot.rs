//! One slot: a network namespace kept by a bind mount, with a wire to the host. Made, and unmade.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::Error;
use crate::network::namespace;
use crate::network::outbound::{OutboundConfig, Slot};
use crate::process::run;

/// The Debian package of `ip`.
const IP_PACKAGE: &str = "iproute2";

/// Where slots are kept.
pub(crate) fn folder(config: &OutboundConfig) -> PathBuf {
    config.run_dir.join("net")
}

fn link(config: &OutboundConfig, index: u32) -> String {
    format!("{}{index}", config.prefix)
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
    let inside = format!(
        "link add eth0 type veth peer name {link} netns {home}\n\
         addr add {address}/30 dev eth0\nlink set eth0 up\nroute add default via {host}\n"
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
    let outside = format!("addr add {host}/30 dev {link}\nlink set {link} up\n");
    run("ip", IP_PACKAGE, &["-batch", "-"], Some(&outside))?;
    Ok(Slot { path, index, address })
}

/// Lets go of slot `index`. A namespace somebody still lives in stays until they leave; its wire is
/// cut. What is not there is fine.
pub(crate) fn unmake(config: &OutboundConfig, index: u32) -> Result<(), Error> {
    let link = link(config, index);
    match run("ip", IP_PACKAGE, &["link", "del", &link], None) {
        Err(Error::Program { output, .. }) if output.contains("Cannot find device") => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let path = folder(config).join(index.to_string());
    let _ = umount2(&path, MntFlags::MNT_DETACH);
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
