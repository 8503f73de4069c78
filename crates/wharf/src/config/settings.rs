//! The settings as they are given, and what becomes of them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::spec::UserRange;
use model::problem::{Code, Problem};
use model::size::ByteSize;
use proxy::config::{Collector, CollectorError, StatsdConfig, TraceConfig};
use serde::Deserialize;

use super::given::{directory, doors, is_of_a_name, log_form, peers, per_thousand};
use super::{Acme, Challenge, Config, Edge, Seen, is_for_local_use};

/// The file, and the same names as flags and `WHARF_…` variables. All optional: flag beats variable
/// beats file beats default.
#[derive(Debug, Clone, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where everything that must survive lives [default: /var/lib/wharf]
    #[arg(long, env = "WHARF_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Sockets and container state, gone with a reboot [default: /run/wharf]
    #[arg(long, env = "WHARF_RUN_DIR")]
    pub run_dir: Option<PathBuf>,
    /// Where visitors arrive, comma-separated [default: 0.0.0.0:80]
    #[arg(long, env = "WHARF_LISTEN", value_delimiter = ',')]
    pub listen: Option<Vec<SocketAddr>>,
    /// Where visitors arrive by HTTPS, comma-separated [default: 0.0.0.0:443, or none where `listen`
    /// is set]
    #[arg(long, env = "WHARF_LISTEN_HTTPS", value_delimiter = ',')]
    pub listen_https: Option<Vec<SocketAddr>>,
    /// Give hosts without a certificate one of a local authority: true or false [default: true where
    /// `domain` is a name for local use, as localhost is]
    #[arg(long, env = "WHARF_LOCAL_CERTIFICATES")]
    pub local_certificates: Option<bool>,
    /// Doors behind a load balancer that sends PROXY headers: http, https [default: none]
    #[arg(long, env = "WHARF_PROXIED", value_delimiter = ',')]
    pub proxied: Option<Vec<String>>,
    /// Load balancers that may come by those doors, as address or address/bits
    #[arg(long, env = "WHARF_PROXIED_FROM", value_delimiter = ',')]
    pub proxied_from: Option<Vec<String>>,
    /// Proxies whose X-Forwarded headers are believed, as address or address/bits [default: none]
    #[arg(long, env = "WHARF_TRUSTED_PEERS", value_delimiter = ',')]
    pub trusted_peers: Option<Vec<String>>,
    /// Longest request body taken; 0 is any [default: 0]
    #[arg(long, env = "WHARF_MOST_BODY")]
    pub most_body: Option<String>,
    /// Longest request head taken [default: 32K]
    #[arg(long, env = "WHARF_MOST_HEAD")]
    pub most_head: Option<String>,
    /// How the request log is written: logfmt or json [default: logfmt]
    #[arg(long, env = "WHARF_REQUEST_LOG")]
    pub request_log: Option<String>,
    /// Continue visitors' traces (W3C traceparent), and begin one where there is none: true or false
    /// [default: true where `otlp` is set]
    #[arg(long, env = "WHARF_TRACE")]
    pub trace: Option<bool>,
    /// Send the spans of requests to this collector (OTLP over HTTP), as in http://127.0.0.1:4318
    #[arg(long, env = "WHARF_OTLP")]
    pub otlp: Option<String>,
    /// Of the traces that begin here, record so many percent [default: 1]
    #[arg(long, env = "WHARF_TRACE_PERCENT")]
    pub trace_percent: Option<f64>,
    /// Send counters, timers and gauges to this statsd server, as in 127.0.0.1:8125
    #[arg(long, env = "WHARF_STATSD")]
    pub statsd: Option<SocketAddr>,
    /// What the names of statistics begin with [default: wharf]
    #[arg(long, env = "WHARF_STATSD_PREFIX")]
    pub statsd_prefix: Option<String>,
    /// Authority that signs certificates by itself: letsencrypt, letsencrypt-staging, or the address
    /// of an ACME directory [default: none]
    #[arg(long, env = "WHARF_ACME")]
    pub acme: Option<String>,
    /// Where the authority writes to before a certificate expires
    #[arg(long, env = "WHARF_ACME_CONTACT")]
    pub acme_contact: Option<String>,
    /// PEM of the root that is trusted for the directory, for an authority of one's own
    #[arg(long, env = "WHARF_ACME_ROOT")]
    pub acme_root: Option<PathBuf>,
    /// How names are proven: http-01, tls-alpn-01 or dns-01 [default: http-01]
    #[arg(long, env = "WHARF_ACME_CHALLENGE")]
    pub acme_challenge: Option<String>,
    /// For dns-01: called as `<program> present|cleanup <name> <value>` to set the TXT record
    #[arg(long, env = "WHARF_ACME_DNS_HOOK")]
    pub acme_dns_hook: Option<PathBuf>,
    /// Where the authority comes to for http-01 [default: 80]
    #[arg(long, env = "WHARF_ACME_HTTP_PORT")]
    pub acme_http_port: Option<u16>,
    /// Folders whose unix sockets routes may lead to [default: none]
    #[arg(long, env = "WHARF_SOCKETS", value_delimiter = ',')]
    pub sockets: Option<Vec<PathBuf>>,
    /// Name server for all of this [default: those of /etc/resolv.conf]
    #[arg(long, env = "WHARF_RESOLVER")]
    pub resolver: Option<SocketAddr>,
    /// Where the API and git listen besides the unix socket [default: 127.0.0.1:7070]
    #[arg(long, env = "WHARF_API_LISTEN")]
    pub api_listen: Option<SocketAddr>,
    /// PEM certificate chain of the API; with it and a key the API speaks HTTPS
    #[arg(long, env = "WHARF_API_CERTIFICATE")]
    pub api_certificate: Option<PathBuf>,
    /// PEM private key of the API
    #[arg(long, env = "WHARF_API_KEY")]
    pub api_key: Option<PathBuf>,
    /// Apps answer at <app>.<domain> [default: localhost]
    #[arg(long, env = "WHARF_DOMAIN")]
    pub domain: Option<String>,
    /// Another unit starts the proxy: wait for it, and never start one [default: false]
    #[arg(long, env = "WHARF_EXTERNAL_PROXY", num_args = 0..=1, default_missing_value = "true")]
    pub external_proxy: Option<bool>,
    /// User and group id of the proxy, which has no privileges [default: 65534]
    #[arg(long, env = "WHARF_PROXY_UID")]
    pub proxy_uid: Option<u32>,
    /// The cgroup all containers live under [default: wharf]
    #[arg(long, env = "WHARF_CGROUP")]
    pub cgroup: Option<String>,
    /// Addresses for outbound links, a /16 nobody else uses [default: 10.213.0.0/16, or the first
    /// free one after it]
    #[arg(long, env = "WHARF_OUTBOUND_RANGE")]
    pub outbound_range: Option<String>,
    /// First of the machine's user numbers that apps get, 65536 each [default: 1879048192]
    #[arg(long, env = "WHARF_APP_USERS_FROM")]
    pub app_users_from: Option<u32>,
    /// How many outbound links are kept ready [default: 4]
    #[arg(long, env = "WHARF_OUTBOUND_READY")]
    pub outbound_ready: Option<u32>,
    /// What to build on instead of Debian packages: a folder, a tar, an image archive, or an image on a registry (docker.io/library/debian:12)
    #[arg(long, env = "WHARF_BASE")]
    pub base: Option<PathBuf>,
    /// Who we are to registries: a docker config.json [default: ~/.docker/config.json, if there]
    #[arg(long, env = "WHARF_REGISTRY_AUTH")]
    pub registry_auth: Option<PathBuf>,
    /// Debian mirror for the base system [default: http://deb.debian.org/debian]
    #[arg(long, env = "WHARF_MIRROR")]
    pub mirror: Option<String>,
    /// Memory of one build [default: 2G]
    #[arg(long, env = "WHARF_BUILD_MEMORY")]
    pub build_memory: Option<String>,
    /// No build starts with less free disk than this [default: 1G]
    #[arg(long, env = "WHARF_DISK_RESERVE")]
    pub disk_reserve: Option<String>,
    /// With less memory available than this, nothing is kept frozen for a rollback [default: a tenth of all, at most 1G]
    #[arg(long, env = "WHARF_MEMORY_RESERVE")]
    pub memory_reserve: Option<String>,
    /// Images of so many of each app's newest releases are kept for a rollback [default: 10]
    #[arg(long, env = "WHARF_KEEP_RELEASES")]
    pub keep_releases: Option<u32>,
    /// What builds may keep for the next one, of steps and of each app's packages [default: 2G]
    #[arg(long, env = "WHARF_BUILD_CACHE")]
    pub build_cache: Option<String>,
    /// A replica's log is rotated at this size [default: 10M]
    #[arg(long, env = "WHARF_LOG_ROTATE_AT")]
    pub log_rotate_at: Option<String>,
}

