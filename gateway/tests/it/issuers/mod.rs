//! Tokens of other issuers: those of a real provider, and what becomes of them when an issuer is down, slow, rotated or lying.

mod fetching;
mod fixture;
mod introspection;
mod tokens;

use std::net::SocketAddr;

use crate::fixture::{Reply, Upstream, get};

/// A gateway's configuration with the routes /own, /both and /idp for an issuer with these keys.
fn config(upstream: &Upstream, issuer: &str, keys: &str) -> String {
    let route =
        |path: &str, issuers: &str| format!("[[routes]]\npath = \"{path}\"\nupstream = \"app\"\n{issuers}\n");
    format!(
        "[server]\nworkers = 2\n[[issuers]]\nname = \"idp\"\nissuer = \"{issuer}\"\n{keys}\n[upstreams.app]\nurls = [\"http://{}\"]\n{}{}{}{}",
        upstream.address,
        route("/own", ""),
        route("/both", "issuers = [\"own\", \"idp\"]"),
        route("/idp", "issuers = [\"idp\"]"),
        route("/admin", "issuers = [\"idp\"]\nroles = [\"admin\"]"),
    )
}

/// Asks with a token.
fn ask(address: SocketAddr, path: &str, token: &str) -> Reply {
    get(address, path, &[("Authorization", &format!("Bearer {token}"))]).unwrap()
}
