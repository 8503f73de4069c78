//! A container's state folder: where things are in it, and the status its shim keeps there.
//!
//! ```text
//! <run dir>/containers/<id>/      0711
//!   spec.json       0600  what was asked for; written before anything is made
//!   starter.json          who is starting it: until a shim has written its status
//!   status.json           written by the shim alone, always whole
//!   dial                  the socket that hands out sockets
//!   end             0600  how the app ended; written by PID 1
//!   log/            0700  what was printed and is not in the log yet
//!   asleep                there while its shim has it stand still
//!   in-hand         0600  locked by whoever has it stand still himself
//!   adopting              locked by a shim that takes the container over
//!   etc/                  hosts, hostname, resolv.conf
//!   names.json      0600  names that are known without a name server
//!   links.json            what it may reach of others, for its wire; written by the engine
//!   fs/             0700  l/ (short links to the layers), root/ (the mount's place)
//!   over-disk             there when it was ended for what it wrote
//!   lost.json             when it was first seen to have ended without an exit record
//!   wire.json       0600  who its wire is
//!   shim.log              what the shim could not tell anybody else
//! <scratch dir>/<id>/             tmp/, and upper/ and work/ of a root that is not kept
//! ```

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::draft;
use crate::error::Error;
use crate::kept::KeptAt;
use crate::log;
use crate::process::ProcessId;
use crate::spec::{ContainerSpec, ContainerStatus, ExitRecord, UpperSpec};

/// There when the container was ended because it wrote too much.
pub(crate) const OVER_DISK: &str = "over-disk";
/// There while its shim has it stand still.
pub(crate) const ASLEEP: &str = "asleep";
/// Locked by whoever has it stand still himself, for a moment.
pub(crate) const IN_HAND: &str = "in-hand";
/// Where what was printed is until it is in the log.
pub(crate) const SPOOLS: &str = "log";

/// What the shim writes down of itself and its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusFile {
    pub shim: ProcessId,
    /// The container's PID 1, from the moment it exists.
    pub init: Option<ProcessId>,
    /// The app's program has been started.
    pub is_running: bool,
    pub exit: Option<ExitRecord>,
    /// What PID 1 keeps for another shim; none where the shim was of a program that knew of no other.
    #[serde(default)]
    pub kept: Option<KeptAt>,
    /// So many shims in a row before this one did not live long.
    #[serde(default)]
    pub short_lives: u32,
}

impl StatusFile {
    /// What that means now that we look. Not being able to look is no end of anything.
    pub(crate) fn read_as(&self) -> Result<ContainerStatus, Error> {
        if let Some(exit) = &self.exit {
            return Ok(ContainerStatus::Exited(exit.clone()));
        }
        let is_alive = |process: ProcessId| process.is_alive().map_err(Error::kernel(LOOK));
        let init = match self.init {
            Some(init) => is_alive(init)?.then_some(init),
            None => None,
        };
        Ok(match (is_alive(self.shim)?, init) {
            (_, Some(init)) if self.is_running => ContainerStatus::Running { pid: init.pid },
            (true, _) if self.is_running => {
                // Ended, and the shim is about to write the record.
                ContainerStatus::Running { pid: self.init.map_or(0, |init| init.pid) }
            }
            (true, _) => ContainerStatus::Starting,
            (false, _) => ContainerStatus::Lost,
        })
    }
}

const LOOK: &str = "look at a process";

/// One state folder.
#[derive(Debug, Clone)]
pub(crate) struct StateFolder {
    pub path: PathBuf,
}

