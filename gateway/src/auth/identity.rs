//! A verified identity and the header lines that tell it to upstreams.

use crate::auth::claim_format::push_claim;
use crate::config::IdentityHeader;
use crate::proxy::header_name_set::HeaderNameSet;
use crate::rejection::{Code, Rejection};
use crate::sessions::SessionId;
use crate::tokens::VerifiedClaims;

/// A claim value longer than this is not put into a field, in bytes.
pub(crate) const MAX_VALUE_LEN: usize = 4 * 1024;

/// Who is asking. Only verified claims become one.
#[derive(Debug)]
pub(crate) struct Identity {
    claims: VerifiedClaims,
    session: SessionId,
    header_lines: Box<[u8]>,
}

impl Identity {
    pub(crate) fn new(claims: VerifiedClaims, headers: &IdentityHeaders) -> Result<Identity, Rejection> {
        let session = claims
            .sid()
            .parse()
            .map_err(|_| Rejection::new(Code::InvalidToken, "the token names no session"))?;
        let header_lines = headers.lines(&claims)?;
        Ok(Identity { claims, session, header_lines })
    }

    pub(crate) fn claims(&self) -> &VerifiedClaims {
        &self.claims
    }

    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    /// `Name: value` lines, ready for the wire.
    pub(crate) fn header_lines(&self) -> &[u8] {
        &self.header_lines
    }

    pub(crate) fn has_one_of(&self, roles: &[String]) -> bool {
        roles.iter().any(|role| self.claims.roles().contains(role))
    }
}

/// Which claims are told under which names, and which names a client may therefore never use.
#[derive(Debug)]
pub(crate) struct IdentityHeaders {
    injected: Vec<IdentityHeader>,
    reserved: HeaderNameSet,
}

/// Reserved even where they are not injected: an upstream may still believe them.
const ALWAYS_RESERVED: [&str; 4] = ["X-Auth-User", "X-Auth-Subject", "X-Auth-Roles", "X-Auth-Session"];

impl IdentityHeaders {
    /// `of_routes` are further names under which some route tells a claim: an upstream may believe them on every route.
    pub(crate) fn new<'n>(
        injected: &'n [IdentityHeader],
        of_routes: impl Iterator<Item = &'n str>,
    ) -> IdentityHeaders {
        let names = injected.iter().map(|h| h.header.as_str()).chain(ALWAYS_RESERVED).chain(of_routes);
        IdentityHeaders { injected: injected.to_vec(), reserved: HeaderNameSet::new(names) }
    }

    /// Whether some upstream could take a field of that name for one of ours.
    pub(crate) fn reserves(&self, name: &[u8]) -> bool {
        self.reserved.contains(name)
    }

    /// The lines for a token's claims. A claim that is absent or is an object leaves its header absent.
    fn lines(&self, claims: &VerifiedClaims) -> Result<Box<[u8]>, Rejection> {
        let mut lines = Vec::with_capacity(256);
        for IdentityHeader { claim, header, format } in &self.injected {
            let Some(value) = claims.get(claim) else { continue };
            let start = lines.len();
            lines.extend_from_slice(header.as_bytes());
            lines.extend_from_slice(b": ");
            let value_start = lines.len();
            if !push_claim(value, format, &mut lines) {
                lines.truncate(start);
                continue;
            }
            if lines.len() - value_start > MAX_VALUE_LEN {
                return Err(Rejection::new(Code::HeadersTooLarge, "a claim is too large for a header field"));
            }
            lines.extend_from_slice(b"\r\n");
        }
        Ok(lines.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_that_folds_to_an_identity_header_is_reserved() {
        let own =
            IdentityHeader { claim: "email".into(), header: "X-Mail".into(), ..IdentityHeader::default() };
        let headers = IdentityHeaders::new(std::slice::from_ref(&own), ["X-Tenant"].into_iter());
        for name in [
            "X-Auth-User",
            "x-auth-user",
            "X_Auth_User",
            "X.Auth!User",
            "x-auth-roles",
            "X-MAIL",
            "x_mail",
            "x_tenant",
        ] {
            assert!(headers.reserves(name.as_bytes()), "{name}");
        }
        for name in ["X-Auth-Users", "X-Mai", "Accept", "XAuthUser"] {
            assert!(!headers.reserves(name.as_bytes()), "{name}");
        }
    }
}
