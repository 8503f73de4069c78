//! Which connections come to the wire: those to a link's address and open port, whoever else listens.
//!
//! A socket of the wire's own bound to `127.77.1.2:8080` would stand in the way of an app that listens
//! on `0.0.0.0:8080`, and the other way round: the kernel takes both for the same place. So the wire
//! listens once, elsewhere, and a program of the kernel's `sk_lookup` kind, attached to the network
//! namespace, hands it what is for a link. The accepted socket then has the address that was meant.
//! What is for a link's address and not in the table is refused, even if the app itself listens on
//! all addresses.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::links::PREFIX;
use crate::sys;

const MAP_HASH: u32 = 1;
const MAP_SOCKETS: u32 = 15;
/// More open ports than all links of a container have together.
const MOST_PORTS: u32 = 4096;

/// The program at work, and its table.
#[derive(Debug)]
pub(super) struct Steer {
    ports: OwnedFd,
    open: BTreeSet<u32>,
    /// Works for as long as these are open.
    _attached: [OwnedFd; 3],
}

impl Steer {
    /// Attaches to this process's network namespace; needs root.
    pub(super) fn attach(listener: BorrowedFd<'_>) -> io::Result<Self> {
        let ports = sys::bpf_map(MAP_HASH, 8, MOST_PORTS)?;
        let sockets = sys::bpf_map(MAP_SOCKETS, 8, 1)?;
        sys::bpf_set(sockets.as_fd(), 0, u64::from(listener.as_raw_fd().unsigned_abs()))?;
        let program = render_program(ports.as_raw_fd(), sockets.as_raw_fd());
        let program = sys::bpf_load_lookup(&program)?;
        let namespace = File::open("/proc/self/ns/net")?;
        let attached = sys::bpf_attach_lookup(program.as_fd(), namespace.as_fd())?;
        Ok(Self { ports, open: BTreeSet::new(), _attached: [attached, program, sockets] })
    }

    /// Opens these and closes all others; connections that are there stay.
    pub(super) fn set(&mut self, places: impl Iterator<Item = SocketAddrV4>) -> io::Result<()> {
        let wanted: BTreeSet<u32> = places.map(key).collect();
        for &closed in self.open.difference(&wanted) {
            sys::bpf_unset(self.ports.as_fd(), closed)?;
        }
        for &opened in wanted.difference(&self.open) {
            sys::bpf_set(self.ports.as_fd(), opened, 1)?;
        }
        self.open = wanted;
        Ok(())
    }
}

/// The second half of the address and the port.
fn key(place: SocketAddrV4) -> u32 {
    let [_, _, high, low] = place.ip().octets();
    let [port_high, port_low] = place.port().to_be_bytes();
    u32::from_be_bytes([high, low, port_high, port_low])
}

/// One instruction: code, registers, offset, number.
fn code(code: u8, [to, from]: [u8; 2], offset: i16, number: i32) -> u64 {
    let ([o1, o2], [n1, n2, n3, n4]) = (offset.to_le_bytes(), number.to_le_bytes());
    u64::from_le_bytes([code, to | from << 4, o1, o2, n1, n2, n3, n4])
}

const LOAD_WORD: u8 = 0x61;
const STORE_WORD: u8 = 0x63;
const STORE_NUMBER: u8 = 0x62;
const LOAD_MAP: u8 = 0x18;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const AND: u8 = 0x57;
const OR: u8 = 0x4f;
const SHIFT_LEFT: u8 = 0x67;
const SHIFT_RIGHT: u8 = 0x77;
const BIG_ENDIAN: u8 = 0xdc;
const UNLESS: u8 = 0x55;
const IF: u8 = 0x15;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

const MAP_LOOKUP: i32 = 1;
const RELEASE: i32 = 86;
const ASSIGN: i32 = 124;

const REFUSE: i32 = 0;
const GO_ON: i32 = 1;

/// Instructions for the kernel: TCP over version 4, to an address of ours? Then with an open port the
/// socket is the wire's, and with another there is none.
fn render_program(ports: i32, sockets: i32) -> Vec<u64> {
    let prefix = i32::from(PREFIX[0]) << 8 | i32::from(PREFIX[1]);
    // Jumps with offset 0 lead to the one end or the other, and are filled in below.
    let mut program = vec![
        code(COPY, [6, 1], 0, 0),
        // Family and protocol.
        code(LOAD_WORD, [2, 6], 8, 0),
        code(UNLESS, [2, 0], 0, libc::AF_INET),
        code(LOAD_WORD, [2, 6], 12, 0),
        code(UNLESS, [2, 0], 0, libc::IPPROTO_TCP),
        // The address that is meant, as a number, and the port, which is one already.
        code(LOAD_WORD, [3, 6], 40, 0),
        code(BIG_ENDIAN, [3, 0], 0, 32),
        code(LOAD_WORD, [4, 6], 60, 0),
        code(COPY, [5, 3], 0, 0),
        code(SHIFT_RIGHT, [5, 0], 0, 16),
        code(UNLESS, [5, 0], 0, prefix),
        // The key is there?
        code(AND, [3, 0], 0, 0xffff),
        code(SHIFT_LEFT, [3, 0], 0, 16),
        code(OR, [3, 4], 0, 0),
        code(STORE_WORD, [10, 3], -4, 0),
        code(LOAD_MAP, [1, 1], 0, ports),
        0,
        code(COPY, [2, 10], 0, 0),
        code(ADD, [2, 0], 0, -4),
        code(CALL, [0, 0], 0, MAP_LOOKUP),
        code(IF, [0, 0], 0, 0),
        // Then it is the wire's.
        code(STORE_NUMBER, [10, 0], -8, 0),
        code(LOAD_MAP, [1, 1], 0, sockets),
        0,
        code(COPY, [2, 10], 0, 0),
        code(ADD, [2, 0], 0, -8),
        code(CALL, [0, 0], 0, MAP_LOOKUP),
        code(IF, [0, 0], 0, 0),
        code(COPY, [7, 0], 0, 0),
        code(COPY, [1, 6], 0, 0),
        code(COPY, [2, 7], 0, 0),
        code(SET, [3, 0], 0, 0),
        code(CALL, [0, 0], 0, ASSIGN),
        code(COPY, [1, 7], 0, 0),
        code(CALL, [0, 0], 0, RELEASE),
        code(SET, [0, 0], 0, GO_ON),
        code(EXIT, [0, 0], 0, 0),
    ];
    let (go_on, refuse) = (program.len() - 2, program.len());
    for (at, instruction) in program.iter_mut().enumerate() {
        let [operation, ..] = instruction.to_le_bytes();
        let end = match operation {
            UNLESS => go_on,
            IF => refuse,
            _ => continue,
        };
        *instruction |= u64::try_from(end - at - 1).unwrap_or(0) << 16;
    }
    program.extend([code(SET, [0, 0], 0, REFUSE), code(EXIT, [0, 0], 0, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_number() {
        assert_eq!(key("127.77.1.2:8080".parse().unwrap()), 0x0102_1f90);
    }

    #[test]
    fn every_jump_leads_to_an_end() {
        let program = render_program(3, 4);
        let (go_on, refuse) = (program.len() - 4, program.len() - 2);
        for (at, instruction) in program.iter().enumerate() {
            let [operation, _, low, high, ..] = instruction.to_le_bytes();
            if operation == UNLESS || operation == IF {
                let offset = i16::from_le_bytes([low, high]);
                let end = if operation == IF { refuse } else { go_on };
                assert_eq!(at + 1 + usize::try_from(offset).unwrap(), end);
            }
        }
    }
}
