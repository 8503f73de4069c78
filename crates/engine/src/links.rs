//! Links: what a container may reach of others, under which names. Plain values; the wire does it.
//!
//! In the container's state folder they are `links.json`, written whole and anew whenever something
//! changes; its `hosts` file has the names.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use crate::draft;
use crate::error::Error;

/// The file in the state folder.
const FILE: &str = "links.json";
const NAMES: &str = "names.json";

/// What the addresses of links begin with: loopback, so that nothing but the namespace itself knows
/// them, and no network that an app uses by itself.
pub const PREFIX: [u8; 2] = [127, 77];

/// One other app that a container may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// What it is called inside: `api.internal`.
    pub name: String,
    /// What the name means inside, one of [`PREFIX`].
    pub address: Ipv4Addr,
    /// The ports that are open, of TCP and of UDP.
    pub tcp: Vec<u16>,
    pub udp: Vec<u16>,
    /// The dial sockets of the containers that answer now.
    pub targets: Vec<PathBuf>,
}

/// Writes the file, whole; whoever may pass the folder may read it, as the wire does.
pub(crate) fn write(folder: &Path, all: &[Link]) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    let text = serde_json::to_vec(all).expect("plain values become JSON");
    let (path, draft) = (folder.join(FILE), folder.join(format!(".links.{}", draft::name())));
    let failed = Error::file("write", &path);
    let written = fs::write(&draft, text)
        .and_then(|()| fs::set_permissions(&draft, PermissionsExt::from_mode(0o644)))
        .and_then(|()| fs::rename(&draft, &path));
    written.map_err(failed)
}

/// Writes down the names beside links; root's alone.
pub(crate) fn write_names(folder: &Path, names: &[Name]) -> Result<(), Error> {
    let text = serde_json::to_vec(names).expect("plain values become JSON");
    crate::state::write_atomic(&folder.join(NAMES), &text)
}

/// The names that were written down.
pub(crate) fn read_names(folder: &Path) -> Vec<Name> {
    let text = fs::read(folder.join(NAMES)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// What the file says.
pub(crate) fn read(folder: &Path) -> io::Result<Vec<Link>> {
    serde_json::from_slice(&fs::read(folder.join(FILE))?).map_err(io::Error::other)
}

/// Writes `hosts` anew in its place: it is mounted into the container as the file it is.
pub(crate) fn write_hosts(path: &Path, text: &str) -> Result<(), Error> {
    use std::os::unix::fs::FileExt;
    let failed = Error::file("write", path);
    let write = || -> io::Result<()> {
        let file = fs::File::options().write(true).open(path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len().try_into().unwrap_or(u64::MAX))
    };
    write().map_err(failed)
}

/// A name with its addresses, for programs that are to ask no name server.
pub type Name = (String, Vec<Ipv4Addr>);

/// The `hosts` file of a container.
pub(crate) fn render_hosts(hostname: &str, links: &[Link], names: &[Name]) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost {hostname}\n");
    for link in links {
        text.push_str(&format!("{}\t{}\n", link.address, link.name));
    }
    for (name, addresses) in names {
        for address in addresses {
            text.push_str(&format!("{address}\t{name}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_the_container_itself_and_its_links() {
        let link = Link {
            name: "api.internal".into(),
            address: "127.77.1.2".parse().unwrap(),
            tcp: vec![8080],
            udp: vec![],
            targets: vec![],
        };
        let names = [("pay.example".to_owned(), vec!["1.2.3.4".parse().unwrap()])];
        let expected = "127.0.0.1\tlocalhost web-1\n::1\tlocalhost ip6-localhost web-1\n\
                        127.77.1.2\tapi.internal\n1.2.3.4\tpay.example\n";
        assert_eq!(render_hosts("web-1", &[link], &names), expected);
    }
}
