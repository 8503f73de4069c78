//! crun and runc, on the bundle our own engine wrote, with what that leaves out: the root mounted, the
//! namespaces and their users made by them, and the filter of system calls as a profile for one
//! architecture.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Result;
use crate::side::{Side, call, number};
use crate::wharf::CGROUP;

/// The names of our own list, read where they stand.
const OWN_LIST: &str = include_str!("../../src/seccomp/mod.rs");

pub(crate) struct Oci {
    program: String,
    folder: PathBuf,
    bundle: Value,
}

impl Oci {
    pub(crate) fn open(program: &str, folder: &Path, bundle: &Value) -> Result<Self> {
        let folder = folder.join(program);
        fs::create_dir_all(folder.join("state"))?;
        let mut bundle = bundle.clone();
        bundle["linux"]["seccomp"] = profile();
        let own = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/tmp"];
        let mounts = bundle["mounts"].as_array_mut().ok_or("a bundle has mounts")?;
        mounts.retain(|mount| !own.iter().any(|own| mount["destination"] == **own));
        mounts.push(json!({ "destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
                            "options": ["nosuid", "nodev", "mode=1777", "size=64m"] }));
        Ok(Self { program: program.to_owned(), folder, bundle })
    }

    fn call(&self, words: &[&str]) -> Result<String> {
        let state = self.folder.join("state");
        let root = ["--root", state.to_str().ok_or("a path is text")?];
        call(&self.program, &[&root, words].concat())
    }

    fn place(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }
}

fn profile() -> Value {
    let names = OWN_LIST.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    let names: Vec<_> = names.filter_map(|word| word.strip_prefix("SYS_")).collect();
    json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{ "names": names, "action": "SCMP_ACT_ALLOW" }] })
}

impl Side for Oci {
    fn name(&self) -> &str {
        &self.program
    }

    fn start(&self, id: &str, script: &str) -> Result<u32> {
        let place = self.place(id);
        for folder in ["upper", "work", "merged"] {
            fs::create_dir_all(place.join(folder))?;
        }
        let path = |name: &str| place.join(name).display().to_string();
        let root = self.folder.with_file_name("root").display().to_string();
        let options =
            format!("lowerdir={root},upperdir={},workdir={}", path("upper"), path("work"));
        nix::mount::mount(
            Some("overlay"),
            &place.join("merged"),
            Some("overlay"),
            nix::mount::MsFlags::empty(),
            Some(options.as_str()),
        )?;
        let mut bundle = self.bundle.clone();
        bundle["root"] = json!({ "path": path("merged"), "readonly": false });
        bundle["process"]["args"] = json!(["/bin/sh", "-c", script]);
        bundle["linux"]["cgroupsPath"] = json!(format!("/{CGROUP}/{}-{id}", self.program));
        fs::write(place.join("config.json"), bundle.to_string())?;
        let pid = place.join("pid");
        let (bundle, file) = (place.display().to_string(), pid.display().to_string());
        self.call(&["run", "--detach", "--bundle", &bundle, "--pid-file", &file, id])?;
        number(&pid)
    }

    fn exec(&mut self, id: &str) -> Result<()> {
        self.call(&["exec", id, "/bin/true"]).map(drop)
    }

    fn terminate(&mut self, id: &str) -> Result<()> {
        self.call(&["kill", id, "TERM"]).map(drop)
    }

    fn remove(&mut self, id: &str) -> Result<()> {
        self.call(&["delete", "--force", id])?;
        nix::mount::umount(&self.place(id).join("merged"))?;
        Ok(fs::remove_dir_all(self.place(id))?)
    }

    fn group(&self) -> &str {
        CGROUP
    }

    fn carriers(&self) -> Vec<PathBuf> {
        // They leave; nobody keeps the log or learns how it ends.
        Vec::new()
    }
}
