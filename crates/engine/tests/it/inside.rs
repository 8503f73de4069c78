use crate::bench::{Bench, skip};

fn run(script: &str) -> String {
    let bench = Bench::new();
    let (end, said) = bench.run(&bench.spec("a", script));
    assert_eq!(end.error, None);
    said
}

#[test]
fn an_app_has_no_power_at_all() {
    if skip() {
        return;
    }
    let said = run("id -u; id -g; grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status");
    insta::assert_snapshot!(said.replace('\t', " ").replace(":  ", ":"), @r"
    1000
    1000
    Groups:
    CapInh: 0000000000000000
    CapPrm: 0000000000000000
    CapEff: 0000000000000000
    CapBnd: 0000000000000000
    CapAmb: 0000000000000000
    NoNewPrivs: 1
    Seccomp: 2
    ");
}

#[test]
fn a_builds_root_has_few_capabilities() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec("a", "grep -E '^(CapEff|CapBnd|Seccomp:)' /proc/self/status");
    spec.uid = 0;
    spec.gid = 0;
    let (_, said) = bench.run(&spec);
    insta::assert_snapshot!(said.replace('\t', " "), @r"
    CapEff: 00000000000000fb
    CapBnd: 00000000000000fb
    Seccomp: 2
    ");
}

#[test]
fn namespaces_and_mounts_are_out_of_reach_even_for_root() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    let mut spec = bench.spec(
        "a",
        "unshare -U true; unshare -n true; mount -t tmpfs x /tmp; \
         echo 1 > /proc/sys/kernel/hostname; \
         ls /sys/firmware; cat /proc/keys; \
         [ -L /dev/kcore ] && cat /proc/kcore; ls /dev | grep -v kcore; hostname; cat /etc/hostname",
    );
    spec.uid = 0;
    let (_, said) = bench.run(&spec);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn only_its_own_processes_are_seen_and_pid_1_cannot_be_looked_into() {
    if skip() {
        return;
    }
    let said =
        run("ls /proc | grep -c '^[0-9]'; cat /proc/1/environ; ls /proc/1/fd; ls /proc/1/root/");
    let processes: u32 = said.lines().find_map(|line| line.parse().ok()).unwrap();
    assert!(processes <= 5, "{said}");
    for place in ["'/proc/1/environ'", "'/proc/1/fd'", "/proc/1/root/"] {
        assert!(said.contains(&format!("{place}: Permission denied")), "{said}");
    }
}

#[test]
fn standard_streams_can_be_opened_by_name() {
    if skip() {
        return;
    }
    let said = run("echo one > /dev/stdout; echo two > /dev/stderr; cat /dev/stdin");
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["one", "two"]);
}

#[test]
fn no_descriptor_of_ours_leaks_in() {
    if skip() {
        return;
    }
    let said = run("ls /proc/self/fd | wc -l");
    // The three streams and the folder `ls` itself reads.
    assert_eq!(said, "4");
}

#[test]
fn a_read_only_root_leaves_tmp() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    // What an image has in its /tmp is not the container's, which has its own.
    std::fs::write(bench.path("base/tmp/old"), "").unwrap();
    let look = "touch /app/x; touch /etc/hosts; touch /tmp/x /dev/shm/x && ls /tmp; \
                grep -E ' /(tmp)? ' /proc/mounts | awk '{print $2, $4}' | cut -d, -f1,2,3";
    let mut spec = bench.spec("a", look);
    (spec.uid, spec.root.is_read_only) = (0, true);
    let (_, said) = bench.run(&spec);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    insta::assert_snapshot!(lines.join("\n"), @r"
    / ro,nodev,relatime
    /tmp rw,nosuid,nodev
    touch: /app/x: Read-only file system
    touch: /etc/hosts: Read-only file system
    x
    ");
    assert_eq!(std::fs::read_dir(bench.path("base/tmp")).unwrap().count(), 1);
}

#[test]
fn mounts_are_seen_with_their_mode() {
    if skip() {
        return;
    }
    let bench = Bench::new();
    for name in ["rw", "ro"] {
        let path = bench.path(name);
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(1000), Some(1000)).unwrap();
    }
    let mut spec = bench.spec("a", "echo kept > /data/x; echo no > /fixed/x || echo refused");
    spec.mounts = [("rw", "/data", false), ("ro", "/fixed", true)]
        .map(|(source, target, is_read_only)| engine::spec::MountSpec {
            source: bench.path(source),
            target: target.into(),
            is_read_only,
        })
        .into();
    let (_, said) = bench.run(&spec);
    assert!(said.contains("refused"), "{said}");
    assert_eq!(std::fs::read_to_string(bench.path("rw/x")).unwrap(), "kept\n");
}
