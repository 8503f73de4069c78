//! A plan in the making: what the packs share when they write one down. Pure.

use std::collections::BTreeMap;

use engine::image::key::StepKey;
use model::manifest::Manifest;
use model::name::ProcessType;
use model::release::{ProcessSpec, Shape};

use super::plan::{BuildPlan, Chosen, LayerContent, LayerName, LayerPlan, PACK_VERSION, Step};
use super::source::Source;

/// What packs decide from.
#[derive(Debug)]
pub struct Surroundings<'a> {
    pub source: &'a Source,
    pub manifest: &'a Manifest,
    /// The app's config vars: `NODE_VERSION` and the like are heeded.
    pub config: &'a BTreeMap<String, String>,
    pub base: &'a StepKey,
    /// Node versions that can be had.
    pub node_versions: &'a [super::node_version::Version],
}

/// A step before it has its key.
#[derive(Debug, Default)]
pub(super) struct StepDraft {
    pub(super) title: String,
    pub(super) shown: String,
    pub(super) script: String,
    pub(super) is_offline: bool,
    pub(super) on: Vec<LayerName>,
    pub(super) inputs: BTreeMap<String, String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) forgotten: Vec<String>,
}

/// A plan and what its steps are keyed by.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) at: &'a Surroundings<'a>,
    pub(super) plan: BuildPlan,
    keys: BTreeMap<LayerName, StepKey>,
}

/// Config vars that change what an installer does; they go into dependency keys, the others only
/// into those of steps that run the app's own code.
const INSTALLER_VARS: [&str; 6] = ["NODE_", "NPM_", "npm_", "PIP_", "UV_", "YARN_"];

impl<'a> Draft<'a> {
    pub(super) fn new(at: &'a Surroundings<'a>, pack: &str, title: &str, because: &str) -> Self {
        let run = at.manifest.run_settings();
        let (routes, uses) = (at.manifest.routes.clone(), at.manifest.uses.clone());
        let balance = at.manifest.balance.settings();
        let (edge, ask) = (at.manifest.edge.clone(), at.manifest.domains.ask.clone());
        let plan = BuildPlan {
            pack: pack.to_owned(),
            title: title.to_owned(),
            because: because.to_owned(),
            versions: Vec::new(),
            layers: vec![LayerPlan {
                name: LayerName::Base,
                is_in_image: true,
                content: LayerContent::Base { key: at.base.clone() },
            }],
            env: BTreeMap::from(
                [("HOME", "/app"), ("LANG", "C.UTF-8"), ("PATH", "/usr/local/bin:/usr/bin:/bin")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned())),
            ),
            warnings: Vec::new(),
            shape: Shape {
                pack: Some(pack.to_owned()),
                run,
                routes,
                balance,
                sleep: at.manifest.sleep,
                edge,
                ask,
                volumes: at.manifest.volumes.clone(),
                uses,
                ..Shape::default()
            },
        };
        Self { at, plan, keys: BTreeMap::from([(LayerName::Base, at.base.clone())]) }
    }

    pub(super) fn version(&mut self, name: &str, version: impl ToString, because: &str) {
        self.plan.versions.push(Chosen {
            name: name.to_owned(),
            version: version.to_string(),
            because: because.to_owned(),
        });
    }

    pub(super) fn env(&mut self, name: &str, value: &str) {
        self.plan.env.insert(name.to_owned(), value.to_owned());
    }

    /// Puts a folder before the others of `PATH`.
    pub(super) fn path(&mut self, folder: &str) {
        let path = self.plan.env.get("PATH").cloned().unwrap_or_default();
        self.env("PATH", &format!("{folder}:{path}"));
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.plan.warnings.push(warning.into());
    }

    pub(super) fn source(&mut self) {
        self.layer(LayerName::Source, true, LayerContent::Source);
    }

    pub(super) fn program(&mut self, path: &str) {
        let content = LayerContent::Program { path: path.to_owned() };
        self.layer(LayerName::Server, true, content);
    }

    /// Adds a step; its key covers the script, what it sees, its environment and the layers below.
    pub(super) fn step(&mut self, name: LayerName, is_in_image: bool, draft: StepDraft) {
        let mut parts: Vec<(&str, &[u8])> = vec![
            ("pack", PACK_VERSION.as_bytes()),
            ("layer", name_bytes(name)),
            ("script", draft.script.as_bytes()),
        ];
        for lower in &draft.on {
            // The source's digest is known only when it is there, and added then.
            if let Some(key) = self.keys.get(lower) {
                parts.push(("on", key.as_str().as_bytes()));
            }
        }
        let pairs = draft.inputs.iter().chain(&draft.env);
        parts.extend(pairs.map(|(name, value)| (name.as_str(), value.as_bytes())));
        let sees_source = draft.on.contains(&LayerName::Source);
        let counts = |name: &str| INSTALLER_VARS.iter().any(|start| name.starts_with(start));
        let config = self.at.config.iter().filter(|(name, _)| sees_source || counts(name));
        parts.extend(config.map(|(name, value)| (name.as_str(), value.as_bytes())));
        let key = StepKey::of(parts);
        self.keys.insert(name, key.clone());
        let StepDraft { title, shown, script, is_offline, on, inputs, env, forgotten } = draft;
        let has_network = !is_offline;
        let step = Step { title, script, shown, has_network, on, inputs, env, forgotten, key };
        self.layer(name, is_in_image, LayerContent::Step(step));
    }

    fn layer(&mut self, name: LayerName, is_in_image: bool, content: LayerContent) {
        self.plan.layers.push(LayerPlan { name, is_in_image, content });
    }

    /// The files of these names that are there, with their content.
    pub(super) fn inputs(&self, names: &[&str]) -> BTreeMap<String, String> {
        let found = names
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.at.source.text(name)?.to_owned())));
        found.collect()
    }

    /// The app's own build command, over the source and these layers.
    pub(super) fn build_step(&mut self, command: &str, on: &[LayerName], env: &[(&str, &str)]) {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let draft = StepDraft {
            title: "Build".to_owned(),
            shown: command.to_owned(),
            script: command.to_owned(),
            on: on.to_vec(),
            env: env.collect(),
            forgotten: vec!["app/node_modules/.cache".to_owned(), "app/.cache".to_owned()],
            ..StepDraft::default()
        };
        self.step(LayerName::Build, true, draft);
    }

    /// The finished plan: the pack's default for `web` gives way to the Procfile, and that to the
    /// app file.
    pub(super) fn finish(
        mut self,
        default_web: Option<String>,
        procfile: BTreeMap<ProcessType, String>,
    ) -> BuildPlan {
        let mut commands = procfile;
        commands.extend(self.at.manifest.processes.clone());
        let names_none = commands.keys().all(ProcessType::is_release);
        if let Some(web) = default_web.filter(|_| names_none) {
            commands.insert(ProcessType::web(), web);
        }
        for (name, command) in commands {
            if name.is_release() {
                self.plan.shape.release_command = Some(command);
            } else {
                let limits = self.at.manifest.process_limits(&name);
                self.plan.shape.processes.insert(name, ProcessSpec { command, limits });
            }
        }
        self.plan
    }
}

fn name_bytes(name: LayerName) -> &'static [u8] {
    match name {
        LayerName::Base => b"base",
        LayerName::Tools => b"tools",
        LayerName::Runtime => b"runtime",
        LayerName::BuildDependencies => b"build-dependencies",
        LayerName::Dependencies => b"dependencies",
        LayerName::Server => b"server",
        LayerName::Source => b"source",
        LayerName::Build => b"build",
    }
}
