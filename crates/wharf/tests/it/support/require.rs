//! What a test needs of the machine. Without it the test says so and passes; `REQUIRE=root,network`
//! turns the silence into a failure.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Whether the machine has all of these: `root`, `network`, `mmdebstrap`.
pub(crate) fn require(needs: &[&str]) -> bool {
    let required = std::env::var("REQUIRE").unwrap_or_default();
    for need in needs {
        if has(need) {
            continue;
        }
        let is_required = required.split(',').any(|name| name == *need);
        assert!(!is_required, "REQUIRE={required}, but there is no {need}");
        println!("skipped: needs {need}");
        return false;
    }
    true
}

fn has(need: &str) -> bool {
    match need {
        "root" => rustix::process::geteuid().is_root(),
        "network" => {
            let addresses = "registry.npmjs.org:443".to_socket_addrs();
            addresses.is_ok_and(|mut addresses| {
                let limit = Duration::from_secs(5);
                addresses.any(|address| TcpStream::connect_timeout(&address, limit).is_ok())
            })
        }
        program => std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        }),
    }
}
