//! A commit's files in a folder: what `git archive` gives, so `export-ignore` is honoured, unpacked
//! here so that nothing but plain files, folders and links that stay inside comes out.

use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use model::problem::{Code, Problem};
use tar::EntryType;
use tokio::io::AsyncReadExt;

use super::refs::Received;
use super::repository::git;

/// Why a commit's files could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot start `git archive`")]
    Start(#[source] std::io::Error),
    #[error("`git archive` failed: {0}")]
    Archive(String),
    #[error("cannot unpack the source")]
    Unpack(#[source] std::io::Error),
    #[error("the source was not taken")]
    Refused(#[source] Problem),
    #[error("unpacking was cut off")]
    CutOff,
}

/// Unpacks a commit, which may still be in a push's quarantine, into an empty folder.
pub async fn extract(
    repository: &Path,
    received: &Received,
    commit: &str,
    into: &Path,
) -> Result<(), SourceError> {
    let mut archive = git(repository).args(["-c", "tar.umask=0022", "archive", "--format=tar"]);
    archive = archive.arg(commit);
    if let Some(folder) = &received.object_directory {
        archive = archive.env("GIT_OBJECT_DIRECTORY", folder);
    }
    if let Some(folders) = &received.alternates {
        archive = archive.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", folders);
    }
    let mut command = archive.command();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(SourceError::Start)?;
    let stdout = child.stdout.take().expect("it was asked for");
    let mut stderr = child.stderr.take().expect("it was asked for");
    let pipe = std::fs::File::from(stdout.into_owned_fd().map_err(SourceError::Start)?);
    let into = into.to_owned();
    let unpacking = tokio::task::spawn_blocking(move || unpack(pipe, &into));
    let mut said = String::new();
    let (unpacked, read) = tokio::join!(unpacking, stderr.read_to_string(&mut said));
    unpacked.map_err(|_| SourceError::CutOff)??;
    read.map_err(SourceError::Unpack)?;
    let status = child.wait().await.map_err(SourceError::Start)?;
    if status.success() { Ok(()) } else { Err(SourceError::Archive(said.trim().to_owned())) }
}

/// Unpacks a tar stream.
fn unpack(stream: impl Read, into: &Path) -> Result<(), SourceError> {
    let mut stream = std::io::BufReader::with_capacity(1 << 16, stream);
    let mut archive = tar::Archive::new(&mut stream);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(false);
    for entry in archive.entries().map_err(SourceError::Unpack)? {
        let mut entry = entry.map_err(SourceError::Unpack)?;
        let path = entry.path().map_err(SourceError::Unpack)?.into_owned();
        let kind = entry.header().entry_type();
        let target =
            entry.link_name().map_err(SourceError::Unpack)?.map(std::borrow::Cow::into_owned);
        if !is_taken(&path, kind, target.as_deref()).map_err(SourceError::Refused)? {
            continue;
        }
        if !entry.unpack_in(into).map_err(SourceError::Unpack)? {
            return Err(SourceError::Refused(outside(&path, "its path leaves the repository")));
        }
    }
    // Padding follows the last entry; git dies of a closed pipe when nobody reads it.
    std::io::copy(&mut stream, &mut std::io::sink()).map_err(SourceError::Unpack)?;
    Ok(())
}

/// Whether an entry is to be unpacked; some are refused, and the whole push with them.
fn is_taken(path: &Path, kind: EntryType, target: Option<&Path>) -> Result<bool, Problem> {
    if path == Path::new(".gitmodules") {
        return Err(submodules());
    }
    match kind {
        EntryType::Regular | EntryType::Directory => Ok(true),
        EntryType::Symlink => match target {
            Some(target) if stays_inside(path, target) => Ok(true),
            Some(target) => {
                let why = format!("it points to `{}`, outside the repository", target.display());
                Err(outside(path, &why))
            }
            None => Err(outside(path, "it points nowhere")),
        },
        // The commit id that git puts before everything else.
        EntryType::XGlobalHeader => Ok(false),
        _ => Err(outside(path, "it is no file, folder or symbolic link")),
    }
}

/// Whether a link, read from its own folder, never climbs out of the root.
fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

fn outside(path: &Path, why: &str) -> Problem {
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    Problem::new(Code::PushRejected, format!("`{}` was not taken", path.display()))
        .why(why)
        .still("nothing was built, what served goes on serving")
        .next(format!("git rm --cached {}", path.display()))
}

fn submodules() -> Problem {
    Problem::new(Code::SubmodulesRefused, "the repository has submodules, which are not built")
        .why("there is a file `.gitmodules`; a push does not carry what its submodules hold")
        .still("nothing was built, what served goes on serving")
        .next("put their files into the repository: `git rm --cached PATH`, remove .gitmodules, `git add PATH`")
        .next("or keep them out of the build: `echo .gitmodules export-ignore >> .gitattributes`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_may_not_climb_out() {
        for (link, target, is_fine) in [
            ("a", "b", true),
            ("bin/run", "../src/run", true),
            ("a/b/c", "../../d/../e", true),
            ("a", "..", false),
            ("bin/run", "../../etc/passwd", false),
            ("a", "/etc/passwd", false),
        ] {
            assert_eq!(
                stays_inside(Path::new(link), Path::new(target)),
                is_fine,
                "{link} → {target}"
            );
        }
    }

    #[test]
    fn only_plain_things_come_out() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o755);
        builder.append_data(&mut header, "bin/run", &b"hi"[..]).unwrap();
        let good = builder.into_inner().unwrap();
        let folder = tempfile::tempdir().unwrap();
        unpack(&good[..], folder.path()).unwrap();
        assert_eq!(std::fs::read(folder.path().join("bin/run")).unwrap(), b"hi");

        for kind in [EntryType::Fifo, EntryType::Char, EntryType::Link] {
            let problem = is_taken(Path::new("x"), kind, Some(Path::new("y"))).unwrap_err();
            assert_eq!(problem.code, Code::PushRejected);
        }
        let problem = is_taken(Path::new(".gitmodules"), EntryType::Regular, None).unwrap_err();
        assert_eq!(problem.code, Code::SubmodulesRefused);
    }
}
