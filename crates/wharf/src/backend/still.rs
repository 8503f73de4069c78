//! Containers that stand still for a moment, so that what they write to can be copied.

use std::path::{Path, PathBuf};

use engine::sleep::Still;
use engine::spec::ContainerStatus;

use super::error::BackendError;
use super::local::Local;

impl Local {
    /// Stops all containers that can write below a folder, until what is returned is dropped.
    pub fn still(&self, folder: &Path) -> Result<Vec<Still>, engine::error::Error> {
        let mut still = Vec::new();
        for spec in self.engine.specs()? {
            let mut mounts = spec.mounts.iter();
            if !mounts.any(|one| !one.is_read_only && one.source.starts_with(folder)) {
                continue;
            }
            let status = self.engine.find(&spec.id)?.map(|state| state.status);
            if matches!(status, Some(ContainerStatus::Running { .. })) {
                still.push(self.engine.still(&spec.id)?);
            }
        }
        Ok(still)
    }

    /// Lets go on what a daemon that died had stopped for a moment.
    pub fn let_all_go_on(&self) -> Result<(), BackendError> {
        for state in self.engine.list()? {
            if matches!(state.status, ContainerStatus::Running { .. }) {
                self.engine.let_go_on(&state.spec.id)?;
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
