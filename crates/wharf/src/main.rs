//! Chooses the role before any thread exists, prints the error, sets the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    wharf::roles::run()
}
