//! Who is asking: from bearer token to identity, by memory or by signature.

use std::rc::Rc;

use super::Worker;
use super::bearer::bearer_token;
use super::identity::Identity;
use super::snapshot::Snapshot;
use super::token_cache::Known;
use crate::problem::{Code, Rejection};
use crate::telemetry::VerificationOutcome;
use crate::tokens::{TokenError, TokenType, UnixSeconds, VerifiedClaims};
use crate::wire::RequestHead;

/// The identity behind the request's bearer token, or `None` if it carries none.
pub(crate) fn authenticate(
    worker: &Worker,
    snapshot: &Snapshot,
    head: &RequestHead,
    now: UnixSeconds,
) -> Result<Option<Rc<Identity>>, Rejection> {
    let Some(token) = bearer_token(head)? else { return Ok(None) };
    let revocations = worker.gateway.sessions.revocations();
    let leeway = snapshot.verifier.leeway();
    match worker.token_cache.borrow_mut().get(token, now, leeway, revocations) {
        Known::Good(identity) => {
            worker.metrics.verification(VerificationOutcome::Cached);
            return Ok(Some(identity));
        }
        Known::Expired => return Err(refused(worker, TokenError::Expired)),
        Known::Revoked => return Err(revoked(worker)),
        Known::Unknown => {}
    }
    // Read before the look-up: a revocation in between makes the cache look again.
    let epoch = revocations.epoch();
    let claims = verify(worker, snapshot, token, TokenType::Access, now)?;
    let identity = Rc::new(Identity::new(claims, &snapshot.identity_headers)?);
    if revocations.is_revoked(identity.session()) {
        return Err(revoked(worker));
    }
    worker.metrics.verification(VerificationOutcome::Valid);
    worker.token_cache.borrow_mut().insert(token, Rc::clone(&identity), epoch);
    Ok(Some(identity))
}

/// Verifies a token and counts the outcome.
pub(crate) fn verify(
    worker: &Worker,
    snapshot: &Snapshot,
    token: &str,
    expected: TokenType,
    now: UnixSeconds,
) -> Result<VerifiedClaims, Rejection> {
    snapshot.verifier.verify(token, expected, now).map_err(|e| refused(worker, e))
}

/// The refusal for a request without a token.
pub(crate) fn missing(worker: &Worker) -> Rejection {
    worker.metrics.verification(VerificationOutcome::Missing);
    Rejection::new(Code::MissingToken, "this route needs an access token")
}

/// The refusal for a token of a session that is over.
pub(crate) fn revoked(worker: &Worker) -> Rejection {
    worker.metrics.verification(VerificationOutcome::Revoked);
    Rejection::new(Code::TokenRevoked, "the session was ended")
}

fn refused(worker: &Worker, error: TokenError) -> Rejection {
    let (outcome, code, detail) = match error {
        TokenError::Invalid(reason) => {
            tracing::debug!(reason, "token refused");
            (VerificationOutcome::Invalid, Code::InvalidToken, "the token is malformed, forged or not from here")
        }
        TokenError::Expired => (VerificationOutcome::Expired, Code::TokenExpired, "expired"),
        TokenError::NotYetValid => (VerificationOutcome::NotYetValid, Code::TokenNotYetValid, "not valid yet"),
        TokenError::WrongType => (VerificationOutcome::WrongType, Code::WrongTokenType, "of the wrong type"),
    };
    worker.metrics.verification(outcome);
    Rejection::new(code, detail)
}
