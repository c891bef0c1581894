//! `[upstreams.NAME]`: servers, protocol, timeouts, health checks and TLS.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Upstream;
use crate::http1::ResponseLimits;

/// Timeouts and retries of upstream requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// `response_timeout` from the request's end to the response's head, default 60 s: then 504.
    pub response: Duration,
    /// `body_timeout` between two reads of a response body, default 60 s: then the client's response is
    /// aborted.
    pub body: Duration,
    /// `total_timeout` from the request to the end of its response. Default none.
    pub total: Option<Duration>,
    /// `retries` of a request that cannot have had an effect, default 1.
    pub retries: u32,
}

impl Timeouts {
    /// The timeout of the response's head.
    pub fn head(&self) -> Duration {
        self.total.map_or(self.response, |total| total.min(self.response))
    }
}

impl Upstream {
    /// How large a response head of its servers may be.
    pub(crate) fn response_limits(&self) -> ResponseLimits {
        ResponseLimits { block: self.response_header_block, fields: self.response_header_fields }
    }

    /// The `Host` that its servers get, where it is not the client's.
    pub fn fixed_host(&self) -> Option<String> {
        match &self.host {
            HostHeader::Client => None,
            HostHeader::Upstream => self.urls.first().map(UpstreamUrl::authority),
            HostHeader::Fixed(name) => Some(name.clone()),
        }
    }
}

/// The URL of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamUrl {
    /// `http://host:port` or `https://host:port`.
    Tcp {
        /// Whether it has TLS.
        secure: bool,
        /// A DNS name or an IP address (without brackets).
        host: String,
        /// Default 80 or 443.
        port: u16,
    },
    /// `unix:/path/to.sock`
    Unix(PathBuf),
}

impl UpstreamUrl {
    /// Whether TLS is spoken there.
    pub fn is_secure(&self) -> bool {
        matches!(self, UpstreamUrl::Tcp { secure: true, .. })
    }

    /// Host and port as a `Host` field has them (RFC 9110 section 7.2).
    pub fn authority(&self) -> String {
        match self {
            UpstreamUrl::Unix(_) => "localhost".to_owned(),
            UpstreamUrl::Tcp { secure, host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                match (secure, port) {
                    (false, 80) | (true, 443) => host,
                    (_, port) => format!("{host}:{port}"),
                }
            }
        }
    }
}

impl std::fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UpstreamUrl::Unix(path) => write!(f, "unix:{}", path.display()),
            UpstreamUrl::Tcp { secure, host, port } => {
                let scheme = if *secure { "https" } else { "http" };
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}"),
                    false => write!(f, "{scheme}://{host}:{port}"),
                }
            }
        }
    }
}

/// The protocol of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN under `https://`, else by prior knowledge.
    Http2,
}

/// The `Host` that an upstream gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's.
    Client,
    /// Host and port of the URLs, which have to be the same in all of them.
    Upstream,
    /// A fixed one.
    Fixed(String),
}

/// Active health checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// `health_path`, requested with GET; 2xx and 3xx are healthy.
    pub path: String,
    /// `health_interval`, default 5 s.
    pub interval: Duration,
    /// `health_timeout`, default 2 s.
    pub timeout: Duration,
    /// `unhealthy_after` this many failed checks, default 3.
    pub unhealthy_after: u32,
    /// `healthy_after` this many passed checks, default 2.
    pub healthy_after: u32,
}

/// TLS to servers. Their certificates are always verified, including their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `tls_ca_file`: PEM certificates that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `tls_server_name`: SNI and verified name, instead of the URL's host.
    pub server_name: Option<String>,
    /// `tls_client_certificate_file` and `tls_client_key_file`, both PEM (mTLS).
    pub client: Option<(PathBuf, PathBuf)>,
}
