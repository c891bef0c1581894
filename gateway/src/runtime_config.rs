//! The runtime configuration: settings with everything loaded for serving (keys, users, certificates,
//! routes). Immutable, so a request cannot see a partial change.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio_rustls::rustls::ServerConfig;

use crate::admission::RequestView;
use crate::browser::Browser;
use crate::browser::branding::BrandingError;
use crate::config::{Dpop, Endpoint, Settings, UpstreamAssertion};
use crate::identity::IdentityHeaders;
use crate::issuers::{IssuerError, Issuers};
use crate::response::header_value;
use crate::routing::Routes;
use crate::routing::cors::{CorsPolicies, Preflight, preflight};
use crate::routing::endpoints::Endpoints;
use crate::routing::via::Via;
use crate::sessions::Sealer;
use crate::static_files::StaticRoot;
use crate::tls::{CertificateError, server_config};
use crate::tokens::dpop::Nonces;
use crate::tokens::{Access, AssertionIssuer, Issuer, KeyError, KeyRing, LoadedKey, UnixSeconds, Verifier};
use crate::upstream::{Upstream, UpstreamError};
use crate::users::{UserFileErrors, UserSources};

/// Everything derived from the settings, the keys and the users.
#[derive(Clone)]
pub(crate) struct RuntimeConfig {
    pub(crate) settings: Settings,
    pub(crate) routes: Arc<Routes>,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) cors: Arc<CorsPolicies>,
    /// Sessions in cookies, where they are on.
    pub(crate) browser: Option<Arc<Browser>>,
    pub(crate) via: Arc<Via>,
    pub(crate) identity_headers: Arc<IdentityHeaders>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) jwks: Bytes,
    /// Where an upstream gets assertions.
    pub(crate) assertions: Option<Arc<AssertionIssuer>>,
    /// Of proofs of possession, where they need one.
    pub(crate) nonces: Option<Arc<Nonces>>,
    /// Other issuers, in the order of the configuration.
    pub(crate) issuers: Arc<Issuers>,
    /// In the order of the configuration's upstreams.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// The verification keys.
    pub(crate) keys: Vec<LoadedKey>,
    /// The TLS configuration of the public listener, if it has TLS.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// The files of the certificates and when each expires, in seconds since 1970.
    pub(crate) certificate_expiries: Vec<(String, i64)>,
    pub(crate) hsts: Option<HeaderValue>,
    /// Reloads its users by itself when the users file changes.
    pub(crate) users: Arc<UserSources>,
    /// For the secrets of second factors.
    pub(crate) sealer: Arc<Sealer>,
    /// Whether access tokens say when and how the user proved the identity.
    pub(crate) tells_authentication: bool,
    /// Whether some route refuses tokens that are bound to no key.
    pub(crate) requires_possession: bool,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeConfigError {
    /// No usable signing key.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The users file.
    #[error("{0}")]
    Users(UserFileErrors),
    /// TLS to an upstream.
    #[error("{0}")]
    Upstream(#[from] UpstreamError),
    /// A certificate or its key.
    #[error("{0}")]
    Tls(#[from] CertificateError),
    /// Another issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The folder with the pages' branding.
    #[error("browser.branding_dir: {0}")]
    Branding(#[from] BrandingError),
    /// A static route's folder.
    #[error("cannot serve the files of {path}: {source}")]
    Static {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl RuntimeConfigError {
    /// The key of the configuration that the error is about, where it is about one.
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            RuntimeConfigError::Keys(KeyError::Unfit { .. } | KeyError::Unreadable { .. }) => {
                Some("tokens.private_key_file")
            }
            RuntimeConfigError::Keys(KeyError::NotForAssertions { .. }) => {
                Some("upstream_assertion.private_key_file")
            }
            RuntimeConfigError::Keys(_) => Some("tokens.keys_dir"),
            RuntimeConfigError::Tls(error) => Some(&error.key),
            RuntimeConfigError::Branding(_) => Some("browser.branding_dir"),
            _ => None,
        }
    }
}

impl RuntimeConfig {
    /// Loads everything the settings name.
    ///
    /// # Errors
    ///
    /// A file or key cannot be used.
    pub(crate) fn load(
        settings: Settings,
        now: UnixSeconds,
        access: Access,
    ) -> Result<RuntimeConfig, RuntimeConfigError> {
        RuntimeConfig::load_with(settings, now, None, access)
    }

    /// Like [`Self::load`], for settings that replace those of `last`. An unchanged upstream keeps its health
    /// state and connections. An unchanged users file is only checked: the caller reloads it when nothing can
    /// fail any more.
    pub(crate) fn load_after(
        settings: Settings,
        now: UnixSeconds,
        last: &RuntimeConfig,
    ) -> Result<RuntimeConfig, RuntimeConfigError> {
        RuntimeConfig::load_with(settings, now, Some(last), Access::Use)
    }

    fn load_with(
        settings: Settings,
        now: UnixSeconds,
        last: Option<&RuntimeConfig>,
        access: Access,
    ) -> Result<RuntimeConfig, RuntimeConfigError> {
        let LoadedKeys { keys, jwks, issuer, verifier, assertions } =
            LoadedKeys::load(&settings, now, last.map_or(&[], |last| &last.keys), access)?;
        let nonces = Nonces::load(&settings.tokens, access)?.map(Arc::new);
        let (users, warnings) = UserSources::load(&settings.users).map_err(RuntimeConfigError::Users)?;
        let users = match last.map(|last| &last.users).filter(|users| users.is_of(&settings.users)) {
            Some(known) => Arc::clone(known),
            None => {
                warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                users.log_schemes();
                Arc::new(users)
            }
        };
        let tls = settings.server.tls.as_ref().map(|tls| server_config(tls, now.get())).transpose()?;
        for (_, warning) in tls.iter().flat_map(|tls| &tls.warnings) {
            tracing::warn!("{warning}");
        }
        let upstreams = settings
            .upstreams
            .iter()
            .map(|(name, settings)| {
                let known = last.iter().flat_map(|last| &last.upstreams);
                match known.into_iter().find(|known| known.name() == name && known.is_unchanged_for(settings))
                {
                    Some(same) => Ok(Arc::clone(same)),
                    None => Upstream::new(name, settings.clone()).map(Arc::new),
                }
            })
            .collect::<Result<_, UpstreamError>>()?;
        let mut failed_root = PathBuf::new();
        let routes = Routes::new(
            &settings.routes,
            settings.limits.max_body,
            |name| {
                let place = settings.upstreams.keys().position(|n| n == name)?;
                Some((place, &settings.upstreams[name]))
            },
            |root, policy| {
                StaticRoot::open(root, policy).map(Arc::new).inspect_err(|_| failed_root = root.to_owned())
            },
        );
        let routes = routes.map_err(|source| RuntimeConfigError::Static { path: failed_root, source })?;
        let routes = routes.with_issuers(&settings.routes, &settings.issuers);
        let browser = Browser::new(&settings)?.map(Arc::new);
        for warning in browser.iter().flat_map(|browser| browser.pages.warnings()) {
            tracing::warn!("{warning}");
        }
        let issuers = Issuers::new(&settings.issuers, last.map(|last| &*last.issuers), now)?;
        let claims_of_routes =
            settings.routes.iter().flat_map(|route| route.request_headers.names_of_claims());
        let of_assertions =
            Some(settings.upstream_assertion.header.as_str()).filter(|_| assertions.is_some());
        let reserved = claims_of_routes.chain(of_assertions);
        Ok(RuntimeConfig {
            routes: Arc::new(routes),
            endpoints: Arc::new(Endpoints::new(&settings)),
            cors: Arc::new(CorsPolicies::new(&settings.cors, &settings.routes, settings.tokens.dpop_nonce)),
            browser,
            via: Arc::new(Via::new(&settings.server.name, settings.server.via)),
            identity_headers: Arc::new(IdentityHeaders::new(&settings.identity_headers, reserved)),
            issuer,
            verifier,
            assertions,
            jwks,
            nonces,
            issuers: Arc::new(issuers),
            upstreams,
            certificate_expiries: tls.as_ref().map(|tls| tls.expiries.clone()).unwrap_or_default(),
            tls: tls.map(|tls| tls.config),
            hsts: settings.server.tls.as_ref().and_then(|tls| tls.hsts).map(hsts),
            users,
            keys,
            sealer: Arc::new(Sealer::new(settings.mfa.secret.as_ref().map(|secret| secret.as_slice()))),
            tells_authentication: settings.asks_authentication(),
            requires_possession: settings.tokens.dpop == Dpop::Required
                || settings.routes.iter().any(|route| route.dpop == Some(Dpop::Required)),
            settings,
        })
    }

    /// The gateway's own endpoint that a request is for.
    pub(crate) fn endpoint_of(&self, request: RequestView<'_>) -> Option<Endpoint> {
        self.endpoints.of_request(&self.routes, self.browser.is_some(), request)
    }

    /// What becomes of a request that may be a CORS preflight.
    pub(crate) fn preflight(&self, request: RequestView<'_>) -> Option<Preflight> {
        preflight(&self.cors, &self.routes, &self.endpoints, request)
    }

    /// The same with keys that are loaded anew.
    ///
    /// # Errors
    ///
    /// A key cannot be used.
    pub(crate) fn with_new_keys(&self, now: UnixSeconds) -> Result<RuntimeConfig, KeyError> {
        let LoadedKeys { keys, jwks, issuer, verifier, assertions } =
            LoadedKeys::load(&self.settings, now, &self.keys, Access::Use)?;
        Ok(RuntimeConfig { keys, jwks, issuer, verifier, assertions, ..self.clone() })
    }

    /// The keys of `last` that were taken away before the last of their tokens has expired.
    pub(crate) fn revoked_since<'l>(&self, last: &'l RuntimeConfig, now: UnixSeconds) -> Vec<&'l LoadedKey> {
        let gone = missing(&last.keys, &self.keys);
        gone.filter(|key| key.until().is_none_or(|until| now < until)).collect()
    }

    /// Verification keys that were added or removed since `last`.
    pub(crate) fn key_changes(&self, last: &RuntimeConfig) -> Vec<KeyChange> {
        let (new, gone) = (missing(&self.keys, &last.keys), missing(&last.keys, &self.keys));
        new.map(|key| KeyChange::Added(key.record.id().to_string()))
            .chain(gone.map(|key| KeyChange::Removed(key.record.id().to_string())))
            .collect()
    }
}

/// Those of `keys` that are not among `others`.
fn missing<'k>(keys: &'k [LoadedKey], others: &[LoadedKey]) -> impl Iterator<Item = &'k LoadedKey> {
    keys.iter().filter(|key| !others.iter().any(|other| other.record == key.record))
}

