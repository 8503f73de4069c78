//! What the runtime specification asks of a container, looked at from inside and from beside it, and the
//! same bundle run by runc. Which checks of others' suites these stand for: `docs/checks/oci.md`.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use crate::bench::{Bench, skip};
use crate::runc;
use engine::attach::Attach;
use engine::spec::{ContainerStatus, MountSpec, NetworkSpec};
use model::size::ByteSize;

/// Links to the bench's busybox that its root does not have yet.
fn more(bench: &Bench, applets: &[&str]) {
    for applet in applets {
        symlink("busybox", bench.path("base/bin").join(applet)).unwrap();
    }
}

const DEVICES: &str = "for d in null zero full random urandom tty; do \
    stat -c '%n %F %t:%T %a' /dev/$d; done; \
    for l in fd stdin stdout stderr ptmx; do echo $l $(readlink /dev/$l); done; \
    head -c 3 /dev/zero | wc -c; echo x > /dev/null && echo written; \
    head -c 5 /dev/urandom | wc -c; echo x 2>/dev/null > /dev/full || echo full";

#[test]
fn the_devices_are_there_and_are_what_they_are_called() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    more(&bench, &["readlink"]);
    let (_, said) = bench.run(&bench.spec("a", DEVICES));
    insta::assert_snapshot!(said, @r"
    /dev/null character special file 1:3 666
    /dev/zero character special file 1:5 666
    /dev/full character special file 1:7 666
    /dev/random character special file 1:8 666
    /dev/urandom character special file 1:9 666
    /dev/tty character special file 5:0 666
    fd /proc/self/fd
    stdin /proc/self/fd/0
    stdout /proc/self/fd/1
    stderr /proc/self/fd/2
    ptmx pts/ptmx
    3
    written
    5
    full
    ");
    if let Some(theirs) = runc::run(&bench, "a") {
        assert_eq!(theirs.trim_end(), said);
    }
}

#[test]
fn the_file_systems_are_there_with_their_options() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let look = "for p in /proc /sys /dev /dev/pts /dev/shm /dev/mqueue /tmp /etc/hosts; do \
        awk -v p=$p '$2 == p { split($4, o, \",\"); s = \"\"; for (i in o) \
        if (o[i] ~ /^(ro|rw|nosuid|nodev|noexec)$/) s = s \" \" o[i]; print p, $3, s }' \
        /proc/mounts | tail -n 1; done";
    let (_, said) = bench.run(&bench.spec("a", look));
    // The order of options is the kernel's, and of files below /etc the disk's.
    let lines = said.lines().map(|line| {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.get_mut(2..).unwrap_or_default().sort_unstable();
        if words[0] == "/etc/hosts" || words[0] == "/tmp" {
            words.remove(1);
        }
        words.join(" ")
    });
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r"
    /proc proc nodev noexec nosuid rw
    /sys sysfs nodev noexec nosuid ro
    /dev tmpfs nosuid rw
    /dev/pts devpts noexec nosuid rw
    /dev/shm tmpfs nodev noexec nosuid rw
    /dev/mqueue mqueue nodev noexec nosuid rw
    /tmp nodev nosuid rw
    /etc/hosts nodev nosuid ro
    ");
}

#[test]
fn nothing_mounted_is_shared_with_the_host() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let (_, said) = bench.run(&bench.spec("a", "cat /proc/self/mountinfo"));
    assert!(said.lines().count() > 8, "{said}");
    // A tag before the dash is a tie to other mounts.
    let tied = said.lines().filter(|line| {
        let before = line.split(" - ").next().unwrap();
        before.contains("shared:") || before.contains("propagate_from:")
    });
    assert_eq!(tied.collect::<Vec<_>>(), Vec::<&str>::new());
}

