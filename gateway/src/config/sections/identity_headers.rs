//! `[identity_headers]`: claims that upstreams get, and their header names.

use crate::config::declaration::{Key, Shape, section};
use crate::config::diagnostic::Diagnostic;
use crate::config::did_you_mean::suggest;
use crate::config::entry::{Entry, InvalidValue, quoted};
use crate::config::source_span::SourceSpan;
use crate::config::table::Table;

/// One entry of `[identity_headers]`, which maps claims to header names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityHeader {
    /// The claim's name.
    pub claim: String,
    /// The header's name, in the spelling it is sent with.
    pub header: String,
}

section! {
    /// Headers in which the upstream gets claims of the verified token; "" switches one off. Other claims
    /// (iss, aud, exp, jti, ...) can be added. Headers with these names that clients send are removed.
    pub(super) struct DefaultHeaders {
        /// The user's name.
        username: () = name("X-Auth-User");
        /// The user's id.
        sub: () = name("X-Auth-Subject");
        /// The user's roles, separated by commas.
        roles: () = name("X-Auth-Roles");
        /// The session's id.
        sid: () = name("X-Auth-Session");
    }
}

/// Only declared here: names are read together with those of other claims.
fn name(default: &'static str) -> Key<()> {
    Key::new(Shape::Text, |_| ()).standard(default)
}

pub(super) const DEFAULTS: [(&str, &str); 4] = [
    ("username", "X-Auth-User"),
    ("sub", "X-Auth-Subject"),
    ("roles", "X-Auth-Roles"),
    ("sid", "X-Auth-Session"),
];

/// The claims of the gateway's tokens.
const CLAIMS: [&str; 11] =
    ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "type", "username", "roles"];

/// Fields that frame a message, are hop-by-hop, carry credentials, or are set by the gateway. A claim under
/// such a name could smuggle a request or forge its origin.
const RESERVED: &str = "authorization connection cookie date expect forwarded host http2-settings keep-alive origin proxy range \
    set-cookie te trailer trailers transfer-encoding upgrade via x-real-ip x-request-id www-authenticate \
    x-original-url x-rewrite-url x-http-method-override";

const RESERVED_PREFIXES: [&str; 3] = ["content-", "proxy-", "x-forwarded-"];

pub(super) fn identity_headers(table: &Table<'_>) -> Vec<IdentityHeader> {
    let mut headers: Vec<(IdentityHeader, SourceSpan)> = DEFAULTS
        .iter()
        .map(|(claim, header)| {
            (IdentityHeader { claim: (*claim).into(), header: (*header).into() }, SourceSpan::Nowhere)
        })
        .collect();
    for (claim, entry) in table.entries() {
        let Some(header) = entry.parse(header_name) else { continue };
        warn_of_unknown_claim(&claim, &entry);
        let placed = (IdentityHeader { claim, header }, entry.place());
        match headers.iter_mut().find(|(known, _)| known.claim == placed.0.claim) {
            Some(known) => *known = placed,
            None => headers.push(placed),
        }
    }
    headers.retain(|(header, _)| !header.header.is_empty());
    // Configured ones come last, so that a diagnostic points at them rather than at a default.
    let mut by_origin: Vec<_> = headers.iter().collect();
    by_origin.sort_by_key(|(_, place)| !place.is_unknown_place());
    for (i, (one, place)) in by_origin.iter().enumerate() {
        let twin = by_origin[..i].iter().find(|(other, _)| fold(&other.header) == fold(&one.header));
        if let Some((other, other_place)) = twin {
            table.report().push(
                Diagnostic::error(format!(
                    "the claims `{}` and `{}` would both be sent as {}",
                    other.claim,
                    one.claim,
                    quoted(&one.header)
                ))
                .at(place.clone())
                .related(format!("the header of `{}` is here", other.claim), other_place.clone())
                .help(format!(
                    "give `{}` another header, or switch `{}` off with \"\"",
                    one.claim, other.claim
                )),
            );
        }
    }
    headers.into_iter().map(|(header, _)| header).collect()
}

