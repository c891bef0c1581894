//! Identities by tokens of other issuers, on the routes that accept them: from the token cache, by verification, or after a wait for the
//! issuer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::auth::authenticate::{self, refused, require_fresh_revocations, revoked};
use crate::auth::bearer::Bearer;
use crate::identity::token_cache::CacheLookup;
use crate::identity::{Identity, OtherOrigin};
use crate::issuers::{Accepted, Introspected, IssuerSet, Jws, JwtError, OtherIssuer, Refetch, Verdict};
use crate::rejection::Rejection;
use crate::request::RequestContext;
use crate::telemetry::VerificationOutcome;
use crate::tokens::{TokenError, UnixSeconds, VerifiedClaims};

/// What is found out of a token at once.
pub(crate) enum Lookup {
    Found(Rc<Identity>),
    Pending(Pending),
}

/// A token that waits for its issuer.
pub(crate) struct Pending {
    token: String,
    /// The index of the issuer.
    index: usize,
    wait: Wait,
}

enum Wait {
    /// For new keys: how many fetches have finished so far.
    Keys(u64),
    Introspection(watch::Receiver<Option<Verdict>>),
}

/// How soon to come back where an issuer takes longer than it may.
const SLOW_ISSUER_RETRY: Duration = Duration::from_secs(1);

/// The identity of a bearer token of one of the `accepted` issuers, as far as that is known without waiting.
///
/// # Errors
///
/// The token is not accepted, or cannot be judged at the moment.
pub(crate) fn lookup(
    context: &RequestContext,
    bearer: Bearer<'_>,
    accepted: IssuerSet,
) -> Result<Lookup, Rejection> {
    let (worker, state, now) = (&context.worker, &context.state, context.now());
    let (leeway, revocations) = (state.config.verifier.leeway(), worker.gateway.sessions.revocations());
    let cached = state.token_cache.borrow_mut().get(bearer.as_bytes(), now, leeway, revocations);
    let not_accepted =
        || refused(worker, TokenError::Invalid("its issuer is not one of those that the route accepts"));
    match cached {
        CacheLookup::Expired => return Err(refused(worker, TokenError::Expired)),
        CacheLookup::Revoked => return Err(revoked(worker)),
        CacheLookup::Good(identity) => match identity.origin() {
            None if accepted.has_own() => {
                worker.metrics.verification(VerificationOutcome::Cached);
                require_fresh_revocations(worker, context.now_millis)?;
                return Ok(Lookup::Found(identity));
            }
            Some(origin) if accepted.has(origin.index) => {
                if origin.is_current(now) {
                    worker.metrics.verification(VerificationOutcome::Cached);
                    return Ok(Lookup::Found(identity));
                }
            }
            _ => return Err(not_accepted()),
        },
        CacheLookup::Unknown => {}
    }
    let token = bearer.token()?;
    let jws = Jws::parse(token);
    let named = jws.as_ref().and_then(|jws| Some((jws, state.config.issuers.named_by(jws)?)));
    match named {
        Some((_, (index, issuer))) if accepted.has(index) && issuer.introspects_all() => {
            introspect(context, token, index, issuer)
        }
        Some((jws, (index, issuer))) if accepted.has(index) => verify(context, token, jws, index, issuer),
        _ if jws.is_none()
            && let Some((index, issuer)) = state.config.issuers.introspecting(accepted) =>
        {
            introspect(context, token, index, issuer)
        }
        _ if accepted.has_own() => {
            let identity = authenticate::verify(worker, state, bearer, now)?;
            require_fresh_revocations(worker, context.now_millis)?;
            Ok(Lookup::Found(identity))
        }
        _ => Err(not_accepted()),
    }
}

/// The identity of a token after the answer that it waits for.
///
/// # Errors
///
/// The token is not accepted, or its issuer cannot be queried.
pub(crate) async fn resolve(context: &RequestContext, pending: Pending) -> Result<Rc<Identity>, Rejection> {
    let Pending { token, index, wait } = pending;
    let issuer = context.state.config.issuers.at(index);
    // A dry run has nothing that fetches.
    if context.worker.trace.is_some() {
        return Err(unavailable(context, issuer, SLOW_ISSUER_RETRY));
    }
    match wait {
        Wait::Keys(fetches) => {
            issuer.wait_for_fetch(fetches).await;
            if let Some(jws) = Jws::parse(&token)
                && let Lookup::Found(identity) = verify(context, &token, &jws, index, issuer)?
            {
                return Ok(identity);
            }
        }
        Wait::Introspection(mut verdict) => {
            // An error means that the issuer did not answer.
            let answered = timeout(issuer.timeout() * 2, verdict.wait_for(Option::is_some)).await;
            let verdict = answered.ok().and_then(Result::ok).and_then(|verdict| verdict.clone());
            if let Some(verdict) = verdict {
                return admit_introspected(context, &token, verdict, index, issuer);
            }
        }
    }
    Err(unavailable(context, issuer, SLOW_ISSUER_RETRY))
}

