//! The identity behind a bearer token: from the token cache, or by verifying the signature.

use std::rc::Rc;

use crate::auth::bearer::Bearer;
use crate::auth::dpop;
use crate::config::Dpop;
use crate::identity::Identity;
use crate::identity::token_cache::CacheLookup;
use crate::rejection::Rejection;
use crate::request::RequestContext;
use crate::runtime::Worker;
use crate::sessions::personal_token::PresentedToken;
use crate::telemetry::VerificationOutcome;
use crate::tokens::{TokenError, TokenType, UnixSeconds};
use crate::worker_state::WorkerState;

/// The identity of a request to an endpoint.
///
/// # Errors
///
/// There is none, or its token is not good.
pub(crate) async fn authenticate_endpoint(context: &RequestContext) -> Result<Rc<Identity>, Rejection> {
    let mode = context.state.config.settings.tokens.dpop;
    let bearer = Bearer::of_either(&context.head, mode != Dpop::Off)?;
    let bearer = bearer.ok_or_else(|| missing(&context.worker))?;
    let identity = authenticate(&context.worker, &context.state, bearer, context.now())?;
    dpop::require_and_claim(context, mode, bearer, &identity).await?;
    Ok(identity)
}

/// The identity of a request's bearer token. A token that is bound to a key must not be used before its proof was required: see
/// [`dpop::require_binding`].
pub(crate) fn authenticate(
    worker: &Worker,
    state: &WorkerState,
    bearer: Bearer<'_>,
    now: UnixSeconds,
) -> Result<Rc<Identity>, Rejection> {
    let (leeway, revocations) = (state.config.verifier.leeway(), worker.gateway.sessions.revocations());
    let cached = state.token_cache.borrow_mut().get(bearer.as_bytes(), now, leeway, revocations);
    match cached {
        CacheLookup::Good(identity) if identity.origin().is_some() => {
            Err(refused(worker, TokenError::Invalid("only the gateway's own tokens are accepted here")))
        }
        CacheLookup::Good(identity) => {
            worker.metrics.verification(VerificationOutcome::Cached);
            Ok(identity)
        }
        CacheLookup::Expired => Err(refused(worker, TokenError::Expired)),
        CacheLookup::Revoked => Err(revoked(worker)),
        CacheLookup::Unknown => verify(worker, state, bearer, now),
    }
}

/// The identity of one of the gateway's own tokens that is not in the cache.
pub(super) fn verify(
    worker: &Worker,
    state: &WorkerState,
    bearer: Bearer<'_>,
    now: UnixSeconds,
) -> Result<Rc<Identity>, Rejection> {
    let (config, revocations) = (&*state.config, worker.gateway.sessions.revocations());
    let token = bearer.token()?;
    if PresentedToken::is_meant_by(bearer.as_bytes()) {
        return Err(Rejection::PersonalTokenNotHere);
    }
    // Read before the lookup: a revocation in between makes the cache check again.
    let epoch = revocations.epoch();
    let claims = config.verifier.verify(token, TokenType::Access, now).map_err(|error| {
        if let Some(trace) = &worker.trace {
            trace.refused_token.replace(Some((error, config.verifier.verify_signed(token, now).ok())));
        }
        refused(worker, error)
    })?;
    if config.issuers.reserve(claims.subject()) {
        return Err(refused(worker, TokenError::Invalid("sub is in the namespace of another issuer")));
    }
    let identity = Rc::new(Identity::new(claims, &config.identity_headers)?);
    if revocations.is_revoked(identity.session()) {
        return Err(revoked(worker));
    }
    worker.metrics.verification(VerificationOutcome::Valid);
    state.token_cache.borrow_mut().insert(bearer.as_bytes(), Rc::clone(&identity), epoch);
    Ok(identity)
}

/// Rejects requests while the revocation set is stale, as configured by `store.redis.revocation`.
pub(crate) fn require_fresh_revocations(worker: &Worker, now_millis: u64) -> Result<(), Rejection> {
    if worker.gateway.sessions.revocations().are_trusted(now_millis) {
        return Ok(());
    }
    Err(Rejection::RevocationsUnknown)
}

/// The rejection of a request without a token.
pub(crate) fn missing(worker: &Worker) -> Rejection {
    worker.metrics.verification(VerificationOutcome::Missing);
    Rejection::AccessTokenMissing
}

/// The rejection of a token of a revoked session.
pub(super) fn revoked(worker: &Worker) -> Rejection {
    worker.metrics.verification(VerificationOutcome::Revoked);
    Rejection::SessionEnded
}

pub(super) fn refused(worker: &Worker, error: TokenError) -> Rejection {
    worker.metrics.verification(match error {
        TokenError::Invalid(_) => VerificationOutcome::Invalid,
        TokenError::Expired => VerificationOutcome::Expired,
        TokenError::NotYetValid => VerificationOutcome::NotYetValid,
        TokenError::WrongType => VerificationOutcome::WrongType,
    });
    refusal(error)
}

/// The rejection of an invalid token. The exact error of a forged one is only logged.
pub(crate) fn refusal(error: TokenError) -> Rejection {
    match error {
        TokenError::Invalid(reason) => {
            tracing::debug!(reason, "token refused");
            Rejection::TokenInvalid(reason)
        }
        TokenError::Expired => Rejection::TokenExpired,
        TokenError::NotYetValid => Rejection::TokenNotYetValid,
        TokenError::WrongType => Rejection::TokenOfWrongType,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_learns_no_more_of_a_bad_token_than_it_may() {
        for (error, rejection) in [
            (
                TokenError::Invalid("the signature does not match"),
                Rejection::TokenInvalid("the signature does not match"),
            ),
            (TokenError::Expired, Rejection::TokenExpired),
            (TokenError::NotYetValid, Rejection::TokenNotYetValid),
            (TokenError::WrongType, Rejection::TokenOfWrongType),
        ] {
            assert_eq!(refusal(error), rejection);
        }
    }
}
