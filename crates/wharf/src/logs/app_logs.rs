//! Where an app's log files are, and Wharf's own lines among them.
//!
//! Wharf's lines go to `wharf.log` beside the replicas' files, one record a line, one write a record:
//! `<RFC 3339 time, µs, UTC> wharf <source> <text>`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use model::id::AppId;
use model::replica::{EndingKind, Replica};

/// The end of one process, to be told.
#[derive(Debug)]
pub struct End<'a> {
    /// `web.1`, `run.4711`.
    pub name: &'a str,
    pub kind: &'a EndingKind,
    /// What its container's folder says, the same to whoever looks; none where there is no container, and
    /// so nobody who would find it again.
    pub at: Option<Timestamp>,
}

impl End<'_> {
    /// Known by its name and its time.
    fn is_said_by(&self, line: &str) -> bool {
        let (Some(at), Some((stamped, rest))) = (self.at, line.split_once(' ')) else {
            return false;
        };
        let said = rest.strip_prefix("wharf ").and_then(|rest| rest.strip_prefix(self.name));
        stamped == stamp(at) && said.is_some_and(|said| said.starts_with(" Process "))
    }
}

/// The log folder of all apps.
#[derive(Debug, Clone)]
pub struct AppLogs {
    folder: PathBuf,
}

impl AppLogs {
    /// Logs in that folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder of one app.
    pub fn app_folder(&self, app: AppId) -> PathBuf {
        self.folder.join(app.to_string())
    }

    /// Where a replica's output goes; makes the folder.
    pub fn replica_path(&self, replica: &Replica) -> PathBuf {
        let folder = self.app_folder(replica.app);
        if let Err(error) = fs::create_dir_all(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "cannot make a log folder");
        }
        folder.join(format!("{}.{}.{}.log", replica.process, replica.index, replica.id))
    }

    /// The request log of one app, written by the proxy.
    pub fn request_path(&self, app: AppId) -> PathBuf {
        self.folder.join("router").join(format!("{app}.log"))
    }

    /// Wharf's own lines about one app.
    pub fn wharf_path(&self, app: AppId) -> PathBuf {
        self.app_folder(app).join("wharf.log")
    }

    /// Says something in an app's log; `source` is `web.1`, `deploy` … A log that cannot be written
    /// stops nothing.
    pub fn say(&self, app: AppId, source: &str, text: &str) {
        self.say_at(app, source, text, Timestamp::now());
    }

    fn say_at(&self, app: AppId, source: &str, text: &str, at: Timestamp) {
        let path = self.wharf_path(app);
        let line = format!("{} wharf {source} {}\n", stamp(at), one_line(text));
        let append = || {
            fs::create_dir_all(self.app_folder(app))?;
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(line.as_bytes())
        };
        if let Err(error) = append() {
            tracing::warn!(path = %path.display(), %error, "cannot write an app's log");
        }
    }

    /// Says how a process ended, once: whoever dies before the container is cleared away has the next
    /// daemon find the same end again. Whether it was news.
    pub fn say_end(&self, app: AppId, end: &End<'_>) -> bool {
        let path = self.wharf_path(app);
        let text = tail_of(&path).unwrap_or_default();
        if text.lines().any(|line| end.is_said_by(line)) {
            return false;
        }
        let said = format!("Process {}", end.kind);
        self.say_at(app, end.name, &said, end.at.unwrap_or_else(Timestamp::now));
        true
    }

    /// The last lines a replica printed, without their times.
    pub fn tail(&self, replica: &Replica, most: usize) -> Vec<String> {
        let text = tail_of(&self.replica_path(replica)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines
            .iter()
            .skip(lines.len().saturating_sub(most))
            .map(|line| line.splitn(3, ' ').nth(2).unwrap_or_default().to_owned())
            .collect()
    }

    /// Removes all of one app.
    pub async fn remove(&self, app: AppId) -> io::Result<()> {
        let missing_is_fine = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        missing_is_fine(tokio::fs::remove_dir_all(self.app_folder(app)).await)?;
        let path = self.request_path(app);
        for file in [path.clone(), path.with_extension("log.1"), path.with_extension("log.2")] {
            missing_is_fine(tokio::fs::remove_file(file).await)?;
        }
        Ok(())
    }
}

/// The time of a record.
pub fn stamp(at: Timestamp) -> String {
    format!("{at:.6}")
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

/// The end of a file, from the first whole line in it.
fn tail_of(path: &Path) -> io::Result<String> {
    const ENOUGH: u64 = 64 * 1024;
    let mut file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    let from = size.saturating_sub(ENOUGH);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(match text.split_once('\n') {
        Some((_, rest)) if from > 0 => rest.to_owned(),
        _ => text,
    })
}
