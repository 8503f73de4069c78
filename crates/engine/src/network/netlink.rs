//! Wires, their addresses and neighbours, by the kernel's own messages (rtnetlink(7)) and for this
//! thread's network namespace.
//!
//! Not by `ip`: to start it costs milliseconds, several times for each wire, and some of its verbs list
//! every link of the machine before they begin.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use crate::error::Error;

/// `VETH_INFO_PEER` of linux/veth.h.
const PEER: u16 = 1;
/// `IFA_ADDRESS` and `IFA_LOCAL`: the same for a link that is no tunnel.
const ADDRESSES: [u16; 2] = [libc::IFA_ADDRESS, libc::IFA_LOCAL];
const HEADER: usize = 16;

/// A hardware address.
pub(crate) type Hardware = [u8; 6];

/// One end of a wire.
#[derive(Debug)]
pub(crate) struct End<'a> {
    pub name: &'a str,
    pub hardware: Hardware,
}

/// A conversation with the kernel.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    pub(crate) fn open() -> Result<Self, Error> {
        // Without a protocol it is that of routes, which is the first.
        let socket =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None);
        socket.map(Self).map_err(Error::kernel("speak with the kernel of links"))
    }

    /// Makes a wire from here to the namespace `home`.
    pub(crate) fn add_wire(
        &self,
        near: &End<'_>,
        far: &End<'_>,
        home: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let home = home.as_raw_fd().unsigned_abs();
        let mut peer = Body::link(0, 0);
        peer.end(far);
        peer.attribute(libc::IFLA_NET_NS_FD, &home.to_ne_bytes());
        let mut data = Body::default();
        data.attribute(PEER, &peer.0);
        let mut info = Body::default();
        info.attribute(libc::IFLA_INFO_KIND, b"veth");
        info.attribute(libc::IFLA_INFO_DATA, &data.0);
        let mut link = Body::link(0, 0);
        link.end(near);
        link.attribute(libc::IFLA_LINKINFO, &info.0);
        let is_new = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        self.ask(libc::RTM_NEWLINK, is_new, &link).map_err(Error::kernel("make a wire"))
    }

    /// Gives a link its address, sets it up, and tells it who is at the other end.
    pub(crate) fn settle_end(
        &self,
        name: &str,
        own: Ipv4Addr,
        (other, hardware): (Ipv4Addr, Hardware),
    ) -> Result<(), Error> {
        let doing = "give a wire its address";
        let index = name_to_index(&self.0, name).map_err(Error::kernel(doing))?;
        let new = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut address = Body::default();
        address.bytes(&[INET, 30, 0, 0]);
        address.bytes(&index.to_ne_bytes());
        ADDRESSES.into_iter().for_each(|kind| address.attribute(kind, &own.octets()));
        self.ask(libc::RTM_NEWADDR, new, &address).map_err(Error::kernel(doing))?;
        let up = libc::IFF_UP.unsigned_abs();
        self.ask(libc::RTM_NEWLINK, 0, &Body::link(index, up)).map_err(Error::kernel(doing))?;
        let mut neighbour = Body::default();
        neighbour.bytes(&[INET, 0, 0, 0]);
        neighbour.bytes(&index.to_ne_bytes());
        neighbour.bytes(&libc::NUD_PERMANENT.to_ne_bytes());
        neighbour.bytes(&[0, libc::RTN_UNICAST]);
        neighbour.attribute(libc::NDA_DST, &other.octets());
        neighbour.attribute(libc::NDA_LLADDR, &hardware);
        self.ask(libc::RTM_NEWNEIGH, new, &neighbour).map_err(Error::kernel(doing))
    }

    /// Sends what has no other way there.
    pub(crate) fn add_default_route(&self, by: Ipv4Addr) -> Result<(), Error> {
        let mut route = Body::default();
        let (table, origin) = (libc::RT_TABLE_MAIN, libc::RTPROT_BOOT);
        let kind = [table, origin, libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST];
        route.bytes(&[INET, 0, 0, 0]);
        route.bytes(&kind);
        route.bytes(&0_u32.to_ne_bytes());
        route.attribute(libc::RTA_GATEWAY, &by.octets());
        self.ask(libc::RTM_NEWROUTE, libc::NLM_F_CREATE, &route)
            .map_err(Error::kernel("give a namespace its way out"))
    }

    /// Removes a link; one that is not there is fine.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Error> {
        let mut link = Body::link(0, 0);
        link.name(name);
        match self.ask(libc::RTM_DELLINK, 0, &link) {
            Err(Errno::NODEV) => Ok(()),
            other => other.map_err(Error::kernel("remove a wire")),
        }
    }

    /// One question, and what the kernel says to it.
    fn ask(&self, kind: u16, flags: i32, body: &Body) -> rustix::io::Result<()> {
        let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags;
        let mut message = Vec::with_capacity(HEADER + body.0.len());
        let length = u32::try_from(HEADER + body.0.len()).map_err(|_| Errno::MSGSIZE)?;
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(u16::try_from(flags).map_err(|_| Errno::INVAL)?.to_ne_bytes());
        // One question at a time: nothing is to be told apart by its number or its sender.
        message.extend([0; 8]);
        message.extend(&body.0);
        sendto(&self.0, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = [0; 1024];
        let (length, _) = recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let code = answer[..length].get(HEADER..HEADER + 4).ok_or(Errno::BADMSG)?;
        match i32::from_ne_bytes(code.try_into().map_err(|_| Errno::BADMSG)?) {
            0 => Ok(()),
            code => Err(Errno::from_raw_os_error(-code)),
        }
    }
}

/// What follows a message's header: a fixed part, then attributes.
#[derive(Debug, Default)]
struct Body(Vec<u8>);

const INET: u8 = 2;

impl Body {
    /// `ifinfomsg`, with flags to set.
    fn link(index: u32, flags: u32) -> Self {
        let mut body = Self(vec![0; 4]);
        body.bytes(&index.to_ne_bytes());
        body.bytes(&flags.to_ne_bytes());
        body.bytes(&flags.to_ne_bytes());
        body
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }

    fn end(&mut self, end: &End<'_>) {
        self.name(end.name);
        self.attribute(libc::IFLA_ADDRESS, &end.hardware);
    }

    fn name(&mut self, name: &str) {
        self.attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    }

    /// Each begins at a multiple of four.
    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes(&length.to_ne_bytes());
        self.bytes(&kind.to_ne_bytes());
        self.bytes(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_says_its_length_and_is_padded() {
        let mut body = Body::default();
        body.name("eth0");
        let mut expected = 9_u16.to_ne_bytes().to_vec();
        expected.extend(libc::IFLA_IFNAME.to_ne_bytes());
        expected.extend(b"eth0\0\0\0\0");
        assert_eq!(body.0, expected);
    }
}
