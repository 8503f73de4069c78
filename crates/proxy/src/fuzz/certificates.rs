//! A chain and a key as somebody brings them.

use model::certificate::{CertificateTable, PrivateKey, ServerCertificate};

use crate::tls::Tls;

/// Whether visitors could be shown this pair; both are PEM.
pub fn certificates(chain: &str, key: &str) -> bool {
    let certificate = ServerCertificate {
        names: vec!["shop.example.com".parse().expect("a host name")],
        chain: chain.to_owned(),
        key: PrivateKey::new(key),
    };
    let table = CertificateTable {
        version: 1,
        certificates: vec![certificate],
        ..CertificateTable::default()
    };
    let tls = Tls::new().expect("TLS needs nothing of the machine");
    tls.publish(&table).is_ok()
}
