//! Containers of several makers side by side, for `make bench-engine`: the same busybox root, the same
//! limits and the same filter of system calls, started by the same program, in turns.
//!
//! `bench FOLDER SHIM ROUNDS [DOCKER_HOST IMAGE]` prints one JSON object a line: `case`, `side` and the
//! figures of every round, in milliseconds unless the case says otherwise.

#![expect(clippy::print_stdout, reason = "its output is its result")]

mod cases;
mod docker;
mod oci;
mod place;
mod side;
mod wharf;

use std::error::Error;
use std::path::Path;

use side::Side;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (folder, shim, rounds, docker) = match words.as_slice() {
        [folder, shim, rounds] => (folder, shim, rounds, None),
        [folder, shim, rounds, host, image] => (folder, shim, rounds, Some((host, image))),
        _ => return Err("usage: bench FOLDER SHIM ROUNDS [DOCKER_HOST IMAGE]".into()),
    };
    let folder = Path::new(folder);
    place::make_root(&folder.join("root"))?;
    let mut wharf = wharf::Wharf::open(folder, Path::new(shim))?;
    let bundle = wharf.bundle()?;
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(wharf)];
    for program in ["crun", "runc"] {
        sides.push(Box::new(oci::Oci::open(program, folder, &bundle)?));
    }
    if let Some((host, image)) = docker {
        sides.push(Box::new(docker::Docker::new(host, image)));
    }
    cases::run(&mut sides, rounds.parse()?)
}
