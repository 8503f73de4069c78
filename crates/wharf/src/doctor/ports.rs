//! Whether the doors are free, or ours; if not, whose.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;

use super::{Asked, check, fine, trouble};
use crate::api::doctor::{Check, Level};
use crate::config::Config;

const AREA: &str = "network";

pub(super) fn checks(config: &Config, asked: Asked) -> Vec<Check> {
    let has_proxy = match asked {
        Asked::Running { has_proxy } => has_proxy,
        Asked::Before => UnixStream::connect(config.proxy_socket()).is_ok(),
    };
    let visitors = config.listen.iter().chain(&config.listen_https);
    let mut doors: Vec<(SocketAddr, bool)> = visitors.map(|door| (*door, has_proxy)).collect();
    doors.push((config.api_listen, asked != Asked::Before));
    doors.sort();
    doors.dedup_by_key(|(door, _)| *door);
    let judged = doors.into_iter().map(|(door, is_ours)| {
        let found = if is_ours { Found::Ours } else { knock(door) };
        judge(door, &found)
    });
    judged.collect()
}

enum Found {
    Free,
    Ours,
    /// By whom, where that is to be seen.
    Taken(Option<String>),
    Closed(std::io::Error),
}

fn knock(door: SocketAddr) -> Found {
    match TcpListener::bind(door) {
        Ok(_) => Found::Free,
        Err(error) if error.kind() == ErrorKind::AddrInUse => Found::Taken(holder(door.port())),
        Err(error) => Found::Closed(error),
    }
}

fn judge(door: SocketAddr, found: &Found) -> Check {
    let name = format!("port {}", door.port());
    let costs = "nobody comes in there; the daemon or its proxy does not start";
    match found {
        Found::Free => fine(AREA, &name, format!("{door} is free")),
        Found::Ours => fine(AREA, &name, format!("{door} is ours")),
        Found::Taken(whose) => {
            let whose = whose.as_deref().map(|whose| format!(" by {whose}")).unwrap_or_default();
            let next = "end that, or choose another: listen, listen_https, api_listen";
            let found = format!("{door} is taken{whose}");
            trouble(check(AREA, &name, Level::Fail, found), costs, next)
        }
        Found::Closed(error) => {
            let next = "an address of this machine, and root for ports below 1024";
            let found = format!("{door} cannot be listened on: {error}");
            trouble(check(AREA, &name, Level::Fail, found), costs, next)
        }
    }
}

/// Who listens on that port here: `nginx (pid 812)`.
fn holder(port: u16) -> Option<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let tables = read("/proc/net/tcp") + &read("/proc/net/tcp6");
    let sockets: Vec<String> = tables
        .lines()
        .filter_map(|line| listener(line, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let links = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
        let mut links = links.filter_map(|link| link.into_os_string().into_string().ok());
        if links.any(|link| sockets.contains(&link)) {
            let program = read(&format!("/proc/{pid}/comm"));
            return Some(format!("{} (pid {pid})", program.trim()));
        }
    }
    None
}

/// The inode of a listener on that port, of a line of `/proc/net/tcp`.
fn listener(line: &str, port: u16) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, own) = fields.get(1)?.split_once(':')?;
    let is_it = *fields.get(3)? == "0A" && u16::from_str_radix(own, 16).ok()? == port;
    fields.get(9).copied().filter(|_| is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_door_is_told() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let door = held.local_addr().unwrap();
        let check = judge(door, &knock(door));
        assert_eq!(check.level, Level::Fail);
        let own = format!("(pid {})", std::process::id());
        assert!(check.found.contains(&own), "{check:?}");
        drop(held);
        assert_eq!(judge(door, &knock(door)).level, Level::Ok);
        let foreign = "192.0.2.1:0".parse().unwrap();
        assert_eq!(judge(foreign, &knock(foreign)).level, Level::Fail);
        assert_eq!(judge(door, &Found::Ours).found, format!("{door} is ours"));
    }
}
