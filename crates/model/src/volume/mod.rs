//! Volumes: storage with a name that outlives the replicas it is mounted in.
//!
//! A release says which volumes its processes see and where; what is in them is nobody's release. Two
//! layers say it, the app file and commands, and a command wins by the volume's name.

pub mod place;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use self::place::MountPoint;
use crate::name::{ProcessType, VolumeName};
use crate::size::ByteSize;

/// So many volumes one app may have.
pub const MOST_VOLUMES: usize = 32;

/// The smallest bound: a file system needs some of it for itself.
pub const LEAST_SIZE: ByteSize = ByteSize::mib(8);

/// Volumes by their names.
pub type Volumes = BTreeMap<VolumeName, VolumeSpec>;

/// What is said of one volume: a table `[[volumes]]` of the app file, or `volumes:add`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    pub name: VolumeName,
    /// Where it is inside.
    pub at: MountPoint,
    /// The one process type that has it; all of them where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessType>,
    /// The most it may hold: `"2G"`. No bound where nothing is said.
    #[serde(default, with = "size", skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    /// Never written by two replicas at once: its process type has one replica, and a deploy stops the
    /// old one before it starts the new one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single_writer: bool,
}

/// Who has volumes mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User<'a> {
    /// A replica of a process type.
    Process(&'a ProcessType),
    /// A one-off, or a release command: beside the replicas.
    Beside,
}

/// One volume as one container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub volume: VolumeName,
    pub at: MountPoint,
    pub is_read_only: bool,
}

/// What a replica does with volumes, as far as others must know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes {
    /// Those it can write to.
    pub volumes: BTreeSet<VolumeName>,
    /// Of those, the ones that nobody else may write to meanwhile.
    pub alone: BTreeSet<VolumeName>,
}

impl Writes {
    /// Whether the two may not live at once.
    pub fn clash(&self, other: &Self) -> bool {
        !self.alone.is_disjoint(&other.volumes) || !self.volumes.is_disjoint(&other.alone)
    }
}

impl VolumeSpec {
    /// The process type that alone writes to it, if only one may.
    pub fn writer(&self) -> Option<ProcessType> {
        self.single_writer.then(|| self.process.clone().unwrap_or_else(ProcessType::web))
    }

    /// How somebody sees it, if at all. What one replica alone may write to, others may read.
    fn mount(&self, user: User<'_>) -> Option<Mount> {
        let is_read_only = match (user, self.writer(), &self.process) {
            (User::Beside, writer, _) => writer.is_some(),
            (User::Process(process), Some(writer), _) if *process != writer => return None,
            (User::Process(process), None, Some(only)) if process != only => return None,
            (User::Process(_), _, _) => false,
        };
        Some(Mount { volume: self.name.clone(), at: self.at.clone(), is_read_only })
    }
}

impl std::fmt::Display for VolumeSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {}", self.at)?;
        if let Some(process) = self.writer().or_else(|| self.process.clone()) {
            write!(f, " for {process}")?;
        }
        if let Some(size) = self.size {
            write!(f, ", {size}")?;
        }
        if self.single_writer { f.write_str(", single writer") } else { Ok(()) }
    }
}

/// What somebody has mounted.
pub fn mounts_of(volumes: &Volumes, user: User<'_>) -> Vec<Mount> {
    volumes.values().filter_map(|volume| volume.mount(user)).collect()
}

/// What the replicas of a process type do with them.
pub fn writes_of(volumes: &Volumes, process: &ProcessType) -> Writes {
    let all = mounts_of(volumes, User::Process(process)).into_iter().map(|mount| mount.volume);
    let alone = volumes.values().filter(|volume| volume.writer().as_ref() == Some(process));
    Writes { volumes: all.collect(), alone: alone.map(|volume| volume.name.clone()).collect() }
}

/// The process types that have one replica at most, each with the volume that wants it so.
pub fn single_writers(volumes: &Volumes) -> BTreeMap<ProcessType, VolumeName> {
    let writers = volumes.values().filter_map(|one| Some((one.writer()?, one.name.clone())));
    writers.collect()
}

/// The first thing that is wrong with them together.
pub fn find_conflict(volumes: &Volumes) -> Option<String> {
    if volumes.len() > MOST_VOLUMES {
        let count = volumes.len();
        return Some(format!("an app has at most {MOST_VOLUMES} volumes, not {count}"));
    }
    for (number, one) in volumes.values().enumerate() {
        if one.process.as_ref().is_some_and(ProcessType::is_release) {
            let name = &one.name;
            return Some(format!("`{name}` is for `release`, which has every volume anyhow"));
        }
        if let Some(size) = one.size.filter(|size| *size < LEAST_SIZE) {
            return Some(format!("`{}` has {size}; a bound is {LEAST_SIZE} or more", one.name));
        }
        for other in volumes.values().skip(number + 1) {
            if one.at == other.at {
                return Some(format!(
                    "`{}` and `{}` are both at `{}`",
                    one.name, other.name, one.at
                ));
            }
            if one.at.holds(&other.at) || other.at.holds(&one.at) {
                return Some(format!(
                    "`{}` at `{}` and `{}` at `{}` lie in each other",
                    one.name, one.at, other.name, other.at
                ));
            }
        }
    }
    None
}

/// `[[volumes]]` of the app file: no name twice, and fit for each other.
pub fn from_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VolumeSpec>, D::Error> {
    let list = Vec::<VolumeSpec>::deserialize(deserializer)?;
    let mut known = Volumes::new();
    for volume in &list {
        if known.insert(volume.name.clone(), volume.clone()).is_some() {
            return Err(D::Error::custom(format!("two volumes are named `{}`", volume.name)));
        }
    }
    find_conflict(&known).map_or(Ok(list), |conflict| Err(D::Error::custom(conflict)))
}

mod size {
    use super::{ByteSize, Deserialize, Deserializer};
    use serde::{Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "the signature serde asks for")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<ByteSize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|size| size.bytes().to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ByteSize>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests;