impl StateFolder {
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes the folder in one step: it is there with its spec, or it is not there.
    pub(crate) fn create(&self, spec: &ContainerSpec) -> Result<(), Error> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let draft = Self::at(parent.join(format!(".new-{}", spec.id)));
        let _ = fs::remove_dir_all(&draft.path);
        create_dir(&draft.path, 0o711)?;
        draft.write("spec.json", spec)?;
        draft.write("starter.json", &ProcessId::own())?;
        rename_new(&draft.path, &self.path).map_err(|error| {
            let _ = fs::remove_dir_all(&draft.path);
            match error {
                rustix::io::Errno::EXIST => Error::Exists(spec.id.clone()),
                _ => Error::file("create", &self.path)(error.into()),
            }
        })
    }

    pub(crate) fn spec(&self) -> Result<ContainerSpec, Error> {
        self.read("spec.json")?.ok_or_else(|| {
            Error::file("read", &self.join("spec.json"))(std::io::ErrorKind::NotFound.into())
        })
    }

    pub(crate) fn status_file(&self) -> Result<Option<StatusFile>, Error> {
        self.read("status.json")
    }

    /// Where the container is in its life, whoever has died meanwhile.
    pub(crate) fn status(&self) -> Result<ContainerStatus, Error> {
        if let Some(status) = self.status_file()? {
            let read = status.read_as()?;
            if read != ContainerStatus::Lost {
                return Ok(read);
            }
            // The shim may have written its last word between our reading and our looking.
            return match self.status_file()? {
                Some(again) => again.read_as(),
                None => Ok(read),
            };
        }
        let starter: Option<ProcessId> = self.read("starter.json")?.flatten();
        let is_starting = match starter {
            Some(starter) => starter.is_alive().map_err(Error::kernel(LOOK))?,
            None => false,
        };
        Ok(if is_starting { ContainerStatus::Starting } else { ContainerStatus::Lost })
    }

    /// When it ended: by its record, or when it was first seen to be lost, which is now if nobody has.
    pub(crate) fn ended_at(&self) -> Result<Option<u64>, Error> {
        if !self.path.is_dir() {
            return Ok(None);
        }
        match self.status()? {
            ContainerStatus::Exited(record) => return Ok(Some(record.at_millis)),
            ContainerStatus::Starting | ContainerStatus::Running { .. } => return Ok(None),
            ContainerStatus::Lost => {}
        }
        let known = self.told_lost()?;
        let now = u64::try_from(log::now().as_millis()).unwrap_or(u64::MAX);
        if known.is_none() {
            self.write("lost.json", &now)?;
        }
        Ok(Some(known.unwrap_or(now)))
    }

    /// When it was first said to have ended without an exit record: nothing else can be said after that.
    pub(crate) fn told_lost(&self) -> Result<Option<u64>, Error> {
        self.read("lost.json")
    }

    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), Error> {
        let text = serde_json::to_vec(value).expect("our own types have no maps with odd keys");
        write_atomic(&self.join(name), &text)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        let path = self.join(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", &path)(error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| Error::Garbled { path, source })
    }
}

/// The folder overlayfs works in while the container lives.
pub(crate) fn work_folder(spec: &ContainerSpec, scratch: &Path) -> PathBuf {
    match &spec.root.upper {
        UpperSpec::Discard => scratch.join("work"),
        UpperSpec::Keep(upper) => {
            upper.parent().unwrap_or(Path::new("/")).join(format!(".work-{}", spec.id))
        }
    }
}

/// A folder with exactly that mode, whatever the umask.
pub(crate) fn create_dir(path: &Path, mode: u32) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::file("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::file("create", path))
}

/// A file that is the old one or the new one whoever is killed, readable by root only.
///
/// Not synced: after a power cut no container lives and [`Engine::open`](crate::Engine::open) clears
/// the folders by the boot's id. A sync costs ten milliseconds where `/run` is no tmpfs, and a start
/// writes six files.
pub(crate) fn write_atomic(path: &Path, text: &[u8]) -> Result<(), Error> {
    let draft = path.with_extension(draft::name());
    let write = || -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft)?;
        file.write_all(text)?;
        fs::rename(&draft, path)
    };
    write().map_err(Error::file("write", path))
}

fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}
