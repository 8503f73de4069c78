//! `/wharf/disk`: what takes the room.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use model::name::AppName;
use model::size::ByteSize;

use super::common::Time;

/// `GET /wharf/disk`. As the disk counts: a file with holes takes what it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    pub data_dir: String,
    /// Of the disk the data is on.
    pub size: ByteSize,
    pub free: ByteSize,
    /// All in the data directory.
    pub used: ByteSize,
    /// The same by its place there: `layers`, `git`, `logs`, `caches`, `database` …
    pub parts: BTreeMap<String, ByteSize>,
    pub layers: Layers,
    /// What a collect would free now; it comes by itself, with every deploy and every hour.
    pub surplus: Surplus,
    /// The heaviest first.
    pub apps: Vec<AppDisk>,
    /// When that was so: a look is good for twenty times what it took, and for five seconds at least.
    pub at: Time,
    /// How long the look took.
    pub took_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layers {
    pub count: usize,
    /// Of images of several apps.
    pub shared: ByteSize,
    /// Of images of one app.
    pub single: ByteSize,
    /// Results of build steps that are in no image, kept for the next build.
    pub steps: ByteSize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surplus {
    pub images: usize,
    pub layers: usize,
    pub layers_size: ByteSize,
    pub caches_size: ByteSize,
}

/// One app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppDisk {
    pub name: AppName,
    /// What would be free without it: all below, but `shared_layers`.
    pub own: ByteSize,
    pub images: usize,
    pub own_layers: ByteSize,
    pub shared_layers: ByteSize,
    pub cache: ByteSize,
    pub git: ByteSize,
    pub logs: ByteSize,
    /// By its replicas, thrown away with them.
    pub written: ByteSize,
}
