//! Authentication of requests: their credentials, verified identities, and the token cache.

pub(crate) mod bearer;
pub(crate) mod claim_format;
pub(crate) mod credentials;
pub(crate) mod dpop;
pub(crate) mod identity;
pub(crate) mod token_cache;