fn introspect(
    context: &RequestContext,
    token: &str,
    index: usize,
    issuer: &Arc<OtherIssuer>,
) -> Result<Lookup, Rejection> {
    match issuer.introspect(token, context.now()) {
        Some(Introspected::Known(verdict)) => {
            admit_introspected(context, token, verdict, index, issuer).map(Lookup::Found)
        }
        Some(Introspected::Pending(verdict)) => {
            let wait = Wait::Introspection(verdict);
            Ok(Lookup::Pending(Pending { token: token.to_owned(), index, wait }))
        }
        Some(Introspected::Busy) | None => Err(unavailable(context, issuer, SLOW_ISSUER_RETRY)),
    }
}

fn admit_introspected(
    context: &RequestContext,
    token: &str,
    verdict: Verdict,
    index: usize,
    issuer: &Arc<OtherIssuer>,
) -> Result<Rc<Identity>, Rejection> {
    issuer.count_introspected(&verdict.result);
    let accepted = verdict.result.map_err(|error| not_good(context, error))?;
    let Accepted { claims, valid_until } = accepted;
    let origin = OtherOrigin {
        issuer: Arc::clone(issuer),
        index,
        generation: issuer.generation(),
        valid_until,
        recheck_at: verdict.until,
    };
    admit(context, token, claims, origin)
}

fn verify(
    context: &RequestContext,
    token: &str,
    jws: &Jws<'_>,
    index: usize,
    issuer: &Arc<OtherIssuer>,
) -> Result<Lookup, Rejection> {
    let now = context.now();
    // Read before the keys: keys that change in between have the token verified again.
    let generation = issuer.generation();
    match issuer.verify(jws, now) {
        Ok(Accepted { claims, valid_until }) => {
            let issuer = Arc::clone(issuer);
            let origin = OtherOrigin { issuer, index, generation, valid_until, recheck_at: UnixSeconds::MAX };
            admit(context, token, claims, origin).map(Lookup::Found)
        }
        Err(JwtError::Token(error)) => Err(not_good(context, error)),
        Err(JwtError::UnknownKey) => match issuer.refetch(now) {
            Refetch::Wait(fetches) => {
                let wait = Wait::Keys(fetches);
                Ok(Lookup::Pending(Pending { token: token.to_owned(), index, wait }))
            }
            Refetch::UnknownKey => {
                issuer.count_unknown_key();
                Err(not_good(context, TokenError::Invalid("kid names no key of its issuer")))
            }
            Refetch::Unavailable(wait) => Err(unavailable(context, issuer, wait)),
        },
    }
}

/// Makes an identity of what an issuer says, and remembers it for this token.
fn admit(
    context: &RequestContext,
    token: &str,
    claims: VerifiedClaims,
    origin: OtherOrigin,
) -> Result<Rc<Identity>, Rejection> {
    let (worker, state) = (&context.worker, &context.state);
    // An id of no session, of the same length.
    let id = digest(&SHA256, format!("token of another issuer\0{token}").as_bytes());
    let session = URL_SAFE_NO_PAD.encode(&id.as_ref()[..16]).parse();
    let session = session.map_err(|_| Rejection::TokenWithoutSession)?;
    let identity = Identity::of_other_issuer(claims, &state.config.identity_headers, session, origin)?;
    let identity = Rc::new(identity);
    worker.metrics.verification(VerificationOutcome::Valid);
    let epoch = worker.gateway.sessions.revocations().epoch();
    state.token_cache.borrow_mut().insert(token.as_bytes(), Rc::clone(&identity), epoch);
    Ok(identity)
}

fn not_good(context: &RequestContext, error: TokenError) -> Rejection {
    if let Some(trace) = &context.worker.trace {
        trace.refused_token.replace(Some((error, None)));
    }
    refused(&context.worker, error)
}

fn unavailable(context: &RequestContext, issuer: &OtherIssuer, retry_after: Duration) -> Rejection {
    issuer.count_unavailable();
    context.worker.metrics.verification(VerificationOutcome::Unavailable);
    Rejection::IssuerUnavailable(retry_after)
}
