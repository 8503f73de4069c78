//! Everything that can have happened, in the past tense. Events are facts for people and webhooks;
//! nothing is ever computed back from them.

use serde::{Deserialize, Serialize};

use crate::certificate::HttpsPolicy;
use crate::claim::AskSaid;
use crate::deploy::DeployPhase;
use crate::manifest::edge::EdgeFile;
use crate::name::{AppName, LinkName, VisitorName, VolumeName};
use crate::order::OrderPhase;
use crate::outbound::Outbound;
use crate::problem::Problem;
use crate::route::weight::Weight;
use crate::sleep::Said;

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    AppCreated { name: AppName },
    AppRenamed { from: AppName, to: AppName },
    AppDestroyed { name: AppName },
    BuildStarted { commit: String },
    BuildSucceeded { image: String, millis: u64 },
    BuildFailed { problem: Problem },
    ReleaseCreated { version: u64, description: String },
    DeployMoved { generation: u64, release: u64, phase: DeployPhase },
    FormationChanged { formation: std::collections::BTreeMap<String, u32> },
    DomainAdded { domain: String },
    DomainRemoved { domain: String },
    AskRuleChanged { said: Option<AskSaid> },
    RouteAdded { route: String },
    RouteRemoved { route: String },
    LinkAdded { link: LinkName, to: AppName },
    LinkRemoved { link: LinkName },
    OutboundChanged { outbound: Outbound },
    SleepChanged { sleep: Option<Said> },
    FellAsleep { idle_seconds: u64 },
    Woken { why: String },
    CertificateAdded { name: String, names: Vec<String> },
    CertificateReplaced { name: String, names: Vec<String> },
    CertificateRemoved { name: String },
    OrderMoved { host: String, phase: OrderPhase },
    HttpsChanged { policy: HttpsPolicy },
    EdgeChanged { settings: Box<EdgeFile> },
    VisitorAdded { visitor: VisitorName },
    VisitorRemoved { visitor: VisitorName },
    MaintenanceChanged { is_on: bool },
    PauseChanged { is_on: bool },
    TimingChanged { is_on: bool },
    WeightChanged { replica: String, weight: Weight },
    VolumeMade { volume: VolumeName },
    VolumeRemoved { volume: VolumeName },
    VolumeRestored { volume: VolumeName, snapshot: u64 },
    VolumeImported { volume: VolumeName },
    SnapshotTaken { volume: VolumeName, snapshot: u64 },
    SnapshotRemoved { volume: VolumeName, snapshot: u64 },
    ReplicaStarted { replica: String, release: u64 },
    ReplicaEnded { replica: String, release: u64, how: String },
}
