//! `wharf logs` on the files of a running app: followed across a deploy, and cut down by every option.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::host::{Host, wait_for};
use crate::support::require::require;

/// `wharf logs -t`, running.
struct Tail {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Tail {
    fn start(host: &Host) -> Self {
        let mut child = host
            .cli(&["logs", "-t", "-n", "0", "-a", "shop"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, kept) = (child.stdout.take().unwrap(), Arc::clone(&lines));
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    fn wait_for(&self, wanted: impl Fn(&str) -> bool) {
        wait_for("a line of the tail", Duration::from_secs(10), || {
            self.lines.lock().unwrap().iter().any(|line| wanted(line)).then_some(())
        });
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn logs_are_followed_across_a_deploy_and_cut_down_as_asked() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let repo = host.app("shop");
    host.wharf(&["config:set", "COUNT=1", "-a", "shop"]);
    host.push_well(&repo);
    nothing_is_lost_or_doubled_by_a_deploy(&host, &repo);
    requests_join_and_every_option_cuts(&host);
}

fn nothing_is_lost_or_doubled_by_a_deploy(host: &Host, repo: &crate::support::repo::Repo) {
    let tail = Tail::start(host);
    tail.wait_for(|line| line.contains("count "));
    repo.set_version("two");
    host.push_well(repo);
    tail.wait_for(|line| line.ends_with("booting two"));
    wait_for("the old replica to be gone", Duration::from_secs(20), || {
        (host.read("/apps/shop/dynos").json().as_array()?.len() == 1).then_some(())
    });
    // A deploy takes a tenth of a second; what was lost or doubled shows in more than that says.
    wait_for("a hundred lines", Duration::from_secs(20), || {
        (tail.lines().len() > 100).then_some(())
    });
    // Until both have something later than now, by their own clocks.
    let newest = written(host).last().unwrap().clone();
    tail.wait_for(|line| key(line).is_some_and(|key| key > newest));

    let followed: Vec<(String, String)> =
        tail.lines().iter().filter_map(|line| key(line)).collect();
    let unique: BTreeSet<_> = followed.iter().cloned().collect();
    assert_eq!(unique.len(), followed.len(), "a line came twice");
    let first = unique.first().unwrap();
    let expected: BTreeSet<_> =
        written(host).into_iter().filter(|key| key >= first && *key <= newest).collect();
    let missing: Vec<_> = expected.difference(&unique).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), expected.len());
    assert!(expected.len() > 50, "{}", expected.len());
    // What was done to the app is told between its own lines.
    tail.wait_for(|line| line.contains("wharf[deploy]:"));
}

/// Time and text of what the app printed, as `logs` shows it.
fn key(line: &str) -> Option<(String, String)> {
    let (at, rest) = line.split_once(' ')?;
    let (who, text) = rest.split_once(": ")?;
    who.starts_with("app[").then(|| (at.replace("+00:00", ""), text.to_owned()))
}

/// The same from the files of the replicas.
fn written(host: &Host) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for folder in fs::read_dir(host.data().join("logs")).unwrap().flatten() {
        let Ok(files) = fs::read_dir(folder.path()) else { continue };
        for file in files.flatten() {
            if !file.file_name().to_string_lossy().starts_with("web.") {
                continue;
            }
            let text = fs::read_to_string(file.path()).unwrap();
            // A record under way has no newline yet.
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            found.extend(whole.lines().filter_map(|line| {
                let mut words = line.splitn(3, ' ');
                let (at, _, text) = (words.next()?, words.next()?, words.next()?);
                Some((at.trim_end_matches('Z').to_owned(), text.to_owned()))
            }));
        }
    }
    found
}

fn requests_join_and_every_option_cuts(host: &Host) {
    let logs = |arguments: &[&str]| {
        let text = host.wharf(&[&["logs", "-a", "shop"], arguments].concat());
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(host.get("shop.localhost", "/a/certain/path?q=1").0, 200);
    let request = wait_for("the request's line", Duration::from_secs(5), || {
        let lines = logs(&["-p", "router"]);
        lines.iter().find(|line| line.contains("/a/certain/path")).cloned()
    });
    assert!(request.contains("wharf[router]:") && request.contains("status=200"), "{request}");
    assert!(request.contains("host=shop.localhost"), "{request}");

    assert_eq!(logs(&["-n", "7"]).len(), 7);
    assert_eq!(logs(&[]).len(), 100);
    let are_all = |lines: &[String], part: &str| {
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains(part)), "{lines:#?}");
    };
    are_all(&logs(&["-p", "web", "--source", "app"]), " app[web.1]: ");
    are_all(&logs(&["-p", "web.1", "--source", "app"]), " app[web.1]: ");
    assert!(logs(&["-p", "worker"]).is_empty() && logs(&["-p", "web.2"]).is_empty());
    are_all(&logs(&["--source", "app"]), " app[");
    are_all(&logs(&["--source", "wharf"]), " wharf[");
    are_all(&logs(&["--source", "router"]), " wharf[router]: ");
    assert!(logs(&["--source", "wharf"]).iter().any(|line| line.contains("wharf[deploy]")));
    let said = host.wharf_fails(&["logs", "-a", "shop", "--source", "moon"]);
    assert!(said.contains("error[P001]") && said.contains("`router`"), "{said}");

    // From a line's own time on, that line is the first.
    let lines = logs(&["-n", "50", "--source", "app"]);
    let (since, _) = lines[10].split_once(' ').unwrap();
    let later = logs(&["-n", "5000", "--source", "app", "--since", since]);
    assert_eq!(later.first(), Some(&lines[10]));
    assert!(logs(&["--since", "2099-01-01T00:00:00Z"]).is_empty());
    assert!(!logs(&["--since", "10m"]).is_empty());
    assert!(host.wharf_fails(&["logs", "-a", "shop", "--since", "soon"]).contains("error[P001]"));
    // In order of time, whoever spoke.
    let lines = logs(&["-n", "1000"]);
    assert!(lines.is_sorted_by_key(|line| line.split_once(' ').unwrap().0), "out of order");
}