fn warn_of_unknown_claim(claim: &str, entry: &Entry<'_>) {
    if !CLAIMS.contains(&claim) {
        entry.warn(
            "unknown-claim",
            InvalidValue {
                message: format!(
                    "the gateway's tokens have no claim {}, so this is never sent",
                    quoted(claim)
                ),
                help: suggest("claims", claim, &CLAIMS),
            },
        );
    }
}

/// The normalised spelling: names with the same one may be one field to an upstream.
pub(super) fn fold(header: &str) -> String {
    header.to_ascii_lowercase().replace('_', "-")
}

fn header_name(text: &str) -> Result<String, InvalidValue> {
    let folded = fold(text);
    let reserved = RESERVED.split(' ').any(|name| name == folded)
        || RESERVED_PREFIXES.iter().any(|prefix| folded.starts_with(prefix));
    if reserved {
        return Err(InvalidValue::new(format!("the header {} may not carry a claim", quoted(text))).help(
            "it has a meaning of its own in HTTP or is set by the gateway: use a name such as X-Auth-User",
        ));
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') || text.starts_with('-') {
        return Err(InvalidValue::new(format!("{} is not a header name for a claim", quoted(text)))
            .help("use letters, digits and hyphens, such as X-Auth-User"));
    }
    if text.len() > 64 {
        return Err(InvalidValue::new("the header name is longer than 64 characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_diagnostics, load_text, minimal, settings};

    fn pairs(config: &str) -> Vec<(String, String)> {
        let settings = settings(minimal() + "[identity_headers]\n" + config);
        settings.identity_headers.into_iter().map(|h| (h.claim, h.header)).collect()
    }

    #[test]
    fn defaults_can_be_renamed_switched_off_and_added_to() {
        assert_eq!(pairs("")[0], ("username".into(), "X-Auth-User".into()));
        assert_eq!(pairs("").len(), 4);
        let changed = pairs("sub = \"Remote-User\"\nsid = \"\"\niss = \"X-Auth-Issuer\"");
        assert_eq!(changed.len(), 4);
        assert!(changed.contains(&("sub".into(), "Remote-User".into())));
        assert!(!changed.iter().any(|(claim, _)| claim == "sid"));
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for header in [
            "Host",
            "content-length",
            "Transfer_Encoding",
            "CONNECTION",
            "te",
            "Trailer",
            "Upgrade",
            "Via",
            "Authorization",
            "Cookie",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_user",
            "X-Request-Id",
            "Keep-Alive",
            "Proxy-Authorization",
            "Proxy",
        ] {
            load_diagnostics(minimal() + &format!("[identity_headers]\nsub = \"{header}\""))
                .only("`identity_headers.sub`: the header", "X-Auth-User");
        }
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        for header in [":authority", "X Auth", "X-Äuth", "X_Auth", "X-Auth\\r\\nHost: a", "-x"] {
            load_diagnostics(minimal() + &format!("[identity_headers]\nsub = \"{header}\""))
                .only("is not a header name", "letters, digits and hyphens");
        }
    }

    #[test]
    fn two_claims_on_one_header_are_refused() {
        load_diagnostics(minimal() + "[identity_headers]\nsub = \"x-auth-user\"").only(
            "the claims `username` and `sub` would both be sent as `x-auth-user`",
            "switch `username` off",
        );
        let complaints = load_diagnostics(minimal() + "[identity_headers]\nusername = \"x-auth-roles\"");
        complaints.only("the claims `roles` and `username` would both be sent", "");
        assert!(complaints.text().contains("--> a.toml:"));
        pairs("sub = \"X-Auth-User\"\nusername = \"\"");
    }

    #[test]
    fn a_claim_that_no_token_has_is_warned_about() {
        let loaded = load_text(minimal() + "[identity_headers]\nusrname = \"X-Name\"").unwrap();
        assert!(loaded.warnings.to_string().contains("did you mean `username`?"));
    }
}
