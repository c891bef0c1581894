//! Hot reload and restarts: what takes effect, what stays, and that no request fails.
//!
//! The short form runs with all tests; `AUTH_GATEWAY_LONG=1` makes it the long one.

mod certificates;
mod changes;
mod load;
mod restarts;
mod rotation;
mod under_load;
mod used_proofs;

use std::fs;

use crate::fixture::{Gateway, get};

/// Puts a file in the place of another in one step, as editors and deployments do.
fn replace(gateway: &Gateway, name: &str, content: &str) {
    let next = gateway.path("next");
    fs::write(&next, content).unwrap();
    fs::rename(&next, gateway.path(name)).unwrap();
}

/// A metric without labels, or with those in its name.
fn metric(gateway: &Gateway, name: &str) -> u64 {
    let page = gateway.metrics();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("auth_gateway_{name} ")));
    line.unwrap_or_else(|| panic!("{name} is not in\n{page}")).parse().unwrap()
}

fn good_reloads(gateway: &Gateway) -> u64 {
    metric(gateway, "config_reloads_total{outcome=\"success\"}")
}

fn status(gateway: &Gateway, path: &str) -> u16 {
    get(gateway.address, path, &[]).unwrap().status
}
