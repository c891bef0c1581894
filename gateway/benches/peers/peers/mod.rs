//! The systems under test: how each is configured and started.

mod envoy;
pub(crate) mod gateway;
mod gunicorn;
mod haproxy;
mod nginx;
mod njs;
mod relay;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::certificate::Certificate;
use crate::table::RELAY;
use crate::tools::{Tools, version};

/// Something that stands between the load and the upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    /// Copies bytes.
    Relay,
    /// nginx as a plain proxy.
    Nginx,
    /// nginx that keeps no bodies.
    NginxUnbuffered,
    /// nginx that verifies tokens in JavaScript.
    NginxNjs,
    /// HAProxy that verifies tokens.
    Haproxy,
    /// Envoy that verifies tokens, or finds them in its cache.
    Envoy { cache: bool },
    /// An application in Python that verifies tokens itself.
    Gunicorn,
    /// auth-gateway.
    Gateway(gateway::Variant),
}

/// What a system's configuration is made of.
pub(crate) struct Setup<'a> {
    /// Its own folder, empty.
    pub(crate) dir: &'a Path,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) upstream: SocketAddr,
    /// With it `listen` speaks TLS, and HTTP/2 to those who ask for it.
    pub(crate) certificate: Option<&'a Certificate>,
    /// For HS256.
    pub(crate) secret: &'a str,
    pub(crate) tools: &'a Tools,
}

impl System {
    /// Its name in tables.
    pub(crate) fn label(self) -> String {
        match self {
            System::Relay => RELAY.to_owned(),
            System::Nginx => "nginx".to_owned(),
            System::NginxUnbuffered => "nginx, unbuffered".to_owned(),
            System::NginxNjs => "nginx + njs".to_owned(),
            System::Haproxy => "HAProxy".to_owned(),
            System::Envoy { cache: true } => "Envoy, token cache".to_owned(),
            System::Envoy { cache: false } => "Envoy".to_owned(),
            System::Gunicorn => "gunicorn + Flask".to_owned(),
            System::Gateway(variant) => variant.label(),
        }
    }

    /// What it does, for the report.
    pub(crate) fn job(self) -> &'static str {
        match self {
            System::Relay => "copies bytes with epoll and looks at nothing: the floor",
            System::Nginx => "plain proxy_pass, nothing checked",
            System::NginxUnbuffered => "the same with proxy_request_buffering and proxy_buffering off",
            System::NginxNjs => "HS256 and exp by hand in JavaScript, one claim to a header",
            System::Haproxy => "HS256 by jwt_verify, exp compared, one claim to a header",
            System::Envoy { cache: true } => "jwt_authn with its cache, one claim to a header",
            System::Envoy { cache: false } => "jwt_authn, one claim to a header",
            System::Gunicorn => "the tutorial: flask-jwt-extended in the application itself, no proxy",
            System::Gateway(_) => {
                "the default configuration: all checks, identity headers, access log, metrics"
            }
        }
    }

    /// Writes its configuration and gives the command that runs it.
    pub(crate) fn command(self, setup: &Setup<'_>) -> Result<Command> {
        match self {
            System::Relay => relay::command(setup),
            System::Nginx => nginx::command(setup),
            System::NginxUnbuffered => nginx::unbuffered(setup),
            System::NginxNjs => njs::command(setup),
            System::Haproxy => haproxy::command(setup),
            System::Envoy { cache } => envoy::command(cache, setup),
            System::Gunicorn => gunicorn::command(setup),
            System::Gateway(variant) => gateway::command(variant, setup),
        }
    }

    /// Which version was measured.
    pub(crate) fn version(self, tools: &Tools) -> String {
        let of = |program: &str, argument| {
            tools.path(program).map_or_else(String::new, |path| version(path, argument))
        };
        match self {
            System::Relay => of("gcc", "--version"),
            System::Nginx | System::NginxUnbuffered => of("nginx", "-v"),
            System::NginxNjs => format!("{}, njs {}", of("nginx", "-v"), tools.njs_version()),
            System::Haproxy => of("haproxy", "-v"),
            System::Envoy { .. } => of("envoy", "--version"),
            System::Gunicorn => tools.python_versions(),
            System::Gateway(_) => tools.gateway_version(),
        }
    }
}
