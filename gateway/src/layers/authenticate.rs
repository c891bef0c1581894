//! Who is asking: from bearer token to identity, by memory or by signature.

use std::rc::Rc;
use std::time::Duration;

use crate::auth::bearer::Bearer;
use crate::auth::identity::Identity;
use crate::auth::token_cache::Known;
use crate::rejection::{Code, Rejection};
use crate::runtime::Worker;
use crate::telemetry::VerificationOutcome;
use crate::tokens::{TokenError, TokenType, UnixSeconds};
use crate::worker_state::Serving;

/// The identity behind a request's bearer token, or `None` if it carries none.
pub(crate) fn authenticate(
    worker: &Worker,
    serving: &Serving,
    bearer: Option<Bearer<'_>>,
    now: UnixSeconds,
) -> Result<Option<Rc<Identity>>, Rejection> {
    let Some(bearer) = bearer else { return Ok(None) };
    let revocations = worker.gateway.sessions.revocations();
    let snapshot = &*serving.snapshot;
    let leeway = snapshot.verifier.leeway();
    match serving.token_cache.borrow_mut().get(bearer.as_bytes(), now, leeway, revocations) {
        Known::Good(identity) => {
            worker.metrics.verification(VerificationOutcome::Cached);
            return Ok(Some(identity));
        }
        Known::Expired => return Err(refused(worker, TokenError::Expired)),
        Known::Revoked => return Err(revoked(worker)),
        Known::Unknown => {}
    }
    let token = bearer.token()?;
    // Read before the look-up: a revocation in between makes the cache look again.
    let epoch = revocations.epoch();
    let claims = snapshot.verifier.verify(token, TokenType::Access, now).map_err(|e| refused(worker, e))?;
    let identity = Rc::new(Identity::new(claims, &snapshot.identity_headers)?);
    if revocations.is_revoked(identity.session()) {
        return Err(revoked(worker));
    }
    worker.metrics.verification(VerificationOutcome::Valid);
    serving.token_cache.borrow_mut().insert(bearer.as_bytes(), Rc::clone(&identity), epoch);
    Ok(Some(identity))
}

/// Refuses where it has not been heard for too long which sessions were ended; `store.redis.revocation` says how long
/// that is.
pub(crate) fn heard(worker: &Worker, now_millis: u64) -> Result<(), Rejection> {
    if worker.gateway.sessions.revocations().are_trusted(now_millis) {
        return Ok(());
    }
    let detail = "it is not known at the moment which sessions were ended";
    Err(Rejection::new(Code::StoreUnavailable, detail).retry_after(Duration::from_secs(2)))
}

/// The refusal for a request without a token.
pub(crate) fn missing(worker: &Worker) -> Rejection {
    worker.metrics.verification(VerificationOutcome::Missing);
    Rejection::new(Code::MissingToken, "this route needs an access token")
}

/// The refusal for a token of a session that is over.
fn revoked(worker: &Worker) -> Rejection {
    worker.metrics.verification(VerificationOutcome::Revoked);
    Rejection::new(Code::TokenRevoked, "the session was ended")
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

/// What the client is told of a token that is not good. The exact fault of a forged one is for the log.
pub(crate) fn refusal(error: TokenError) -> Rejection {
    let (code, detail) = match error {
        TokenError::Invalid(reason) => {
            tracing::debug!(reason, "token refused");
            (Code::InvalidToken, "the token is malformed, forged or not from here")
        }
        TokenError::Expired => (Code::TokenExpired, "the token has expired"),
        TokenError::NotYetValid => (Code::TokenNotYetValid, "the token is not valid yet"),
        TokenError::WrongType => (Code::WrongTokenType, "the token is of the wrong type"),
    };
    Rejection::new(code, detail)
}
