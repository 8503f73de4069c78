//! Whether an image has what its app file wants the edge to serve; and it is laid out, so that no visitor
//! waits for that.

use model::manifest::edge::EdgeFile;
use model::manifest::files::FilesFile;
use model::problem::{Code, Problem};
use model::release::ImageRef;

use crate::backend::published::{MOST_PAGE, PublishError, Published};

/// Refuses what is not there, before a release is made of it.
pub(super) fn check(
    published: &Published,
    image: &ImageRef,
    edge: &EdgeFile,
) -> Result<(), Problem> {
    for FilesFile { folder, path, .. } in &edge.files {
        if !published.has_folder(image, folder).map_err(|error| failed(&error))? {
            let why = format!("`[[edge.files]]` with `path = \"{path}\"` names it");
            return Err(missing(format!("the image has no folder `{folder}`"), why));
        }
        published.folder(image, folder).map_err(|error| failed(&error))?;
    }
    for (occasion, name) in &edge.pages {
        let why = format!("`[edge.pages]` names it for `{occasion}`");
        match published.read_page(image, name).map_err(|error| failed(&error))? {
            None => return Err(missing(format!("the image has no file `{name}`"), why)),
            Some(page) if page.len() > MOST_PAGE => {
                let what = format!("the page `{name}` is longer than {MOST_PAGE} bytes");
                return Err(missing(what, why));
            }
            Some(page) if std::str::from_utf8(&page).is_err() => {
                return Err(missing(format!("the page `{name}` is not UTF-8"), why));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn missing(what: String, why: String) -> Problem {
    Problem::new(Code::EdgeFileMissing, what)
        .why(why)
        .still("no release was made; what serves goes on serving")
        .next("is it made by the build, or ignored by git? names are relative to the app's folder")
        .next("correct `wharf.toml`, commit and push again")
}

fn failed(error: &PublishError) -> Problem {
    Problem::new(Code::StoreFailed, "the files for the edge could not be laid out")
        .why(engine::error::chain(error))
        .still("what serves goes on serving")
        .next("look at the disk: `df -h`")
}
