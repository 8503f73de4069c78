//! `/apps/{app}/sni-endpoints`, `/wharf/apps/{app}/https`, `/wharf/authority`.

use model::order::OrderPhase;
use model::problem::Problem;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::common::{AppRef, Time};

/// A certificate of an app; `sni-endpoint` is the Platform API's word for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SniEndpoint {
    pub id: Uuid,
    pub name: String,
    pub display_name: Option<String>,
    pub app: AppRef,
    pub certificate_chain: String,
    /// Ids of the app's domains it is shown for.
    pub domains: Vec<Uuid>,
    pub ssl_cert: SslCert,
    pub created_at: Time,
    pub updated_at: Time,
}

/// What is written in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SslCert {
    pub id: Uuid,
    #[serde(rename = "ca_signed?")]
    pub is_ca_signed: bool,
    #[serde(rename = "self_signed?")]
    pub is_self_signed: bool,
    pub cert_domains: Vec<String>,
    pub issuer: String,
    pub subject: String,
    pub starts_at: Time,
    pub expires_at: Time,
}

/// `POST` and `PATCH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutSniEndpoint {
    pub certificate_chain: String,
    pub private_key: String,
}

/// What an app wants of HTTPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Https {
    /// 301 or 308; null leaves plain requests where they are.
    pub redirect: Option<u16>,
    /// Null sends no `Strict-Transport-Security`.
    pub hsts: Option<Hsts>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hsts {
    pub max_age: u64,
    #[serde(default)]
    pub include_subdomains: bool,
    #[serde(default)]
    pub preload: bool,
}

/// `PATCH /wharf/apps/{app}/https`: what is not there stays, null turns off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateHttps {
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub redirect: Option<Option<u16>>,
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub hsts: Option<Option<Hsts>>,
}

/// Tells a field that is null from one that is not there.
fn given<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// One try to get a certificate for one name: `/wharf/apps/{app}/certificate-orders`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateOrder {
    pub id: Uuid,
    pub hostname: String,
    /// `checking`, `ordering`, `proving`, `finalizing`, `issued`, `failed`.
    pub phase: OrderPhase,
    /// Failures in a row.
    pub failures: u32,
    pub problem: Option<Problem>,
    pub created_at: Time,
    pub updated_at: Time,
    /// When the next try is, after a failure.
    pub next_try_at: Option<Time>,
}

/// `GET /wharf/authority`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// PEM.
    pub certificate: String,
    /// SHA-256 of the certificate, as browsers show it.
    pub fingerprint: String,
}
