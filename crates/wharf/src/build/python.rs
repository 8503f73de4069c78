//! Python apps: requirements.txt or pyproject.toml → a venv in /opt/venv, made by uv.

use std::collections::BTreeMap;

use model::problem::{Code, Problem};

use super::draft::{Draft, StepDraft, Surroundings};
use super::plan::LayerName;

/// What Debian 12 has.
const PYTHON: &str = "3.11";

const TOOLS_SCRIPT: &str = "python3 -m venv /opt/tools
/opt/tools/bin/pip install --quiet --disable-pip-version-check uv";

const STEP_PATH: &str = "/opt/venv/bin:/opt/tools/bin:/usr/local/bin:/usr/bin:/bin";

/// Adds everything up to the dependencies; the default command of `web`.
pub(super) fn plan(draft: &mut Draft<'_>) -> Result<Option<String>, Problem> {
    draft.version("python", PYTHON, &check_version(draft.at)?);
    if draft.at.source.has("requirements.txt") || draft.at.source.has("pyproject.toml") {
        tools(draft);
        dependencies(draft);
    } else if let Some(file) = draft.at.source.first_of(&["Pipfile", "poetry.lock"]) {
        return Err(Problem::new(Code::NothingDetected, format!("`{file}` is not understood"))
            .why("dependencies are read from requirements.txt or from pyproject.toml with uv.lock")
            .next(
                "pipenv requirements > requirements.txt   (or: poetry export -o requirements.txt)",
            ));
    } else {
        bare(draft);
        draft.source();
    }
    draft.path("/opt/venv/bin");
    for (name, value) in
        [("PYTHONUNBUFFERED", "1"), ("PYTHONDONTWRITEBYTECODE", "1"), ("VIRTUAL_ENV", "/opt/venv")]
    {
        draft.env(name, value);
    }
    let has_venv = draft.plan.layer(LayerName::Dependencies).is_some();
    let mut on = vec![LayerName::Base];
    if has_venv {
        on.push(LayerName::Dependencies);
    }
    on.push(LayerName::Source);
    let path = [("PATH", STEP_PATH)];
    match draft.at.manifest.build.command.clone() {
        Some(command) => draft.build_step(&command, &on, &path),
        None if collects_static(draft.at) => {
            draft.build_step("python manage.py collectstatic --noinput", &on, &path);
        }
        None => {}
    }
    Ok(start_command(draft.at))
}

fn check_version(at: &Surroundings<'_>) -> Result<String, Problem> {
    let file = |name: &'static str| Some((at.source.text(name)?.trim(), name));
    let asked = at
        .config
        .get("PYTHON_VERSION")
        .map(|wish| (wish.as_str(), "config var PYTHON_VERSION"))
        .or_else(|| file(".python-version"))
        .or_else(|| file("runtime.txt"));
    let Some((wish, place)) = asked else { return Ok("the base system's".to_owned()) };
    let version = wish.trim_start_matches("python-").trim_start_matches("python");
    let is_here = version == "3" || version == PYTHON || version.starts_with("3.11.");
    if is_here {
        return Ok(format!("{place}: {wish}"));
    }
    Err(Problem::new(Code::VersionUnavailable, format!("there is no Python `{wish}` here"))
        .why(format!("{place} asks for it; the base system has {PYTHON}"))
        .next(format!("write `{PYTHON}` into {place}, or remove it")))
}

fn tools(draft: &mut Draft<'_>) {
    let step = StepDraft {
        title: "Preparing uv".to_owned(),
        shown: "pip install uv".to_owned(),
        script: TOOLS_SCRIPT.to_owned(),
        on: vec![LayerName::Base],
        ..StepDraft::default()
    };
    draft.step(LayerName::Tools, false, step);
}

/// An app that needs nothing but Python: the base system calls it `python3` alone, and everybody's
/// Procfile says `python`.
fn bare(draft: &mut Draft<'_>) {
    let command = "python3 -m venv --without-pip /opt/venv";
    let step = StepDraft {
        title: "Preparing Python".to_owned(),
        shown: command.to_owned(),
        script: command.to_owned(),
        is_offline: true,
        on: vec![LayerName::Base],
        ..StepDraft::default()
    };
    draft.step(LayerName::Dependencies, true, step);
}

