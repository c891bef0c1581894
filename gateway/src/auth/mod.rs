//! Authentication of requests: their credentials, verified identities, and the token cache.

pub(crate) mod assertion_cache;
pub(crate) mod basic;
pub(crate) mod bearer;
pub(crate) mod claim_format;
pub(crate) mod credentials;
pub(crate) mod dpop;
pub(crate) mod identity;
pub(crate) mod password_memory;
pub(crate) mod required_claim;
pub(crate) mod token_cache;
