//! What nobody needs any more goes, and nothing else: old images, their layers, caches; while builds go
//! on, and when the daemon dies between any two removals.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::repo::Repo;
use crate::support::require::require;

const LIMIT: Duration = Duration::from_secs(60);

/// A Wharf that keeps the images of so few releases, with `shop` to be pushed.
fn thrifty() -> Option<(Host, Repo)> {
    if !require(&["root", "network"]) {
        return None;
    }
    let mut host = Host::start();
    host.kill_daemon();
    host.start_daemon(&[KEEP]);
    let repo = host.app("shop");
    Some((host, repo))
}

const KEEP: (&str, &str) = ("WHARF_KEEP_RELEASES", "1");

fn names(host: &Host, folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(host.data().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

/// Layers that an image or a known step needs.
fn needed(host: &Host) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    for image in names(host, "images") {
        let text = fs::read_to_string(host.data().join("images").join(image)).unwrap_or_default();
        let Ok(config) = serde_json::from_str::<serde_json::Value>(&text) else { continue };
        let ids = config["rootfs"]["diff_ids"].as_array().unwrap().iter();
        needed.extend(ids.map(|id| id.as_str().unwrap().replace("sha256:", "")));
    }
    for key in names(host, "keys") {
        let text = fs::read_to_string(host.data().join("keys").join(key)).unwrap_or_default();
        needed.insert(text.trim().to_owned());
    }
    needed
}

/// Waits until there are so many images, and exactly the layers that are needed.
fn settled(host: &Host, images: usize) {
    let is_so = || {
        let is_exact = names(host, "layers") == needed(host);
        let is_tidy = names(host, "tmp").is_empty();
        (names(host, "images").len() == images && is_exact && is_tidy).then_some(())
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for("the collector", LIMIT, is_so);
    }));
    let (layers, needed) = (names(host, "layers"), needed(host));
    assert!(
        result.is_ok(),
        "{} images; too many layers {:?}, missing {:?}, begun {:?}\n{}",
        names(host, "images").len(),
        layers.difference(&needed),
        needed.difference(&layers),
        names(host, "tmp"),
        host.daemon_log()
    );
}

#[test]
fn images_nobody_goes_back_to_are_collected_and_said_to_be_gone() {
    let Some((mut host, repo)) = thrifty() else { return };
    let first = repo.git(&["rev-parse", "HEAD"]).trim().to_owned();
    host.push_well(&repo);
    for version in ["two", "three"] {
        repo.set_version(version);
        host.push_well(&repo);
    }
    // What serves, and what one goes back to.
    settled(&host, 2);
    let listed = host.wharf(&["releases", "-a", "shop"]);
    let line = listed.lines().find(|line| line.starts_with("v1")).unwrap();
    assert!(line.contains("image gone") && listed.matches("image gone").count() == 1, "{listed}");
    let releases = host.json(&["releases", "-a", "shop"]);
    let of = |version: u64| {
        let found = releases.as_array().unwrap().iter().find(|one| one["version"] == version);
        found.unwrap()["eligible_for_rollback"].as_bool().unwrap()
    };
    assert_eq!([of(1), of(2), of(3)], [false, true, true]);
    let said = host.wharf_fails(&["rollback", "v1", "-a", "shop"]);
    for text in ["error[P209]: `shop` cannot go back to v1", "its image is gone", "keep_releases"] {
        assert!(said.contains(text), "`{text}` is not in:\n{said}");
    }
    host.wharf(&["rollback", "-a", "shop"]);
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));
    settled(&host, 2);
    // Its commit is built again, since its image is not there to be used again.
    let said = repo.try_git(&["push", "wharf", &format!("+{first}:main")]);
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(host.get("shop.localhost", "/").1.starts_with("one"));
    settled(&host, 2);

    // The daemon dies between any two removals.
    let points = wharf::failpoints::ALL.iter().filter(|point| point.starts_with("collect."));
    for (number, point) in points.enumerate() {
        host.kill_daemon();
        host.start_daemon(&[KEEP, ("WHARF_FAILPOINT", point)]);
        let version = format!("after-{number}");
        repo.set_version(&version);
        let url = host.git_url("shop");
        repo.git(&["remote", "set-url", "wharf", &url]);
        // It may be told that it is live, or hear no more.
        repo.try_git(&["push", "--force", "wharf", "main"]);
        host.wait_daemon_death();
        host.start_daemon(&[KEEP]);
        settled(&host, 2);
        assert!(host.get("shop.localhost", "/").1.starts_with(&version));
        // Nothing is missing that would be needed to begin afresh.
        host.wharf(&["restart", "-a", "shop"]);
        assert!(host.get("shop.localhost", "/").1.starts_with(&version));
    }
    invariants::check(&host, 1);

    fs::create_dir_all(host.data().join("caches/left-by-an-older-wharf")).unwrap();
    host.wharf(&["destroy", "-a", "shop", "--confirm", "shop"]);
    settled(&host, 0);
    assert!(names(&host, "caches").is_empty());
}

#[test]
fn a_collection_takes_nothing_from_a_build_under_way() {
    let Some((host, repo)) = thrifty() else { return };
    let app = host.json(&["info", "-a", "shop"])["id"].as_str().unwrap().to_owned();
    let waits = "until [ -e /cache/go ]; do sleep 0.05; done";
    repo.write("wharf.toml", &format!("[build]\ncommand = \"{waits}\"\n"));
    repo.set_version("built-meanwhile");
    let push = host.push_in_background(&repo);
    wait_for("its build step", LIMIT, || {
        let containers = fs::read_dir(host.run.join("containers")).ok()?;
        let mut names = containers.map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with("b-")).then_some(())
    });
    // Its source is a layer by now, and nothing in the world names it but the build.
    let other = host.app("other");
    for version in ["one", "two", "three"] {
        other.set_version(version);
        host.push_well(&other);
    }
    wait_for("an image to be collected", LIMIT, || {
        (names(&host, "images").len() == 2).then_some(())
    });
    fs::write(host.data().join("caches").join(app).join("go"), "").unwrap();
    let output = push.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(host.get("shop.localhost", "/").1.starts_with("built-meanwhile"));
    // One image of the one, two of the other.
    settled(&host, 3);
}
