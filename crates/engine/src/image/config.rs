//! The OCI image config: what an image is, as every registry and runtime knows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::layer::LayerId;

/// `application/vnd.oci.image.config.v1+json`, the fields that mean something here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    pub architecture: String,
    pub os: String,
    pub config: RunConfig,
    pub rootfs: RootFs,
}

/// How a container of the image is started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// `SIGQUIT`, `QUIT` or `3`: what asks its process to end.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Docker writes `null` for what is not set.
fn or_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The layers, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    #[serde(rename = "type")]
    pub kind: String,
    pub diff_ids: Vec<LayerRef>,
}

/// A layer as OCI writes it, `sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerRef(pub LayerId);

impl TryFrom<String> for LayerRef {
    type Error = super::ImageError;
    fn try_from(text: String) -> Result<Self, super::ImageError> {
        Ok(Self(text.parse()?))
    }
}

impl From<LayerRef> for String {
    fn from(layer: LayerRef) -> Self {
        layer.0.diff_id()
    }
}

impl ImageConfig {
    /// An image for this kind of machine of these layers, the lowest first.
    pub fn new(layers: impl IntoIterator<Item = LayerId>, config: RunConfig) -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            config,
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.into_iter().map(LayerRef).collect(),
            },
        }
    }

    /// The layers, the lowest first.
    pub fn layers(&self) -> impl DoubleEndedIterator<Item = &LayerId> {
        self.rootfs.diff_ids.iter().map(|layer| &layer.0)
    }

    /// The environment as pairs.
    pub fn env(&self) -> Vec<(String, String)> {
        let split = |pair: &String| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        self.config.env.iter().filter_map(split).collect()
    }
}