const MASKED: &str = "for f in kcore keys timer_list sched_debug interrupts latency_stats; do \
    [ -e /proc/$f ] && [ ! -L /proc/$f ] && echo $f $(cat /proc/$f 2>/dev/null | wc -c); done; \
    for d in /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/devices/virtual/powercap; do \
    [ -d $d ] && echo $d $(ls -A $d | wc -l); done; true";

#[test]
fn masked_paths_show_nothing_even_to_root() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", MASKED);
    (spec.uid, spec.gid) = (0, 0);
    let (_, said) = bench.run(&spec);
    assert!(said.contains("keys 0") && said.contains("/sys/firmware 0"), "{said}");
    assert!(said.lines().all(|line| line.ends_with(" 0")), "{said}");
}

#[test]
fn read_only_paths_are_so_even_for_root() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let look = "for d in /proc/bus /proc/fs /proc/irq /proc/sys; do [ -d $d ] || continue; \
        awk -v p=$d '$2 == p { print p, substr($4, 1, 3) }' /proc/mounts; done; \
        echo 1 > /proc/sys/net/ipv4/ip_forward; [ ! -e /proc/sysrq-trigger ] || echo h > /proc/sysrq-trigger; touch /sys/x";
    let mut spec = bench.spec("a", look);
    (spec.uid, spec.gid) = (0, 0);
    let (_, said) = bench.run(&spec);
    // Which of them there are is the kernel's business.
    let is_fine = |line: &str| line.ends_with(" ro,") || line.ends_with("Read-only file system");
    assert!(said.lines().all(is_fine), "{said}");
    for word in ["/proc/sys ro,", "/proc/irq ro,", "ip_forward: Read-only", "/sys/x: Read-only"] {
        assert!(said.contains(word), "{word}: {said}");
    }
}

const KINDS: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

fn namespaces(folder: &str) -> Vec<u64> {
    let inode = |kind: &&str| std::fs::metadata(format!("{folder}/ns/{kind}")).unwrap().ino();
    KINDS.iter().map(inode).collect()
}

fn pid(bench: &Bench, id: &str) -> u32 {
    match bench.status(id) {
        ContainerStatus::Running { pid } => pid,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_namespace_is_its_own() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    for id in ["a", "b"] {
        bench.start(&bench.spec(id, "sleep 1000"));
    }
    let all = ["self".to_owned(), pid(&bench, "a").to_string(), pid(&bench, "b").to_string()]
        .map(|pid| namespaces(&format!("/proc/{pid}")));
    for (number, kind) in KINDS.iter().enumerate() {
        let seen: std::collections::BTreeSet<u64> = all.iter().map(|one| one[number]).collect();
        assert_eq!(seen.len(), 3, "{kind}: {all:?}");
    }
}

#[test]
fn a_prepared_network_namespace_is_entered_and_nothing_else_is() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    bench.start(&bench.spec("a", "sleep 1000"));
    let first = pid(&bench, "a");
    let mut spec = bench.spec("b", "sleep 1000");
    spec.network = NetworkSpec::Prepared(format!("/proc/{first}/ns/net").into());
    bench.start(&spec);
    let net = |pid: u32| namespaces(&format!("/proc/{pid}"))[3];
    assert_eq!(net(pid(&bench, "b")), net(first));
    // A namespace of another kind is refused, and so is what is none; nothing of it is left.
    for (id, path) in [
        ("c", format!("/proc/{first}/ns/uts")),
        ("d", "/proc/self/status".to_owned()),
        ("e", "/no/such".to_owned()),
    ] {
        let mut spec = bench.spec(id, "true");
        spec.network = NetworkSpec::Prepared(path.into());
        assert!(bench.engine.start(&spec, Attach::Log).is_err());
        bench.engine.remove(id).unwrap();
        assert!(bench.cgroups().iter().all(|group| !group.join(id).exists()));
    }
}

