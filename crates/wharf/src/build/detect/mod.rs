//! Which pack builds a source, and the plan it makes. Pure: a source view in, a plan or a problem
//! out.
//!
//! The app file and the Procfile are read first, because a mistake in them must be told even when
//! everything else is fine. Of several packs that match, the first of this order wins: what the app
//! file names, a declared static site, Python, Node (many back ends carry a package.json for their
//! assets), a Procfile alone, a static site that only looks like one.

use std::collections::BTreeMap;

use engine::image::key::StepKey;
use model::manifest::{self, Manifest};
use model::name::ProcessType;
use model::problem::{Code, Problem};
use model::procfile;

use super::draft::{Draft, Surroundings};
use super::node_version::Version;
use super::plan::BuildPlan;
use super::source::Source;
use super::{node, python, static_files};

/// What detection takes into account besides the source.
#[derive(Debug)]
pub struct Toolbox<'a> {
    pub base: &'a StepKey,
    pub node_versions: &'a [Version],
    pub config: &'a BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pack {
    Static,
    Python,
    Node,
    Procfile,
}

/// The plan for a source, or what stands in its way.
pub fn detect(source: &Source, tools: &Toolbox<'_>) -> Result<BuildPlan, Problem> {
    let manifest = match source.text(manifest::FILE) {
        Some(text) => manifest::parse_manifest(text).map_err(|mistake| mistake.problem())?,
        None => Manifest::default(),
    };
    let procfile = match source.text("Procfile") {
        Some(text) => {
            procfile::parse_procfile(text).map_err(|mistakes| procfile::problem(&mistakes))?
        }
        None => BTreeMap::new(),
    };
    let at = Surroundings {
        source,
        manifest: &manifest,
        config: tools.config,
        base: tools.base,
        node_versions: tools.node_versions,
    };
    let (pack, because) = choose(&at, &procfile)?;
    let plan = plan(&at, pack, &because, procfile)?;
    if plan.shape.processes.is_empty() {
        return Err(no_process(&plan));
    }
    Ok(plan)
}

/// Whether planning needs to know which Node versions there are.
pub fn asks_for_node(source: &Source) -> bool {
    source.has("package.json")
}

fn choose(
    at: &Surroundings<'_>,
    procfile: &BTreeMap<ProcessType, String>,
) -> Result<(Pack, String), Problem> {
    let source = at.source;
    let because = |text: &str| format!("there is {text}");
    if at.manifest.static_site.is_some() {
        return Ok((Pack::Static, "wharf.toml has [static]".to_owned()));
    }
    if source.has("Staticfile") {
        return Ok((Pack::Static, because("a Staticfile")));
    }
    let declared = ["requirements.txt", "pyproject.toml", "Pipfile", "poetry.lock", "manage.py"];
    if let Some(file) = source.first_of(&declared) {
        return Ok((Pack::Python, because(file)));
    }
    if source.has("package.json") {
        return Ok((Pack::Node, because("package.json")));
    }
    let names_process =
        procfile.keys().any(|name| !name.is_release()) || !at.manifest.processes.is_empty();
    let main = ["main.py", "app.py", "server.py", "start.py", "bot.py", "hello.py"];
    if let Some(file) = source.first_of(&main) {
        return Ok((Pack::Python, because(file)));
    }
    if names_process {
        return Ok((
            Pack::Procfile,
            "it has a Procfile and nothing else is known of it".to_owned(),
        ));
    }
    if let Some(file) = source.first_of(&["index.html", "public/index.html"]) {
        return Ok((Pack::Static, because(file)));
    }
    if source.has("start.sh") {
        return Ok((Pack::Procfile, because("start.sh")));
    }
    Err(nothing_detected(source))
}

fn plan(
    at: &Surroundings<'_>,
    pack: Pack,
    because: &str,
    procfile: BTreeMap<ProcessType, String>,
) -> Result<BuildPlan, Problem> {
    let (name, title) = match pack {
        Pack::Static => ("static", "Static site"),
        Pack::Python => ("python", "Python app"),
        Pack::Node => ("node", "Node.js app"),
        Pack::Procfile => ("procfile", "App with a Procfile"),
    };
    let mut draft = Draft::new(at, name, title, because);
    let web = match pack {
        Pack::Static => static_files::plan(&mut draft)?,
        Pack::Python => python::plan(&mut draft)?,
        Pack::Node => node::plan(&mut draft)?,
        Pack::Procfile => {
            draft.source();
            if let Some(command) = at.manifest.build.command.clone() {
                use super::plan::LayerName::{Base, Source};
                draft.build_step(&command, &[Base, Source], &[]);
            }
            at.source.has("start.sh").then(|| "sh start.sh".to_owned())
        }
    };
    Ok(draft.finish(web, procfile))
}

fn nothing_detected(source: &Source) -> Problem {
    let mut found: Vec<&str> = source.root_names().filter(|name| *name != ".git/").collect();
    let more = found.len().saturating_sub(12);
    found.truncate(12);
    let mut found = found.join(", ");
    if found.is_empty() {
        "nothing at all".clone_into(&mut found);
    }
    if more > 0 {
        found = format!("{found} and {more} more");
    }
    Problem::new(Code::NothingDetected, "no language or framework was recognised")
        .why(format!(
            "looked at the root for wharf.toml, Procfile, requirements.txt, pyproject.toml, manage.py, \
             main.py, app.py, server.py, package.json, Staticfile, index.html, public/index.html, start.sh; found {found}"
        ))
        .next("add a Procfile with a line like `web: ./server --port $PORT`, commit and push again")
}

fn no_process(plan: &BuildPlan) -> Problem {
    let looked = match plan.pack.as_str() {
        "node" => {
            "no `start` script, no `main` that exists, no server.js or index.js, and no Procfile"
        }
        "python" => "no manage.py, main.py, app.py or server.py, and no Procfile",
        _ => "no Procfile line but `release`",
    };
    let example = match plan.pack.as_str() {
        "node" => "web: node server.js",
        "python" => "web: gunicorn app:app --bind 0.0.0.0:$PORT",
        _ => "web: ./server --port $PORT",
    };
    Problem::new(Code::NoProcess, format!("this {} names no command to start", plan.title))
        .why(format!("there is {looked}"))
        .next(format!("add a Procfile with a line like `{example}`, commit and push again"))
}

#[cfg(test)]
mod tests;
