//! From the house's words to the wire's: replica → dyno, image → slug, and so on.

use model::app::App;
use model::limits::ProcessLimits;
use model::release::{ImageRef, Release};
use uuid::Uuid;

use crate::api;
use crate::api::common::{AppRef, IdOnly, Named, Time, User, derived_id};
use crate::apps::diff::{Difference, Side};
use crate::apps::formation::Wanted;
use crate::apps::life::default_host;
use crate::apps::releases::{Fate, ReleaseView};
use crate::apps::replicas::Running;
use crate::apps::status::AppView;
use crate::config::Config;
use crate::store::builds::{Build, BuildPhase};
use crate::store::domains::Domain;

/// The name of what images stand on.
pub(super) const STACK: &str = "debian-12";

/// What many encodings need: the configuration, and how the caller reached us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire<'a> {
    pub(super) config: &'a Config,
    /// `http://127.0.0.1:7070`, without a slash at the end.
    pub(super) base: &'a str,
}

pub(super) fn named(kind: &str, name: &str) -> Named {
    Named { id: derived_id(&[kind, name]), name: name.to_owned() }
}

pub(super) fn app_ref(app: &App) -> AppRef {
    AppRef { id: app.id, name: app.name.clone() }
}

/// An image's id on the wire: a UUID for ever the same for one digest.
pub(super) fn slug(image: &ImageRef) -> IdOnly {
    IdOnly { id: derived_id(&["slug", &image.0]) }
}

/// `512M`, or `512M 500m` when the cores are limited too.
fn limits(limits: &ProcessLimits) -> String {
    match limits.cpu_millis {
        Some(millis) => format!("{} {millis}m", size(limits)),
        None => size(limits),
    }
}

/// `512M`: a memory limit as a size's name.
pub(super) fn size(limits: &ProcessLimits) -> String {
    limits.memory.to_string().replace("iB", "").replace(' ', "")
}

