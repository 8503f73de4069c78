//! Entering network namespaces. A process that enters one stays there: only the hidden roles do.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::error::Error;
use crate::sys;

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
    let _ = std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    let _ = std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
}
