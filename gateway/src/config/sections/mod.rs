//! The sections of the configuration: declarations and validation of their keys.

mod audit;
mod browser;
mod claim_templates;
mod compat;
mod cors;
mod endpoints;
mod errors;
mod files;
mod forward_auth;
mod identity_headers;
mod issuers;
mod ldap_users;
mod limits;
mod lockout;
mod log;
mod mfa;
mod oauth;
mod path_pattern;
mod personal_tokens;
mod prelude;
mod previous_keys;
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
mod tracing;
mod traps;
mod upstream_assertion;
mod upstreams;
mod users;
mod warnings;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::declaration::{Key, KeyInfo, Section, Shape, TableShape, section, table, tables};
use super::table::Table;
#[cfg(test)]
use super::test_support;

pub use audit::{Audit, AuditRefusals, AuditTarget};
pub use browser::{Browser, RememberMe};
pub(crate) use claim_templates::RESERVED_CLAIMS;
pub use claim_templates::{ClaimSubject, ClaimTemplates};
pub use compat::{Compat, CompatIdentity, Profile};
pub use cors::{Cors, RouteCors};
pub(crate) use endpoints::Endpoint;
pub use endpoints::Endpoints;
pub use errors::Errors;
pub(in crate::config) use files::{readable, readable_help, working_directory};
pub use forward_auth::ForwardAuth;
pub use identity_headers::{ClaimEncoding, ClaimFormat, IdentityHeader};
pub use issuers::IssuerSettings;
pub use ldap_users::{LdapGroups, LdapUsers};
pub use limits::Limits;
pub use lockout::Lockout;
pub use log::{Log, LogFormat};
pub use mfa::Mfa;
pub use oauth::{ClientSecret, OAuth};
pub use personal_tokens::PersonalTokens;
pub use reload::Reload;
pub use routes::{FixedResponse, LocationPart, Redirect, Route, RouteTimeouts, UpstreamTarget};
pub use secret::Secret;
pub(in crate::config) use secret::warn_of_readers;
pub use server::{Admin, CertificateFiles, Server, ServerTls, TlsVersion};
pub use sessions::SessionLimits;
pub use sql_users::{SqlColumns, SqlUsers};
pub use store::Store;
pub use throttle::Throttle;
pub use tokens::{Dpop, KeyRotation, MAX_ACCESS_TTL, Rotation, Tokens};
pub use tracing::{Collector, OtlpEndpoint, TraceSource, Tracing};
pub use upstream_assertion::{AssertionBinding, UpstreamAssertion};
pub use upstreams::{HealthCheck, Timeouts, Upstream, UpstreamTls};
pub use users::{Argon2Cost, PasswordPolicy, Users};
pub use warnings::Warnings;

section! {
    /// The validated configuration.
    pub struct Settings {
        /// The public listener.
        server: Server = table();
        /// The listener for health and metrics.
        admin: Admin = table().restart();
        /// Contents and signing of tokens.
        tokens: Tokens = table();
        /// Other issuers, whose tokens routes may accept beside the gateway's own.
        issuers: Vec<IssuerSettings> = tables::<IssuerSettings>().or_empty();
        /// Paths of the gateway's own endpoints.
        endpoints: Endpoints = table();
        /// Error responses.
        errors: Errors = table();
        /// Compatibility with the library that issued the users' tokens so far.
        compat: Compat = table().only_with("profile");
        /// Where sessions, locks and revocations are stored.
        store: Store = table::<store::StoreKeys>().restart().into(|keys, _| keys.settings());
        /// The sources of users.
        users: Users = table();
        /// Second factors.
        mfa: Mfa = table().only_with("enabled");
        /// Account lockout after failed logins.
        lockout: Lockout = table();
        /// Rate limit of failures per network.
        throttle: Throttle = table().restart();
        /// Sessions per user.
        sessions: SessionLimits = table();
        /// Personal access tokens, for machines and scripts.
        personal_tokens: PersonalTokens = table().only_with("enabled");
        /// Revocation, introspection and metadata, for other programs.
        oauth: OAuth = table();
        /// Cross-origin requests from browsers (CORS).
        cors: Cors = table();
        /// Sessions in cookies, and sign-in pages for people.
        browser: Browser = table().only_with("enabled");
        /// Verdicts for proxies that serve the apps themselves.
        forward_auth: ForwardAuth = table();
        /// Headers in which the upstream gets claims of the verified token.
        identity_headers: Vec<IdentityHeader> = {
            let names = Shape::Names(TableShape::of::<identity_headers::DefaultHeaders>(), Box::new(identity_headers::shape()));
            Key::new(names, |entry| identity_headers::identity_headers(&entry.table_or_empty()))
        };
        /// A signed assertion for upstreams.
        upstream_assertion: UpstreamAssertion = table();
        /// Limits of requests and connections.
        limits: Limits = table();
        /// Logs on standard error.
        log: Log = table().restart();
        /// The audit trail: logins, refused requests, ended sessions, keys, reloads. Independent of log.level.
        audit: Audit = table();
        /// Distributed tracing: W3C trace context (traceparent, tracestate), and spans for OpenTelemetry.
        tracing: Tracing = table();
        /// Hot reload of the configuration.
        reload: Reload = table().restart();
        /// Silenced warnings.
        warnings: Warnings = table();
        /// The upstreams, by name.
        upstreams: BTreeMap<String, Upstream> = {
            let named = Shape::Map(Box::new(Shape::Table(TableShape::of::<Upstream>())));
            Key::new(named, |entry| upstreams::upstreams(&entry.table_or_empty()))
        };
        /// Routing. The order has no meaning: `auth-gateway check` prints the order of matching.
        routes: Vec<Route> = Key::new(Shape::List(Box::new(Shape::Table(TableShape::of::<Route>()))), routes::routes);
    }
}

