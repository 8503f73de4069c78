//! The root all of them run in.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::Result;

const FOLDERS: [&str; 9] = ["bin", "etc", "dev", "proc", "sys", "tmp", "www", "work", "run"];
const APPLETS: [&str; 10] =
    ["sh", "true", "sleep", "httpd", "dd", "cat", "echo", "kill", "rm", "sync"];

pub(crate) fn make_root(root: &Path) -> Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    for open in ["tmp", "work"] {
        fs::set_permissions(root.join(open), PermissionsExt::from_mode(0o1777))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    for file in ["hosts", "hostname", "resolv.conf"] {
        fs::write(root.join("etc").join(file), "")?;
    }
    fs::write(root.join("www/index.html"), "hello\n")?;
    Ok(())
}
