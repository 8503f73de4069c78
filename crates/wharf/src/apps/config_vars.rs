//! Config vars: what an app is configured with. A change makes a release and rolls it out.

use std::collections::BTreeMap;

use model::app::{App, ConfigVars, Secret};
use model::name::{ConfigKey, NameError};
use model::problem::{Code, Problem};

use super::{decide, lookup, releases, settled};
use crate::context::Context;
use crate::deploy::release::{Change, Frozen, NewRelease};
use crate::store::config_vars;

/// A value is at most this long: the kernel takes no longer string into a new process.
const LONGEST_VALUE: usize = 128 * 1024 - 256;

/// The app's config vars, with their values: whoever may call this owns them.
pub async fn get(context: &Context, key: &str) -> Result<ConfigVars, Problem> {
    let key = key.to_owned();
    decide(context, move |tx| {
        let app = settled!(lookup::find(tx, &key)?);
        Ok(Ok(config_vars::get(tx, app.id)?))
    })
    .await
}

/// Sets some, takes away those without a value. What is so already makes no release: that comes
/// back as none.
pub async fn change(
    context: &Context,
    key: &str,
    changes: BTreeMap<String, Option<String>>,
    user: &str,
) -> Result<(App, Option<Frozen>), Problem> {
    let changes = checked(changes)?;
    let app = lookup::app(context, key).await?;
    let new = NewRelease {
        change: Change::ConfigVars(changes),
        user: user.to_owned(),
        description: None,
    };
    match context.deploys.release(app.id, new).await {
        Ok(frozen) => Ok((app, Some(frozen))),
        Err(problem) if problem.code == Code::ReleaseUnchanged => Ok((app, None)),
        Err(problem) => Err(problem),
    }
}

/// What a release was frozen with.
pub async fn of_release(
    context: &Context,
    key: &str,
    release: &str,
) -> Result<ConfigVars, Problem> {
    Ok(releases::find(context, key, release).await?.1.release.config)
}

fn checked(
    changes: BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<ConfigKey, Option<Secret>>, Problem> {
    let refused =
        |why: String| Problem::new(Code::BadInput, "the config vars were not changed").why(why);
    let mut good = BTreeMap::new();
    for (key, value) in changes {
        let key: ConfigKey = key.parse().map_err(|error: NameError| refused(error.to_string()))?;
        if let Some(value) = &value {
            if value.contains('\0') {
                return Err(refused(format!("the value of `{key}` has a NUL byte in it")));
            }
            if value.len() > LONGEST_VALUE {
                return Err(refused(format!(
                    "the value of `{key}` has {} bytes; {LONGEST_VALUE} is the most a process takes",
                    value.len()
                )));
            }
        }
        good.insert(key, value.map(Secret::new));
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_name_or_value_is_named() {
        let one = |key: &str, value: &str| {
            checked(BTreeMap::from([(key.to_owned(), Some(value.to_owned()))]))
        };
        assert!(one("A_1", "x=y\nz").is_ok());
        assert!(one("1A", "").unwrap_err().why.unwrap().contains("`1A`"));
        assert!(one("A", "\0").unwrap_err().why.unwrap().contains("NUL"));
        assert!(one("A", &"x".repeat(200_000)).unwrap_err().why.unwrap().contains("200000"));
    }
}
