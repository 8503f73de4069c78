//! What was asked for of all containers, read once each: a spec never changes while its container is there.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::error::Error;
use crate::spec::ContainerSpec;
use crate::state::StateFolder;

/// Specs by their containers' ids. The folders are the truth; this saves opening each of them again.
#[derive(Debug, Default)]
pub(crate) struct Specs(Mutex<HashMap<String, Arc<ContainerSpec>>>);

impl Specs {
    /// Of every container that has a folder there, sorted by id.
    pub(crate) fn all(&self, folder: &Path) -> Result<Vec<Arc<ContainerSpec>>, Error> {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut here = HashMap::with_capacity(known.len());
        for entry in fs::read_dir(folder).map_err(Error::file("read", folder))?.flatten() {
            let name = entry.file_name();
            let Some(id) = name.to_str().filter(|id| !id.starts_with('.')) else { continue };
            let spec = match known.remove(id) {
                Some(spec) => spec,
                None => match StateFolder::at(entry.path()).spec() {
                    Ok(spec) => Arc::new(spec),
                    // Removed while we looked.
                    Err(_) if !entry.path().is_dir() => continue,
                    Err(error) => {
                        tracing::error!(container = id, "{}", error.chain());
                        continue;
                    }
                },
            };
            here.insert(id.to_owned(), spec);
        }
        let mut all: Vec<_> = here.values().cloned().collect();
        *known = here;
        all.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(all)
    }

    /// That of one container.
    pub(crate) fn of(&self, state: &StateFolder) -> Result<Arc<ContainerSpec>, Error> {
        let id = state.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let known = || self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(spec) = known().get(id) {
            return Ok(Arc::clone(spec));
        }
        // Not kept: one that is being removed meanwhile is forgotten already.
        state.spec().map(Arc::new)
    }

    /// It is about to go, and another may come by its name.
    pub(crate) fn forget(&self, id: &str) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_those_of_the_folders_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let specs = Specs::default();
        let create = |id: &str, hostname: &str| {
            let spec = ContainerSpec { hostname: hostname.into(), ..ContainerSpec::nothing(id) };
            StateFolder::at(folder.path().join(id)).create(&spec).unwrap();
        };
        let seen = || -> Vec<(String, String)> {
            let all = specs.all(folder.path()).unwrap();
            all.iter().map(|spec| (spec.id.clone(), spec.hostname.clone())).collect()
        };
        let pair = |id: &str, name: &str| (id.to_owned(), name.to_owned());
        create("b", "one");
        create("a", "one");
        fs::create_dir(folder.path().join(".gone-c")).unwrap();
        assert_eq!(seen(), [pair("a", "one"), pair("b", "one")]);
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        assert_eq!(seen(), [pair("b", "one")]);
        // Another by the same name, after the first was forgotten.
        specs.forget("b");
        fs::remove_dir_all(folder.path().join("b")).unwrap();
        create("b", "two");
        assert_eq!(seen(), [pair("b", "two")]);
    }
}
