//! Word of every change of the machine's nftables rules, whoever made it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};

use crate::error::Error;

/// The kernel's group of nftables changes, as a bit.
const NFTABLES: u32 = 1 << 6;

/// A descriptor that is readable once something has changed.
#[derive(Debug)]
pub struct Changes(OwnedFd);

impl Changes {
    /// Listens in this thread's network namespace from now on.
    pub fn open() -> Result<Self, Error> {
        let doing = "listen to changes of the firewall";
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER))
            .map_err(Error::kernel(doing))?;
        bind(&socket, &SocketAddrNetlink::new(0, NFTABLES)).map_err(Error::kernel(doing))?;
        Ok(Self(socket))
    }

    /// Takes all there is to hear; it says only that something changed.
    pub fn drain(&self) {
        let mut buffer = [0; 8192];
        // Too much at once is an error of its own, and a change all the same.
        while matches!(
            recv(&self.0, &mut buffer[..], RecvFlags::empty()),
            Ok(_) | Err(rustix::io::Errno::NOBUFS)
        ) {}
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Changes {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
