//! How the daemon is set up: file → flags and environment → [`Config`].
//!
//! One struct, each field documented here and nowhere else. Unknown fields of the file are refused,
//! so a slip of the pen is an error and not a silent default.

mod given;
mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;

use engine::spec::UserRange;
use model::address::AddressRange;
use model::size::ByteSize;
use proxy::config::{Door, LogForm, StatsdConfig, TraceConfig};

pub use settings::Settings;

/// The settled configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub listen: Vec<SocketAddr>,
    pub listen_https: Vec<SocketAddr>,
    pub local_certificates: bool,
    pub edge: Edge,
    pub seen: Seen,
    pub acme: Option<Acme>,
    pub api_listen: SocketAddr,
    /// Certificate and key.
    pub api_tls: Option<(PathBuf, PathBuf)>,
    pub domain: String,
    pub external_proxy: bool,
    pub proxy_uid: u32,
    pub cgroup: String,
    pub outbound_range: Option<String>,
    /// The name server to ask in the place of the machine's.
    pub resolver: Option<SocketAddr>,
    /// The first range; an app's is so many ranges further.
    pub app_users_from: UserRange,
    pub outbound_ready: u32,
    pub base: Option<PathBuf>,
    pub registry_auth: Option<PathBuf>,
    pub mirror: String,
    pub build_memory: ByteSize,
    pub disk_reserve: ByteSize,
    /// None: by how much memory there is.
    pub memory_reserve: Option<ByteSize>,
    pub keep_releases: u32,
    pub build_cache: ByteSize,
    pub log_rotate_at: ByteSize,
    /// Folders whose unix sockets routes may lead to.
    pub sockets: Vec<PathBuf>,
    /// This very program, for the roles it starts.
    pub program: PathBuf,
}

/// What the proxy is told of whom it listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    pub proxied: Vec<Door>,
    pub proxied_from: Vec<AddressRange>,
    pub trusted_peers: Vec<AddressRange>,
    pub most_body: ByteSize,
    pub most_head: ByteSize,
}

/// What the proxy is told of whom it tells what it sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub request_log: LogForm,
    pub trace: TraceConfig,
    pub statsd: Option<StatsdConfig>,
}

/// An authority that signs by itself, and how names are proven to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    pub directory: String,
    pub contact: Option<String>,
    pub root: Option<PathBuf>,
    pub challenge: Challenge,
    pub dns_hook: Option<PathBuf>,
    pub http_port: u16,
    pub resolver: Option<SocketAddr>,
}

/// A way to prove a name (RFC 8555, RFC 8737).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    Http01,
    TlsAlpn01,
    Dns01,
}

impl std::fmt::Display for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        })
    }
}

impl std::str::FromStr for Challenge {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Http01, Self::TlsAlpn01, Self::Dns01];
        let found = all.into_iter().find(|challenge| challenge.to_string() == text);
        found.ok_or_else(|| format!("`{text}` is none of http-01, tls-alpn-01, dns-01"))
    }
}

/// Names no public authority signs for (RFC 6761, RFC 8375, ICANN's `internal`).
pub fn is_for_local_use(domain: &str) -> bool {
    let last = domain.rsplit('.').next().unwrap_or_default();
    ["localhost", "test", "local", "internal", "invalid", "example"].contains(&last)
        || domain.ends_with("home.arpa")
}

impl Config {
    /// The store.
    pub fn store_path(&self) -> PathBuf {
        self.data_dir.join("wharf.db")
    }

    /// The installation's key.
    pub fn key_path(&self) -> PathBuf {
        self.data_dir.join("key")
    }

    /// Held by the one daemon of this data directory.
    pub fn lock_path(&self) -> PathBuf {
        self.data_dir.join("lock")
    }

    /// The token made at first start.
    pub fn token_path(&self) -> PathBuf {
        self.data_dir.join("token")
    }

    /// Where the API listens for those on this machine.
    pub fn api_socket(&self) -> PathBuf {
        self.run_dir.join("wharf.sock")
    }

