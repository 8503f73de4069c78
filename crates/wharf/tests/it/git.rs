//! Pushes by the real git client: which refs deploy, what is refused and how that reads, and what
//! happens when two push at once or the pusher leaves.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::host::{Host, wait_for};
use crate::support::invariants;
use crate::support::repo::{Repo, git};
use crate::support::require::require;

/// What git said, both ways, and whether it succeeded.
fn said(output: &Output) -> (bool, String) {
    let text = [&*output.stdout, &*output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

fn push(repo: &Repo, refs: &[&str]) -> (bool, String) {
    said(&repo.try_git(&[&["push", "wharf"], refs].concat()))
}

fn accepted(repo: &Repo, refs: &[&str]) -> String {
    let (is_accepted, said) = push(repo, refs);
    assert!(is_accepted, "{said}");
    said
}

fn refused(repo: &Repo, refs: &[&str]) -> String {
    let (is_accepted, said) = push(repo, refs);
    assert!(!is_accepted, "{said}");
    said
}

fn releases(host: &Host, app: &str) -> usize {
    host.json(&["releases", "-a", app]).as_array().unwrap().len()
}

/// One Wharf for all of it; each part has an app of its own.
#[test]
fn what_a_push_may_hold() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    branches_and_tags_are_stored_and_only_main_deploys(&host);
    links_and_submodules_that_lead_outside_are_refused(&host);
    a_failed_deploy_rejects_the_ref_and_its_image_is_kept(&host);
    large_packs_arrive_whole_and_leave_again(&host);
    a_wrong_token_or_app_is_said_so_that_git_shows_it(&host);
    the_remote_that_create_makes_needs_no_password(&host);
    a_laptop_that_logged_in_needs_no_password_either(&host);
    let scratch = host.data().join("scratch");
    let left: Vec<_> = std::fs::read_dir(scratch).unwrap().map(|one| one.unwrap().path()).collect();
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("source-")), "{left:?}");
}

fn branches_and_tags_are_stored_and_only_main_deploys(host: &Host) {
    let repo = host.app("refs");
    repo.git(&["tag", "v1"]);
    let said = accepted(&repo, &["main:topic", "v1"]);
    assert!(said.contains("branch `topic` is stored, not deployed"), "{said}");
    assert!(said.contains("tag `v1` is stored"), "{said}");
    assert_eq!(releases(host, "refs"), 0);

    let said = accepted(&repo, &["main"]);
    assert!(said.contains("Released v1") && said.contains("live in "), "{said}");
    assert!(host.get("refs.localhost", "/").1.starts_with("one"));

    // git does not even ask when the branch is there already; another name of it does.
    assert!(accepted(&repo, &["main"]).contains("Everything up-to-date"));
    let said = accepted(&repo, &["main:master"]);
    assert!(said.contains("is what v1 serves already"), "{said}");
    assert_eq!(releases(host, "refs"), 1);

    let said = refused(&repo, &[":main"]);
    assert!(said.contains("error[P302]: branch `main` was not deleted"), "{said}");
    assert!(accepted(&repo, &[":topic"]).contains("branch `topic` is deleted"));

    // Rewritten history needs force, and then deploys like any other.
    repo.write("VERSION", "rewritten");
    repo.git(&["commit", "-q", "-a", "--amend", "-m", "another"]);
    assert!(refused(&repo, &["main"]).contains("non-fast-forward"));
    assert!(accepted(&repo, &["+main"]).contains("Released v2"));
    assert!(host.get("refs.localhost", "/").1.starts_with("rewritten"));
    let tip = repo.git(&["ls-remote", "wharf", "refs/heads/main"]);
    assert!(tip.starts_with(repo.git(&["rev-parse", "HEAD"]).trim()), "{tip}");
}

fn links_and_submodules_that_lead_outside_are_refused(host: &Host) {
    let repo = host.app("outside");
    repo.write(".gitmodules", "[submodule \"a\"]\n\tpath = a\n\turl = https://a.example/a\n");
    let head = repo.git(&["rev-parse", "HEAD"]);
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{},a", head.trim())]);
    repo.git(&["add", ".gitmodules"]);
    repo.git(&["commit", "-q", "-m", "with a submodule"]);
    let said = refused(&repo, &["main"]);
    assert!(said.contains("error[P301]"), "{said}");
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);

    std::os::unix::fs::symlink("/etc/passwd", repo.folder.join("secrets")).unwrap();
    repo.commit("a link out");
    let said = refused(&repo, &["main"]);
    assert!(said.contains("error[P302]") && said.contains("`secrets`"), "{said}");
    assert_eq!(repo.git(&["ls-remote", "wharf"]), "");
    let (status, body) = host.get("outside.localhost", "/");
    assert!(status == 502 && body.contains("H81"), "{status} {body}");

    std::fs::remove_file(repo.folder.join("secrets")).unwrap();
    std::os::unix::fs::symlink("VERSION", repo.folder.join("LATEST")).unwrap();
    repo.commit("a link inside");
    accepted(&repo, &["main"]);
}

