//! runc on a bundle that our engine made: the field's own runtime, as the cross-check.

use std::path::Path;

use crate::bench::{Bench, USERS};

const RUNC: &str = "/usr/sbin/runc";

/// Runs the bundle of a container of ours in runc; what it printed. None: there is no runc.
pub(crate) fn run(bench: &Bench, id: &str) -> Option<String> {
    if !Path::new(RUNC).exists() {
        return None;
    }
    // runc gets a plain root, since ours was mounted where only the shim could see it.
    let bundle = bench.path("bundle");
    std::fs::create_dir_all(&bundle).unwrap();
    let mut config = bench.engine.bundle(id).unwrap();
    config["root"]["path"] = bench.path("base").display().to_string().into();
    config["linux"]["cgroupsPath"] = format!("/{}/runc", bench.cgroup_parent).into();
    // The shim's user namespace is gone with it: runc makes one of the same users, and the plain root
    // is given to them.
    let users = serde_json::json!([{ "containerID": 0, "hostID": USERS, "size": 65536 }]);
    config["linux"]["uidMappings"] = users.clone();
    config["linux"]["gidMappings"] = users;
    for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
        namespace.as_object_mut().unwrap().remove("path");
    }
    for folder in ["", "etc", "app"] {
        let folder = bench.path("base").join(folder);
        std::os::unix::fs::chown(folder, Some(USERS), Some(USERS)).unwrap();
    }
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test runs a program of the host")]
    let output = std::process::Command::new(RUNC)
        .args(["--root".as_ref(), bench.path("runc").as_os_str()])
        .args(["run".as_ref(), "--bundle".as_ref(), bundle.as_os_str(), "r".as_ref()])
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