impl Wire<'_> {
    pub(super) fn user(&self, user: &str) -> User {
        User { id: derived_id(&["user", user]), email: self.email(user) }
    }

    pub(super) fn email(&self, user: &str) -> String {
        if user.contains('@') { user.to_owned() } else { format!("{user}@{}", self.config.domain) }
    }

    pub(super) fn app(&self, app: &App) -> api::app::App {
        api::app::App {
            id: app.id,
            name: app.name.clone(),
            created_at: app.created_at.into(),
            updated_at: app.updated_at.into(),
            released_at: app.released_at.map(Time),
            archived_at: None,
            maintenance: app.is_in_maintenance,
            git_url: format!("{}/{}.git", self.base, app.name),
            web_url: Some(format!("{}/", self.config.app_url(app.name.as_str()))),
            owner: self.user("root"),
            acm: false,
            buildpack_provided_description: None,
            build_stack: named("stack", STACK),
            stack: named("stack", STACK),
            region: named("region", "here"),
            generation: named("generation", "wharf"),
            internal_routing: None,
            organization: None,
            team: None,
            space: None,
            repo_size: None,
            slug_size: None,
        }
    }

    pub(super) fn default_domain(&self, app: &App) -> api::domain::Domain {
        let host = default_host(&app.name, &self.config.domain);
        api::domain::Domain {
            id: derived_id(&["domain", &app.id.to_string()]),
            hostname: host.to_string(),
            kind: api::domain::DomainKind::Heroku,
            cname: None,
            app: app_ref(app),
            status: "succeeded".to_owned(),
            created_at: app.created_at.into(),
            updated_at: app.created_at.into(),
            acm_status: None,
            acm_status_reason: None,
            sni_endpoint: None,
        }
    }

    pub(super) fn domain(&self, app: &App, domain: &Domain) -> api::domain::Domain {
        api::domain::Domain {
            id: domain.id.0,
            hostname: domain.host.to_string(),
            kind: api::domain::DomainKind::Custom,
            cname: Some(default_host(&app.name, &self.config.domain).to_string()),
            created_at: domain.created_at.into(),
            updated_at: domain.created_at.into(),
            ..self.default_domain(app)
        }
    }

    pub(super) fn formation(&self, app: &App, wanted: &Wanted) -> api::formation::Formation {
        let size = size(&wanted.spec.limits);
        api::formation::Formation {
            id: derived_id(&["formation", &app.id.to_string(), wanted.process.as_str()]),
            app: app_ref(app),
            process: wanted.process.to_string(),
            command: wanted.spec.command.clone(),
            quantity: wanted.quantity,
            dyno_size: named("size", &size),
            size,
            created_at: app.created_at.into(),
            updated_at: app.updated_at.into(),
        }
    }

    pub(super) fn dyno(&self, app: &App, running: &Running) -> api::dyno::Dyno {
        let replica = &running.view.replica;
        let spec = running.release.shape.processes.get(&replica.process);
        api::dyno::Dyno {
            id: replica.id,
            name: replica.name(),
            process: replica.process.to_string(),
            command: running.command().to_owned(),
            state: running.view.status.to_owned(),
            size: size(&spec.map(|spec| spec.limits).unwrap_or_default()),
            app: app_ref(app),
            release: release_ref(&running.release),
            attach_url: None,
            created_at: replica.created_at.into(),
            updated_at: running.view.since.into(),
        }
    }

    pub(super) fn replica(&self, running: &Running) -> api::status::ReplicaDetail {
        let replica = &running.view.replica;
        api::status::ReplicaDetail {
            id: replica.id,
            name: replica.name(),
            process: replica.process.to_string(),
            command: running.command().to_owned(),
            status: running.view.status.to_owned(),
            reason: running.view.note.clone(),
            kept_until: running.view.kept_until.map(Into::into),
            memory: running.memory,
            release: replica.release,
            generation: replica.generation,
            since: running.view.since.into(),
            created_at: replica.created_at.into(),
        }
    }

    pub(super) fn release(&self, app: &App, view: &ReleaseView) -> api::release::Release {
        let release = &view.release;
        let last = view.deploys.last().map_or(release.created_at, |deploy| deploy.updated_at);
        let slug = release.image.as_ref().map(slug);
        api::release::Release {
            id: release.id,
            version: release.version,
            description: release.description.clone(),
            status: match view.fate() {
                Fate::Pending => api::release::ReleaseStatus::Pending,
                Fate::Succeeded => api::release::ReleaseStatus::Succeeded,
                Fate::Expired => api::release::ReleaseStatus::Expired,
                Fate::Failed => api::release::ReleaseStatus::Failed,
            },
            current: view.is_current,
            app: app_ref(app),
            user: self.user(&release.user),
            artifacts: slug
                .iter()
                .map(|slug| api::release::Artifact { kind: "slug".to_owned(), id: slug.id })
                .collect(),
            eligible_for_rollback: view.has_image && view.was_live(),
            slug,
            addon_plan_names: Vec::new(),
            output_stream_url: None,
            created_at: release.created_at.into(),
            updated_at: last.into(),
        }
    }

    pub(super) fn release_detail(
        &self,
        app: &App,
        view: &ReleaseView,
    ) -> api::release::ReleaseDetail {
        let release = &view.release;
        let shape = &release.shape;
        api::release::ReleaseDetail {
            release: self.release(app, view),
            image: release.image.as_ref().map(|image| image.0.clone()),
            commit: release.commit.clone(),
            pack: shape.pack.clone(),
            processes: shape
                .processes
                .iter()
                .map(|(name, spec)| (name.to_string(), spec.command.clone()))
                .collect(),
            release_command: shape.release_command.clone(),
            config_keys: release.config.keys().map(ToString::to_string).collect(),
            formation: release
                .formation
                .iter()
                .map(|(name, count)| (name.to_string(), *count))
                .collect(),
            limits: shape
                .processes
                .iter()
                .map(|(name, spec)| (name.to_string(), limits(&spec.limits)))
                .collect(),
            domains: release.domains.iter().map(ToString::to_string).collect(),
            port: shape.run.port,
            protocol: shape.run.protocol,
            health_path: shape.run.health_path.clone(),
            deploys: view.deploys.iter().rev().map(deploy).collect(),
        }
    }

    pub(super) fn build(
        &self,
        app: &App,
        build: &Build,
        release: Option<&Release>,
    ) -> api::build::Build {
        let (status, image) = match &build.phase {
            BuildPhase::Running => (api::build::BuildStatus::Pending, None),
            BuildPhase::Succeeded(image) => (api::build::BuildStatus::Succeeded, Some(image)),
            BuildPhase::Failed(_) => (api::build::BuildStatus::Failed, None),
        };
        let pack = release.and_then(|release| release.shape.pack.clone());
        api::build::Build {
            id: build.id,
            app: app_ref(app),
            status,
            source_blob: api::build::SourceBlob {
                url: format!("{}/{}.git", self.base, app.name),
                version: Some(build.commit.clone()),
                checksum: None,
            },
            release: release.map(|release| IdOnly { id: release.id.0 }),
            slug: image.map(slug),
            stack: STACK.to_owned(),
            buildpacks: pack.map(|name| vec![api::build::Buildpack { name }]),
            output_stream_url: format!("{}/wharf/apps/{}/builds/{}", self.base, app.name, build.id),
            user: self.user(&build.user),
            created_at: build.created_at.into(),
            updated_at: build.updated_at.into(),
        }
    }

    pub(super) fn app_status(&self, view: &AppView) -> api::status::AppStatus {
        api::status::AppStatus {
            name: view.app.name.clone(),
            url: self.config.app_url(view.app.name.as_str()),
            status: view.status.to_owned(),
            release: view.serving,
            replicas_up: view.up,
            replicas_wanted: view.wanted,
            in_flight: view.in_flight,
            requests: view.requests,
            edge_errors: view.edge_errors,
            held: view.held,
            memory: view.memory,
            deploy: view.deploy,
        }
    }
}

pub(super) fn release_ref(release: &Release) -> api::dyno::ReleaseRef {
    api::dyno::ReleaseRef { id: release.id.0, version: release.version }
}

fn deploy(deploy: &model::deploy::Deploy) -> api::release::DeploySummary {
    api::release::DeploySummary {
        id: deploy.id,
        generation: deploy.generation,
        phase: deploy.phase.as_str().to_owned(),
        created_at: deploy.created_at.into(),
        updated_at: deploy.updated_at.into(),
        problem: deploy.problem.clone(),
    }
}

pub(super) fn change(difference: Difference) -> api::release::Change {
    let (kind, from, to) = match difference.side {
        Side::Added(to) => (api::release::ChangeKind::Added, None, to),
        Side::Removed(from) => (api::release::ChangeKind::Removed, from, None),
        Side::Changed(ends) => {
            let (from, to) = ends.unzip();
            (api::release::ChangeKind::Changed, from, to)
        }
    };
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    api::release::Change {
        what: difference.what.to_owned(),
        name: difference.name,
        kind,
        from: filled(from),
        to: filled(to),
    }
}

/// The id of an account.
pub(super) fn account_id(user: &str) -> Uuid {
    derived_id(&["user", user])
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::size::ByteSize;

    #[test]
    fn a_limit_is_a_size_that_can_be_typed_again() {
        let limits = |memory| ProcessLimits { memory, ..ProcessLimits::default() };
        for bytes in [ByteSize::mib(512), ByteSize::mib(1024)] {
            assert_eq!(size(&limits(bytes)).parse::<ByteSize>().unwrap(), bytes);
        }
    }
}
