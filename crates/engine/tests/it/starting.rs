use crate::bench::{Bench, skip};
use engine::attach::Attach;
use engine::spec::ContainerStatus;

fn refusal(bench: &Bench, id: &str, command: &[&str]) -> String {
    let mut spec = bench.spec(id, "");
    spec.command = command.iter().map(|&word| word.to_owned()).collect();
    let error = bench.engine.start(&spec, Attach::Log).unwrap_err().to_string();
    let ContainerStatus::Exited(record) = bench.status(id) else { panic!("not ended") };
    assert_eq!(record.error.as_deref(), Some(error.as_str()));
    bench.engine.remove(id).unwrap();
    assert!(!bench.state(id).exists());
    error
}

/// A file in `/app` that may be run.
fn write_program(bench: &Bench, name: &str, text: &str) {
    let path = bench.path("base/app").join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn a_container_runs_its_command_and_gives_its_exit_code() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let (end, said) = bench.run(&bench.spec("a", "echo hello; echo oops >&2; exit 7"));
    assert_eq!((end.code, end.signal, end.oom_kills, end.error), (7, None, 0, None));
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["hello", "oops"]);
}

#[test]
fn what_cannot_be_started_is_said_in_words() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    std::fs::write(bench.path("base/app/plain"), "x").unwrap();
    write_program(&bench, "run", "#!/bin/bash\n");
    assert_eq!(refusal(&bench, "a", &["node", "server.js"]), "`node`: not found in PATH (/bin)");
    assert_eq!(refusal(&bench, "b", &["/app/plain"]), "`/app/plain`: is not executable (chmod +x)");
    assert_eq!(
        refusal(&bench, "c", &["/app/run"]),
        "`/app/run`: its first line asks for `/bin/bash`, which is not there"
    );
}

#[test]
fn without_a_shell_where_it_can_be_run_and_through_it_otherwise() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    write_program(&bench, "unsaid", "echo by a shell");
    let run = |id: &str, direct: &str, script: &str| {
        let mut spec = bench.spec(id, script);
        spec.cwd = "/app".into();
        spec.direct = Some(direct.split(' ').map(str::to_owned).collect());
        let (end, said) = bench.run(&spec);
        (end.code, said)
    };
    // It is told where it is, as by a shell.
    let (code, said) = run("a", "env", "echo not this");
    assert_eq!((code, said.lines().find(|line| line.starts_with("PWD="))), (0, Some("PWD=/app")));
    // The kernel runs no script without `#!`; a shell does.
    assert_eq!(run("b", "/app/unsaid", "exec /app/unsaid"), (0, "by a shell".to_owned()));
    // What is not there is told by the shell.
    let (code, said) = run("c", "no-such-program", "exec no-such-program");
    assert_eq!(code, 127);
    assert!(said.contains("no-such-program: not found"), "{said}");
}

#[test]
fn a_missing_layer_is_named() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "true");
    spec.root.layers.push("/no/such/layer".into());
    let error = bench.engine.start(&spec, Attach::Log).unwrap_err().to_string();
    assert_eq!(error, "layer /no/such/layer is no folder");
}

#[test]
fn an_id_is_used_once_and_a_bad_one_never() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.run(&bench.spec("a", "true"));
    let again = bench.engine.start(&bench.spec("a", "true"), Attach::Log).unwrap_err();
    assert_eq!(again.to_string(), "there is a container `a` already");
    for id in ["", "..", "a/b", "A"] {
        assert!(bench.engine.start(&bench.spec(id, "true"), Attach::Log).is_err(), "{id}");
        assert!(bench.engine.find(id).unwrap().is_none());
    }
}

#[test]
fn forty_layers_and_a_kept_upper_folder() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "cat /app/*; echo made > /app/made");
    spec.uid = 0;
    for number in 0..40 {
        let layer =
            bench.path(&format!("layers/sha256-of-some-length-0123456789abcdef-{number:02}"));
        std::fs::create_dir_all(layer.join("app")).unwrap();
        std::fs::write(layer.join(format!("app/{number:02}")), format!("{number}\n")).unwrap();
        spec.root.layers.insert(0, layer);
    }
    spec.root.upper = engine::spec::UpperSpec::Keep(bench.path("kept/upper"));
    let (end, said) = bench.run(&spec);
    assert_eq!((end.code, said.lines().count()), (0, 40));
    bench.engine.remove("a").unwrap();
    assert_eq!(std::fs::read_to_string(bench.path("kept/upper/app/made")).unwrap(), "made\n");
    let left: Vec<_> = std::fs::read_dir(bench.path("kept")).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_missing_working_folder_is_made_inside_whatever_links_say() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    // Not below /tmp, which is a mount inside.
    let outside = tempfile::tempdir_in("/var/tmp").unwrap();
    let outside = outside.path();
    // Absolute, and out of the root by steps up: both mean places inside.
    let inside = bench.path("base").join(outside.strip_prefix("/").unwrap());
    std::fs::create_dir_all(inside).unwrap();
    std::os::unix::fs::symlink(outside, bench.path("base/out")).unwrap();
    std::os::unix::fs::symlink("../../../../../..", bench.path("base/up")).unwrap();
    for (id, cwd, said) in [
        ("a", "/out/deep", outside.join("deep")),
        ("b", "/up/wharf-test-cwd", "/wharf-test-cwd".into()),
    ] {
        let mut spec = bench.spec(id, "pwd -P");
        spec.cwd = cwd.into();
        assert_eq!(bench.run(&spec).1, said.display().to_string());
    }
    assert!(!outside.join("deep").exists());
    assert!(!std::path::Path::new("/wharf-test-cwd").exists());
}
