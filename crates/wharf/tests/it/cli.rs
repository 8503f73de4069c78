//! The real command line, run as the binary it is, without a daemon: what it says, where, and with
//! which exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test looks at all of the child: code, stdout, stderr"
)]
async fn wharf(folder: &Path, arguments: &[&str]) -> Run {
    let child = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", folder)
        .env("WHARF_API", format!("unix:{}/no.sock", folder.display()))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(20), child).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).unwrap().replace(&*folder.to_string_lossy(), "<folder>")
    };
    Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

async fn git(folder: &Path, arguments: &[&str]) {
    let git = wharf::process::Invocation::new("git").folder(folder).args(arguments);
    git.run().await.unwrap();
}

#[tokio::test]
async fn a_missing_daemon_is_told_on_stderr_with_code_3() {
    let folder = tempfile::tempdir().unwrap();
    let run = wharf(folder.path(), &["apps"]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(3), ""));
    assert!(run.err.starts_with("error[P008]: the daemon at unix:<folder>/no.sock"), "{}", run.err);
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test looks at all of the child as it talks")]
async fn who_waits_for_a_slow_daemon_is_told_that_it_is_looking() {
    let folder = tempfile::tempdir().unwrap();
    // A daemon that answers once that was said, and not before.
    let daemon = tokio::net::UnixListener::bind(folder.path().join("no.sock")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_wharf"))
        .arg("apps")
        .env("WHARF_API", format!("unix:{}/no.sock", folder.path().display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let talk = async {
        let (mut asked, _) = daemon.accept().await.unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        assert_eq!(said.next_line().await.unwrap().unwrap(), "The daemon is looking…");
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]";
        asked.write_all(answer.as_bytes()).await.unwrap();
        let status = child.wait().await.unwrap();
        assert!(status.success(), "{:?}", said.next_line().await);
    };
    tokio::time::timeout(Duration::from_secs(20), talk).await.unwrap();
}

#[tokio::test]
async fn the_app_is_inferred_from_a_real_repository() {
    let folder = tempfile::tempdir().unwrap();
    let run = wharf(folder.path(), &["ps"]).await;
    assert_eq!(run.code, Some(2));
    assert!(
        run.err.contains("error[P007]") && run.err.contains("no git repository"),
        "{}",
        run.err
    );
    git(folder.path(), &["init", "-q"]).await;
    let run = wharf(folder.path(), &["ps"]).await;
    assert!(run.err.contains("no git remote here leads to Wharf"), "{}", run.err);
    git(folder.path(), &["remote", "add", "wharf", "http://127.0.0.1:7070/shop.git"]).await;
    // The app is known now, so that the next thing to fail is the daemon.
    let run = wharf(folder.path(), &["ps"]).await;
    assert!(run.err.contains("error[P008]"), "{}", run.err);
}

#[tokio::test]
async fn explain_needs_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let run = wharf(folder.path(), &["explain", "p104"]).await;
    assert_eq!(run.code, Some(0));
    assert!(run.out.starts_with("# P104: the web process did not listen"), "{}", run.out);
    let run = wharf(folder.path(), &["explain", "P000"]).await;
    assert_eq!((run.code, run.out.as_str()), (Some(1), ""));
}

#[tokio::test]
async fn wrong_usage_is_code_2_and_help_is_data() {
    let folder = tempfile::tempdir().unwrap();
    for (words, told) in [
        (&["lgos"][..], &["error[P018]: unrecognized subcommand 'lgos'", "next:  wharf logs"][..]),
        (&["logs", "--folow"], &["error[P018]: unexpected argument '--folow' found", "'--follow'"]),
        (&["config:set"], &["error[P018]: the following required arguments", "why:   <NAME"]),
        (
            &["outbound:set", "maybe", "-a", "x"],
            &["error[P001]: invalid value 'maybe'", "why:   `maybe` is none of on, off, only"],
        ),
        (
            &["outbound:allow", "a b", "-a", "x"],
            &["error[P001]: invalid value 'a b' for '<PLACE>...'", "why:   `a b`"],
        ),
    ] {
        let run = wharf(folder.path(), words).await;
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{words:?}");
        assert!(told.iter().all(|part| run.err.contains(part)), "{words:?}: {}", run.err);
        assert!(run.err.contains("still: nothing was asked of the daemon"), "{}", run.err);
    }
    for (words, told) in [
        (&["daemon", "--lisen", "x"][..], "error[P018]: unexpected argument '--lisen' found"),
        (&["daemon", "--json", "--check", "now"], "error[P018]: unexpected argument 'now' found"),
        (&["proxy", "--lisen", "x"], "error[P018]: unexpected argument '--lisen' found"),
        (&["teardown", "--yes"], "error[P018]: unexpected argument '--yes' found"),
    ] {
        let run = wharf(folder.path(), words).await;
        assert_eq!((run.code, run.out.as_str()), (Some(2), ""), "{words:?}");
        assert!(run.err.contains(told), "{words:?}: {}", run.err);
        assert!(run.err.contains("still: nothing was started or changed"), "{}", run.err);
    }
    let help = wharf(folder.path(), &["config", "set", "--help"]).await;
    assert_eq!((help.code, help.err.as_str()), (Some(0), ""));
    assert!(help.out.contains("wharf config:set LOG_LEVEL=debug"), "{}", help.out);
}
