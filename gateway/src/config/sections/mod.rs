//! The sections of the configuration: which keys there are, their defaults, and what each may say.

mod cors;
mod endpoints;
mod identity_headers;
mod limits;
mod listeners;
mod lockout;
mod log;
mod path_shape;
mod redis;
mod reload;
mod route_bypasses;
mod route_collisions;
mod routes;
mod secret;
mod sessions;
mod store;
mod throttle;
mod tokens;
mod upstreams;
mod users;
mod weak_secret;

use std::ops::RangeInclusive;
use std::time::Duration;

use super::settings::Settings;
use super::table::Table;
#[cfg(test)]
use super::test_support;

/// The whole configuration. Where something is wrong, a default stands in its place and the report says so.
pub(super) fn settings(root: &mut Table<'_>) -> Settings {
    let (server, admin) = listeners::listeners(root);
    let endpoints = root.section("endpoints", endpoints::endpoints);
    let upstreams = root.section("upstreams", upstreams::upstreams);
    let identity_headers = root.section("identity_headers", identity_headers::identity_headers);
    let routes = routes::routes(root, &upstreams, &endpoints, &identity_headers);
    Settings {
        tokens: root.section("tokens", |table| tokens::tokens(table, &server)),
        store: root.section("store", store::store),
        users: root.section("users", users::users),
        lockout: root.section("lockout", lockout::lockout),
        throttle: root.section("throttle", throttle::throttle),
        sessions: root.section("sessions", sessions::sessions),
        cors: root.section("cors", cors::cors),
        identity_headers,
        limits: root.section("limits", limits::limits),
        log: root.section("log", log::log),
        reload: root.section("reload", reload::reload),
        upstreams: upstreams.settings(&routes),
        server,
        admin,
        endpoints,
        routes,
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// More than nothing, and no more than `longest`.
fn up_to(longest: Duration) -> RangeInclusive<Duration> {
    Duration::from_nanos(1)..=longest
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// How many threads the machine runs at once.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
