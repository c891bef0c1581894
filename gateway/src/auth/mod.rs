//! Who is asking: Bearer credentials in a request, the identity that verified claims make, and the cache of verified tokens.

pub(crate) mod bearer;
pub(crate) mod claim_format;
pub(crate) mod identity;
pub(crate) mod token_cache;
