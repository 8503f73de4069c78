//! `/apps/{app}/sni-endpoints`, `/wharf/apps/{app}/https`, `/wharf/authority`.

use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use model::app::App;
use model::certificate::{Hsts, HttpsPolicy};
use model::order::{OrderPhase, pause_after};
use model::problem::{Code, Problem};
use sha2::{Digest, Sha256};

use super::answer::{Answer, json, ok};
use super::auth::Caller;
use super::encode::app_ref;
use super::paging::{self, Key};
use super::request::Input;
use crate::api::certificate::{self as wire, PutSniEndpoint, SniEndpoint, SslCert, UpdateHttps};
use crate::api::common::derived_id;
use crate::apps::certificates::{self, Brought, HttpsChange};
use crate::context::Context;
use crate::store::certificates::Certificate;
use crate::store::domains::Domain;
use crate::store::orders::Order;

fn encode(app: &App, certificate: &Certificate, domains: &[Domain]) -> SniEndpoint {
    let facts = &certificate.facts;
    let is_shown =
        |domain: &&Domain| facts.names.iter().any(|name| name.covers(domain.host.as_str()));
    SniEndpoint {
        id: certificate.id.0,
        name: certificate.name.clone(),
        display_name: None,
        app: app_ref(app),
        certificate_chain: facts.chain.clone(),
        domains: domains.iter().filter(is_shown).map(|domain| domain.id.0).collect(),
        ssl_cert: SslCert {
            id: derived_id(&["ssl-cert", &facts.chain]),
            is_ca_signed: !facts.is_self_signed,
            is_self_signed: facts.is_self_signed,
            cert_domains: facts.names.iter().map(ToString::to_string).collect(),
            issuer: facts.issuer.clone(),
            subject: facts.subject.clone(),
            starts_at: facts.starts_at.into(),
            expires_at: facts.expires_at.into(),
        },
        created_at: certificate.created_at.into(),
        updated_at: certificate.updated_at.into(),
    }
}

fn brought(input: PutSniEndpoint) -> Brought {
    Brought { chain: input.certificate_chain, key: input.private_key }
}

pub(super) async fn list(
    State(context): State<Context>,
    headers: HeaderMap,
    Path(key): Path<String>,
) -> Answer {
    let listing = certificates::list(&context, &key).await?;
    let encode = |one| encode(&listing.app, one, &listing.domains);
    let all = listing.certificates.iter().map(encode).collect();
    paging::list(
        &headers,
        &[
            ("name", |one: &SniEndpoint| Key::Text(one.name.clone())),
            ("id", |one| Key::Text(one.id.to_string())),
        ],
        all,
    )
}

pub(super) async fn add(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<PutSniEndpoint>,
) -> Answer {
    let put = certificates::put(&context, (&key, None), brought(input), &caller.user);
    let (listing, id) = put.await?;
    let one = listing.pick(&id.to_string())?;
    Ok(json(StatusCode::CREATED, &encode(&listing.app, one, &listing.domains)))
}

pub(super) async fn replace(
    State(context): State<Context>,
    caller: Caller,
    Path((key, wanted)): Path<(String, String)>,
    Input(input): Input<PutSniEndpoint>,
) -> Answer {
    let put = certificates::put(&context, (&key, Some(&wanted)), brought(input), &caller.user);
    let (listing, id) = put.await?;
    let one = listing.pick(&id.to_string())?;
    ok(&encode(&listing.app, one, &listing.domains))
}

pub(super) async fn show(
    State(context): State<Context>,
    Path((key, wanted)): Path<(String, String)>,
) -> Answer {
    let listing = certificates::list(&context, &key).await?;
    ok(&encode(&listing.app, listing.pick(&wanted)?, &listing.domains))
}

pub(super) async fn remove(
    State(context): State<Context>,
    caller: Caller,
    Path((key, wanted)): Path<(String, String)>,
) -> Answer {
    let removed = certificates::remove(&context, &key, &wanted, &caller.user).await?;
    let (app, certificate, domains) = removed;
    ok(&encode(&app, &certificate, &domains))
}

fn https(policy: HttpsPolicy) -> wire::Https {
    wire::Https {
        redirect: policy.redirect.map(u16::from),
        hsts: policy.hsts.map(|hsts| wire::Hsts {
            max_age: hsts.max_age_seconds,
            include_subdomains: hsts.include_subdomains,
            preload: hsts.preload,
        }),
    }
}

pub(super) async fn show_https(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    ok(&https(certificates::https(&context, &key).await?))
}

pub(super) async fn set_https(
    State(context): State<Context>,
    caller: Caller,
    Path(key): Path<String>,
    Input(input): Input<UpdateHttps>,
) -> Answer {
    let hsts = |hsts: wire::Hsts| Hsts {
        max_age_seconds: hsts.max_age,
        include_subdomains: hsts.include_subdomains,
        preload: hsts.preload,
    };
    let change =
        HttpsChange { redirect: input.redirect, hsts: input.hsts.map(|given| given.map(hsts)) };
    ok(&https(certificates::set_https(&context, &key, change, &caller.user).await?))
}

fn order(order: &Order) -> wire::CertificateOrder {
    let next = order.updated_at.checked_add(pause_after(order.failures)).ok();
    wire::CertificateOrder {
        id: order.id.0,
        hostname: order.host.to_string(),
        phase: order.phase,
        failures: order.failures,
        problem: order.problem.clone(),
        created_at: order.created_at.into(),
        updated_at: order.updated_at.into(),
        next_try_at: next.filter(|_| order.phase == OrderPhase::Failed).map(Into::into),
    }
}

pub(super) async fn history(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    let orders = certificates::history(&context, &key).await?;
    ok(&orders.iter().map(order).collect::<Vec<_>>())
}

pub(super) async fn try_again(State(context): State<Context>, Path(key): Path<String>) -> Answer {
    let orders = certificates::try_again(&context, &key).await?;
    ok(&orders.iter().map(order).collect::<Vec<_>>())
}

pub(super) async fn authority(State(context): State<Context>) -> Answer {
    let certificate = certificates::authority(&context).await?;
    let fingerprint = fingerprint(&certificate).ok_or_else(|| {
        Problem::new(Code::Internal, "the local authority's certificate cannot be read")
    })?;
    ok(&wire::Authority { certificate, fingerprint })
}

fn fingerprint(pem: &str) -> Option<String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let digits: Vec<String> =
        Sha256::digest(&der).iter().map(|byte| format!("{byte:02X}")).collect();
    Some(digits.join(":"))
}
