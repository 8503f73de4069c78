//! A certificate somebody uploads: what the daemon takes, the proxy must be able to show.
//!
//! The daemon's own source, without the rest of the daemon.
#![no_main]

#[path = "../../crates/wharf/src/certificates/check/mod.rs"]
mod check;

mod store {
    pub mod certificates {
        /// The daemon's, which stands beside its SQL; one that differs does not compile here.
        #[derive(Debug, Clone)]
        pub struct Facts {
            pub names: Vec<model::certificate::CertificateName>,
            pub chain: String,
            pub subject: String,
            pub issuer: String,
            pub is_self_signed: bool,
            pub starts_at: jiff::Timestamp,
            pub expires_at: jiff::Timestamp,
        }
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    // Both files in one text, as people paste them; the key begins where its first line says.
    let at = text.find("-----BEGIN PRIVATE KEY").unwrap_or(0);
    let (chain, key) = text.split_at(at);
    let now = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1_800_000_000);
    let hosts = ["shop.example.com".to_owned()];
    match check::pair(chain, key, &hosts, now) {
        Ok(taken) => {
            let is_shown = proxy::fuzz::certificates(&taken.facts.chain, taken.key.expose());
            assert!(is_shown, "taken and never shown");
        }
        Err(problem) => assert!(problem.why.is_some(), "refused without a reason: {problem:?}"),
    }
});