/// Above what Debian gives to people, `/etc/subuid` and systemd's own containers.
const APP_USERS_FROM: u32 = 0x7000_0000;

impl Settings {
    /// Reads a settings file.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let broken = |why: String| {
            Problem::new(Code::ConfigBroken, format!("`{}` cannot be used", path.display()))
                .why(why)
                .next("correct it; `wharf daemon --help` lists every setting")
        };
        let text = std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
        toml::from_str(&text).map_err(|error| broken(error.to_string().trim().to_owned()))
    }

    /// These where given, else those.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(other.data_dir),
            run_dir: self.run_dir.or(other.run_dir),
            listen: self.listen.or(other.listen),
            listen_https: self.listen_https.or(other.listen_https),
            local_certificates: self.local_certificates.or(other.local_certificates),
            proxied: self.proxied.or(other.proxied),
            proxied_from: self.proxied_from.or(other.proxied_from),
            trusted_peers: self.trusted_peers.or(other.trusted_peers),
            most_body: self.most_body.or(other.most_body),
            most_head: self.most_head.or(other.most_head),
            request_log: self.request_log.or(other.request_log),
            trace: self.trace.or(other.trace),
            otlp: self.otlp.or(other.otlp),
            trace_percent: self.trace_percent.or(other.trace_percent),
            statsd: self.statsd.or(other.statsd),
            statsd_prefix: self.statsd_prefix.or(other.statsd_prefix),
            acme: self.acme.or(other.acme),
            acme_contact: self.acme_contact.or(other.acme_contact),
            acme_root: self.acme_root.or(other.acme_root),
            acme_challenge: self.acme_challenge.or(other.acme_challenge),
            acme_dns_hook: self.acme_dns_hook.or(other.acme_dns_hook),
            acme_http_port: self.acme_http_port.or(other.acme_http_port),
            sockets: self.sockets.or(other.sockets),
            resolver: self.resolver.or(other.resolver),
            api_listen: self.api_listen.or(other.api_listen),
            api_certificate: self.api_certificate.or(other.api_certificate),
            api_key: self.api_key.or(other.api_key),
            domain: self.domain.or(other.domain),
            external_proxy: self.external_proxy.or(other.external_proxy),
            proxy_uid: self.proxy_uid.or(other.proxy_uid),
            cgroup: self.cgroup.or(other.cgroup),
            outbound_range: self.outbound_range.or(other.outbound_range),
            app_users_from: self.app_users_from.or(other.app_users_from),
            outbound_ready: self.outbound_ready.or(other.outbound_ready),
            base: self.base.or(other.base),
            registry_auth: self.registry_auth.or(other.registry_auth),
            mirror: self.mirror.or(other.mirror),
            build_memory: self.build_memory.or(other.build_memory),
            disk_reserve: self.disk_reserve.or(other.disk_reserve),
            memory_reserve: self.memory_reserve.or(other.memory_reserve),
            keep_releases: self.keep_releases.or(other.keep_releases),
            build_cache: self.build_cache.or(other.build_cache),
            log_rotate_at: self.log_rotate_at.or(other.log_rotate_at),
        }
    }

    /// Fills the gaps and checks every value.
    pub fn settle(self, program: PathBuf) -> Result<Config, Problem> {
        let broken = |name: &str, why: String| {
            Problem::new(Code::ConfigBroken, format!("the setting `{name}` cannot be used"))
                .why(why)
                .next("`wharf daemon --help` lists every setting")
        };
        let size = |name: &str, text: Option<String>, default: ByteSize| match text {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|error: model::size::SizeError| broken(name, error.to_string())),
        };
        let api_tls = match (self.api_certificate, self.api_key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(broken("api_key", "a certificate needs its key".to_owned()));
            }
            (None, Some(_)) => {
                return Err(broken("api_certificate", "a key needs its certificate".to_owned()));
            }
        };
        let domain = self.domain.unwrap_or_else(|| "localhost".to_owned());
        if let Err(error) = domain.parse::<model::name::DomainName>() {
            return Err(broken("domain", error.to_string()));
        }
        let cgroup = self.cgroup.unwrap_or_else(|| "wharf".to_owned());
        if cgroup.is_empty()
            || !cgroup.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(broken(
                "cgroup",
                format!("`{cgroup}` is not one name of a-z, 0-9, - and _"),
            ));
        }
        let first = self.app_users_from.unwrap_or(APP_USERS_FROM);
        let app_users_from = UserRange::starting_at(first).ok_or_else(|| {
            let why = format!("{first} is no multiple of {} below 2147483648", UserRange::COUNT);
            broken("app_users_from", why)
        })?;
        let sockets = self.sockets.unwrap_or_default();
        if let Some(folder) = sockets.iter().find(|folder| !folder.is_absolute()) {
            let why = format!("`{}` is no absolute path of a folder", folder.display());
            return Err(broken("sockets", why));
        }
        let listen = self.listen.filter(|listen| !listen.is_empty());
        // Who moves the one port wants the other moved too, and not 443 taken behind his back.
        let listen_https = self.listen_https.unwrap_or_else(|| match listen {
            Some(_) => Vec::new(),
            None => vec![SocketAddr::from(([0, 0, 0, 0], 443))],
        });
        let collector = self.otlp.filter(|otlp| otlp != "off").map(|otlp| otlp.parse());
        let collector: Option<Collector> = collector
            .transpose()
            .map_err(|error: CollectorError| broken("otlp", error.to_string()))?;
        let seen = Seen {
            request_log: log_form(self.request_log.as_deref())
                .map_err(|why| broken("request_log", why))?,
            trace: TraceConfig {
                is_continued: self.trace.unwrap_or(collector.is_some()),
                collector,
                rate: per_thousand(self.trace_percent.unwrap_or(1.0))
                    .map_err(|why| broken("trace_percent", why))?,
            },
            statsd: self.statsd.map(|address| StatsdConfig {
                address,
                prefix: self.statsd_prefix.unwrap_or_else(|| "wharf".to_owned()),
                every: Duration::from_secs(10),
            }),
        };
        if let (Some(_), Some(false)) = (&seen.trace.collector, self.trace) {
            return Err(broken(
                "trace",
                "spans of `otlp` belong to traces that are continued".into(),
            ));
        }
        if let Some(statsd) = &seen.statsd
            && (statsd.prefix.is_empty() || !statsd.prefix.bytes().all(is_of_a_name))
        {
            let why = format!("`{}` is not made of a-z, A-Z, 0-9, -, _ and dots", statsd.prefix);
            return Err(broken("statsd_prefix", why));
        }
        let acme = match self.acme.as_deref() {
            None | Some("off") => None,
            Some(authority) => Some(Acme {
                directory: directory(authority).map_err(|why| broken("acme", why))?,
                contact: self.acme_contact,
                root: self.acme_root,
                challenge: match self.acme_challenge {
                    Some(text) => text.parse().map_err(|why| broken("acme_challenge", why))?,
                    None => Challenge::Http01,
                },
                dns_hook: self.acme_dns_hook,
                http_port: self.acme_http_port.unwrap_or(80),
                resolver: self.resolver,
            }),
        };
        if let Some(Acme { challenge: Challenge::Dns01, dns_hook: None, .. }) = acme {
            return Err(broken("acme_dns_hook", "dns-01 needs a program to set records".into()));
        }
        Ok(Config {
            data_dir: self.data_dir.unwrap_or_else(|| "/var/lib/wharf".into()),
            run_dir: self.run_dir.unwrap_or_else(|| "/run/wharf".into()),
            listen: listen.unwrap_or_else(|| vec![SocketAddr::from(([0, 0, 0, 0], 80))]),
            listen_https,
            local_certificates: self
                .local_certificates
                .unwrap_or_else(|| is_for_local_use(&domain)),
            acme,
            seen,
            edge: Edge {
                proxied: doors(self.proxied).map_err(|why| broken("proxied", why))?,
                proxied_from: peers(self.proxied_from)
                    .map_err(|why| broken("proxied_from", why))?,
                trusted_peers: peers(self.trusted_peers)
                    .map_err(|why| broken("trusted_peers", why))?,
                most_body: size("most_body", self.most_body, ByteSize(0))?,
                most_head: size("most_head", self.most_head, ByteSize(32 * 1024))?,
            },
            api_listen: self.api_listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7070))),
            api_tls,
            domain,
            external_proxy: self.external_proxy.unwrap_or(false),
            proxy_uid: self.proxy_uid.unwrap_or(65534),
            cgroup,
            resolver: self.resolver,
            outbound_range: self.outbound_range,
            app_users_from,
            outbound_ready: self.outbound_ready.unwrap_or(4),
            base: self.base,
            registry_auth: self.registry_auth.or_else(|| {
                let file = std::env::home_dir()?.join(".docker/config.json");
                file.is_file().then_some(file)
            }),
            mirror: self.mirror.unwrap_or_else(|| "http://deb.debian.org/debian".to_owned()),
            build_memory: size("build_memory", self.build_memory, ByteSize::mib(2048))?,
            disk_reserve: size("disk_reserve", self.disk_reserve, ByteSize::mib(1024))?,
            memory_reserve: self
                .memory_reserve
                .map(|text| size("memory_reserve", Some(text), ByteSize::mib(0)))
                .transpose()?,
            keep_releases: self.keep_releases.unwrap_or(10),
            build_cache: size("build_cache", self.build_cache, ByteSize::mib(2048))?,
            log_rotate_at: size("log_rotate_at", self.log_rotate_at, ByteSize::mib(10))?,
            sockets,
            program,
        })
    }
}
