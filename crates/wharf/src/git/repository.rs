//! The bare repositories, one per app, named by its id so that a rename moves nothing.

use std::io;
use std::path::{Path, PathBuf};

use model::id::AppId;

use crate::config::Config;
use crate::process::{Invocation, ProcessError};

/// What can go wrong with a repository's folder.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    #[error("cannot make the folder {path}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot make the repository {path}")]
    Make { path: PathBuf, source: ProcessError },
    #[error("cannot put the repository {path} in place")]
    Place { path: PathBuf, source: io::Error },
    #[error("cannot install the hook {path}")]
    Hook { path: PathBuf, source: io::Error },
}

/// Where an app's repository is.
pub fn path(config: &Config, app: AppId) -> PathBuf {
    config.git_dir().join(format!("{app}.git"))
}

/// The folder all repositories take their hooks from.
pub fn hook_dir(config: &Config) -> PathBuf {
    config.data_dir.join("hooks")
}

/// git without anybody's settings but ours, on that repository.
pub fn git(repository: &Path) -> Invocation {
    Invocation::new("git")
        .env("GIT_DIR", repository)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
}

/// Makes the repository when there is none. Two at once are fine: the first one in place stays.
pub async fn ensure(config: &Config, app: AppId) -> Result<PathBuf, RepositoryError> {
    let path = path(config, app);
    if path.join("HEAD").exists() {
        return Ok(path);
    }
    let parent = config.git_dir();
    let fresh = parent.join(format!(".new-{}", uuid::Uuid::new_v4()));
    let made = git(&fresh)
        .args(["init", "--bare", "--quiet", "--initial-branch=main", "--template="])
        .run()
        .await;
    made.map_err(|source| RepositoryError::Make { path: path.clone(), source })?;
    match std::fs::rename(&fresh, &path) {
        Ok(()) => Ok(path),
        Err(source) => {
            // Ours is of no use any more; the error, if it is one, is reported below.
            let _ = std::fs::remove_dir_all(&fresh);
            if path.join("HEAD").exists() {
                Ok(path)
            } else {
                Err(RepositoryError::Place { path, source })
            }
        }
    }
}

/// `pre-receive` is this very program under another name.
fn install_hook(config: &Config) -> Result<(), RepositoryError> {
    let folder = hook_dir(config);
    std::fs::create_dir_all(&folder)
        .map_err(|source| RepositoryError::Folder { path: folder.clone(), source })?;
    let path = folder.join("pre-receive");
    if std::fs::read_link(&path).is_ok_and(|target| target == config.program) {
        return Ok(());
    }
    let failed = |source| RepositoryError::Hook { path: path.clone(), source };
    let fresh = folder.join(format!(".new-{}", uuid::Uuid::new_v4()));
    std::os::unix::fs::symlink(&config.program, &fresh).map_err(failed)?;
    std::fs::rename(&fresh, &path).map_err(failed)
}

/// Makes ready for pushes at the daemon's start: the hook is ours, and nothing half-made is left.
pub fn prepare(config: &Config) -> Result<(), RepositoryError> {
    let parent = config.git_dir();
    std::fs::create_dir_all(&parent)
        .map_err(|source| RepositoryError::Folder { path: parent.clone(), source })?;
    install_hook(config)?;
    clear(&parent, ".new-");
    clear(&scratch_dir(config), "source-");
    Ok(())
}

/// Where sources are unpacked, and packs too large for memory are kept.
pub fn scratch_dir(config: &Config) -> PathBuf {
    config.data_dir.join("tmp")
}

/// What a daemon that died left; what cannot be removed now is tried again next time.
fn clear(folder: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Where a ref points now.
pub async fn tip(repository: &Path, name: &str) -> Result<Option<String>, ProcessError> {
    // A ref that moved lately is a file of its own, and spares a process.
    if let Ok(text) = std::fs::read_to_string(repository.join(name))
        && let [id] = text.split_whitespace().collect::<Vec<_>>()[..]
        && !id.ends_with(':')
    {
        return Ok(Some(id.to_owned()));
    }
    let output = git(repository)
        .args(["for-each-ref", "--format=%(objectname)", "--count=1"])
        .arg(name)
        .run()
        .await?;
    let text = String::from_utf8_lossy(&output).trim().to_owned();
    Ok((!text.is_empty()).then_some(text))
}
