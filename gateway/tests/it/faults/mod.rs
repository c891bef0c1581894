//! What goes wrong on one machine, under a steady load: kills, a full disk, a file that is gone, a stop. Every request is
//! written down, and what must always hold is checked on that history (security-requirements.md section 6).
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