fn dependencies(draft: &mut Draft<'_>) {
    let source = draft.at.source;
    let has_lock = source.has("uv.lock");
    let project = source.text("pyproject.toml").unwrap_or_default();
    let (command, inputs, needs_source) = if source.has("requirements.txt") && !has_lock {
        let (inputs, needs_source) = requirements(draft.at);
        ("uv pip install --requirement requirements.txt", inputs, needs_source)
    } else {
        let inputs = draft.inputs(&["pyproject.toml", "uv.lock"]);
        let needs_source =
            project.contains("[build-system]") || project.contains("[tool.uv.workspace]");
        let command = match (has_lock, needs_source) {
            (true, true) => "uv sync --locked --no-dev",
            (true, false) => "uv sync --locked --no-dev --no-install-project",
            (false, true) => "uv sync --no-dev",
            (false, false) => "uv sync --no-dev --no-install-project",
        };
        if !has_lock {
            draft.warn("there is no lock file: every build may install other versions. Run `uv lock` and commit uv.lock");
        }
        (command, inputs, needs_source)
    };
    let mut on = vec![LayerName::Base, LayerName::Tools];
    if needs_source {
        draft.source();
        on.push(LayerName::Source);
    }
    let env = [
        ("PATH", STEP_PATH),
        ("VIRTUAL_ENV", "/opt/venv"),
        ("UV_PROJECT_ENVIRONMENT", "/opt/venv"),
        ("UV_CACHE_DIR", "/cache/uv"),
        // The cache is another file system.
        ("UV_LINK_MODE", "copy"),
        ("UV_COMPILE_BYTECODE", "1"),
        ("UV_PYTHON_DOWNLOADS", "never"),
        ("UV_NO_PROGRESS", "1"),
    ];
    let step = StepDraft {
        title: "Installing dependencies".to_owned(),
        shown: command.to_owned(),
        script: format!(
            "uv venv --quiet --allow-existing --python /usr/bin/python3 /opt/venv\n{command}"
        ),
        on,
        inputs: if needs_source { BTreeMap::new() } else { inputs },
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        forgotten: vec!["app/.cache".to_owned()],
        ..StepDraft::default()
    };
    draft.step(LayerName::Dependencies, true, step);
    if !needs_source {
        draft.source();
    }
}

/// requirements.txt and the files it includes, and whether it installs something of the source.
fn requirements(at: &Surroundings<'_>) -> (BTreeMap<String, String>, bool) {
    let mut inputs = BTreeMap::new();
    let mut queue = vec!["requirements.txt".to_owned()];
    let mut needs_source = false;
    while let Some(name) = queue.pop() {
        let Some(text) = at.source.text(&name) else {
            // An include that was not read for detection: let the installer see everything.
            needs_source = true;
            continue;
        };
        for line in text.lines().map(str::trim) {
            let include = ["-r", "-c", "--requirement", "--constraint"]
                .iter()
                .find_map(|flag| line.strip_prefix(flag)?.strip_prefix([' ', '=']));
            if let Some(file) = include {
                let file = file.trim().trim_start_matches("./").to_owned();
                let file = match name.rsplit_once('/') {
                    Some((folder, _)) => format!("{folder}/{file}"),
                    None => file,
                };
                if !inputs.contains_key(&file) {
                    queue.push(file);
                }
            }
            let is_local = ["-e ", "--editable", ".", "/", "file:"];
            needs_source |=
                is_local.iter().any(|start| line.starts_with(start)) || line.contains("@ file:");
        }
        inputs.insert(name, text.to_owned());
    }
    (inputs, needs_source)
}

fn depends_on(at: &Surroundings<'_>, package: &str) -> bool {
    let files = ["requirements.txt", "pyproject.toml"];
    let text = files.iter().filter_map(|name| at.source.text(name)).collect::<Vec<_>>().join("\n");
    text.to_ascii_lowercase()
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.'))
        .any(|word| word == package)
}

fn collects_static(at: &Surroundings<'_>) -> bool {
    at.source.has("manage.py")
        && at
            .source
            .ending_with("/settings.py")
            .and_then(|name| at.source.text(name))
            .is_some_and(|settings| settings.contains("STATIC_ROOT"))
}

fn start_command(at: &Surroundings<'_>) -> Option<String> {
    let file =
        at.source.first_of(&["main.py", "app.py", "server.py", "start.py", "bot.py", "hello.py"]);
    let module = file.map(|file| file.trim_end_matches(".py"));
    if at.source.has("manage.py")
        && depends_on(at, "gunicorn")
        && let Some(wsgi) = at.source.ending_with("/wsgi.py")
    {
        let project = wsgi.trim_end_matches(".py").replace('/', ".");
        return Some(format!("gunicorn {project} --bind 0.0.0.0:$PORT"));
    }
    if at.source.has("manage.py") {
        return Some("python manage.py runserver 0.0.0.0:$PORT --noreload".to_owned());
    }
    let module = module?;
    if depends_on(at, "uvicorn") || depends_on(at, "fastapi") {
        return Some(format!("uvicorn {module}:app --host 0.0.0.0 --port $PORT"));
    }
    if depends_on(at, "gunicorn") {
        return Some(format!("gunicorn {module}:app --bind 0.0.0.0:$PORT"));
    }
    Some(format!("python {module}.py"))
}
