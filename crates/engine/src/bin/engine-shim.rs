//! The hidden roles alone, as a program for the engine's own tests: a test binary has threads before
//! it runs a line of ours, and a shim must not. The shipped binary has the same ones.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let code = match args.split_first() {
        Some((role, rest)) if role == "shim" => engine::shim::shim_main(rest),
        Some((role, rest)) if role == "shim-exec" => engine::exec::shim_exec_main(rest),
        Some((role, rest)) if role == "wire" => engine::wire::wire_main(rest),
        Some((role, rest)) if role == "stash" => engine::stash::stash_main(rest),
        _ => 2,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
