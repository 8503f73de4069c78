//! The build plan: everything a build will do, as a value that prints itself plainly.
//!
//! An image is a stack of layers. Each is either the base system, the app's source, a copy of this
//! program (to serve static files), or what a step leaves behind. A step is commands that run in a
//! container over the layers it names. A step's key digests all that its result depends on; a known
//! key costs nothing. Making a plan does nothing.

use std::collections::BTreeMap;
use std::fmt;

use engine::image::key::StepKey;
use model::name::ProcessType;
use model::release::{RunSettings, Shape};
use serde::Serialize;

/// Grows when packs do the same steps in another way, so that old layers are not taken for new.
pub const PACK_VERSION: &str = "1";

/// What a build will do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BuildPlan {
    /// `node`, `python`, `static`, `procfile`.
    pub pack: String,
    /// `Node.js app`.
    pub title: String,
    /// Why this pack.
    pub because: String,
    pub versions: Vec<Chosen>,
    /// The layers in the order they are made; those of the image are stacked in this order too.
    pub layers: Vec<LayerPlan>,
    /// The image's environment.
    pub env: BTreeMap<String, String>,
    pub warnings: Vec<String>,
    pub shape: Shape,
}

/// A version and who chose it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chosen {
    pub name: String,
    pub version: String,
    pub because: String,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayerPlan {
    pub name: LayerName,
    /// Whether the image has it, or only the steps that need it.
    pub is_in_image: bool,
    pub content: LayerContent,
}

/// What a layer is called in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerName {
    Base,
    /// What installs other things: uv, npm.
    Tools,
    /// The language.
    Runtime,
    /// Dependencies with those only the build needs.
    BuildDependencies,
    Dependencies,
    Server,
    Source,
    /// What the app's own build command made.
    Build,
}

impl fmt::Display for LayerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Base => "base",
            Self::Tools => "tools",
            Self::Runtime => "runtime",
            Self::BuildDependencies => "build-dependencies",
            Self::Dependencies => "dependencies",
            Self::Server => "server",
            Self::Source => "source",
            Self::Build => "build",
        })
    }
}

/// Where a layer comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerContent {
    Base {
        key: StepKey,
    },
    Source,
    /// This program at that place.
    Program {
        path: String,
    },
    Step(Step),
}

/// Commands in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What is said while it runs.
    pub title: String,
    /// Given to `sh -euc`, as the app's user.
    pub script: String,
    /// The script as a person knows it: `npm ci`.
    pub shown: String,
    pub has_network: bool,
    /// The layers it runs over, the lowest first.
    pub on: Vec<LayerName>,
    /// Files it sees in its folder without seeing the whole source: name → content.
    #[serde(serialize_with = "names_only")]
    pub inputs: BTreeMap<String, String>,
    pub env: BTreeMap<String, String>,
    /// Taken out of what it leaves: caches, temporary files.
    pub forgotten: Vec<String>,
    pub key: StepKey,
}

fn names_only<S: serde::Serializer>(
    inputs: &BTreeMap<String, String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(inputs.keys())
}

impl Step {
    /// Whether it runs over the source, whose digest is then part of its key.
    pub fn sees_source(&self) -> bool {
        self.on.contains(&LayerName::Source)
    }
}

impl BuildPlan {
    /// A layer by its name.
    pub fn layer(&self, name: LayerName) -> Option<&LayerPlan> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// Sets the default command of `web`, `Procfile` and app file permitting.
    pub fn processes(&self) -> impl Iterator<Item = (&ProcessType, &str)> {
        self.shape.processes.iter().map(|(name, process)| (name, process.command.as_str()))
    }
}

impl fmt::Display for BuildPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}): {}", self.title, self.pack, self.because)?;
        for chosen in &self.versions {
            writeln!(f, "  {} {} ({})", chosen.name, chosen.version, chosen.because)?;
        }
        for layer in &self.layers {
            let place = if layer.is_in_image { "" } else { ", not in the image" };
            write!(f, "layer {}{place}", layer.name)?;
            match &layer.content {
                LayerContent::Base { key } => writeln!(f, ", key {}", key.short())?,
                LayerContent::Source => writeln!(f, ": the commit in /app")?,
                LayerContent::Program { path } => writeln!(f, ": wharf at {path}")?,
                LayerContent::Step(step) => step.render(f)?,
            }
        }
        for (name, value) in &self.env {
            writeln!(f, "env {name}={value}")?;
        }
        for (name, command) in self.processes() {
            writeln!(f, "process {name}: {command}")?;
        }
        if let Some(command) = &self.shape.release_command {
            let limit = model::replica::render_span(self.shape.run.release_timeout);
            writeln!(f, "release command, within {limit}: {command}")?;
        }
        let RunSettings {
            port,
            protocol,
            health_path,
            boot_timeout,
            drain_timeout,
            grace,
            is_read_only,
            release_timeout: _,
        } = &self.shape.run;
        let health = health_path.as_deref().unwrap_or("the port is bound");
        let [boot, drain, grace] = [boot_timeout, drain_timeout, grace]
            .map(|time| model::manifest::render_duration(*time));
        writeln!(
            f,
            "run on port {port}, healthy when {health} within {boot}, drain {drain}, grace {grace}"
        )?;
        if !protocol.is_default() {
            writeln!(f, "speaks {}", protocol.as_str())?;
        }
        if *is_read_only {
            writeln!(f, "read-only but for /tmp")?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

impl Step {
    fn render(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lower: Vec<String> = self.on.iter().map(ToString::to_string).collect();
        let network = if self.has_network { "network" } else { "no network" };
        let source = if self.sees_source() { " and the source's digest" } else { "" };
        writeln!(f, ", key {}{source}", self.key.short())?;
        writeln!(f, "  over {}, in /app, {network}", lower.join(" + "))?;
        if !self.inputs.is_empty() {
            let names: Vec<&str> = self.inputs.keys().map(String::as_str).collect();
            writeln!(f, "  sees {}", names.join(", "))?;
        }
        for (name, value) in &self.env {
            writeln!(f, "  {name}={value}")?;
        }
        self.script.lines().try_for_each(|line| writeln!(f, "  $ {line}"))
    }
}