    /// Bare repositories by app id.
    pub fn git_dir(&self) -> PathBuf {
        self.data_dir.join("git")
    }

    /// What apps keep, by volume id.
    pub fn volume_dir(&self) -> PathBuf {
        self.data_dir.join("volumes")
    }

    /// What build steps keep between builds, by app id.
    pub fn cache_dir(&self) -> PathBuf {
        self.data_dir.join("caches")
    }

    /// What replicas print, by app id.
    pub fn log_dir(&self) -> PathBuf {
        self.data_dir.join("logs")
    }

    /// Request logs, written by the proxy, which owns this folder.
    pub fn request_log_dir(&self) -> PathBuf {
        self.log_dir().join("router")
    }

    /// The proxy's route snapshots.
    pub fn proxy_state_dir(&self) -> PathBuf {
        self.data_dir.join("proxy")
    }

    /// What opens the certificates the proxy keeps; outside the proxy's own folders.
    pub fn proxy_key_path(&self) -> PathBuf {
        self.data_dir.join("proxy.key")
    }

    /// Where the proxy is told what to do.
    pub fn proxy_socket(&self) -> PathBuf {
        self.run_dir.join("proxy").join("control.sock")
    }

    /// Where an app of that name is reached by a browser.
    pub fn app_url(&self, app: &str) -> String {
        let port = self.listen.first().map_or(80, SocketAddr::port);
        match port {
            80 => format!("http://{app}.{}", self.domain),
            port => format!("http://{app}.{}:{port}", self.domain),
        }
    }
}

#[cfg(test)]
mod tests {
    use model::problem::Code;

    use super::*;

    #[test]
    fn an_unknown_field_is_refused_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wharf.toml");
        std::fs::write(&path, "domain = \"example.com\"\nlisen = [\"0.0.0.0:80\"]\n").unwrap();
        let problem = Settings::read(&path).unwrap_err();
        assert_eq!(problem.code, Code::ConfigBroken);
        let why = problem.why.unwrap();
        assert!(why.contains("lisen") && why.contains("line 2"), "{why}");
    }

    #[test]
    fn a_flag_beats_the_file_and_the_default_fills_the_rest() {
        let flag = Settings { domain: Some("a.example".into()), ..Settings::default() };
        let file = Settings {
            domain: Some("b.example".into()),
            build_memory: Some("1G".into()),
            ..Settings::default()
        };
        let config = flag.or(file).settle("/wharf".into()).unwrap();
        assert_eq!(
            (config.domain.as_str(), config.build_memory),
            ("a.example", ByteSize::mib(1024))
        );
        assert_eq!(config.app_url("shop"), "http://shop.a.example");
    }

    #[test]
    fn what_is_seen_is_checked() {
        let settle = |settings: Settings| settings.settle("/wharf".into());
        let plain = settle(Settings::default()).unwrap().seen;
        assert!(!plain.trace.is_on() && plain.statsd.is_none());
        let otlp = Settings { otlp: Some("http://c:4318".into()), ..Settings::default() };
        let traced = settle(Settings { trace_percent: Some(2.5), ..otlp.clone() }).unwrap().seen;
        assert!(traced.trace.is_continued && traced.trace.rate == 25, "{traced:?}");
        for bad in [
            Settings { trace: Some(false), ..otlp },
            Settings { otlp: Some("c:4318".into()), ..Settings::default() },
            Settings { trace_percent: Some(100.1), ..Settings::default() },
            Settings { trace_percent: Some(f64::NAN), ..Settings::default() },
            Settings { request_log: Some("xml".into()), ..Settings::default() },
            Settings {
                statsd: Some(([127, 0, 0, 1], 8125).into()),
                statsd_prefix: Some("a:b".into()),
                ..Settings::default()
            },
        ] {
            assert!(settle(bad.clone()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_certificate_without_a_key_is_refused() {
        let settings = Settings { api_certificate: Some("/c".into()), ..Settings::default() };
        let problem = settings.settle("/wharf".into()).unwrap_err();
        assert_eq!(problem.why.as_deref(), Some("a certificate needs its key"));
    }
}
