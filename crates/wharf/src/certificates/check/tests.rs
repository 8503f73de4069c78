//! Each rule broken once.

use jiff::ToSpan;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

struct Signed {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn authority(name: &str, by: Option<&Signed>) -> Signed {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    sign(params, by)
}

fn leaf(names: &[&str], by: Option<&Signed>) -> Signed {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    sign(CertificateParams::new(names).unwrap(), by)
}

fn sign(mut params: CertificateParams, by: Option<&Signed>) -> Signed {
    let key = KeyPair::generate().unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2027, 1, 1);
    let pem = match by {
        Some(by) => {
            params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap().pem()
        }
        None => params.self_signed(&key).unwrap().pem(),
    };
    Signed { params, key, pem }
}

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn check(chain: &str, key: &str) -> Result<Checked, Problem> {
    pair(chain, key, &["shop.example.com".to_owned()], now())
}

fn refused(chain: &str, key: &str) -> (Code, String) {
    let problem = check(chain, key).unwrap_err();
    assert_eq!(problem.still.as_deref(), Some("nothing was changed"));
    (problem.code, problem.why.unwrap())
}

#[test]
fn a_sound_chain_is_taken_with_what_is_written_in_it() {
    let root = authority("root", None);
    let middle = authority("middle", Some(&root));
    let own = leaf(&["shop.example.com", "*.example.org", "192.0.2.1"], Some(&middle));
    let chain = format!("a comment\n{}{}{}", own.pem, middle.pem, root.pem);
    let checked = check(&chain, &own.key.serialize_pem()).unwrap();
    let facts = checked.facts;
    let names: Vec<_> = facts.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["shop.example.com", "*.example.org"]);
    assert!(facts.issuer.contains("CN=middle") && !facts.is_self_signed);
    assert_eq!(facts.expires_at.to_string(), "2027-01-01T00:00:00Z");
    assert_eq!(facts.chain.matches("BEGIN CERTIFICATE").count(), 3);
    assert!(!facts.chain.contains("comment"));
    let again = check(&facts.chain, checked.key.expose()).unwrap();
    assert_eq!(again.facts, facts, "what is kept reads the same");
}

#[test]
fn every_broken_rule_is_named() {
    use Code::{
        CertificateChainBroken, CertificateForOthers, CertificateKeyWrong, CertificateUnreadable,
    };
    let root = authority("root", None);
    let middle = authority("middle", Some(&root));
    let other = authority("middle", Some(&root));
    let own = leaf(&["shop.example.com"], Some(&middle));
    let (pem, key) = (own.pem.as_str(), own.key.serialize_pem());
    let cut = &pem[..pem.len() / 2];
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let sealed = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    let root_first = format!("{pem}{}{}", root.pem, middle.pem);
    let forged = format!("{pem}{}", other.pem);
    for (chain, secret, code, why) in [
        ("", key.as_str(), CertificateUnreadable, "it holds no certificate in PEM"),
        (cut, &key, CertificateUnreadable, ""),
        (&key, pem, CertificateUnreadable, "are the two files swapped?"),
        (garbage, &key, CertificateUnreadable, "its PEM holds no X.509 certificate"),
        (pem, "", CertificateUnreadable, "it holds no private key in PEM"),
        (pem, sealed, CertificateUnreadable, "protected by a passphrase"),
        (pem, &root.key.serialize_pem(), CertificateKeyWrong, "made for another key"),
        (&root_first, &key, CertificateChainBroken, "certificate 1 is signed by `CN=middle"),
        (&forged, &key, CertificateChainBroken, "certificate 1 is signed by"),
    ] {
        let found = refused(chain, secret);
        assert_eq!(found.0, code, "{why}: {}", found.1);
        assert!(found.1.contains(why), "{why}: {}", found.1);
    }
    let strange = leaf(&["other.example.com"], None);
    let found = refused(&strange.pem, &strange.key.serialize_pem());
    assert_eq!(found.0, CertificateForOthers);
    assert_eq!(found.1, "it is for `other.example.com`; the app answers at `shop.example.com`");
    let nameless = leaf(&[], None);
    let found = refused(&nameless.pem, &nameless.key.serialize_pem());
    assert!(found.0 == CertificateForOthers && found.1.contains("no alternative names"));
}

#[test]
fn a_certificate_of_another_time_is_told_by_its_date() {
    let own = leaf(&["shop.example.com"], None);
    let hosts = ["shop.example.com".to_owned()];
    for (days, why) in [(400, "it expired on 2027-01-01"), (-400, "it begins on 2026-01-01")] {
        let then = now().checked_add((24 * days).hours()).unwrap();
        let problem = pair(&own.pem, &own.key.serialize_pem(), &hosts, then).unwrap_err();
        assert_eq!(problem.code, Code::CertificateNotValid);
        assert!(problem.why.as_ref().unwrap().starts_with(why), "{problem}");
    }
}
