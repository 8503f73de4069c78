//! Looking into replicas that run: what they use, who runs in them, and what holds them.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::attach::Attach;
use engine::copy::Copy;
use engine::inspect::{Inspection, ProcessSeen};
use model::id::ReplicaId;
use model::size::ByteSize;

use super::error::BackendError;
use super::local::{APP_UID, Exec, Local, blocking};

impl Local {
    /// Copies files out of a replica or into it; returns when that has begun.
    pub async fn copy(
        self: &Arc<Self>,
        id: ReplicaId,
        copy: Copy,
        streams: Attach,
    ) -> Result<Exec, BackendError> {
        let local = Arc::clone(self);
        let user = (APP_UID, APP_UID);
        blocking(move || Ok(Exec(local.engine.copy(&id.to_string(), copy, user, streams)?))).await
    }

    /// What is to be seen of a replica that runs, all of it.
    pub async fn inspect(self: &Arc<Self>, id: ReplicaId) -> Option<Inspection> {
        let local = Arc::clone(self);
        blocking(move || Ok(local.engine.inspect(&id.to_string())?)).await.ok()
    }

    /// The processes of each of these replicas that runs.
    pub async fn processes_of(
        self: &Arc<Self>,
        ids: Vec<ReplicaId>,
    ) -> BTreeMap<ReplicaId, Vec<ProcessSeen>> {
        let local = Arc::clone(self);
        let look = move |id: ReplicaId| Some((id, local.engine.processes(&id.to_string()).ok()?));
        let found = blocking(move || Ok(ids.into_iter().filter_map(look).collect())).await;
        found.unwrap_or_default()
    }

    /// Memory in use by each of these replicas that runs.
    pub async fn memory_of(self: &Arc<Self>, ids: Vec<ReplicaId>) -> BTreeMap<ReplicaId, ByteSize> {
        let local = Arc::clone(self);
        let look = move |id| Some((id, local.memory(id)?));
        let found = blocking(move || Ok(ids.into_iter().filter_map(look).collect())).await;
        found.unwrap_or_default()
    }

    /// Memory in use by a replica.
    pub fn memory(&self, id: ReplicaId) -> Option<ByteSize> {
        self.engine.memory(&id.to_string())
    }
}
