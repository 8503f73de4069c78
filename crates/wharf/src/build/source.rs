//! What detection may know of an app's source: its file names, two folders deep, and the content of
//! the few files that say what it is. Reading happens once, here; everything after is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// A view of the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    names: BTreeSet<String>,
    contents: BTreeMap<String, String>,
}

/// Read whole, when they are at the root.
const READ: [&str; 21] = [
    "Procfile",
    "wharf.toml",
    "package.json",
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    ".npmrc",
    ".yarnrc",
    ".nvmrc",
    ".node-version",
    ".python-version",
    "runtime.txt",
    "pyproject.toml",
    "uv.lock",
    "poetry.lock",
    "Pipfile",
    "Staticfile",
    "manage.py",
    "main.py",
];
/// A lock file of tens of thousands of packages is smaller.
const LARGEST: u64 = 64 << 20;
/// Folders nobody's framework is recognised by.
const SKIPPED: [&str; 4] = [".git", "node_modules", ".venv", "__pycache__"];

impl Source {
    /// Looks into a folder.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut source = Self::default();
        source.list(folder, "", 0)?;
        let wanted: Vec<String> =
            source.names.iter().filter(|name| is_read(name)).cloned().collect();
        for name in wanted {
            let path = folder.join(&name);
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_file() && meta.len() <= LARGEST {
                let bytes = fs::read(&path)?;
                source.contents.insert(name, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(source)
    }

    /// The least that is a Node app.
    pub(super) fn node_probe() -> Self {
        let files = [("package.json", r#"{"scripts":{"start":"node"}}"#)];
        let contents: BTreeMap<String, String> =
            files.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        Self { names: contents.keys().cloned().collect(), contents }
    }

    /// A view made by hand.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let owned = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let contents: BTreeMap<String, String> = owned.collect();
        Self { names: contents.keys().cloned().collect(), contents }
    }

    fn list(&mut self, folder: &Path, prefix: &str, depth: u32) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let relative = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                self.names.insert(format!("{relative}/"));
                if depth == 0 && !SKIPPED.contains(&name.as_str()) {
                    self.list(&entry.path(), &format!("{relative}/"), depth + 1)?;
                }
            } else {
                self.names.insert(relative);
            }
        }
        Ok(())
    }

    /// Whether there is a file (or, with a slash at the end, a folder) of that name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The content of a file that is read for detection.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.contents.get(name).map(String::as_str)
    }

    /// The first of these names that is there.
    pub fn first_of<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.iter().copied().find(|name| self.has(name))
    }

    /// The names at the root, folders with a slash.
    pub fn root_names(&self) -> impl Iterator<Item = &str> {
        let is_root = |name: &&String| !name.trim_end_matches('/').contains('/');
        self.names.iter().filter(is_root).map(String::as_str)
    }

    /// The names that end so, the shortest first.
    pub fn ending_with(&self, end: &str) -> Option<&str> {
        self.names.iter().map(String::as_str).find(|name| name.ends_with(end))
    }
}

fn is_read(name: &str) -> bool {
    READ.contains(&name)
        || name.ends_with("/settings.py")
        || is_requirements(name)
        || (name.ends_with(".txt") && name.starts_with("requirements/"))
}

fn is_requirements(name: &str) -> bool {
    !name.contains('/')
        && name.ends_with(".txt")
        && (name.starts_with("requirements") || name.starts_with("constraints"))
}