impl Settings {
    /// Whether anything asks when and how users proved their identity.
    pub(crate) fn asks_authentication(&self) -> bool {
        self.mfa.enabled || self.routes.iter().any(|route| route.mfa || route.fresh_within.is_some())
    }

    /// Whether an upstream gets signed assertions.
    pub(crate) fn has_assertions(&self) -> bool {
        self.upstreams.values().any(|upstream| upstream.assertion == Some(true))
    }

    /// The address of the page for new passwords, without a query; `None` where there is none.
    pub(crate) fn reset_page(&self) -> Option<String> {
        if !self.users.password_change {
            return None;
        }
        let issuer = self.tokens.issuer.trim_end_matches('/');
        let own = || {
            (self.browser.enabled && is_web_address(issuer))
                .then(|| format!("{issuer}{}/password/reset", self.endpoints.prefix))
        };
        self.users.reset_url.clone().or_else(own)
    }

    /// Reads the whole configuration. Invalid values are reported and replaced by defaults.
    pub(super) fn load(root: &Table<'_>) -> Settings {
        let mut settings: Settings = root.read();
        let of = |section: &str| root.quiet_table(section);
        settings.server.check(&of("server"));
        settings.admin.check(&of("admin"), &settings.server, &of("server"));
        let scheme = if settings.server.tls.is_some() { "https" } else { "http" };
        settings.tokens.check(&of("tokens"), format!("{scheme}://{}", settings.server.listen));
        settings.compat.check(&of("compat"), &mut settings.tokens, &of("tokens"));
        settings.lockout.check(&of("lockout"));
        settings.mfa.check(&of("mfa"), &settings.store);
        settings.limits.check(&of("limits"));
        settings.tracing.check(&of("tracing"));
        settings.oauth.check(&of("oauth"), &settings.tokens);
        settings.personal_tokens.check(&of("personal_tokens"));
        settings.audit.check(&of("audit"));
        settings.browser.check(&of("browser"));
        settings.forward_auth.check(&of("forward_auth"), &settings.server);
        settings.cors.check(&of("cors"));
        for upstream in settings.upstreams.values_mut() {
            upstream.assertion.get_or_insert(settings.upstream_assertion.enabled);
        }
        routes::check(root, &settings);
        issuers::check(root, &mut settings);
        traps::check(root, &settings);
        upstreams::check_use(&of("upstreams"), &settings.routes);
        settings
    }
}

/// Whether text begins like the address of a page.
fn is_web_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// All keys, with the tables above them: `server.tls.hsts`, `upstreams.NAME.urls`, `routes.path`.
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

/// Whether a change of this key, such as `limits.hash_threads`, takes effect only after a restart.
pub(crate) fn needs_restart(key: &str) -> bool {
    paths().iter().any(|(path, info)| info.restart && path == key)
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// More than zero, and no more than `longest`.
fn up_to(longest: Duration) -> RangeInclusive<Duration> {
    Duration::from_nanos(1)..=longest
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The number of CPU threads of the machine.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
