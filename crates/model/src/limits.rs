//! How much one replica may use: what a person says ([`Bounds`], each part optional, by number or by a
//! size's name), and what holds ([`ProcessLimits`], every part settled).
//!
//! The app file says [`Bounds`], `ps:resize` says more of them, and the later word wins part by part.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::size::ByteSize;

/// Sizes by name: what is remembered from Heroku, as memory and share of the processor.
pub const NAMED: [(&str, ByteSize, u32); 6] = [
    ("eco", ByteSize::mib(512), 100),
    ("basic", ByteSize::mib(512), 100),
    ("standard-1x", ByteSize::mib(512), 100),
    ("standard-2x", ByteSize::mib(1024), 200),
    ("performance-m", ByteSize::mib(2560), 500),
    ("performance-l", ByteSize::mib(14 * 1024), 1400),
];

/// What holds for the replicas of one process type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// More is killed (R15).
    pub memory: ByteSize,
    /// Above it there is a word in the log (R14), and the machine takes from here first; none is nine
    /// tenths of `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_soft: Option<ByteSize>,
    /// Thousandths of a core; none is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// Share of the processor when it is scarce; 100 is ordinary.
    #[serde(default = "ordinary")]
    pub cpu_weight: u32,
    /// Share of the disks' time when it is scarce, where the kernel can; 100 is ordinary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u16>,
    /// Processes and threads.
    #[serde(default = "pids")]
    pub pids: u32,
    #[serde(default = "open_files")]
    pub open_files: u32,
    /// What it may write to its own file system; more is ended (R20).
    #[serde(default = "disk")]
    pub disk: ByteSize,
    /// How many files and folders that may be.
    #[serde(default = "files")]
    pub files: u32,
    /// What is kept of what it prints; none is what the machine is set to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<ByteSize>,
}

fn ordinary() -> u32 {
    100
}
fn pids() -> u32 {
    1024
}
fn open_files() -> u32 {
    65_536
}
fn disk() -> ByteSize {
    ByteSize::mib(2048)
}
fn files() -> u32 {
    200_000
}

impl Default for ProcessLimits {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(512),
            memory_soft: None,
            cpu_millis: None,
            cpu_weight: ordinary(),
            io_weight: None,
            pids: pids(),
            open_files: open_files(),
            disk: disk(),
            files: files(),
            log: None,
        }
    }
}

impl ProcessLimits {
    /// From where on it is told that it is over (R14).
    pub fn soft(&self) -> ByteSize {
        self.memory_soft.unwrap_or(ByteSize(self.memory.bytes() / 10 * 9)).min(self.memory)
    }

    /// These, and where somebody says something else, that.
    #[must_use]
    pub fn with(self, bounds: &Bounds) -> Self {
        Self {
            memory: bounds.memory.unwrap_or(self.memory),
            memory_soft: bounds.memory_soft.or(self.memory_soft),
            cpu_millis: bounds.cpu_millis.or(self.cpu_millis),
            cpu_weight: bounds.cpu_weight.unwrap_or(self.cpu_weight),
            io_weight: bounds.io_weight.or(self.io_weight),
            pids: bounds.pids.unwrap_or(self.pids),
            open_files: bounds.open_files.unwrap_or(self.open_files),
            disk: bounds.disk.unwrap_or(self.disk),
            files: bounds.files.unwrap_or(self.files),
            log: bounds.log.or(self.log),
        }
    }
}

impl fmt::Display for ProcessLimits {
    /// What differs from the ordinary, memory always.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::default();
        write!(f, "{}", self.memory)?;
        if let Some(soft) = self.memory_soft {
            write!(f, ", soft {soft}")?;
        }
        if let Some(millis) = self.cpu_millis {
            write!(f, ", {millis} m of a core")?;
        }
        for (name, value, usual) in [
            ("cpu weight", self.cpu_weight, usual.cpu_weight),
            ("io weight", self.io_weight.map_or(100, u32::from), 100),
            ("processes", self.pids, usual.pids),
            ("open files", self.open_files, usual.open_files),
            ("files", self.files, usual.files),
        ] {
            if value != usual {
                write!(f, ", {name} {value}")?;
            }
        }
        if self.disk != usual.disk {
            write!(f, ", disk {}", self.disk)?;
        }
        if let Some(log) = self.log {
            write!(f, ", log {log}")?;
        }
        Ok(())
    }
}

