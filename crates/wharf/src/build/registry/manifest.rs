//! From an image's name to its layers: index, platform, manifest.

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::PullError;
use super::http::text;
use super::reference::is_digest;
use super::session::Session;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A layer as it lies on the registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Layer {
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) media_type: String,
}

/// An index or a manifest: what we read of either.
#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Entry>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// This machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The image's layers, the lowest first.
pub(super) async fn resolve(session: &mut Session) -> Result<Vec<Layer>, PullError> {
    let wanted = session.reference().wanted().to_owned();
    let digest = session.reference().digest().map(str::to_owned);
    let mut document = fetch(session, &wanted, digest.as_deref()).await?;
    if document.layers.is_empty() && !document.manifests.is_empty() {
        let digest = choose(&document.manifests)?;
        document = fetch(session, &digest, Some(&digest)).await?;
    }
    if document.layers.is_empty() {
        return Err(session.no_image("it has no layers"));
    }
    for layer in &document.layers {
        if !is_digest(&layer.digest) {
            return Err(session.no_image("a layer's digest is none"));
        }
        if layer.media_type.ends_with("zstd") {
            return Err(session.no_image("its layers are packed with zstd, and only gzip is read"));
        }
    }
    Ok(document.layers)
}

/// The manifest for this machine.
fn choose(entries: &[Entry]) -> Result<String, PullError> {
    let is_ours =
        |platform: &Platform| platform.os == "linux" && platform.architecture == architecture();
    let found = entries.iter().find(|entry| entry.platform.as_ref().is_some_and(is_ours));
    match found {
        Some(entry) if is_digest(&entry.digest) => Ok(entry.digest.clone()),
        _ => {
            let names = entries.iter().filter_map(|entry| {
                let platform = entry.platform.as_ref()?;
                Some(format!("{}/{}", platform.os, platform.architecture))
            });
            let found = names.collect::<Vec<_>>().join(", ");
            Err(PullError::NoPlatform { wanted: format!("linux/{}", architecture()), found })
        }
    }
}

async fn fetch(
    session: &mut Session,
    wanted: &str,
    digest: Option<&str>,
) -> Result<Document, PullError> {
    let answer = session.get(&format!("manifests/{wanted}"), Some(ACCEPT), 0).await?;
    let body = text(answer.into_body(), &session.host()).await?;
    if let Some(digest) = digest {
        check(&Sha256::digest(&body), digest, session)?;
    }
    serde_json::from_slice(&body)
        .map_err(|error| session.no_image(&format!("its manifest cannot be read: {error}")))
}

/// Whether that is the digest; the name of what it is of says what to expect.
pub(super) fn check(found: &[u8], digest: &str, session: &Session) -> Result<(), PullError> {
    let hex: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
    if digest.strip_prefix("sha256:") == Some(hex.as_str()) {
        return Ok(());
    }
    Err(PullError::Damaged { host: session.host(), digest: digest.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_for_this_machine_is_chosen_or_what_there_is_is_said() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let text = format!(
            r#"{{"manifests": [
                {{"digest": "sha256:0", "platform": {{"os": "unknown", "architecture": "unknown"}}}},
                {{"digest": "{digest}", "platform": {{"os": "linux", "architecture": "{}"}}}}]}}"#,
            architecture()
        );
        let document: Document = serde_json::from_str(&text).unwrap();
        assert_eq!(choose(&document.manifests).unwrap(), digest);
        let other = text.replace("\"linux\"", "\"plan9\"");
        let document: Document = serde_json::from_str(&other).unwrap();
        let error = choose(&document.manifests).unwrap_err().to_string();
        assert!(error.contains("plan9/") && error.contains("linux/"), "{error}");
    }
}
