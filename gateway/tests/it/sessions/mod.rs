//! Sessions that hold: many ended ones in Redis, thieves, storms of right logins, users who change, and clocks that jump.
//!
//! `AUTH_GATEWAY_LONG=1` plays the long forms, with figures.

mod clocks;
mod logins;
mod scale;
mod theft;
mod users;

use crate::fixture::{Gateway, Reply, Upstream, get};

fn is_long() -> bool {
    std::env::var_os("AUTH_GATEWAY_LONG").is_some()
}

/// A gateway's configuration: everything at `/app` needs a token. `more` comes first and may open tables.
fn config(upstream: &Upstream, more: &str) -> String {
    format!(
        "{more}\n[upstreams.app]\nurls = [\"http://{}\"]\n[[routes]]\npath = \"/app\"\nupstream = \"app\"\n",
        upstream.address
    )
}

fn app(gateway: &Gateway, access: &str) -> Reply {
    get(gateway.address, "/app", &[("Authorization", &format!("Bearer {access}"))]).unwrap()
}
