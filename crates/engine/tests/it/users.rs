use crate::bench::{Bench, USERS, skip};
use engine::attach::Attach;
use engine::spec::{ContainerStatus, MountSpec, UpperSpec, UserRange};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

fn owner(path: &Path) -> (u32, u32) {
    let found = std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    (found.uid(), found.gid())
}

#[test]
fn root_inside_is_nobody_outside() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "cat /proc/self/uid_map; echo > /mine; echo up; sleep 1000");
    (spec.uid, spec.gid) = (0, 0);
    bench.start(&spec);
    bench.wait_until_said("a", "up");
    let words: Vec<String> = bench.said("a").split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[..3], ["0".to_owned(), USERS.to_string(), "65536".to_owned()]);
    let ContainerStatus::Running { pid } = bench.status("a") else { panic!("it runs") };
    assert_eq!(owner(format!("/proc/{pid}/task").as_ref()), (USERS, USERS));
    // Also what it writes is nobody's, should anybody ever come upon it.
    assert_eq!(owner(&bench.path("scratch/a/upper/mine")), (USERS, USERS));
    let exec = bench.exec_spec("echo > /tmp/theirs");
    assert_eq!(bench.engine.exec("a", &exec, Attach::Log).unwrap().wait().unwrap(), 0);
    assert_eq!(owner(&bench.path("scratch/a/tmp/theirs")), (USERS + 1000, USERS + 1000));
}

#[test]
fn apps_share_layers_and_nothing_else() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let file = bench.path("base/app/file");
    std::fs::write(&file, "shared").unwrap();
    chown(&file, Some(1000), Some(7)).unwrap();
    for (id, first) in [("a", USERS), ("b", USERS + UserRange::COUNT)] {
        let mut spec = bench.spec(
            id,
            "ls -ln /app/file /bin/busybox | awk '{print $3, $4}'; \
            echo more >> /app/file && cat /app/file; sleep 1000",
        );
        spec.users = UserRange::starting_at(first);
        bench.start(&spec);
        bench.wait_until_said(id, "sharedmore");
        assert!(bench.said(id).starts_with("1000 7\n0 0\n"), "{}", bench.said(id));
        let ContainerStatus::Running { pid } = bench.status(id) else { panic!("it runs") };
        assert_eq!(owner(format!("/proc/{pid}/task").as_ref()).0, first + 1000);
        assert_eq!(owner(&bench.path(&format!("scratch/{id}/upper/app/file"))).0, first + 1000);
    }
    assert_eq!(owner(&file), (1000, 7));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "shared");
}

#[test]
fn what_a_build_keeps_belongs_to_plain_users() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    std::fs::create_dir(bench.path("base/app/old")).unwrap();
    std::fs::create_dir(bench.path("base/srv")).unwrap();
    std::fs::write(bench.path("base/app/old/kept"), "").unwrap();
    for path in ["base/app", "base/app/old", "base/app/old/kept"] {
        chown(bench.path(path), Some(1000), Some(1000)).unwrap();
    }
    let mut spec = bench.spec(
        "a",
        "echo > /app/new; mkdir /app/folder; touch /app/old/kept; rm /bin/wget; rm -r /srv; mkdir /srv; \
         chown 1000:7 /app/folder; echo done",
    );
    (spec.uid, spec.gid) = (0, 0);
    spec.root.upper = UpperSpec::Keep(bench.path("kept/upper"));
    let (end, said) = bench.run(&spec);
    assert_eq!((end.code, said.as_str()), (0, "done"), "{end:?}");
    bench.engine.remove("a").unwrap();
    let upper = bench.path("kept/upper");
    for (path, expected) in [
        ("", (0, 0)),
        ("app/new", (0, 0)),
        ("app/folder", (1000, 7)),
        ("app", (1000, 1000)),
        ("app/old/kept", (1000, 1000)),
        // The mark of a removed file.
        ("bin/wget", (0, 0)),
        ("srv", (0, 0)),
    ] {
        assert_eq!(owner(&upper.join(path)), expected, "{path}");
    }
    assert_eq!(xattr::get(upper.join("srv"), "trusted.overlay.opaque").unwrap(), Some(b"y".into()));
    assert_eq!(std::fs::read_dir(bench.path("kept")).unwrap().count(), 1);

    // And it is a layer like any other.
    let mut spec = bench.spec("b", "ls -ln /app | tail -n +2 | awk '{print $3, $9}'; ls /bin/wget");
    spec.root.layers.insert(0, upper);
    let (_, said) = bench.run(&spec);
    assert!(said.contains("0 new\n1000 old"), "{said}");
    assert!(said.contains("No such file"), "{said}");
}

#[test]
fn volumes_belong_to_the_user_inside_whoever_that_is_outside() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let volume = bench.path("volume");
    std::fs::create_dir(&volume).unwrap();
    chown(&volume, Some(1000), Some(1000)).unwrap();
    // Out of reach by its path for all but the machine's root.
    std::fs::set_permissions(&volume, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for (id, first) in [("a", USERS), ("b", USERS + UserRange::COUNT)] {
        let mut spec = bench.spec(id, "echo $HOSTNAME >> /data/log && stat -c %u /data/log");
        spec.users = UserRange::starting_at(first);
        let source = volume.clone();
        spec.mounts = vec![MountSpec { source, target: "/data".into(), is_read_only: false }];
        let (end, said) = bench.run(&spec);
        assert_eq!((end.code, said.as_str()), (0, "1000"), "{end:?}");
    }
    assert_eq!(owner(&volume.join("log")), (1000, 1000));
}

#[test]
fn a_file_on_a_file_system_without_owners_to_map_can_be_read() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    // The kernel maps no owners in /proc.
    let mut spec = bench.spec("a", "cat /version");
    let mount = |is_read_only| MountSpec {
        source: "/proc/version".into(),
        target: "/version".into(),
        is_read_only,
    };
    spec.mounts = vec![mount(true)];
    let (end, said) = bench.run(&spec);
    assert_eq!(end.code, 0, "{end:?}");
    assert!(said.starts_with("Linux version"), "{said}");
    let mut spec = bench.spec("b", "true");
    spec.mounts = vec![mount(false)];
    let error = bench.engine.start(&spec, Attach::Log).unwrap_err().to_string();
    assert!(error.starts_with("could not map the owners of /proc/version"), "{error}");
}

#[test]
fn only_its_own_links_are_in_sys() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let (_, said) = bench.run(&bench.spec("a", "ls /sys/class/net; touch /sys/x"));
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["lo", "touch: /sys/x: Read-only file system"]);
}

#[test]
fn users_that_no_range_has_are_refused() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "true");
    spec.uid = UserRange::COUNT;
    let error = bench.engine.start(&spec, Attach::Log).unwrap_err();
    assert_eq!(error.to_string(), "users and groups inside a container are below 65536");
    for wrong in [0, 1, UserRange::COUNT + 1, 1 << 31] {
        assert_eq!(UserRange::starting_at(wrong), None, "{wrong}");
    }
}

#[test]
fn a_machine_that_cannot_map_owners_says_so() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.engine.check_users(&bench.path("base")).unwrap();
    let error = bench.engine.check_users("/proc".as_ref()).unwrap_err().to_string();
    assert!(error.starts_with("could not map the owners of /proc: Invalid argument"), "{error}");
    for folder in ["run/containers", "scratch"] {
        assert_eq!(std::fs::read_dir(bench.path(folder)).unwrap().count(), 0, "{folder}");
    }
}
