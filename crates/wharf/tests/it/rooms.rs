//! The house rules that Cargo cannot hold: who may import whom inside `wharf`, and what is absent.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// room → rooms it may import with `use crate::…`. Rooms not listed here may be used by all: they
/// know nothing of Wharf's features.
const TABLE: &[(&str, &[&str])] = &[
    ("store", &["secrets"]),
    ("backend", &["config"]),
    ("logs", &["api"]),
    ("deploy", &["store", "backend", "dns", "logs", "proxy_link", "tasks"]),
    ("build", &["store", "config", "backend", "static_site"]),
    ("collect", &["store", "backend", "build", "config", "context", "deploy"]),
    ("doctor", &["api", "config", "dns"]),
    ("apps", &["api", "store", "deploy", "context", "logs", "backend", "config", "certificates"]),
    ("certificates", &["store", "config", "dns", "proxy_link"]),
    ("claims", &["apps", "backend", "certificates", "config", "context", "deploy", "dns", "store"]),
    (
        "git",
        &[
            "api", "store", "build", "deploy", "context", "apps", "backend", "config", "logs",
            "server",
        ],
    ),
    ("api", &[]),
    (
        "server",
        &[
            "api", "apps", "git", "collect", "deploy", "doctor", "context", "logs", "config",
            "store", "backend", "build",
        ],
    ),
    ("cli", &["api", "client", "explain", "roles"]),
    ("client", &["api", "config"]),
    ("proxy_link", &[]),
    ("proxy_guard", &["config", "certificates", "deploy", "proxy_link", "roles", "daemon"]),
    ("context", &["config", "certificates", "store", "deploy", "backend", "proxy_link", "logs"]),
];

/// Rooms everybody may use.
const COMMON: &[&str] = &["files", "process", "tasks", "failpoints", "secrets"];

/// Rooms nobody but `main`'s path may use.
const TOP: &[&str] = &["daemon", "teardown", "roles"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

fn room(root: &Path, file: &Path) -> String {
    let first = file.strip_prefix(root).unwrap().iter().next().unwrap().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The rooms a text imports from this crate, also in `use crate::{a, b}`.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for part in text.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                found.extend(
                    list.split(',')
                        .map(|name| name.trim().split("::").next().unwrap_or_default().to_owned()),
                );
            }
            None => {
                let name: String =
                    part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.insert(name);
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in sources(&root) {
        let here = room(&root, &file);
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == here) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for name in imports(&text) {
            let is_fine =
                name == here || allowed.contains(&name.as_str()) || COMMON.contains(&name.as_str());
            if !is_fine || (TOP.contains(&name.as_str()) && !allowed.contains(&name.as_str())) {
                wrong.push(format!("{} uses crate::{name}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_store_has_sql_and_only_sys_is_unsafe() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for file in sources(crates) {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.to_string_lossy();
        if path.contains("/tests/") || path.ends_with("tests.rs") {
            continue;
        }
        assert!(!text.contains("rusqlite::") || path.contains("/store/"), "SQL in {path}");
        let is_unsafe = text.lines().any(|line| {
            let line = line.trim_start();
            !line.starts_with("//") && (line.contains("unsafe {") || line.contains("unsafe fn"))
        });
        assert!(!is_unsafe || path.ends_with("engine/src/sys.rs"), "unsafe in {path}");
    }
}

#[test]
fn a_todo_names_its_issue() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for file in sources(crates) {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let is_bare =
                line.contains(concat!("TO", "DO")) && !line.contains(concat!("TO", "DO(#"));
            assert!(!is_bare || file.ends_with("rooms.rs"), "{}:{}", file.display(), number + 1);
        }
    }
}
