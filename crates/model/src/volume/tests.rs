use insta::assert_snapshot;

use super::*;

fn volume(name: &str, at: &str) -> VolumeSpec {
    let (name, at) = (name.parse().unwrap(), at.parse().unwrap());
    VolumeSpec { name, at, process: None, size: None, single_writer: false }
}

fn volumes(all: &[VolumeSpec]) -> Volumes {
    all.iter().map(|one| (one.name.clone(), one.clone())).collect()
}

#[test]
fn a_place_is_a_clean_absolute_path_that_hides_nothing() {
    let mut lines = Vec::new();
    for given in [
        "/data",
        "//srv//x/",
        "/app/uploads",
        "data",
        "/",
        "/app",
        "/a/../b",
        "/proc/x",
        "/dev",
        "/a\nb",
    ] {
        lines.push(match given.parse::<MountPoint>() {
            Ok(point) => format!("{given} -> {point}"),
            Err(error) => error.to_string().replace('\n', "?"),
        });
    }
    assert_snapshot!(lines.join("\n"), @r"
    /data -> /data
    //srv//x/ -> /srv/x
    /app/uploads -> /app/uploads
    `data` is no place for a volume: an absolute path like /data, of at most 255 letters
    `/` is no place for a volume: it would hide what the container is made of; take one below, or /data
    `/app` is no place for a volume: it would hide what the container is made of; take one below, or /data
    `/a/../b` is no place for a volume: a path without `.` and `..`
    `/proc/x` is no place for a volume: /proc, /sys and /dev are the kernel's
    `/dev` is no place for a volume: /proc, /sys and /dev are the kernel's
    `/a?b` is no place for a volume: an absolute path like /data, of at most 255 letters
    ");
}

#[test]
fn who_sees_which_volume_and_how() {
    let worker: ProcessType = "worker".parse().unwrap();
    let all = volumes(&[
        volume("shared", "/shared"),
        VolumeSpec { process: Some(worker.clone()), ..volume("jobs", "/jobs") },
        VolumeSpec { single_writer: true, ..volume("db", "/db") },
    ]);
    let web = ProcessType::web();
    let mut lines = Vec::new();
    for (who, user) in
        [("web", User::Process(&web)), ("worker", User::Process(&worker)), ("beside", User::Beside)]
    {
        let seen = mounts_of(&all, user).into_iter().map(|mount| {
            format!("{}{}", mount.at, if mount.is_read_only { " (read only)" } else { "" })
        });
        lines.push(format!("{who}: {}", seen.collect::<Vec<_>>().join(", ")));
    }
    assert_snapshot!(lines.join("\n"), @r"
    web: /db, /shared
    worker: /jobs, /shared
    beside: /db (read only), /jobs, /shared
    ");
    let (first, second) = (writes_of(&all, &web), writes_of(&all, &worker));
    assert!(first.clash(&first), "two of web");
    assert!(!first.clash(&second) && !second.clash(&second), "workers share");
    let shared = Writes { volumes: ["db".parse().unwrap()].into(), ..Writes::default() };
    assert!(first.clash(&shared) && shared.clash(&first), "who wrote when it was shared");
    assert!(!Writes::default().clash(&first));
    assert_eq!(single_writers(&all).len(), 1);
}

#[test]
fn volumes_that_do_not_fit_together_are_named() {
    let mut lines = Vec::new();
    for pair in [
        [volume("a", "/data"), volume("b", "/data/")],
        [volume("a", "/data"), volume("b", "/data/b")],
        [volume("a", "/data"), VolumeSpec { size: Some(ByteSize(5)), ..volume("b", "/b") }],
        [
            volume("a", "/data"),
            VolumeSpec { process: Some(ProcessType::release()), ..volume("b", "/b") },
        ],
        [volume("a", "/data"), volume("b", "/data2")],
    ] {
        lines.push(find_conflict(&volumes(&pair)).unwrap_or_else(|| "fit".to_owned()));
    }
    assert_snapshot!(lines.join("\n"), @r"
    `a` and `b` are both at `/data`
    `a` at `/data` and `b` at `/data/b` lie in each other
    `b` has 5 B; a bound is 8 MiB or more
    `b` is for `release`, which has every volume anyhow
    fit
    ");
}
