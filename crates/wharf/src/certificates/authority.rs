//! The local authority: certificates for machines without a public name. Its root is trusted by hand
//! (`wharf certs:trust`); its key never leaves the daemon, which signs one thing with it: an
//! intermediate for the proxy that may sign for this installation's hosts and nothing else.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use model::certificate::{LocalIssuer, PrivateKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, SerialNumber,
};

use crate::store::{self, Store, StoreError};

/// Why the local authority cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("cannot read or keep the local authority")]
    Store(#[from] StoreError),
    #[error("cannot make a certificate of the local authority")]
    Make(#[from] rcgen::Error),
}

const ROOT_NAME: &str = "Wharf local authority";
const INTERMEDIATE_NAME: &str = "Wharf local issuer";
const ROOT_DAYS: i64 = 3650;
const INTERMEDIATE_DAYS: i64 = 365;

/// The root.
#[derive(Debug)]
pub struct Root {
    /// PEM.
    pub certificate: String,
    key: PrivateKey,
}

/// The installation's root, made at first use. Two at once keep the one that was first.
pub async fn root(store: &Store, now: Timestamp) -> Result<Root, AuthorityError> {
    let found = store.run(|tx| store::certificates::authority(tx, "local")).await?;
    if let Some((certificate, key)) = found {
        return Ok(Root { certificate, key });
    }
    let pair = KeyPair::generate()?;
    let mut params = params(ROOT_NAME, now, ROOT_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let certificate = params.self_signed(&pair)?.pem();
    let key = PrivateKey::new(pair.serialize_pem());
    let kept = store.run(move |tx| {
        if let Some(found) = store::certificates::authority(tx, "local")? {
            return Ok(found);
        }
        store::certificates::put_authority(tx, "local", &certificate, &key)?;
        Ok((certificate, key))
    });
    let (certificate, key) = kept.await?;
    Ok(Root { certificate, key })
}

/// When an intermediate made now is made again: after two thirds of its life.
pub fn renewal(now: Timestamp) -> Timestamp {
    after(now, INTERMEDIATE_DAYS * 2 / 3)
}

impl Root {
    /// An intermediate that may sign for these hosts and what is below them.
    pub fn intermediate(
        &self,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<LocalIssuer, AuthorityError> {
        let root = Issuer::new(params(ROOT_NAME, now, 0)?, KeyPair::from_pem(self.key.expose())?);
        let pair = KeyPair::generate()?;
        let mut params = params(INTERMEDIATE_NAME, now, INTERMEDIATE_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.use_authority_key_identifier_extension = true;
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: hosts.iter().cloned().map(GeneralSubtree::DnsName).collect(),
            excluded_subtrees: Vec::new(),
        });
        let chain = params.signed_by(&pair, &root)?.pem();
        let key = PrivateKey::new(pair.serialize_pem());
        Ok(LocalIssuer { name: INTERMEDIATE_NAME.to_owned(), chain, key })
    }
}

fn params(name: &str, now: Timestamp, days: i64) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut serial = crate::secrets::random::<16>();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let (first, last) = (date(after(now, -1)), date(after(now, days)));
    params.not_before = rcgen::date_time_ymd(first.0, first.1, first.2);
    params.not_after = rcgen::date_time_ymd(last.0, last.1, last.2);
    Ok(params)
}

fn after(now: Timestamp, days: i64) -> Timestamp {
    now.checked_add((24 * days).hours()).unwrap_or(now)
}

fn date(at: Timestamp) -> (i32, u8, u8) {
    let date = at.to_zoned(TimeZone::UTC).date();
    let part = |number: i8| u8::try_from(number).unwrap_or(1);
    (i32::from(date.year()), part(date.month()), part(date.day()))
}
