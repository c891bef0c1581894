//! Sessions at scale and under attack: many revocations in Redis, theft, login storms, changed users, and
//! clock jumps.
//!
//! `AUTH_GATEWAY_LONG=1` runs the long forms, with figures.

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
