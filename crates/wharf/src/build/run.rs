//! Runs a build: extract, detect, make the layers that are not known yet, put the image together.
//!
//! Sync, for a blocking thread. The plan decides everything; here each layer of the image is asked
//! for in order, and only a layer whose key is unknown asks for those it is made over. So when all
//! dependencies are known no container is started, and build-only layers are not even looked at.
//! Whatever happens, the scratch folders are gone at the end.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use engine::Engine;
use engine::image::config::{ImageConfig, RunConfig};
use engine::image::key::StepKey;
use engine::image::layer::{LayerId, remove_tree};
use engine::image::pins::Lease;
use engine::spec::{NetworkSpec, UserRange};
use model::id::{AppId, BuildId};
use model::problem::{Code, Problem};
use model::release::{ImageRef, Shape};
use model::size::ByteSize;

use super::base::{APP_ID, BaseSource};
use super::cancel::Cancel;
use super::container::{Ended, Place};
use super::detect::{Toolbox, asks_for_node, detect};
use super::line::{BuildLine, Progress, Tail, seconds};
use super::node::{NODE_LIST_SCRIPT, known_versions, parse_versions};
use super::node_version::Version;
use super::plan::{BuildPlan, LayerContent, LayerName, Step};
use super::registry::RegistryConfig;
use super::source::Source;
use super::source_layer::settle_source;
use super::step::{forget, step_problem, write_inputs};
use super::stores::{Stores, check_disk, failed};

/// How builds are run on this machine.
#[derive(Debug, Clone)]
pub struct BuildConfig {
    pub base: BaseSource,
    /// Of one build step.
    pub memory: ByteSize,
    /// From start to end of one step.
    pub step_limit: Duration,
    pub disk_reserve: ByteSize,
    /// This program, a copy of which serves static sites.
    pub program: PathBuf,
    /// Given to every step: registries, proxies.
    pub env: BTreeMap<String, String>,
    /// The certificates this machine trusts.
    pub certificates: PathBuf,
}

/// Names the daemon's own environment hands to build steps.
const HANDED_ON: [&str; 12] = [
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

impl BuildConfig {
    /// From the daemon's configuration and environment.
    pub fn new(config: &crate::config::Config) -> Result<Self, Problem> {
        let handed_on = HANDED_ON.iter().filter_map(|name| {
            let value = std::env::var(name).ok()?;
            Some(((*name).to_owned(), value))
        });
        let certificates = PathBuf::from("/etc/ssl/certs/ca-certificates.crt");
        let registry = RegistryConfig {
            auth: config.registry_auth.clone(),
            certificates: certificates.clone(),
        };
        Ok(Self {
            base: BaseSource::new(config.base.as_deref(), &config.mirror, registry)?,
            memory: config.build_memory,
            step_limit: Duration::from_secs(20 * 60),
            disk_reserve: config.disk_reserve,
            program: config.program.clone(),
            env: handed_on.collect(),
            certificates,
        })
    }
}

/// A way out for one step; whatever must live as long rides along.
pub struct Link {
    pub network: NetworkSpec,
    pub lease: Box<dyn Any + Send>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("network", &self.network).finish_non_exhaustive()
    }
}

/// Gives a step its way out.
pub type Outbound = Box<dyn Fn() -> Result<Link, Problem> + Send + Sync>;

/// What builds need, one for the daemon.
pub struct BuildContext {
    pub engine: Arc<Engine>,
    pub stores: Stores,
    pub config: BuildConfig,
    pub outbound: Outbound,
    /// Held while the base is made: it is minutes of work nobody wants twice.
    base_lock: Mutex<()>,
}

impl std::fmt::Debug for BuildContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BuildContext").field("config", &self.config).finish_non_exhaustive()
    }
}

impl BuildContext {
    /// Everything in its place.
    pub fn new(
        engine: Arc<Engine>,
        stores: Stores,
        config: BuildConfig,
        outbound: Outbound,
    ) -> Self {
        Self { engine, stores, config, outbound, base_lock: Mutex::new(()) }
    }

    /// The base system's layer, made if need be; for warming up before the first push.
    pub fn prepare_base(
        &self,
        lease: &Lease,
        cancel: &Cancel,
        progress: &mut Progress<'_>,
    ) -> Result<LayerId, Problem> {
        let _alone = self.base_lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.config.base.ensure((&self.stores, lease), cancel, progress)
    }
}

