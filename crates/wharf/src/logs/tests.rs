//! The room's door: real files, written and rotated while they are read.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;

fn places(folder: &Path) -> Places {
    Places { folder: folder.join("app"), requests: folder.join("router/app.log") }
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn record(second: u32, rest: &str) -> String {
    format!("2026-11-21T05:{:02}:{:02}.123456Z {rest}\n", second / 60, second % 60)
}

async fn all(places: Places, query: Query) -> Vec<String> {
    let mut lines = open(places, query);
    let mut texts = Vec::new();
    while let Some(batch) = lines.next().await.unwrap() {
        texts.extend(batch.iter().map(ToString::to_string));
    }
    texts
}

fn sample(folder: &Path) -> Places {
    let places = places(folder);
    write(&places.folder.join("web.1.aa.log"), &record(1, "out one"));
    write(&places.folder.join("web.1.aa.log"), &record(4, "err "));
    write(&places.folder.join("worker.1.bb.log"), &record(2, "out two"));
    write(&places.folder.join("wharf.log"), &record(3, "wharf web.1 State changed to up"));
    write(&places.requests, &record(5, "router method=GET path=\"/\" status=200"));
    places
}

#[tokio::test]
async fn the_files_of_an_app_read_as_one_log_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let lines = all(sample(folder.path()), Query::default()).await;
    insta::assert_snapshot!(lines.join("\n"), @r#"
    2026-11-21T05:00:01.123456+00:00 app[web.1]: one
    2026-11-21T05:00:02.123456+00:00 app[worker.1]: two
    2026-11-21T05:00:03.123456+00:00 wharf[web.1]: State changed to up
    2026-11-21T05:00:04.123456+00:00 app[web.1]: 
    2026-11-21T05:00:05.123456+00:00 wharf[router]: method=GET path="/" status=200
    "#);
}

#[tokio::test]
async fn questions_narrow_the_lines() {
    let folder = tempfile::tempdir().unwrap();
    let places = sample(folder.path());
    let count = async |query: Query| all(places.clone(), query).await.len();
    assert_eq!(count(Query { lines: 2, ..Query::default() }).await, 2);
    assert_eq!(count(Query { lines: 0, ..Query::default() }).await, 0);
    assert_eq!(count(Query { process: Some("web".into()), ..Query::default() }).await, 3);
    assert_eq!(count(Query { process: Some("web.2".into()), ..Query::default() }).await, 0);
    assert_eq!(count(Query { process: Some("we".into()), ..Query::default() }).await, 0);
    assert_eq!(count(Query { process: Some("router".into()), ..Query::default() }).await, 1);
    assert_eq!(count(Query { source: Some(Source::App), ..Query::default() }).await, 3);
    assert_eq!(count(Query { source: Some(Source::Wharf), ..Query::default() }).await, 2);
    let since = "2026-11-21T05:00:03.123456Z".parse().unwrap();
    assert_eq!(count(Query { since: Some(since), ..Query::default() }).await, 3);
}

#[tokio::test]
async fn the_last_lines_reach_into_rotated_files_and_over_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let long = "x".repeat(700);
    for (name, from) in [("web.1.aa.log.1", 0), ("web.1.aa.log", 1000)] {
        let text: String =
            (from..from + 1000).map(|n| record(n, &format!("out {n} {long}"))).collect();
        write(&places.folder.join(name), &text);
    }
    // A record still being written is no line yet.
    write(&places.folder.join("web.1.aa.log"), "2026-11-21T05:59:00.123456Z out half");
    let lines = all(places, Query { lines: 1500, ..Query::default() }).await;
    assert_eq!(lines.len(), 1500);
    for (line, n) in lines.iter().zip(500..) {
        assert!(line.contains(&format!(": {n} x")), "{n}: {}", &line[..60]);
    }
}

#[tokio::test]
async fn an_app_without_files_has_no_lines() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(all(places(folder.path()), Query::default()).await, Vec::<String>::new());
}

#[tokio::test]
async fn following_loses_nothing_and_repeats_nothing_over_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let path = places.folder.join("web.1.aa.log");
    write(&path, &record(0, "out 0"));
    let query = Query { is_following: true, ..Query::default() };
    let mut lines = open(places.clone(), query);
    let mut seen: Vec<String> = Vec::new();
    for line in lines.next().await.unwrap().unwrap() {
        seen.push(line.text);
    }
    let read = Arc::new(AtomicU32::new(0));
    let reader_at = Arc::clone(&read);
    let writer = std::thread::spawn(move || {
        for n in 1..3000 {
            // No more than the kept rotations pass between two looks, however slow the reader is.
            while reader_at.load(Ordering::Relaxed) + 500 < n {
                std::thread::yield_now();
            }
            if n % 250 == 0 {
                fs::rename(path.with_extension("log.1"), path.with_extension("log.2")).ok();
                fs::rename(&path, path.with_extension("log.1")).unwrap();
            }
            write(&path, &record(n, &format!("out {n}")));
        }
        write(&path.with_file_name("worker.1.bb.log"), &record(3000, "out new file"));
    });
    while seen.last().is_none_or(|text| text != "new file") {
        let batch = tokio::time::timeout(Duration::from_secs(20), lines.next()).await;
        seen.extend(batch.unwrap().unwrap().unwrap().into_iter().map(|line| line.text));
        read.store(u32::try_from(seen.len()).unwrap(), Ordering::Relaxed);
    }
    writer.join().unwrap();
    let expected: Vec<String> =
        (0..3000).map(|n| n.to_string()).chain(["new file".into()]).collect();
    assert_eq!(seen, expected);
}

#[test]
fn an_end_is_known_by_its_time_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let logs = AppLogs::new(folder.path().to_owned());
    let app = model::id::AppId(uuid::Uuid::nil());
    let lost = model::replica::EndingKind::Lost;
    let at = |millis| Some(Timestamp::from_millisecond(millis).unwrap());
    let end = |name, at| End { name, kind: &lost, at };
    // The same end again is no news; another of that name is, and so is one at that time.
    assert!(logs.say_end(app, &end("web.1", at(1000))));
    assert!(!logs.say_end(app, &end("web.1", at(1000))));
    assert!(logs.say_end(app, &end("web.1", at(1001))));
    assert!(logs.say_end(app, &end("web.11", at(1000))));
    // One without a container cannot be found again.
    assert!(logs.say_end(app, &end("web.1", None)) && logs.say_end(app, &end("web.1", None)));
    let said = fs::read_to_string(logs.wharf_path(app)).unwrap();
    assert_eq!(said.lines().count(), 5, "{said}");
}
