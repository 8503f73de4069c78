//! Every path there is, in one list.

use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Extension, Router, middleware};
use http::header::HOST;
use http::request::Parts;
use model::problem::{Code, Problem};

use super::answer::Refusal;
use super::auth::{self, Peer};
use super::encode::Wire;
use super::sessions::Sessions;
use super::stats::Looks;
use super::{
    account, answer, apps, attach, builds, certificates, config_vars, copy, disk, doctor, domains,
    dynos, edge, follow, formation, inspect, links, logs, metrics, outbound, push, releases,
    request, routes, runs, sleep, stats, status, stream, trace, volumes,
};
use crate::collect::Scale;
use crate::config::Config;
use crate::context::Context;
use crate::git::builds::Builds;
use crate::git::pipeline::{Builder, Pipeline};
use crate::git::pushes::Pushes;

/// The router of everything the daemon answers.
pub(super) fn make(context: Context, builder: Builder) -> Router {
    let pushes = Pushes::default();
    let builds = Builds::default();
    let pipeline = Pipeline { context: context.clone(), pushes, builds, builder };
    let guard = middleware::from_fn_with_state(context.clone(), auth::guard);
    platform()
        .merge(house())
        .merge(git())
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(Extension(pipeline))
        .layer(guard)
        .merge(unguessable())
        .layer(middleware::from_fn_with_state(context.clone(), request::to_the_end))
        .layer(Extension(Sessions::<logs::Wanted>::default()))
        .layer(Extension(Sessions::<attach::Wanted>::default()))
        .layer(Extension(Looks::default()))
        .layer(Extension(Scale::default()))
        .layer(middleware::from_fn(answer::with_etag))
        .layer(middleware::from_fn(answer::with_request_id))
        .with_state(context)
}

/// What Heroku's Platform API has a word for.
fn platform() -> Router<Context> {
    Router::new()
        .route("/account", get(account::show))
        .route("/apps", get(apps::list).post(apps::create))
        .route("/apps/{app}", get(apps::show).patch(apps::update).delete(apps::destroy))
        .route("/apps/{app}/config-vars", get(config_vars::show).patch(config_vars::change))
        .route("/apps/{app}/releases/{release}/config-vars", get(config_vars::of_release))
        .route("/apps/{app}/formation", get(formation::list).patch(formation::update))
        .route("/apps/{app}/formation/{process}", get(formation::show).patch(formation::update_one))
        .route("/apps/{app}/dynos", get(dynos::list).post(runs::create).delete(dynos::restart))
        .route("/apps/{app}/dynos/{dyno}", get(dynos::show).delete(dynos::recycle))
        .route("/apps/{app}/dynos/{dyno}/actions/stop", post(dynos::recycle))
        .route("/apps/{app}/formations/{dyno}", delete(dynos::recycle))
        .route("/apps/{app}/formations/{dyno}/actions/stop", post(dynos::recycle))
        .route("/apps/{app}/releases", get(releases::list).post(releases::roll_back))
        .route("/apps/{app}/releases/{release}", get(releases::show))
        .route("/apps/{app}/domains", get(domains::list).post(domains::add))
        .route("/apps/{app}/domains/{domain}", get(domains::show).delete(domains::remove))
        .route("/apps/{app}/sni-endpoints", get(certificates::list).post(certificates::add))
        .route(
            "/apps/{app}/sni-endpoints/{certificate}",
            get(certificates::show).patch(certificates::replace).delete(certificates::remove),
        )
        .route("/apps/{app}/log-sessions", post(logs::create))
        .route("/apps/{app}/builds", get(builds::list))
        .route("/apps/{app}/builds/{build}", get(builds::show).delete(builds::cancel))
}

