//! The daemon's end of the wire to the proxy. Each call is a connection of its own, so a proxy that was
//! started again between two calls is no error.

use std::path::PathBuf;
use std::time::Duration;

use model::certificate::CertificateTable;
use model::id::ReplicaId;
use model::name::DomainName;
use model::route::router::RouteConflict;
use model::route::{RouteTable, TableChange};
use proxy::control::{Client, Events, Measures, Status};

/// Where the proxy is told what to do.
#[derive(Debug, Clone)]
pub struct ProxyLink {
    socket: PathBuf,
}

/// Why the proxy could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error(transparent)]
    Control(#[from] proxy::error::Error),
    #[error("two apps claim one route")]
    Conflict(#[from] RouteConflict),
}

impl ProxyLink {
    /// A wire to that socket; nothing is connected yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// How the proxy is.
    pub async fn status(&self) -> Result<Status, LinkError> {
        Ok(self.client().await?.status().await?)
    }

    /// What it counted.
    pub async fn measures(&self) -> Result<Measures, LinkError> {
        Ok(self.client().await?.measures().await?)
    }

    /// The table it serves from.
    pub async fn table(&self) -> Result<RouteTable, LinkError> {
        Ok(self.client().await?.table().await?)
    }

    /// Has it serve from that table.
    pub async fn apply(&self, table: &RouteTable) -> Result<(), LinkError> {
        self.client().await?.apply(table).await?;
        Ok(())
    }

    /// Has it serve from the last table with a change made.
    pub async fn change(&self, change: &TableChange) -> Result<(), LinkError> {
        self.client().await?.change(change).await?;
        Ok(())
    }

    /// Has it serve these certificates.
    pub async fn certify(&self, table: &CertificateTable) -> Result<(), LinkError> {
        self.client().await?.certify(table).await?;
        Ok(())
    }

    /// What it tells from now on.
    pub async fn events(&self) -> Result<Events, LinkError> {
        Ok(self.client().await?.subscribe().await?)
    }

    /// Nobody is to wait for that name, nor for so long.
    pub async fn turn_away(&self, host: &DomainName, keep: Duration) -> Result<(), LinkError> {
        Ok(self.client().await?.turn_away(host, keep).await?)
    }

    /// Waits until a replica has no request in flight, or the limit; whether it has one then. A proxy
    /// that is not there has none.
    pub async fn wait_idle(&self, replica: ReplicaId, limit: Duration) -> bool {
        let Ok(client) = self.client().await else { return false };
        match client.wait_idle(&[replica], limit).await {
            Ok(busy) => !busy.is_empty(),
            Err(error) => {
                tracing::warn!(%error, "the proxy did not say when the replica was idle");
                false
            }
        }
    }

    async fn client(&self) -> Result<Client, LinkError> {
        Ok(Client::connect(&self.socket).await?)
    }
}