/// A file of a container's cgroup, whichever version it is.
fn group_file(bench: &Bench, id: &str, names: [&str; 2]) -> String {
    let files =
        bench.cgroups().into_iter().flat_map(|group| names.map(|name| group.join(id).join(name)));
    let found: Vec<PathBuf> = files.filter(|path| path.exists()).collect();
    std::fs::read_to_string(&found[0]).unwrap().trim().to_owned()
}

#[test]
fn limits_stand_in_its_cgroup_as_they_were_asked_for() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "sleep 1000");
    spec.limits.memory = Some(ByteSize::mib(48));
    spec.limits.memory_soft = Some(ByteSize::mib(24));
    spec.limits.pids = 33;
    spec.limits.cpu_millis = Some(250);
    spec.limits.cpu_weight = 2048;
    bench.start(&spec);
    let of = |names| group_file(&bench, "a", names);
    assert_eq!(of(["memory.limit_in_bytes", "memory.max"]), (48 << 20).to_string());
    assert_eq!(of(["memory.soft_limit_in_bytes", "memory.low"]), (24 << 20).to_string());
    assert_eq!(of(["pids.max", "pids.max"]), "33");
    let quota = of(["cpu.cfs_quota_us", "cpu.max"]);
    assert!(["25000", "25000 100000"].contains(&quota.as_str()), "{quota}");
    // Version 2 counts from 1 to 10000, 100 being ordinary; twice the ordinary shares are this, as with runc.
    let has_shares = bench.cgroups().iter().any(|group| group.join("a/cpu.shares").exists());
    let weight = if has_shares { "2048" } else { "174" };
    assert_eq!(of(["cpu.shares", "cpu.weight"]), weight);
    // Its processes are in it, and see it as the root of all groups.
    let inside = pid(&bench, "a").to_string();
    assert!(of(["cgroup.procs", "cgroup.procs"]).lines().any(|line| line == inside));
    bench.start(&bench.spec("b", "cut -d: -f3 /proc/self/cgroup"));
    bench.end("b");
    assert!(bench.said("b").lines().all(|line| line == "/"), "{}", bench.said("b"));
}

#[test]
fn no_device_can_be_made_or_opened_by_its_number() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    more(&bench, &["mknod"]);
    let look = "for place in /tmp /app /dev; do mknod $place/disk b 254 0 || echo refused; done";
    let mut spec = bench.spec("a", look);
    (spec.uid, spec.gid) = (0, 0);
    let (_, said) = bench.run(&spec);
    assert_eq!(said.lines().filter(|line| *line == "refused").count(), 3, "{said}");
}

#[test]
fn a_program_of_roots_does_not_make_root() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let tool = bench.path("base/app/busybox");
    std::fs::copy("/bin/busybox", &tool).unwrap();
    std::fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o6755)).unwrap();
    let look =
        "/app/busybox id -u; /app/busybox id -g; umask; id -G; grep NoNewPrivs /proc/self/status";
    let (_, said) = bench.run(&bench.spec("a", look));
    assert_eq!(said.replace('\t', " "), "1000\n1000\n0022\n1000\nNoNewPrivs: 1");
}

#[test]
fn mounts_come_in_order_and_their_places_are_made() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mount = |source: &str, target: &str, is_read_only| {
        std::fs::create_dir_all(bench.path(source)).unwrap();
        std::fs::write(bench.path(source).join("who"), format!("{source}\n")).unwrap();
        MountSpec { source: bench.path(source), target: target.into(), is_read_only }
    };
    let look = "cat /outer/who /outer/inner/who /not/there/before/who; touch /outer/x; \
        touch /outer/inner/x || echo refused; \
        grep -E ' /(outer|not)' /proc/mounts | grep -cE 'nosuid.*nodev|nodev.*nosuid'";
    let mut spec = bench.spec("a", look);
    spec.mounts = vec![
        mount("one", "/outer", false),
        mount("two", "/outer/inner", true),
        mount("three", "/not/there/before", false),
    ];
    std::os::unix::fs::chown(bench.path("one"), Some(1000), Some(1000)).unwrap();
    let (_, said) = bench.run(&spec);
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("touch")).collect();
    assert_eq!(lines, ["one", "two", "three", "refused", "3"], "{said}");
    assert!(bench.path("one/x").exists() && !bench.path("two/x").exists());
}

