//! The systems that are measured: how each is configured and started.

pub(crate) mod gateway;
mod nginx;
mod relay;
pub(crate) mod upstream;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::tools::{Tools, version};

/// Something that stands between the load and the upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    /// Copies bytes.
    Relay,
    /// nginx as a plain proxy.
    Nginx,
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
    /// For HS256.
    pub(crate) secret: &'a str,
    pub(crate) tools: &'a Tools,
}

impl System {
    /// Its name in tables.
    pub(crate) fn label(self) -> String {
        match self {
            System::Relay => "byte relay in C".to_owned(),
            System::Nginx => "nginx".to_owned(),
            System::Gateway(variant) => variant.label(),
        }
    }

    /// What it does, for the report.
    pub(crate) fn job(self) -> &'static str {
        match self {
            System::Relay => "copies bytes with epoll and looks at nothing: the floor",
            System::Nginx => "plain proxy_pass, nothing checked",
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
            System::Nginx => of("nginx", "-v"),
            System::Gateway(_) => of("auth-gateway", "--version"),
        }
    }
}
