//! auth-gateway with its default configuration, except for what is set here.

use std::fs;
use std::process::Command;

use auth_gateway::users::{Password, PasswordHash};

use super::Setup;
use crate::Result;
use crate::certificate::Certificate;
use crate::tokens::{AUDIENCE, ISSUER, PASSWORD, USERS, username};

/// What differs between the gateways that are measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) algorithm: &'static str,
    pub(crate) store: Store,
    pub(crate) workers: u32,
    /// `tokens.reuse_grace`.
    pub(crate) reuse_grace: &'static str,
    /// `browser.enabled`.
    pub(crate) browser: bool,
}

/// `[store]`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Memory,
    Embedded,
}

impl Store {
    /// `store.kind`.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Store::Memory => "memory",
            Store::Embedded => "embedded",
        }
    }
}

impl Variant {
    /// The default, but for the algorithm.
    pub(crate) const fn signing_with(algorithm: &'static str) -> Variant {
        Variant { algorithm, store: Store::Embedded, workers: 1, reuse_grace: "10s", browser: false }
    }

    pub(super) fn label(self) -> String {
        format!("auth-gateway, {}", self.algorithm)
    }

    /// Whether the benchmark can make its tokens.
    pub(crate) fn shares_a_secret(self) -> bool {
        self.algorithm.starts_with("HS")
    }
}

pub(super) fn command(variant: Variant, setup: &Setup<'_>) -> Result<Command> {
    let signing =
        if variant.shares_a_secret() { format!("secret = {:?}", setup.secret) } else { String::new() };
    let tls = setup.certificate.map_or_else(String::new, |Certificate { chain, key, .. }| {
        format!(
            "[server.tls]\ncertificates = [{{ certificate_file = {chain:?}, private_key_file = {key:?} }}]\n"
        )
    });
    let configuration = format!(
        r#"[server]
listen = "{listen}"
workers = {workers}

{tls}
[admin]
listen = "{admin}"

[tokens]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
access_ttl = "12h"
refresh_ttl = "12h"
algorithm = "{algorithm}"
reuse_grace = "{reuse_grace}"
{signing}

[store]
kind = "{store}"

[users]
file = "users.toml"

[browser]
enabled = {browser}

[limits]
max_body = 0
connections = 20000
connections_per_source = 20000

[upstreams.app]
urls = ["http://{upstream}"]
pool_size = 512

[[routes]]
path = "/"
upstream = "app"
"#,
        listen = setup.listen,
        admin = setup.admin,
        upstream = setup.upstream,
        workers = variant.workers,
        store = variant.store.kind(),
        algorithm = variant.algorithm,
        reuse_grace = variant.reuse_grace,
        browser = variant.browser,
    );
    fs::write(setup.dir.join("gateway.toml"), configuration)?;
    let hash = PasswordHash::create(&Password::new(PASSWORD)?)?;
    let users: String = (0..USERS)
        .map(|number| {
            let (name, password) = (username(number), hash.as_str());
            format!("[[users]]\nid = \"{number}\"\nusername = {name:?}\npassword = {password:?}\nroles = [\"user\"]\n")
        })
        .collect();
    fs::write(setup.dir.join("users.toml"), users)?;
    let mut command = Command::new(setup.tools.required("auth-gateway")?);
    command.args(["--config", "gateway.toml"]).current_dir(setup.dir);
    Ok(command)
}
