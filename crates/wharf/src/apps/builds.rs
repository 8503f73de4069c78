//! Looking at builds; they are made by `git`.

use model::app::App;
use model::id::BuildId;
use model::problem::{Code, Problem};
use model::release::Release;

use super::{decide, lookup, settled};
use crate::context::Context;
use crate::store::builds::{self, Build};
use crate::store::releases;

/// All builds, oldest first, each with the release made of it.
pub async fn list(
    context: &Context,
    key: &str,
) -> Result<(App, Vec<(Build, Option<Release>)>), Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let mut all = Vec::new();
        for build in builds::list(tx, app.id)? {
            let release = match build.release {
                Some(version) => releases::find(tx, app.id, version)?,
                None => None,
            };
            all.push((build, release));
        }
        Ok(Ok((app, all)))
    })
    .await
}

/// One build by id.
pub async fn find(
    context: &Context,
    key: &str,
    id: &str,
) -> Result<(App, Build, Option<Release>), Problem> {
    let (key, wanted) = (key.to_owned(), id.to_owned());
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        let build = match wanted.parse::<BuildId>() {
            Ok(id) => builds::find(tx, app.id, id)?,
            Err(_) => None,
        };
        let Some(build) = build else {
            let what = format!("`{}` has no build `{wanted}`", app.name);
            return Ok(Err(Problem::new(Code::NotFound, what)));
        };
        let release = match build.release {
            Some(version) => releases::find(tx, app.id, version)?,
            None => None,
        };
        Ok(Ok((app, build, release)))
    })
    .await
}