/// Puts the app's source into the folder it is given.
pub type Extract<'a> = dyn Fn(&Path) -> Result<(), Problem> + 'a;

/// One build.
pub struct BuildRequest<'a> {
    pub id: BuildId,
    /// Its cache is the app's under whatever name.
    pub app: AppId,
    pub extract: &'a Extract<'a>,
    /// The time its files get, so that the same commit is the same layer.
    pub committed_at: SystemTime,
    /// The app's config vars, given to the steps.
    pub config: BTreeMap<String, String>,
    /// The word to stop comes here.
    pub cancel: Cancel,
    /// Who the steps' users are outside; what they leave belongs to plain users all the same.
    pub users: Option<UserRange>,
}

impl std::fmt::Debug for BuildRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, app, extract: _, committed_at: _, config: _, cancel: _, users: _ } = self;
        f.debug_struct("BuildRequest").field("id", id).field("app", app).finish_non_exhaustive()
    }
}

/// What a build made.
#[derive(Debug)]
pub struct BuiltImage {
    pub image: ImageRef,
    /// To be kept until a release names the image: what it holds is not collected.
    pub lease: Lease,
    pub shape: Shape,
    pub plan: BuildPlan,
    pub took: Duration,
}

/// Source → image.
pub fn run_build(
    ctx: &BuildContext,
    request: &BuildRequest<'_>,
    progress: &mut Progress<'_>,
) -> Result<BuiltImage, Problem> {
    let started = Instant::now();
    check_disk(ctx.stores.root(), ctx.config.disk_reserve)?;
    let lease = ctx.stores.layers.lease();
    let scratch = Scratch::new(ctx, "build")?;
    let folder = scratch.path.join("source");
    let app = folder.join("app");
    fs::create_dir_all(&app).map_err(|error| io("make a folder for the source", &error))?;
    (request.extract)(&app)?;
    let source = Source::read(&app).map_err(|error| io("read the source", &error))?;
    settle_source(&folder, request.committed_at)
        .map_err(|error| io("hand the source to the app's user", &error))?;

    let mut run =
        Run { ctx, lease: &lease, request, progress, made: BTreeMap::new(), source: folder };
    let plan = run.plan(&source)?;
    run.announce(&plan);
    let mut layers = Vec::new();
    for layer in plan.layers.iter().filter(|layer| layer.is_in_image) {
        layers.push(run.ensure(&plan, layer.name)?);
    }
    let config = ImageConfig::new(layers, run_config(&plan));
    let image = ctx.stores.images.put(&config, &lease).map_err(|error| failed(&error))?;
    let took = started.elapsed();
    run.heading(format!("Built {} in {}", short(&image), seconds(took)));
    Ok(BuiltImage { image, lease, shape: plan.shape.clone(), plan, took })
}

fn run_config(plan: &BuildPlan) -> RunConfig {
    RunConfig {
        user: format!("{APP_ID}:{APP_ID}"),
        env: plan.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        working_dir: "/app".to_owned(),
        labels: BTreeMap::from([("io.wharf.pack".to_owned(), plan.pack.clone())]),
        ..RunConfig::default()
    }
}

fn short(image: &ImageRef) -> &str {
    image.0.get(..19).unwrap_or(&image.0)
}

/// A folder beside the layers, gone at the end.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(ctx: &BuildContext, hint: &str) -> Result<Self, Problem> {
        let path = ctx.stores.layers.scratch(hint).map_err(|error| failed(&error))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a build folder stays until the next start");
        }
    }
}

struct Run<'a, 'p> {
    ctx: &'a BuildContext,
    lease: &'a Lease,
    request: &'a BuildRequest<'a>,
    progress: &'a mut Progress<'p>,
    made: BTreeMap<LayerName, LayerId>,
    source: PathBuf,
}

impl Run<'_, '_> {
    fn heading(&mut self, text: impl Into<String>) {
        (self.progress)(BuildLine::Heading(text.into()));
    }

    fn detail(&mut self, text: impl Into<String>) {
        (self.progress)(BuildLine::Detail(text.into()));
    }