fn a_failed_deploy_rejects_the_ref_and_its_image_is_kept(host: &Host) {
    let repo = host.app("crash");
    host.wharf(&["config:set", "CRASH_ON_BOOT=1", "-a", "crash"]);
    let said = refused(&repo, &["main"]);
    assert!(
        said.contains("error[P101]") && said.contains("cannot find my configuration"),
        "{said}"
    );
    assert!(said.contains("pre-receive hook declined"), "{said}");
    assert_eq!(repo.git(&["ls-remote", "wharf"]), "");
    host.wharf(&["config:unset", "CRASH_ON_BOOT", "-a", "crash"]);
    let said = accepted(&repo, &["main"]);
    assert!(said.contains(" already") && !said.contains("app detected"), "{said}");
    assert!(host.get("crash.localhost", "/").1.starts_with("one"));
}

fn large_packs_arrive_whole_and_leave_again(host: &Host) {
    let repo = host.app("large");
    // Hexadecimal digits of a random walk: 6 MiB that pack to more than 2.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: String = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{:08x}\n", state >> 32)
    })
    .take(700_000)
    .collect();
    repo.write("noise", &noise);
    repo.commit("noise");
    accepted(&repo, &["main"]);

    // So many wants that git packs its request.
    for number in 0..60 {
        repo.git(&["commit", "-q", "--allow-empty", "-m", &format!("branch {number}")]);
        repo.git(&["branch", &format!("topic-{number}")]);
    }
    accepted(&repo, &["refs/heads/topic-*:refs/heads/topic-*"]);
    let clone = host.root.join("clone");
    let output = git(&host.root)
        .args(["clone", &host.git_url("large"), clone.to_str().unwrap()])
        .env("GIT_TRACE_CURL", "1")
        .output()
        .unwrap();
    let (is_well, said) = said(&output);
    assert!(is_well, "{said}");
    assert!(said.to_lowercase().contains("content-encoding: gzip"), "the request was not packed");
    assert_eq!(std::fs::read_to_string(clone.join("noise")).unwrap(), noise);
}

fn a_wrong_token_or_app_is_said_so_that_git_shows_it(host: &Host) {
    let repo = host.app("shop");
    let wrong = host.git_url("shpo");
    let (is_well, text) = said(&repo.try_git(&["push", &wrong, "main"]));
    assert!(!is_well && text.contains("there is no app `shpo`"), "{text}");
    let wrong = host.git_url("shop").replace(&host.token(), "wharf-wrong");
    let (is_well, text) = said(&repo.try_git(&["push", &wrong, "main"]));
    assert!(!is_well && text.contains("Authentication failed"), "{text}");
    assert_eq!(releases(host, "shop"), 0);
}

/// Runs the command in a repository; must succeed.
fn wharf_in(host: &Host, repo: &Repo, arguments: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = host.cli(arguments);
    let output = command.current_dir(&repo.folder).envs(env.iter().copied()).output().unwrap();
    let (is_well, text) = said(&output);
    assert!(is_well, "{arguments:?}: {text}");
    text
}

/// Runs the command in a repository; must fail. What it said.
fn wharf_fails_in(host: &Host, repo: &Repo, arguments: &[&str]) -> String {
    let output = host.cli(arguments).current_dir(&repo.folder).output().unwrap();
    let (is_well, text) = said(&output);
    assert!(!is_well, "{arguments:?}: {text}");
    text
}

fn the_remote_that_create_makes_needs_no_password(host: &Host) {
    let repo = Repo::web(host.root.join("newcomer"));
    wharf_in(host, &repo, &["create", "newcomer"], &[]);
    accepted(&repo, &["main"]);
    // The app is inferred from the remote, and the remote follows the app to its new name.
    assert!(wharf_in(host, &repo, &["ps"], &[]).contains("web.1"));
    // So it is from a remote of another name, by where it leads.
    repo.git(&["remote", "rename", "wharf", "prod"]);
    assert!(wharf_in(host, &repo, &["ps"], &[]).contains("web.1"));
    repo.git(&["remote", "rename", "prod", "wharf"]);
    wharf_in(host, &repo, &["rename", "settler"], &[]);
    // Who still says the old name is told the new one.
    let old = wharf_fails_in(host, &repo, &["ps", "-a", "newcomer"]);
    assert!(old.contains("P004") && old.contains("it is called `settler` since"), "{old}");
    repo.set_version("settled");
    accepted(&repo, &["main"]);
    assert!(host.get("settler.localhost", "/").1.starts_with("settled"));
}

fn a_laptop_that_logged_in_needs_no_password_either(host: &Host) {
    let repo = Repo::web(host.root.join("afar"));
    let home = host.root.join("home").display().to_string();
    let (api, token) = (host.api(), host.token());
    let env = [("WHARF_API", api.as_str()), ("XDG_CONFIG_HOME", home.as_str())];
    let login = [&env[..], &[("WHARF_TOKEN", token.as_str())]].concat();
    assert!(wharf_in(host, &repo, &["auth:login"], &login).contains("as admin@localhost"));
    wharf_in(host, &repo, &["create", "afar"], &env);
    let push = || {
        let mut command = git(&repo.folder);
        said(&command.args(["push", "wharf", "main"]).envs(env).output().unwrap())
    };
    let (is_well, text) = push();
    assert!(is_well, "{text}");
    wharf_in(host, &repo, &["auth:logout"], &env);
    repo.set_version("two");
    let (is_well, text) = push();
    assert!(!is_well && !text.contains("deployed to Wharf"), "{text}");
}