#[test]
fn a_link_where_a_file_system_is_to_be_leads_nowhere_outside() {
    if skip() {
        return;
    }
    for folder in ["proc", "sys", "dev"] {
        let bench = Bench::new();
        let outside = tempfile::tempdir_in("/var/tmp").unwrap();
        std::fs::remove_dir(bench.path("base").join(folder)).unwrap();
        symlink(outside.path(), bench.path("base").join(folder)).unwrap();
        let started = bench.engine.start(&bench.spec("a", "sleep 1000"), Attach::Log);
        // Refused, or mounted inside: never on the host.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*outside.path().to_string_lossy()), "{folder}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{folder}");
        println!("/{folder} as a link: {started:?}");
    }
}

#[test]
fn a_life_has_its_order() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let engine = &bench.engine;
    // Not there: nothing can be done with it, and removing it is fine.
    assert!(engine.find("a").unwrap().is_none() && engine.signal("a", libc::SIGTERM).is_err());
    engine.remove("a").unwrap();
    bench.start(&bench.spec("a", "sleep 1000"));
    assert!(engine.start(&bench.spec("a", "true"), Attach::Log).is_err(), "it runs already");
    assert!(engine.remove("a").is_err(), "it runs");
    // A signal that no program heeds changes nothing.
    engine.signal("a", libc::SIGCONT).unwrap();
    assert!(matches!(bench.status("a"), ContainerStatus::Running { .. }));
    engine.signal("a", libc::SIGKILL).unwrap();
    assert_eq!(bench.end("a").code, 137);
    assert!(engine.signal("a", libc::SIGKILL).is_err(), "it has ended");
    assert!(engine.exec("a", &bench.exec_spec("true"), Attach::Log).is_err(), "it has ended");
    assert!(engine.start(&bench.spec("a", "true"), Attach::Log).is_err(), "its name is taken");
    engine.remove("a").unwrap();
    engine.remove("a").unwrap();
    assert!(engine.find("a").unwrap().is_none());
    bench.run(&bench.spec("a", "true"));
}

#[test]
fn runc_makes_the_same_of_the_same_bundle() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    more(&bench, &["readlink"]);
    let look = format!(
        "{DEVICES}; {MASKED}; umask; pwd; id; hostname; ulimit -n; ulimit -c; env; \
         grep -E '^(Cap|NoNewPrivs)' /proc/self/status; ls /dev | grep -v core; \
         touch /proc/sys/x 2>/dev/null || echo refused; mount -t tmpfs x /tmp 2>/dev/null || echo refused"
    );
    let (_, ours) = bench.run(&bench.spec("a", &look));
    match runc::run(&bench, "a") {
        Some(theirs) => {
            assert_eq!(theirs.lines().collect::<Vec<_>>(), ours.lines().collect::<Vec<_>>());
        }
        None => assert!(crate::bench::skipped("runc")),
    }
}

#[test]
fn the_page_names_tests_that_are_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(folder.join("../../docs/checks/oci.md")).unwrap();
    let tests =
        std::fs::read_dir(folder.join("tests/it")).unwrap().map(|entry| entry.unwrap().path());
    let mut texts: String = tests
        .filter(|path| path.is_file())
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    texts += &std::fs::read_to_string(folder.join("src/bundle.rs")).unwrap();
    let named: Vec<&str> = page
        .split('`')
        .filter_map(|word| word.split_once("::").map(|(_, test)| test))
        .filter(|test| test.contains('_') && !test.contains(' '))
        .collect();
    assert!(named.len() > 20, "{named:?}");
    for test in named {
        assert!(texts.contains(&format!("fn {test}()")), "no test `{test}`");
    }
}
