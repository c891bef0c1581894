//! `[[issuers]]`: where the keys of another issuer come from, and introspection of its tokens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::Secret;

/// What the gateway's own tokens are called in a route's `issuers`.
pub const OWN_ISSUER: &str = "own";

/// Where the keys come from that verify an issuer's tokens.
#[derive(Clone, PartialEq, Eq)]
pub enum IssuerKeys {
    /// The discovery document (`/.well-known/openid-configuration` below the issuer), which names the JWK set.
    Discovery(Url),
    /// `jwks_url`: a JWK set.
    Url(Url),
    /// `jwks_file`: a JWK set, with the file's content when the configuration was read.
    File {
        /// The file.
        path: PathBuf,
        /// Its content.
        content: Vec<u8>,
    },
    /// `secret` or `secret_file`, for HS*.
    Secret(Secret<Vec<u8>>),
    /// `algorithms = []`: no token is verified here, each is introspected.
    Nowhere,
}

impl IssuerKeys {
    /// Where they are fetched: the address of the JWK set, or of the document that names it.
    pub(crate) fn url(&self) -> Option<&Url> {
        match self {
            IssuerKeys::Discovery(url) | IssuerKeys::Url(url) => Some(url),
            IssuerKeys::File { .. } | IssuerKeys::Secret(_) | IssuerKeys::Nowhere => None,
        }
    }
}

/// Lest a secret be printed.
impl std::fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IssuerKeys::Discovery(url) => write!(f, "Discovery({url})"),
            IssuerKeys::Url(url) => write!(f, "Url({url})"),
            IssuerKeys::File { path, .. } => write!(f, "File({})", path.display()),
            IssuerKeys::Secret(_) => f.write_str("Secret(…)"),
            IssuerKeys::Nowhere => f.write_str("Nowhere"),
        }
    }
}

/// What an issuer's tokens are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenUse {
    /// Access tokens; an ID token is refused.
    Access,
    /// ID tokens; what is marked as an access token is refused.
    Id,
}

/// Introspection of tokens (RFC 7662).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introspection {
    /// `introspection_url`
    pub url: Url,
    /// `introspection_client_id`
    pub client_id: String,
    /// `introspection_client_secret`
    pub client_secret: Secret<Vec<u8>>,
    /// `introspection_cache_ttl`, default 30 s: how long an answer counts, never longer than the token.
    pub cache_ttl: Duration,
    /// `introspection_negative_ttl`, default 10 s: how long the answer counts that a token is not active.
    pub negative_ttl: Duration,
    /// `introspection_cache_size`, default 10,000 answers.
    pub cache_size: usize,
}

/// Names that are mapped to names.
pub type NameMap = BTreeMap<String, String>;