/// What somebody says of it; the rest stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bounds {
    /// `"512M"`.
    #[serde(with = "size", skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// `"400M"`.
    #[serde(with = "size", skip_serializing_if = "Option::is_none")]
    pub memory_soft: Option<ByteSize>,
    /// Cores, `0.5` is half of one.
    #[serde(rename = "cpu", with = "cores", skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u32>,
    /// 1 to 10000.
    #[serde(deserialize_with = "cpu_weight", skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// 1 to 1000.
    #[serde(deserialize_with = "io_weight", skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u16>,
    /// At least 4: PID 1, a shell, the program, and one to spare.
    #[serde(deserialize_with = "few_pids", skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    #[serde(deserialize_with = "few_open_files", skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
    /// `"2G"`.
    #[serde(with = "size", skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    #[serde(deserialize_with = "few_files", skip_serializing_if = "Option::is_none")]
    pub files: Option<u32>,
    /// `"50M"`.
    #[serde(with = "size", skip_serializing_if = "Option::is_none")]
    pub log: Option<ByteSize>,
}

impl Bounds {
    /// These, and where `other` says something, that.
    #[must_use]
    pub fn with(self, other: &Self) -> Self {
        Self {
            memory: other.memory.or(self.memory),
            memory_soft: other.memory_soft.or(self.memory_soft),
            cpu_millis: other.cpu_millis.or(self.cpu_millis),
            cpu_weight: other.cpu_weight.or(self.cpu_weight),
            io_weight: other.io_weight.or(self.io_weight),
            pids: other.pids.or(self.pids),
            open_files: other.open_files.or(self.open_files),
            disk: other.disk.or(self.disk),
            files: other.files.or(self.files),
            log: other.log.or(self.log),
        }
    }
}

/// A text that says no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BoundsError(String);

impl FromStr for Bounds {
    type Err = BoundsError;

    /// `512M`, `standard-2x`, `memory=512M,cpu=0.5`; the parts have the names of the app file.
    fn from_str(text: &str) -> Result<Self, BoundsError> {
        let mut all = Self::default();
        for part in text.split(',') {
            let one = match part.split_once('=') {
                Some((name, value)) => Self::part(name.trim(), value.trim())?,
                None => Self::size(part.trim())?,
            };
            all = all.with(&one);
        }
        Ok(all)
    }
}

impl Bounds {
    fn size(text: &str) -> Result<Self, BoundsError> {
        let named = NAMED.iter().find(|(name, _, _)| name.eq_ignore_ascii_case(text));
        if let Some((_, memory, weight)) = named {
            let (memory, cpu_weight) = (Some(*memory), Some(*weight));
            return Ok(Self { memory, cpu_weight, ..Self::default() });
        }
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            let names: Vec<&str> = NAMED.iter().map(|(name, _, _)| *name).collect();
            return Err(BoundsError(format!(
                "`{text}` is no size: a number like 512M, or {}",
                names.join(", ")
            )));
        }
        Self::part("memory", text)
    }

    fn part(name: &str, value: &str) -> Result<Self, BoundsError> {
        // The rules are those of the app file, and stand in one place.
        let is_size = ["memory", "memory_soft", "disk", "log"].contains(&name);
        let value = match (value.parse::<i64>(), value.parse::<f64>()) {
            (Ok(whole), _) if !is_size => toml::Value::Integer(whole),
            (_, Ok(number)) if !is_size => toml::Value::Float(number),
            _ => toml::Value::String(value.to_owned()),
        };
        let table = toml::Table::from_iter([(name.to_owned(), value)]);
        Self::deserialize(table)
            .map_err(|error| BoundsError(error.message().lines().collect::<Vec<_>>().join(", ")))
    }
}

mod size {
    use super::{ByteSize, Deserialize, Deserializer, Serialize, Serializer};
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<ByteSize>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|size| size.bytes().to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ByteSize>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let size: ByteSize = text.parse().map_err(D::Error::custom)?;
        if size < ByteSize::mib(1) {
            return Err(D::Error::custom(format!("a limit is at least 1M, not `{text}`")));
        }
        Ok(Some(size))
    }
}