    fn plan(&mut self, source: &Source) -> Result<BuildPlan, Problem> {
        let base = self.ctx.config.base.key();
        let (versions, is_listed) = self.node_versions(source);
        let tools = Toolbox { base: &base, node_versions: &versions, config: &self.request.config };
        match detect(source, &tools) {
            // Perhaps it came out since this machine last asked.
            Err(problem)
                if problem.code == Code::VersionUnavailable
                    && asks_for_node(source)
                    && !is_listed =>
            {
                match self.list_node_versions(&tools) {
                    Ok(versions) => detect(source, &Toolbox { node_versions: &versions, ..tools }),
                    Err(_) => Err(problem),
                }
            }
            other => other,
        }
    }

    fn announce(&mut self, plan: &BuildPlan) {
        self.heading(format!("{} detected ({})", plan.title, plan.because));
        for chosen in &plan.versions {
            self.detail(format!("{} {} ({})", chosen.name, chosen.version, chosen.because));
        }
        for warning in &plan.warnings {
            (self.progress)(BuildLine::Warning(warning.clone()));
        }
    }

    /// The layer of that name, made if it is not known.
    fn ensure(&mut self, plan: &BuildPlan, name: LayerName) -> Result<LayerId, Problem> {
        if let Some(id) = self.made.get(&name) {
            return Ok(id.clone());
        }
        if let Some(why) = self.request.cancel.why() {
            return Err(why);
        }
        let layer = plan.layer(name).ok_or_else(|| {
            Problem::new(Code::Internal, format!("the build plan has no layer `{name}`"))
        })?;
        let id = match &layer.content {
            LayerContent::Base { .. } => {
                self.ctx.prepare_base(self.lease, &self.request.cancel, self.progress)?
            }
            LayerContent::Source => self
                .ctx
                .stores
                .layers
                .adopt(&self.source, self.lease)
                .map_err(|error| failed(&error))?,
            LayerContent::Program { path } => self.program(path)?,
            LayerContent::Step(step) => self.step(plan, name, step)?,
        };
        self.made.insert(name, id.clone());
        Ok(id)
    }

    /// A copy of this program, by its digest, so that an upgrade makes a new layer and not a lie.
    fn program(&mut self, path: &str) -> Result<LayerId, Problem> {
        let program = &self.ctx.config.program;
        let meta = fs::metadata(program).map_err(|error| io("find this program", &error))?;
        let stamp = format!("{:?} {}", meta.modified().ok(), meta.len());
        let name = program.as_os_str().as_encoded_bytes();
        let key =
            StepKey::of([("program", name), ("stamp", stamp.as_bytes()), ("at", path.as_bytes())]);
        if let Some(id) = self.known(&key)? {
            return Ok(id);
        }
        let scratch = Scratch::new(self.ctx, "program")?;
        let place = scratch.path.join("layer").join(path.trim_start_matches('/'));
        let copy = || {
            fs::create_dir_all(place.parent().unwrap_or(&scratch.path))?;
            fs::copy(program, &place)?;
            fs::File::open(&place)?.set_modified(SystemTime::UNIX_EPOCH)
        };
        copy().map_err(|error| io("copy this program", &error))?;
        self.keep(&key, &scratch.path.join("layer"))
    }

    fn step(&mut self, plan: &BuildPlan, name: LayerName, step: &Step) -> Result<LayerId, Problem> {
        let key = if step.sees_source() {
            let source = self.ensure(plan, LayerName::Source)?;
            StepKey::of([
                ("step", step.key.as_str().as_bytes()),
                ("source", source.as_str().as_bytes()),
            ])
        } else {
            step.key.clone()
        };
        if let Some(id) = self.known(&key)? {
            if matches!(name, LayerName::Dependencies) {
                self.heading("Dependencies unchanged");
            }
            return Ok(id);
        }
        let mut lower = Vec::new();
        for name in &step.on {
            let id = self.ensure(plan, *name)?;
            lower.insert(0, self.ctx.stores.layers.path(&id).map_err(|error| failed(&error))?);
        }
        self.heading(step.title.clone());
        self.detail(format!("$ {}", step.shown));
        let scratch = Scratch::new(self.ctx, "step")?;
        if !step.inputs.is_empty() {
            let inputs = scratch.path.join("inputs");
            write_inputs(&inputs, &step.inputs)
                .map_err(|error| io("lay out the inputs", &error))?;
            lower.insert(0, inputs);
        }
        let place = Place { layers: lower, upper: scratch.path.join("upper") };
        let started = Instant::now();
        let mut tail = Tail::default();
        let progress = &mut *self.progress;
        let mut on_line = |line: &str| {
            if line.trim().is_empty() {
                return;
            }
            tail.push(line);
            progress(BuildLine::Detail(line.to_owned()));
        };
        let ended = self.ctx.attend(self.request, name, (step, &place), &mut on_line)?;
        if let (Ended::Cancelled, Some(why)) = (&ended, self.request.cancel.why()) {
            return Err(why.log(tail.into_lines()));
        }
        if let Some(problem) = step_problem(step, &ended, self.ctx) {
            return Err(problem.log(tail.into_lines()));
        }
        self.detail(format!("done in {}", seconds(started.elapsed())));
        forget(&place.upper, &step.forgotten).map_err(|error| io("clear caches away", &error))?;
        self.keep(&key, &place.upper)
    }