/// What it has no word for.
fn house() -> Router<Context> {
    Router::new()
        .route("/metrics", get(metrics::show))
        .route("/stats", get(stats::page))
        .route("/wharf/stats", get(stats::show))
        .route("/wharf/trace/{id}", get(trace::show))
        .route("/wharf/status", get(status::show))
        .route("/wharf/doctor", get(doctor::show))
        .route("/wharf/disk", get(disk::show))
        .route("/wharf/authority", get(certificates::authority))
        .route(
            "/wharf/apps/{app}/https",
            get(certificates::show_https).patch(certificates::set_https),
        )
        .route(
            "/wharf/apps/{app}/certificate-orders",
            get(certificates::history).post(certificates::try_again),
        )
        .route("/wharf/explain/{code}", get(status::explain))
        .route("/wharf/apps/{app}/replicas", get(dynos::details))
        .route("/wharf/apps/{app}/replicas/{replica}", get(inspect::show))
        .route("/wharf/apps/{app}/replicas/{replica}/files", get(copy::download).put(copy::upload))
        .route("/wharf/apps/{app}/replicas/{replica}/attach", post(follow::attach))
        .route("/wharf/apps/{app}/processes", get(inspect::processes))
        .route(
            "/wharf/apps/{app}/timing",
            get(apps::timing).put(apps::timing_on).delete(apps::timing_off),
        )
        .route(
            "/wharf/apps/{app}/ask",
            get(domains::ask).put(domains::set_ask).delete(domains::unset_ask),
        )
        .route(
            "/wharf/apps/{app}/pause",
            get(apps::pause_state).put(apps::pause).delete(apps::resume),
        )
        .route("/wharf/apps/{app}/weights", get(apps::weights).patch(apps::set_weights))
        .route("/wharf/apps/{app}/routes", get(routes::list).post(routes::add))
        .route("/wharf/apps/{app}/routes/{route}", delete(routes::remove))
        .route("/wharf/apps/{app}/volumes", get(volumes::list).post(volumes::mount))
        .route("/wharf/apps/{app}/volumes/{volume}", get(volumes::show).delete(volumes::remove))
        .route("/wharf/apps/{app}/volumes/{volume}/mount", delete(volumes::detach))
        .route("/wharf/apps/{app}/volumes/{volume}/restore", post(volumes::restore))
        .route(
            "/wharf/apps/{app}/volumes/{volume}/snapshots",
            get(volumes::list_snapshots).post(volumes::take),
        )
        .route(
            "/wharf/apps/{app}/volumes/{volume}/snapshots/{number}",
            delete(volumes::remove_snapshot),
        )
        .route(
            "/wharf/apps/{app}/volumes/{volume}/snapshots/{number}/content",
            get(volumes::export),
        )
        .route("/wharf/apps/{app}/volumes/{volume}/content", axum::routing::put(volumes::import))
        .route("/wharf/apps/{app}/links", get(links::list).post(links::add))
        .route("/wharf/apps/{app}/links/{link}", delete(links::remove))
        .route("/wharf/apps/{app}/outbound", get(outbound::show).patch(outbound::change))
        .route(
            "/wharf/apps/{app}/sleep",
            get(sleep::show).patch(sleep::change).delete(sleep::unset),
        )
        .route("/wharf/apps/{app}/sleep/wake", post(sleep::wake))
        .route("/wharf/apps/{app}/edge", get(edge::show).patch(edge::set))
        .route("/wharf/apps/{app}/edge/access", post(edge::change_access))
        .route("/wharf/apps/{app}/visitors", get(edge::visitors))
        .route(
            "/wharf/apps/{app}/visitors/{visitor}",
            axum::routing::put(edge::put_visitor).delete(edge::remove_visitor),
        )
        .route("/wharf/apps/{app}/exec", post(runs::exec))
        .route("/wharf/apps/{app}/releases/{release}", get(releases::detail))
        .route("/wharf/apps/{app}/releases/{from}/diff/{to}", get(releases::diff))
        .route("/wharf/apps/{app}/deploys/{deploy}/progress", get(stream::progress))
        .route("/wharf/pushes/{ticket}", post(push::received))
}

/// What is open to whoever knows its address, because nobody can guess it.
fn unguessable() -> Router<Context> {
    Router::new()
        .route("/wharf/log-sessions/{session}", get(logs::stream))
        .route("/wharf/attach/{session}", get(attach::join))
}

/// Where git talks to us; with and without a folder before the app's name.
fn git() -> Router<Context> {
    Router::new()
        .route("/{repository}/info/refs", get(push::advertise))
        .route("/{repository}/git-receive-pack", post(push::receive_pack))
        .route("/{repository}/git-upload-pack", post(push::upload_pack))
        .route("/git/{repository}/info/refs", get(push::advertise))
        .route("/git/{repository}/git-receive-pack", post(push::receive_pack))
        .route("/git/{repository}/git-upload-pack", post(push::upload_pack))
}

async fn unknown(request: Request) -> Refusal {
    Problem::new(Code::NotFound, format!("there is nothing at `{}`", request.uri().path()))
        .next("the paths are those of Heroku's Platform API v3, and `/wharf/…`")
        .into()
}

async fn wrong_method(request: Request) -> Response {
    let (method, path) = (request.method(), request.uri().path());
    let problem = Problem::new(Code::NotFound, format!("`{path}` does not take {method}"));
    let mut response = Refusal::from(problem).into_response();
    *response.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
    response
}

/// How the caller reached us, for the addresses in answers.
pub(super) struct Base(String);

impl Base {
    pub(super) fn wire<'a>(&'a self, config: &'a Config) -> Wire<'a> {
        Wire { config, base: &self.0 }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromRequestParts<Context> for Base {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        context: &Context,
    ) -> Result<Self, Self::Rejection> {
        let config = &context.config;
        let is_unix = matches!(parts.extensions.get::<Peer>(), Some(Peer::Unix { .. }));
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|_| !is_unix);
        let scheme = if config.api_tls.is_some() { "https" } else { "http" };
        let host = host.map_or_else(|| local_address(config), str::to_owned);
        Ok(Self(format!("{scheme}://{host}")))
    }
}

/// Who comes over the unix socket is on this machine, and reaches the TCP address by loopback.
fn local_address(config: &Config) -> String {
    let mut address = config.api_listen;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address.to_string()
}
