//! What somebody brings as a certificate: read, checked rule by rule, and told what is wrong with it
//! before anything changes.

use jiff::Timestamp;
use model::certificate::{CertificateName, PrivateKey};
use model::problem::{Code, Problem};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::*;

use crate::store::certificates::Facts;

/// A pair that may be shown to visitors.
#[derive(Debug, Clone)]
pub struct Checked {
    pub facts: Facts,
    pub key: PrivateKey,
}

/// Checks a chain and its key, both PEM. `hosts` are the app's; one of them must be covered.
pub fn pair(chain: &str, key: &str, hosts: &[String], now: Timestamp) -> Result<Checked, Problem> {
    let ders = read_chain(chain)?;
    let secret = read_key(key)?;
    let parsed: Vec<X509Certificate<'_>> =
        ders.iter().map(|der| parse(der)).collect::<Result<_, _>>()?;
    let facts = facts(&parsed, &ders)?;
    fits(&ders, secret, &facts)?;
    in_order(&parsed)?;
    in_time(&facts, now)?;
    covers(&facts, hosts)?;
    Ok(Checked { facts, key: PrivateKey::new(key.trim().to_owned() + "\n") })
}

fn problem(code: Code, what: &str) -> Problem {
    Problem::new(code, what).still("nothing was changed")
}

fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let unreadable = |why: String| {
        problem(Code::CertificateUnreadable, "the certificate cannot be read")
            .why(why)
            .next("it is a PEM file that begins with -----BEGIN CERTIFICATE-----")
    };
    let ders = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let ders = ders.map_err(|error| unreadable(error.to_string()))?;
    if ders.is_empty() {
        let why = if pem.contains("PRIVATE KEY") {
            "it holds a private key and no certificate: are the two files swapped?"
        } else if pem.contains("BEGIN CERTIFICATE REQUEST") {
            "it is a request for a certificate, not the certificate"
        } else {
            "it holds no certificate in PEM"
        };
        return Err(unreadable(why.to_owned()));
    }
    Ok(ders)
}

fn read_key(pem: &str) -> Result<PrivateKeyDer<'static>, Problem> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
        let problem = problem(Code::CertificateUnreadable, "the private key cannot be read");
        if pem.contains("ENCRYPTED") {
            return problem
                .why("it is protected by a passphrase, which nobody can type here")
                .next("openssl pkey -in key.pem -out plain.pem");
        }
        problem
            .why(match error {
                rustls::pki_types::pem::Error::NoItemsFound => {
                    "it holds no private key in PEM".to_owned()
                }
                error => error.to_string(),
            })
            .next("it is a PEM file that begins with -----BEGIN PRIVATE KEY-----")
    })
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Problem> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("there is something after it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
    .map_err(|why| {
        problem(Code::CertificateUnreadable, "the certificate cannot be read")
            .why(format!("its PEM holds no X.509 certificate: {why}"))
            .next("openssl x509 -in cert.pem -noout -text")
    })
}

fn facts(parsed: &[X509Certificate<'_>], ders: &[CertificateDer<'_>]) -> Result<Facts, Problem> {
    let own = &parsed[0];
    let names = names(own);
    if names.is_empty() {
        return Err(problem(Code::CertificateForOthers, "the certificate covers no host name")
            .why(format!("it is for `{}` and has no alternative names", own.subject()))
            .next("browsers read the subject alternative names only; have them put in"));
    }
    let at = |time: ASN1Time| Timestamp::from_second(time.timestamp()).unwrap_or(Timestamp::MAX);
    Ok(Facts {
        names,
        chain: ders.iter().map(|der| render(der)).collect(),
        subject: own.subject().to_string(),
        issuer: own.issuer().to_string(),
        is_self_signed: own.subject() == own.issuer(),
        starts_at: at(own.validity().not_before),
        expires_at: at(own.validity().not_after),
    })
}

/// The host names it covers; addresses and others are no business of ours.
fn names(certificate: &X509Certificate<'_>) -> Vec<CertificateName> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => name.parse().ok(),
        _ => None,
    });
    names.collect()
}

/// PEM as everybody writes it, with nothing beside.
fn render(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..text.len()).step_by(64) {
        pem.push_str(&text[start..text.len().min(start + 64)]);
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn fits(
    ders: &[CertificateDer<'static>],
    key: PrivateKeyDer<'static>,
    facts: &Facts,
) -> Result<(), Problem> {
    let provider = rustls::crypto::ring::default_provider();
    match CertifiedKey::from_der(ders.to_vec(), key, &provider) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(problem(Code::CertificateKeyWrong, "the key does not belong to the certificate")
                .why(format!("the certificate of `{}` was made for another key", facts.names[0]))
                .next("compare: openssl x509 -in cert.pem -noout -pubkey")
                .next("         openssl pkey -in key.pem -pubout"))
        }
        Err(error) => Err(problem(Code::CertificateUnreadable, "the key cannot be used")
            .why(error.to_string())
            .next("use an RSA key of 2048 bits or more, or one on P-256 or P-384")),
    }
}

/// Each is signed by the next; the root may be left out, and none may be missing between.
fn in_order(parsed: &[X509Certificate<'_>]) -> Result<(), Problem> {
    for (position, pair) in parsed.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        if one.issuer() == next.subject() && one.verify_signature(Some(next.public_key())).is_ok() {
            continue;
        }
        let (place, after) = (position + 1, position + 2);
        return Err(problem(Code::CertificateChainBroken, "the chain is out of order")
            .why(format!(
                "certificate {place} is signed by `{}`, and certificate {after} is `{}`",
                one.issuer(),
                next.subject()
            ))
            .next("the order is: the host's own, then who signed it, and so on upwards"));
    }
    Ok(())
}

fn in_time(facts: &Facts, now: Timestamp) -> Result<(), Problem> {
    let date = |at: Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
    let why = match (facts.starts_at > now, facts.expires_at <= now) {
        (_, true) => format!("it expired on {}", date(facts.expires_at)),
        (true, false) => format!("it begins on {}", date(facts.starts_at)),
        (false, false) => return Ok(()),
    };
    Err(problem(Code::CertificateNotValid, "the certificate is not valid now")
        .why(why)
        .next("bring one that is valid; if it is, look at this machine's clock: date -u"))
}

fn covers(facts: &Facts, hosts: &[String]) -> Result<(), Problem> {
    if hosts.iter().any(|host| facts.names.iter().any(|name| name.covers(host))) {
        return Ok(());
    }
    let list = |names: &mut dyn Iterator<Item = String>| {
        names.take(5).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let names = list(&mut facts.names.iter().map(ToString::to_string));
    let hosts = list(&mut hosts.iter().cloned());
    Err(problem(Code::CertificateForOthers, "the certificate covers none of the app's domains")
        .why(format!("it is for {names}; the app answers at {hosts}"))
        .next(format!("wharf domains:add {}", facts.names[0].as_str().replace('*', "www"))))
}

#[cfg(test)]
mod tests;
