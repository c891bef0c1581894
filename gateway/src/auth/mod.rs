//! Who is asking: the credentials of a request, the identity that verified claims make, and the cache of verified tokens.

pub(crate) mod bearer;
pub(crate) mod credentials;
pub(crate) mod identity;
pub(crate) mod token_cache;
