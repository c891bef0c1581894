//! Authentication: from bearer token to identity, through the token cache or by verifying the signature.

use std::rc::Rc;

use crate::auth::bearer::Bearer;
use crate::auth::identity::Identity;
use crate::auth::token_cache::CacheLookup;
use crate::config::Access;
use crate::layers::route::{Forwarding, Route, Target};
use crate::proxy::websocket;
use crate::rejection::Rejection;
use crate::request::{Authenticated, RequestView, Routed};
use crate::runtime::Worker;
use crate::telemetry::VerificationOutcome;
use crate::tokens::{TokenError, TokenType, UnixSeconds};
use crate::worker_state::WorkerState;

/// The step from [`Routed`] to [`Authenticated`]. The body has not been read so far, so a client that waits
/// for `100 Continue` gets its 401 instead.
pub(crate) fn authenticate_request(routed: Routed) -> Result<Authenticated, Rejection> {
    let (context, route) = (routed.context(), routed.route());
    if route.access == Access::Public || context.is_passed_preflight() {
        return Ok(Authenticated::new(routed, None));
    }
    let credentials = credentials(route, routed.view())?;
    let identity = authenticate(&context.worker, &context.state, credentials, context.now())?;
    if identity.is_some() {
        context.record.identity.replace(identity.clone());
        require_fresh_revocations(&context.worker, context.now_millis)?;
    }
    Ok(Authenticated::new(routed, identity))
}

/// The bearer credentials of a request, from where its route accepts them.
pub(crate) fn credentials<'r>(
    route: &Route,
    request: RequestView<'r>,
) -> Result<Option<Bearer<'r>>, Rejection> {
    let bearer = Bearer::of(request.head())?;
    let Target::Upstream(Forwarding { token_in_subprotocol: true, .. }) = route.target else {
        return Ok(bearer);
    };
    match (bearer, websocket::token(request)?) {
        (Some(_), Some(_)) => Err(Rejection::TokenInTwoPlaces),
        (bearer, token) => Ok(bearer.or(token)),
    }
}

/// The identity of a request's bearer token, or `None` if it has none.
pub(crate) fn authenticate(
    worker: &Worker,
    state: &WorkerState,
    bearer: Option<Bearer<'_>>,
    now: UnixSeconds,
) -> Result<Option<Rc<Identity>>, Rejection> {
    let Some(bearer) = bearer else { return Ok(None) };
    let revocations = worker.gateway.sessions.revocations();
    let config = &*state.config;
    let leeway = config.verifier.leeway();
    match state.token_cache.borrow_mut().get(bearer.as_bytes(), now, leeway, revocations) {
        CacheLookup::Good(identity) => {
            worker.metrics.verification(VerificationOutcome::Cached);
            return Ok(Some(identity));
        }
        CacheLookup::Expired => return Err(refused(worker, TokenError::Expired)),
        CacheLookup::Revoked => return Err(revoked(worker)),
        CacheLookup::Unknown => {}
    }
    let token = bearer.token()?;
    // Read before the lookup: a revocation in between makes the cache check again.
    let epoch = revocations.epoch();
    let claims = config.verifier.verify(token, TokenType::Access, now).map_err(|error| {
        if let Some(trace) = &worker.trace {
            trace.refused_token.replace(Some((error, config.verifier.verify_signed(token, now).ok())));
        }
        refused(worker, error)
    })?;
    let identity = Rc::new(Identity::new(claims, &config.identity_headers)?);
    if revocations.is_revoked(identity.session()) {
        return Err(revoked(worker));
    }
    worker.metrics.verification(VerificationOutcome::Valid);
    state.token_cache.borrow_mut().insert(bearer.as_bytes(), Rc::clone(&identity), epoch);
    Ok(Some(identity))
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
fn revoked(worker: &Worker) -> Rejection {
    worker.metrics.verification(VerificationOutcome::Revoked);
    Rejection::SessionEnded
}

fn refused(worker: &Worker, error: TokenError) -> Rejection {
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
