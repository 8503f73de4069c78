//! Containers that stand still for a moment, so that what they write to can be copied.

use std::path::{Path, PathBuf};

use engine::Engine;
use engine::spec::ContainerStatus;

use super::error::BackendError;
use super::local::Local;

/// Containers that stand still; dropping it lets them go on.
#[derive(Debug)]
pub struct Still<'a> {
    engine: &'a Engine,
    ids: Vec<String>,
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        for id in &self.ids {
            if let Err(error) = self.engine.set_frozen(id, false) {
                let error = &error as &dyn std::error::Error;
                tracing::error!(container = id, error, "a container stands still");
            }
        }
    }
}

impl Local {
    /// Stops all containers that can write below a folder, until what is returned is dropped.
    pub fn still(&self, folder: &Path) -> Result<Still<'_>, engine::error::Error> {
        let mut still = Still { engine: &self.engine, ids: Vec::new() };
        for spec in self.engine.specs()? {
            let mut mounts = spec.mounts.iter();
            if !mounts.any(|one| !one.is_read_only && one.source.starts_with(folder)) {
                continue;
            }
            let status = self.engine.find(&spec.id)?.map(|state| state.status);
            if matches!(status, Some(ContainerStatus::Running { .. })) {
                // Noted first: one that was told to stop is let go on, whatever became of it.
                still.ids.push(spec.id.clone());
                self.engine.set_frozen(&spec.id, true)?;
            }
        }
        Ok(still)
    }

    /// Lets go on what a daemon that died had stopped for a moment.
    pub fn let_all_go_on(&self) -> Result<(), BackendError> {
        for state in self.engine.list()? {
            if matches!(state.status, ContainerStatus::Running { .. }) {
                self.engine.set_frozen(&state.spec.id, false)?;
            }
        }
        Ok(())
    }

    /// Where from containers have something mounted.
    pub fn mounted_from(&self) -> Result<Vec<PathBuf>, BackendError> {
        let specs = self.engine.specs()?;
        let mounts = specs.iter().flat_map(|spec| &spec.mounts);
        Ok(mounts.map(|one| one.source.clone()).collect())
    }
}
