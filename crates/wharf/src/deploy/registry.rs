//! Which domains are an app's, across all apps: those of the release that serves and of all that are
//! on their way, so that none is lost to another app while a release that has it may yet serve.

use std::collections::BTreeSet;

use jiff::Timestamp;
use model::id::{AppId, DomainId};
use model::name::DomainName;

use super::release::serving_release;
use crate::store::{StoreError, Tx, deploys, domains, releases};

/// Brings the registry in line; part of every transaction in which a release is made, goes live or
/// fails.
pub(super) fn settle(tx: &Tx<'_>, app: AppId, now: Timestamp) -> Result<(), StoreError> {
    let wanted = wanted(tx, app)?;
    let mut known = BTreeSet::new();
    for domain in domains::list(tx, app)? {
        if wanted.contains(&domain.host) {
            known.insert(domain.host);
        } else {
            domains::delete(tx, app, &domain.host)?;
        }
    }
    for host in wanted.into_iter().filter(|host| !known.contains(host)) {
        let id = DomainId(uuid::Uuid::new_v4());
        domains::insert(tx, &domains::Domain { id, app, host, created_at: now })?;
    }
    Ok(())
}

fn wanted(tx: &Tx<'_>, app: AppId) -> Result<BTreeSet<DomainName>, StoreError> {
    let mut wanted = BTreeSet::new();
    let serving = serving_release(tx, app)?;
    let mut has_any = serving.is_some();
    wanted.extend(serving.into_iter().flat_map(|release| release.domains));
    for deploy in deploys::list_in_flight(tx, app)? {
        wanted.extend(releases::get(tx, app, deploy.release)?.domains);
        has_any = true;
    }
    if !has_any {
        let latest = releases::find_latest(tx, app)?;
        wanted.extend(latest.into_iter().flat_map(|release| release.domains));
    }
    Ok(wanted)
}
