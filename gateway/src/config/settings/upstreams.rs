//! `[upstreams.NAME]`: where the servers are, how they are spoken to, and when one of them is left alone.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Upstream;
use crate::http1::ResponseLimits;

/// How long an upstream may take for a request, and how often it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// `response_timeout` from the request's end to the response's head, default 60 s: then 504.
    pub response: Duration,
    /// `body_timeout` between two reads of a response body, default 60 s: then the client's connection is cut.
    pub body: Duration,
    /// `total_timeout` from the request to the end of its response. Default none.
    pub total: Option<Duration>,
    /// `retries` of a request that cannot have had an effect, default 1.
    pub retries: u32,
}

impl Timeouts {
    /// How long the response's head may take.
    pub fn head(&self) -> Duration {
        self.total.map_or(self.response, |total| total.min(self.response))
    }
}

impl Upstream {
    /// How large a response head of its servers may be.
    pub(crate) fn response_limits(&self) -> ResponseLimits {
        ResponseLimits { block: self.response_header_block, fields: self.response_header_fields }
    }

    /// What its servers see as `Host`, where that is not what the client sent.
    pub fn fixed_host(&self) -> Option<String> {
        match &self.host {
            HostHeader::Client => None,
            HostHeader::Upstream => self.urls.first().map(UpstreamUrl::authority),
            HostHeader::Fixed(name) => Some(name.clone()),
        }
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamUrl {
    /// `http://host:port` or `https://host:port`.
    Tcp {
        /// Whether TLS is spoken.
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

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN under `https://`, else by prior knowledge.
    Http2,
}

/// What an upstream sees as `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostHeader {
    /// What the client sent.
    Client,
    /// Host and port of the URLs, which are the same in all of them.
    Upstream,
    /// Always the same.
    Fixed(String),
}

/// Asking servers whether they are well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// `health_path`, asked for with GET; 2xx and 3xx are well.
    pub path: String,
    /// `health_interval`, default 5 s.
    pub interval: Duration,
    /// `health_timeout`, default 2 s.
    pub timeout: Duration,
    /// `unhealthy_after` so many bad answers, default 3.
    pub unhealthy_after: u32,
    /// `healthy_after` so many good ones, default 2.
    pub healthy_after: u32,
}

/// TLS to servers. Their certificates are always verified, with their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `tls_ca_file`: PEM certificates that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `tls_server_name`: asked for and verified instead of the URL's host.
    pub server_name: Option<String>,
    /// `tls_client_certificate_file` and `tls_client_key_file`, both PEM: who the gateway is.
    pub client: Option<(PathBuf, PathBuf)>,
}
