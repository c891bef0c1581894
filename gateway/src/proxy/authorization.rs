//! `Authorization` on its way to an upstream: the client's, one of the gateway's own, or none.

use crate::auth::basic::password_in;
use crate::config::{Access, Dpop, UpstreamAuthorization};
use crate::http1::HeaderKind;
use crate::request::{Authorized, RequestContext};
use crate::routing::Forwarding;
use crate::sessions::personal_token::PresentedToken;
use crate::tokens::{UnixSeconds, Verifier};

/// Whether the client's `Authorization` reaches the upstream. Where the gateway itself looks for tokens the field is for the
/// gateway, unless the route says otherwise; on public routes it is the app's.
pub(crate) fn passes(request: &Authorized, forwarding: &Forwarding) -> bool {
    match forwarding.authorization {
        UpstreamAuthorization::Forwarded => true,
        // A browser's session is in its cookies, and the field is the app's.
        UpstreamAuthorization::Removed if !request.is_by_cookie() => false,
        UpstreamAuthorization::Removed | UpstreamAuthorization::AppsOwn => {
            let context = request.context();
            let (verifier, now) = (&context.state.config.verifier, context.now());
            let mut fields = request.view().headers().of_kind(HeaderKind::Authorization);
            !fields.any(|field| has_own_token(field.value, verifier, now))
        }
        UpstreamAuthorization::Set(_) => false,
    }
}

/// Whether the client's `DPoP` reaches the upstream: with `Authorization`, and where the gateway asks for no proofs it is the app's.
pub(crate) fn passes_proof(context: &RequestContext, passes_authorization: bool) -> bool {
    passes_authorization || context.state.config.settings.tokens.dpop == Dpop::Off
}

/// What replaces the client's `Authorization`. A preflight that skipped the authentication of its route does not act for the gateway.
pub(crate) fn of_route<'f>(request: &Authorized, forwarding: &'f Forwarding) -> Option<&'f str> {
    let skipped = request.context().is_passed_preflight() && request.route().access == Access::Authenticated;
    match &forwarding.authorization {
        UpstreamAuthorization::Set(value) if !skipped => Some(value.as_str()),
        _ => None,
    }
}

/// Whether one of the words of a field says that it is a token of this gateway, or is Basic with one as the password: clients send
/// those along everywhere.
fn has_own_token(value: &[u8], verifier: &Verifier, now: UnixSeconds) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let is_password = || password_in(value).is_some_and(|password| is_personal(password.as_bytes()));
    text.split([' ', '\t', ','])
        .map(|word| word.trim_matches('"'))
        .any(|word| is_personal(word.as_bytes()) || verifier.names_this_issuer(word, now))
        || is_password()
}

fn is_personal(text: &[u8]) -> bool {
    PresentedToken::is_meant_by(text)
        && std::str::from_utf8(text).is_ok_and(|text| PresentedToken::parse(text).is_some())
}