/// A push that goes on while the test does.
struct Pushing(Child);

impl Pushing {
    fn start(repo: &Repo) -> Self {
        let child = git(&repo.folder)
            .args(["push", "wharf", "main"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // git and its helper for HTTP together, so that both can be ended.
            .process_group(0)
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Reads what git says until that is in it.
    fn read_until(&mut self, wanted: &str) -> String {
        let stderr = self.0.stderr.as_mut().unwrap();
        let (mut heard, mut buffer) = (String::new(), [0; 1024]);
        while !heard.contains(wanted) {
            let count = stderr.read(&mut buffer).unwrap();
            assert!(count > 0, "`{wanted}` was never said:\n{heard}");
            heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        heard
    }

    fn end(mut self) -> (bool, String) {
        let mut rest = String::new();
        self.0.stderr.as_mut().unwrap().read_to_string(&mut rest).unwrap();
        (self.0.wait().unwrap().success(), rest)
    }

    fn kill(mut self) {
        kill_process_group(Pid::from_child(&self.0), Signal::KILL).unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A repository whose build takes a while.
fn slow_app(host: &Host, name: &str) -> Repo {
    let repo = host.app(name);
    repo.write("wharf.toml", "[build]\ncommand = \"echo slowly; sleep 2\"\n");
    repo.commit("slow");
    repo
}

#[test]
fn two_pushes_at_once_and_a_pusher_who_leaves() {
    if !require(&["root", "network"]) {
        return;
    }
    let host = Host::start();
    let first = slow_app(&host, "shop");
    let second = Repo { folder: host.root.join("second") };
    first.git(&["clone", "-q", ".", &second.folder.display().to_string()]);
    second.git(&["remote", "add", "wharf", &host.git_url("shop")]);
    second.set_version("two");

    let mut one = Pushing::start(&first);
    one.read_until("slowly");
    let mut two = Pushing::start(&second);
    let tip = first.git(&["rev-parse", "--short=7", "HEAD"]);
    two.read_until(&format!("waiting for the push of {}", tip.trim()));
    let (is_accepted, said) = one.end();
    assert!(is_accepted && said.contains("Released v1"), "{said}");
    // It began from nothing like the first, so its turn ends with a word and not with half a push.
    let (is_accepted, said) = two.end();
    assert!(
        !is_accepted && said.contains("error[P302]: another push to `shop` was first"),
        "{said}"
    );
    assert_eq!(releases(&host, "shop"), 1);
    assert!(accepted(&second, &["main"]).contains("Released v2"));
    assert!(host.get("shop.localhost", "/").1.starts_with("two"));

    // One that fails leaves the way to the one behind it.
    first.git(&["pull", "-q", "--rebase", "wharf", "main"]);
    first.write("wharf.toml", "[build]\ncommand = \"echo slowly; sleep 2; exit 3\"\n");
    first.commit("a build that fails");
    second.set_version("two and a half");
    let mut one = Pushing::start(&first);
    one.read_until("slowly");
    let mut two = Pushing::start(&second);
    two.read_until("waiting for the push of");
    let ((is_accepted, said), (is_next_accepted, next_said)) = (one.end(), two.end());
    assert!(!is_accepted && said.contains("error[P202]"), "{said}");
    assert!(is_next_accepted && next_said.contains("Released v3"), "{next_said}");

    // The same commit twice: the second has nothing left to do, and is told so.
    second.set_version("twice");
    let mut one = Pushing::start(&second);
    one.read_until("slowly");
    let mut two = Pushing::start(&second);
    two.read_until("waiting for the push of");
    let ((is_accepted, said), (is_again, said_again)) = (one.end(), two.end());
    assert!(is_accepted && said.contains("Released v4"), "{said}");
    assert!(!is_again && said_again.contains("nothing is missing: v4 serves"), "{said_again}");

    // Who pushes and leaves in the middle of the build gets all that was asked for.
    second.set_version("three");
    let mut left = Pushing::start(&second);
    left.read_until("slowly");
    left.kill();
    wait_for("the deploy nobody waits for", Duration::from_secs(20), || {
        host.get("shop.localhost", "/").1.starts_with("three").then_some(())
    });
    let head = second.git(&["rev-parse", "HEAD"]);
    wait_for("the branch to move", Duration::from_secs(5), || {
        let tip = second.git(&["ls-remote", "wharf", "refs/heads/main"]);
        tip.starts_with(head.trim()).then_some(())
    });
    assert!(accepted(&second, &["main"]).contains("Everything up-to-date"));
    invariants::check(&host, 1);
}