    fn known(&self, key: &StepKey) -> Result<Option<LayerId>, Problem> {
        self.ctx
            .stores
            .keys
            .find(key, &self.ctx.stores.layers, self.lease)
            .map_err(|error| failed(&error))
    }

    fn keep(&self, key: &StepKey, folder: &Path) -> Result<LayerId, Problem> {
        let stores = &self.ctx.stores;
        let id = stores.layers.adopt(folder, self.lease).map_err(|error| failed(&error))?;
        stores.keys.insert(key, &id).map_err(|error| failed(&error))?;
        Ok(id)
    }

    /// Node versions this machine knows of, and whether it has asked the registry lately.
    fn node_versions(&self, source: &Source) -> (Vec<Version>, bool) {
        if !asks_for_node(source) {
            return (Vec::new(), true);
        }
        let path = self.node_list_path();
        let Ok(text) = fs::read_to_string(&path) else { return (known_versions(), false) };
        let age = fs::metadata(&path).and_then(|meta| meta.modified());
        let age = age.ok().and_then(|at| at.elapsed().ok()).unwrap_or(Duration::MAX);
        let mut versions = known_versions();
        versions.extend(parse_versions(&text));
        (versions, age < Duration::from_secs(3600))
    }

    fn node_list_path(&self) -> PathBuf {
        self.ctx.stores.root().join("node-versions.txt")
    }

    /// Asks the registry, with npm's ordinary client, which versions there are now.
    fn list_node_versions(&mut self, tools: &Toolbox<'_>) -> Result<Vec<Version>, Problem> {
        self.heading("Asking the registry for Node versions");
        // Any Node app's plan has the tools layer.
        let probe = Source::node_probe();
        let versions = known_versions();
        let plan = detect(
            &probe,
            &Toolbox { node_versions: &versions, config: &BTreeMap::new(), base: tools.base },
        )?;
        let mut lower = Vec::new();
        for name in [LayerName::Base, LayerName::Tools] {
            let id = self.ensure(&plan, name)?;
            lower.insert(0, self.ctx.stores.layers.path(&id).map_err(|error| failed(&error))?);
        }
        let scratch = Scratch::new(self.ctx, "list")?;
        let place = Place { layers: lower, upper: scratch.path.join("upper") };
        let Some(LayerContent::Step(tools)) =
            plan.layer(LayerName::Tools).map(|layer| &layer.content)
        else {
            return Ok(versions);
        };
        let step = Step { script: NODE_LIST_SCRIPT.to_owned(), ..tools.clone() };
        let mut text = String::new();
        let mut on_line = |line: &str| text.extend([line, "\n"]);
        let ended =
            self.ctx.attend(self.request, LayerName::Tools, (&step, &place), &mut on_line)?;
        if let Some(problem) = step_problem(&step, &ended, self.ctx) {
            return Err(problem);
        }
        let text: String =
            text.chars().map(|c| if c.is_ascii_digit() || c == '.' { c } else { ' ' }).collect();
        crate::files::write_atomic(&self.node_list_path(), text.as_bytes(), 0o644)
            .map_err(|error| io("keep the list of Node versions", &error))?;
        let mut versions = known_versions();
        versions.extend(parse_versions(&text));
        Ok(versions)
    }
}

pub(super) fn io(doing: &str, error: &std::io::Error) -> Problem {
    Problem::new(Code::StoreFailed, format!("could not {doing}")).why(error.to_string())
}

/// Removes what builds that were cut off have left in the data directory; at the daemon's start.
pub fn clean_leftovers(config: &crate::config::Config) -> Result<usize, Problem> {
    let stores = Stores::open(&config.data_dir)?;
    stores.layers.clear_leftovers().map_err(|error| failed(&error))
}
