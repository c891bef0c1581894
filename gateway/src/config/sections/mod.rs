//! The sections of the configuration: which keys there are, their defaults, and what each may say.

mod cors;
mod endpoints;
mod files;
mod identity_headers;
mod ldap_users;
mod limits;
mod lockout;
mod log;
mod path_pattern;
mod redis;
mod reload;
mod route_bypasses;
mod route_collisions;
mod routes;
mod secret;
mod secret_strength;
mod server;
mod sessions;
mod sql_users;
mod store;
mod throttle;
mod tokens;
mod traps;
mod upstreams;
mod users;
mod warnings;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::declaration::{Key, KeyInfo, Section, Shape, TableShape, section, table};
use super::settings::Users;
use super::table::Table;
#[cfg(test)]
use super::test_support;

pub use cors::{Cors, RouteCors};
pub use endpoints::Endpoints;
pub(in crate::config) use files::{readable, working_directory};
pub use identity_headers::IdentityHeader;
pub use limits::Limits;
pub use lockout::Lockout;
pub use log::{Log, LogFormat};
pub use reload::Reload;
pub use routes::Route;
pub use server::{Admin, CertificateFiles, Server, ServerTls, TlsVersion};
pub use sessions::SessionLimits;
pub use store::Store;
pub use throttle::Throttle;
pub use tokens::{MAX_ACCESS_TTL, Rotation, Tokens};
pub use upstreams::Upstream;
pub use users::Argon2Cost;
pub use warnings::Warnings;

section! {
    /// Everything the operator can say, checked.
    pub struct Settings {
        /// The public listener.
        server: Server = table();
        /// The listener for health and metrics.
        admin: Admin = table().restart();
        /// What tokens say and how they are signed.
        tokens: Tokens = table();
        /// Where the gateway's own endpoints live.
        endpoints: Endpoints = table();
        /// Where sessions, locks and revocations are kept.
        store: Store = table::<store::StoreKeys>().restart().into(|keys, entry| keys.settings(&entry.table_or_empty()));
        /// Who may log in.
        users: Users = table::<users::UsersKeys>().into(|keys, entry| keys.settings(&entry.table_or_empty()));
        /// When a user name is locked.
        lockout: Lockout = table();
        /// How many failures a network may send.
        throttle: Throttle = table().restart();
        /// How many sessions a user may have.
        sessions: SessionLimits = table();
        /// Which other origins may call the gateway from a browser.
        cors: Cors = table();
        /// Which claims the upstream sees, and under which names.
        identity_headers: Vec<IdentityHeader> = {
            let names = Shape::Names(TableShape::of::<identity_headers::DefaultHeaders>(), Box::new(Shape::Text));
            Key::new(names, |entry| identity_headers::identity_headers(&entry.table_or_empty()))
        };
        /// How much is read and how long is waited for it.
        limits: Limits = table();
        /// What is written to standard error.
        log: Log = table().restart();
        /// When the configuration is read again.
        reload: Reload = table().restart();
        /// Which warnings are meant to be.
        warnings: Warnings = table();
        /// The servers behind the gateway, by name.
        upstreams: BTreeMap<String, Upstream> = {
            let named = Shape::Map(Box::new(Shape::Table(TableShape::of::<Upstream>())));
            Key::new(named, |entry| upstreams::upstreams(&entry.table_or_empty()))
        };
        /// Which requests go where. The order carries no meaning: `auth-gateway check` prints which one is tried first.
        routes: Vec<Route> = Key::new(Shape::List(Box::new(Shape::Table(TableShape::of::<Route>()))), routes::routes);
    }
}

impl Settings {
    /// Reads the whole configuration. Where something is wrong, a default stands in its place and the report says so.
    pub(super) fn load(root: &Table<'_>) -> Settings {
        let mut settings: Settings = root.read();
        let of = |section: &str| root.quiet_table(section);
        settings.server.check(&of("server"));
        settings.admin.check(&of("admin"), &settings.server, &of("server"));
        let scheme = if settings.server.tls.is_some() { "https" } else { "http" };
        settings.tokens.check(&of("tokens"), format!("{scheme}://{}", settings.server.listen));
        settings.lockout.check(&of("lockout"));
        settings.limits.check(&of("limits"));
        settings.cors.check(&of("cors"));
        routes::check(root, &settings);
        traps::check(root, &settings);
        upstreams::check_use(&of("upstreams"), &settings.routes);
        settings
    }
}

/// Every key there is, with the tables above it: `server.tls.hsts`, `upstreams.NAME.urls`, `routes.path`.
pub(crate) fn paths() -> Vec<(String, KeyInfo)> {
    fn add(found: &mut Vec<(String, KeyInfo)>, above: &str, restart: bool, keys: Vec<KeyInfo>) {
        for mut key in keys {
            key.restart |= restart;
            let path = format!("{above}{}", key.name);
            found.push((path.clone(), key.clone()));
            if let Some(table) = key.shape.table() {
                let name = if matches!(key.shape, Shape::Map(_)) { ".NAME." } else { "." };
                add(found, &format!("{path}{name}"), key.restart, (table.keys)());
            }
        }
    }
    let mut found = Vec::new();
    add(&mut found, "", false, Settings::keys());
    found
}

/// Whether a change of this key, such as `limits.hash_threads`, is in force after a restart only.
pub(crate) fn needs_restart(key: &str) -> bool {
    paths().iter().any(|(path, info)| info.restart && path == key)
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

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
