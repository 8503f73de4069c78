//! What a replica speaks on its port.

use serde::{Deserialize, Serialize};

/// The protocol between the edge and an app's `web` replicas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS and without asking first (prior knowledge): what gRPC servers speak.
    H2c,
}

impl Protocol {
    /// `http1` or `h2c`, as the app file has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
        }
    }

    /// Whether nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
