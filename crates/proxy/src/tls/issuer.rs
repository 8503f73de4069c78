//! The local authority at work: certificates for routed hosts that have none, made at their first
//! handshake and kept in memory. They live for days, so a table that is read from disk a month later
//! still works.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use model::certificate::LocalIssuer;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SigningKey};

use super::front::chain;
use crate::wall;

/// A certificate is made anew after this many days, and good for thrice as many.
const RENEW_DAYS: i64 = 10;
const LIFE_DAYS: i64 = 30;
/// Most certificates kept; past it all are made again as they are needed.
const MOST_KEPT: usize = 20_000;

/// Signs for hosts.
#[derive(Debug)]
pub(crate) struct Issuer {
    issuer: rcgen::Issuer<'static, KeyPair>,
    chain: Vec<CertificateDer<'static>>,
    /// One key for all hosts: what differs is the certificate.
    key: KeyPair,
    signer: Arc<dyn SigningKey>,
    made: ArcSwap<HashMap<String, Made>>,
}

#[derive(Debug, Clone)]
struct Made {
    certified: Arc<CertifiedKey>,
    renew_at: Timestamp,
}

impl Issuer {
    pub(super) fn new(local: &LocalIssuer) -> Result<Self, String> {
        let wrong = |error: rcgen::Error| format!("the local authority cannot be used: {error}");
        let own = KeyPair::from_pem(local.key.expose()).map_err(wrong)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, local.name.as_str());
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().map_err(wrong)?;
        let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let signer = rustls::crypto::ring::sign::any_supported_type(&der);
        Ok(Self {
            issuer: rcgen::Issuer::new(params, own),
            chain: chain(&local.chain)?,
            key,
            signer: signer.map_err(|error| format!("the local authority has no key: {error}"))?,
            made: ArcSwap::default(),
        })
    }

    /// The certificate for that host, made now if there is none that is young enough.
    pub(super) fn certificate(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let now = wall::timestamp();
        if let Some(made) = self.made.load().get(host).filter(|made| made.renew_at > now) {
            return Some(made.certified.clone());
        }
        let made = match self.make(host, now) {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(host, %error, "the local authority could not sign");
                return None;
            }
        };
        // Two cores may make the same one at once; either is good.
        self.made.rcu(|kept| {
            let mut kept =
                if kept.len() < MOST_KEPT { HashMap::clone(kept) } else { HashMap::new() };
            kept.insert(host.to_owned(), made.clone());
            kept
        });
        Some(made.certified)
    }

    fn make(&self, host: &str, now: Timestamp) -> Result<Made, rcgen::Error> {
        let mut params = CertificateParams::new([host.to_owned()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        // A name may be longer than the 64 letters a common name may have; the other field counts.
        let common = if host.len() <= 64 { host } else { "local host" };
        params.distinguished_name.push(DnType::CommonName, common);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Browsers refuse two certificates of one issuer with one number, and the default is drawn
        // from the key, which all share.
        let mut serial = [0_u8; 16];
        getrandom::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
        serial[0] &= 0x7f;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let (first, last) = (date(now, -1), date(now, LIFE_DAYS));
        params.not_before = rcgen::date_time_ymd(first.0, first.1, first.2);
        params.not_after = rcgen::date_time_ymd(last.0, last.1, last.2);
        let certificate = params.signed_by(&self.key, &self.issuer)?;
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        let certified = Arc::new(CertifiedKey::new(chain, self.signer.clone()));
        let renew_at = now.checked_add((24 * RENEW_DAYS).hours()).unwrap_or(now);
        Ok(Made { certified, renew_at })
    }
}

/// The day so many days from now.
fn date(now: Timestamp, days: i64) -> (i32, u8, u8) {
    let then = now.checked_add((24 * days).hours()).unwrap_or(now);
    let date = then.to_zoned(TimeZone::UTC).date();
    let part = |number: i8| u8::try_from(number).unwrap_or(1);
    (i32::from(date.year()), part(date.month()), part(date.day()))
}
