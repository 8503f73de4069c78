//! Containers of several makers side by side, for `make bench-engine`: the same busybox root, the same
//! limits and the same filter of system calls, started by the same program, in turns.
//!
//! `bench FOLDER SHIM ROUNDS [CASES [SIDE]...]` prints one JSON object a line: `case`,
//! `side` and the figures of every round, in milliseconds unless the case says otherwise. CASES is `all`
//! or some of `life,crowd,network,work`; a SIDE is `crun`, `runc`, `docker HOST IMAGE`, or
//! `and SHIM`: an older shim of ours.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

mod cases;
mod crowd;
mod docker;
mod network;
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
    let [folder, shim, rounds, more @ ..] = words.as_slice() else {
        return Err("usage: bench FOLDER SHIM ROUNDS [CASES [SIDE]...]".into());
    };
    let (cases, mut more) = more.split_first().map_or(("all", more), |(one, rest)| (one, rest));
    let folder = Path::new(folder);
    place::make_root(&folder.join("root"))?;
    let mut wharf = wharf::Wharf::open("Wharf", folder, Path::new(shim))?;
    let bundle = wharf.bundle()?;
    let mut sides: Vec<Box<dyn Side>> = vec![Box::new(wharf)];
    while let [word, rest @ ..] = more {
        more = match (word.as_str(), rest) {
            ("docker", [host, image, rest @ ..]) => {
                sides.push(Box::new(docker::Docker::new(host, image)));
                rest
            }
            ("and", [shim, rest @ ..]) => {
                sides.push(Box::new(wharf::Wharf::open("before", folder, Path::new(shim))?));
                rest
            }
            ("crun" | "runc", rest) => {
                sides.push(Box::new(oci::Oci::open(word, folder, &bundle)?));
                rest
            }
            _ => return Err(format!("`{word}` is no side").into()),
        };
    }
    cases::run(&mut sides, rounds.parse()?, cases, folder)
}