mod cores {
    use super::{Deserialize, Deserializer, Serialize, Serializer};
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(
        millis: &Option<u32>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        millis.map(|millis| f64::from(millis) / 1000.0).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u32>, D::Error> {
        let Some(cpu) = Option::<f64>::deserialize(deserializer)? else { return Ok(None) };
        if !(0.01..=1024.0).contains(&cpu) {
            return Err(D::Error::custom(format!("cpu is 0.01 to 1024 cores, not {cpu}")));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 10 and 1,024,000"
        )]
        Ok(Some((cpu * 1000.0).round() as u32))
    }
}

/// A whole number within bounds.
fn within<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
    name: &str,
    (least, most): (u64, u64),
) -> Result<Option<T>, D::Error> {
    let Some(number) = Option::<u64>::deserialize(deserializer)? else { return Ok(None) };
    let fit = (least..=most).contains(&number).then(|| T::try_from(number).ok()).flatten();
    fit.map(Some)
        .ok_or_else(|| D::Error::custom(format!("{name} is {least} to {most}, not {number}")))
}

fn cpu_weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    within(deserializer, "cpu_weight", (1, 10_000))
}
fn io_weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    within(deserializer, "io_weight", (1, 1000))
}
fn few_pids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    within(deserializer, "pids", (4, 1_000_000))
}
fn few_open_files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    within(deserializer, "open_files", (16, 1_000_000))
}
fn few_files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    within(deserializer, "files", (16, 100_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_by_number_by_name_and_part_by_part() {
        let shown = |text: &str| match text.parse::<Bounds>() {
            Ok(bounds) => ProcessLimits::default().with(&bounds).to_string(),
            Err(error) => format!("no: {error}"),
        };
        let cases = [
            "256M",
            "Standard-2X",
            "standard-2x,memory=700M",
            "memory=1G,memory_soft=800M,cpu=0.5,cpu_weight=50,io_weight=200",
            "pids=64,open_files=1024,disk=10G,files=1000,log=5M",
            "cpu=2",
            "enormous",
            "memory=lots",
            "memory=10K",
            "pids=1",
            "cpu=0",
            "weight=3",
            "",
        ];
        let shown: Vec<String> =
            cases.iter().map(|text| format!("{text} → {}", shown(text))).collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        256M → 256 MiB
        Standard-2X → 1 GiB, cpu weight 200
        standard-2x,memory=700M → 700 MiB, cpu weight 200
        memory=1G,memory_soft=800M,cpu=0.5,cpu_weight=50,io_weight=200 → 1 GiB, soft 800 MiB, 500 m of a core, cpu weight 50, io weight 200
        pids=64,open_files=1024,disk=10G,files=1000,log=5M → 512 MiB, processes 64, open files 1024, files 1000, disk 10 GiB, log 5 MiB
        cpu=2 → 512 MiB, 2000 m of a core
        enormous → no: `enormous` is no size: a number like 512M, or eco, basic, standard-1x, standard-2x, performance-m, performance-l
        memory=lots → no: `lots` is not a size: a whole number, then nothing, K, M, G or KiB, MiB, GiB
        memory=10K → no: a limit is at least 1M, not `10K`
        pids=1 → no: pids is 4 to 1000000, not 1
        cpu=0 → no: cpu is 0.01 to 1024 cores, not 0
        weight=3 → no: unknown field `weight`, expected one of `memory`, `memory_soft`, `cpu`, `cpu_weight`, `io_weight`, `pids`, `open_files`, `disk`, `files`, `log`
         → no: `` is no size: a number like 512M, or eco, basic, standard-1x, standard-2x, performance-m, performance-l
        ");
    }

    #[test]
    fn the_later_word_wins_part_by_part() {
        let file: Bounds = "memory=256M,pids=99".parse().unwrap();
        let said: Bounds = "memory=1G".parse().unwrap();
        let limits = ProcessLimits::default().with(&file.with(&said));
        assert_eq!((limits.memory, limits.pids), (ByteSize::mib(1024), 99));
        assert_eq!(limits.soft(), ByteSize(1024 * 1024 * 1024 / 10 * 9));
    }

    #[test]
    fn limits_of_before_are_read() {
        let limits: ProcessLimits =
            serde_json::from_str(r#"{"memory":1048576,"cpu_millis":500}"#).unwrap();
        assert_eq!((limits.cpu_millis, limits.disk), (Some(500), disk()));
        let text = serde_json::to_string(&limits).unwrap();
        assert_eq!(serde_json::from_str::<ProcessLimits>(&text).unwrap(), limits);
    }
}
