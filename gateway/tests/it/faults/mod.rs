//! Fault injection on one machine, under load: kills, a full disk, a removed file, a shutdown. Every request
//! is recorded, and the invariants are checked on that history.
//!
//! The short form runs with all tests; `AUTH_GATEWAY_LONG=1` makes it the long one.

mod drain;
mod history;
mod kills;
mod load;
mod outages;

/// How often a fault is repeated.
fn rounds(short: usize, long: usize) -> usize {
    if std::env::var_os("AUTH_GATEWAY_LONG").is_some() { long } else { short }
}