/// A verification key that came or went, by its id.
#[derive(Debug)]
pub(crate) enum KeyChange {
    Added(String),
    Removed(String),
}

impl KeyChange {
    pub(crate) fn id(&self) -> &str {
        let (KeyChange::Added(id) | KeyChange::Removed(id)) = self;
        id
    }

    /// The outcome in the audit trail.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            KeyChange::Added(_) => "added",
            KeyChange::Removed(_) => "removed",
        }
    }
}

impl std::fmt::Display for KeyChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            KeyChange::Added(id) => write!(f, "the key {id} verifies from now on"),
            KeyChange::Removed(id) => write!(f, "the key {id} verifies no more"),
        }
    }
}

/// The value of `Strict-Transport-Security`; `max_age` is how long browsers remember it.
pub(crate) fn hsts(max_age: Duration) -> HeaderValue {
    header_value(&format!("max-age={}", max_age.as_secs()))
}

/// Keys, and what is made of them.
struct LoadedKeys {
    keys: Vec<LoadedKey>,
    jwks: Bytes,
    issuer: Arc<Issuer>,
    verifier: Arc<Verifier>,
    assertions: Option<Arc<AssertionIssuer>>,
}

impl LoadedKeys {
    fn load(
        settings: &Settings,
        now: UnixSeconds,
        last: &[LoadedKey],
        access: Access,
    ) -> Result<LoadedKeys, KeyError> {
        let ring = KeyRing::load(&settings.tokens, now, last, access)?;
        for error in ring.unusable() {
            tracing::error!(%error, "a managed key is left out: tokens signed with it are refused");
        }
        for key in ring.expired() {
            tracing::info!(
                key,
                "a previous key verifies no more, for the last of its tokens has expired: remove it from the configuration"
            );
        }
        let assertion_ring = load_assertion_keys(settings, now, access)?;
        let jwks = KeyRing::jwks([&ring].into_iter().chain(&assertion_ring))?;
        let assertions = assertion_ring.map(|ring| {
            Arc::new(ring.into_assertion_issuer(&settings.tokens.issuer, settings.upstream_assertion.ttl))
        });
        let keys = ring.keys();
        let compat = Some(&settings.compat).filter(|compat| compat.is_on());
        let (issuer, verifier) = ring.into_parts(&settings.tokens, compat);
        let (issuer, verifier) = (Arc::new(issuer), Arc::new(verifier));
        Ok(LoadedKeys { keys, jwks, issuer, verifier, assertions })
    }
}

/// The keys that sign assertions for upstreams, where one gets any.
///
/// # Errors
///
/// A key cannot be read, written or used.
pub(crate) fn load_assertion_keys(
    settings: &Settings,
    now: UnixSeconds,
    access: Access,
) -> Result<Option<KeyRing>, KeyError> {
    if !settings.has_assertions() {
        return Ok(None);
    }
    let UpstreamAssertion { private_key_file, ttl, .. } = &settings.upstream_assertion;
    let own_key = private_key_file.as_deref();
    KeyRing::load_for_assertions(&settings.tokens, own_key, *ttl, now, access).map(Some)
}
