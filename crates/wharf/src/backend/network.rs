//! A replica's network on this machine: what it may reach of other apps and of the internet.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::links::{Link, Name};
use engine::network::changes::Changes;
use engine::network::outbound::OutboundConfig;
use engine::network::policy::{Policy, Refused};
use engine::spec::{ContainerSpec, ContainerStatus, NetworkSpec, OpenPorts};
use model::id::ReplicaId;

use super::error::BackendError;
use super::local::{Local, blocking, wait_readable};
use crate::config::Config;

/// Between a change of the machine's firewall and our look at it.
const GUARD_PAUSE: Duration = Duration::from_millis(200);

/// Addresses of the wires to the machine, where nothing else is said or in their way.
const RANGE: &str = "10.213.0.0/16";

impl Local {
    /// What others could connect or send to in a replica. Costs milliseconds too.
    pub async fn open_ports(self: &Arc<Self>, id: ReplicaId) -> OpenPorts {
        let local = Arc::clone(self);
        let found = blocking(move || Ok(local.engine.open_ports(&id.to_string())?)).await;
        found.unwrap_or_default()
    }

    /// What a replica may reach of others now.
    pub async fn links(self: &Arc<Self>, id: ReplicaId) -> Vec<Link> {
        let local = Arc::clone(self);
        let found = blocking(move || Ok(local.engine.links(&id.to_string())?)).await;
        found.unwrap_or_default()
    }

    /// Changes what a replica may reach of others.
    pub async fn set_links(
        self: &Arc<Self>,
        id: ReplicaId,
        links: Vec<Link>,
    ) -> Result<(), BackendError> {
        let local = Arc::clone(self);
        blocking(move || Ok(local.engine.set_links(&id.to_string(), &links)?)).await
    }

    /// Changes what a replica may reach of the internet, and the names it knows for it.
    pub async fn set_way(
        self: &Arc<Self>,
        id: ReplicaId,
        (policy, names): (Policy, Vec<Name>),
    ) -> Result<(), BackendError> {
        let local = Arc::clone(self);
        blocking(move || {
            let name = id.to_string();
            let state = local.engine.find(&name)?;
            if let Some(slot) = state.and_then(|state| slot_of(&state.spec)) {
                local.pool.set_policy(slot, policy)?;
                local.engine.set_names(&name, &names)?;
            }
            Ok(())
        })
        .await
    }

    /// Where a replica wanted to go within the last hour and was refused.
    pub async fn refused(self: &Arc<Self>, id: ReplicaId) -> Vec<Refused> {
        let local = Arc::clone(self);
        let found = blocking(move || {
            let state = local.engine.find(&id.to_string())?;
            let slot = state.and_then(|state| slot_of(&state.spec));
            Ok(slot.map_or(Ok(Vec::new()), |slot| local.pool.refused(slot))?)
        });
        found.await.unwrap_or_default()
    }

    /// Puts the rules of the ways out back whenever somebody takes them away. Never ends.
    pub async fn guard_ways(self: &Arc<Self>) -> Result<(), BackendError> {
        let changes = Changes::open()?;
        loop {
            if let Ok(readable) = changes.as_fd().try_clone_to_owned() {
                wait_readable(readable).await;
            }
            // Whoever changes one rule mostly changes several.
            tokio::time::sleep(GUARD_PAUSE).await;
            changes.drain();
            let pool = Arc::clone(&self.pool);
            match blocking(move || Ok(pool.mend()?)).await {
                Ok(false) => {}
                Ok(true) => tracing::warn!("somebody changed our firewall table; it is back"),
                Err(error) => tracing::error!(error = error.for_people(), "the ways out are open"),
            }
        }
    }
}

impl Local {
    /// Removes ways out that no container has. What a daemon that died had no time for is done too.
    pub(super) fn reconcile_ways(&self) -> Result<(), BackendError> {
        let specs = self.engine.specs()?;
        let in_use: Vec<PathBuf> = specs
            .iter()
            .filter_map(|spec| match &spec.network {
                NetworkSpec::Prepared(path) => Some(path.clone()),
                NetworkSpec::Isolated => None,
            })
            .collect();
        self.pool.reconcile(&in_use)?;
        let unsettled = self.pool.unsettled();
        for spec in &specs {
            let Some(slot) = slot_of(spec).filter(|slot| unsettled.contains(slot)) else {
                continue;
            };
            let state = self.engine.find(&spec.id)?.map(|state| state.status);
            // One that is still being started may have yet to enter.
            if matches!(state, Some(ContainerStatus::Running { .. })) {
                self.pool.settle(slot);
            }
        }
        Ok(())
    }
}

/// The way out a container was given: its file is named by its number.
pub(super) fn slot_of(spec: &ContainerSpec) -> Option<u32> {
    match &spec.network {
        NetworkSpec::Prepared(path) => path.file_name()?.to_str()?.parse().ok(),
        NetworkSpec::Isolated => None,
    }
}

/// Names and addresses of this Wharf's ways out; two Wharfs on one machine differ in their cgroup.
pub fn outbound_config(config: &Config) -> Result<OutboundConfig, engine::error::Error> {
    // Interface names have 15 letters, five of which are for the number.
    let prefix = if config.cgroup.len() <= 8 {
        format!("{}-", config.cgroup)
    } else {
        let digest = <sha2::Sha256 as sha2::Digest>::digest(config.cgroup.as_bytes());
        digest.iter().take(4).fold("w".to_owned(), |name, byte| format!("{name}{byte:02x}"))
    };
    Ok(OutboundConfig {
        run_dir: config.run_dir.clone(),
        range: config.outbound_range.as_deref().unwrap_or(RANGE).parse()?,
        table: config.cgroup.clone(),
        prefix,
    })
}
