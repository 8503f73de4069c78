//! Entering network namespaces. A process that enters one stays there: only the hidden roles do.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::error::Error;
use crate::shim::tree;
use crate::sys;
use crate::walls::PROC;

/// A new one with `lo` up: nothing in, nothing out.
pub(crate) fn enter_new() -> Result<(), Error> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(Error::kernel("make a network namespace"))?;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(Error::kernel("make a socket"))?;
    sys::loopback_up(socket.as_fd()).map_err(Error::kernel("set `lo` up"))?;
    open_low_ports();
    Ok(())
}

/// A prepared one, with `lo` up already.
pub(crate) fn enter(path: &Path) -> Result<(), Error> {
    let namespace = File::open(path).map_err(Error::file("open", path))?;
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(Error::kernel("enter the network namespace"))?;
    open_low_ports();
    Ok(())
}

/// In a namespace of its own an app may as well listen on 80, and ping its own address.
fn open_low_ports() {
    // Only a comfort: on a kernel without these, such apps say themselves what they miss.
    set(&[("ipv4/ip_unprivileged_port_start", "0"), ("ipv4/ping_group_range", "0 2147483647")]);
}

/// Sets what is below `/proc/sys/net` in the namespace this thread is in, as far as it goes.
///
/// In a proc of its own: the kernel keeps the names that were looked up there for every namespace in one
/// chain, which a thousand of them make a long one.
pub(crate) fn set(values: &[(&str, &str)]) {
    let own = tree::fresh(&PROC).ok();
    for (name, value) in values {
        let name = Path::new("sys/net").join(name);
        let opened = match &own {
            Some(proc) => openat(proc, &name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                .map(File::from)
                .map_err(std::io::Error::from),
            None => File::options().write(true).open(Path::new("/proc").join(&name)),
        };
        let _ = opened.and_then(|mut file| file.write_all(value.as_bytes()));
    }
}
