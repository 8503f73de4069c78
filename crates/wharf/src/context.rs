//! What the feature rooms and the server share: handles, all cheap to clone.

use std::sync::Arc;

use crate::backend::local::Local;
use crate::certificates::Certificates;
use crate::config::Config;
use crate::deploy::Deploys;
use crate::logs::AppLogs;
use crate::proxy_link::ProxyLink;
use crate::store::Store;
use crate::tasks::Tasks;

/// The house as a feature function sees it.
#[derive(Debug, Clone)]
pub struct Context {
    pub config: Arc<Config>,
    pub store: Store,
    pub deploys: Deploys,
    pub backend: Arc<Local>,
    pub link: ProxyLink,
    pub certificates: Certificates,
    pub logs: AppLogs,
    pub tasks: Tasks,
    pub started_at: jiff::Timestamp,
}
