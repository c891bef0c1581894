//! `[upstreams.NAME]`: servers, protocol, timeouts, health checks and TLS.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Timeouts, Upstream};
use crate::http1::ResponseLimits;

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
