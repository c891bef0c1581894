//! Proofs of possession (DPoP, RFC 9449) of requests: which one is expected, whether it is good, and that it is used once.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderName;

use crate::auth::bearer::{Bearer, Scheme};
use crate::config::{Dpop, Revocation, Store};
use crate::http1::{CanonicalTarget, HeaderKind};
use crate::identity::Identity;
use crate::rejection::store_unavailable;
use crate::rejection::{ProofProblem, ProofRefusal, Rejection};
use crate::request::RequestContext;
use crate::response::{Response, header_value};
use crate::routing::Route;
use crate::telemetry::ProofOutcome;
use crate::tokens::KeyThumbprint;
use crate::tokens::dpop::{Claimed, ExpectedProof, HttpUri, NonceState, ProofId, verify};

/// The nonce that clients are given.
pub(crate) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Whether a route takes tokens that are bound to keys.
pub(crate) fn mode(route: &Route, context: &RequestContext) -> Dpop {
    route.dpop.unwrap_or(context.state.config.settings.tokens.dpop)
}

/// The same for the request's route, or for the gateway's endpoints where it has none.
pub(crate) fn mode_of_request(context: &RequestContext) -> Dpop {
    context.route().map_or(context.state.config.settings.tokens.dpop, |route| mode(route, context))
}

/// What a proof is sent with.
#[derive(Debug, Clone, Copy)]
enum Purpose<'r> {
    /// A login or a refresh, with the refresh token.
    TokenRequest(Option<&'r [u8]>),
    /// Any other request, with the token that it uses.
    Use(&'r [u8]),
}

/// A good proof, not used yet.
#[derive(Debug)]
#[must_use = "a proof that is not claimed can be used again"]
pub(crate) struct CheckedProof {
    pub(crate) key: KeyThumbprint,
    id: ProofId,
    of_token_request: bool,
    /// Whether the response has to bring a newer nonce.
    renew_nonce: bool,
}

/// Requires what a token needs to be used: none that is bound goes without the proof of its key, whatever the scheme is called.
///
/// # Errors
///
/// The token and how it was sent do not fit each other, or the proof is not good.
pub(crate) fn require_binding(
    context: &RequestContext,
    mode: Dpop,
    bearer: Bearer<'_>,
    key: Option<KeyThumbprint>,
) -> Result<Option<CheckedProof>, Rejection> {
    match (bearer.scheme(), key) {
        (Scheme::Bearer, None) if mode == Dpop::Required => Err(Rejection::DpopTokenUnbound),
        (Scheme::Bearer, None) => Ok(None),
        (Scheme::Bearer, Some(_)) => {
            record(context, ProofOutcome::Missing);
            Err(Rejection::DpopTokenAsBearer)
        }
        (Scheme::Dpop { .. }, None) => Err(Rejection::DpopTokenUnbound),
        (Scheme::Dpop { proof }, Some(key)) => {
            let proof = proof.map(Cow::Borrowed);
            let proof = proof.map_or_else(|| field(context, false), |proof| Ok(Some(proof)))?;
            let proof = proof.ok_or_else(|| missing(context, false))?;
            let checked = check(context, &proof, Purpose::Use(bearer.as_bytes()))?;
            if checked.key != key {
                record(context, ProofOutcome::WrongKey);
                return Err(Rejection::DpopKeyMismatch);
            }
            Ok(Some(checked))
        }
    }
}

/// The proof that comes with a login or, with its token, a refresh.
///
/// # Errors
///
/// It is not good, or missing where it is required.
pub(crate) fn of_token_request(
    context: &RequestContext,
    token: Option<&[u8]>,
) -> Result<Option<CheckedProof>, Rejection> {
    let mode = context.state.config.settings.tokens.dpop;
    if mode == Dpop::Off {
        return Ok(None);
    }
    match field(context, true)? {
        Some(proof) => check(context, &proof, Purpose::TokenRequest(token)).map(Some),
        None if mode == Dpop::Required => Err(missing(context, true)),
        None => Ok(None),
    }
}

/// Requires that a refresh token is redeemed with its key.
///
/// # Errors
///
/// The proof is missing, or was made with another key.
pub(crate) fn require_key(
    context: &RequestContext,
    key: Option<KeyThumbprint>,
    proof: Option<&CheckedProof>,
) -> Result<(), Rejection> {
    match (key, proof) {
        (None, _) => Ok(()),
        (Some(key), Some(proof)) if proof.key == key => Ok(()),
        (Some(_), Some(_)) => {
            record(context, ProofOutcome::WrongKey);
            Err(Rejection::DpopKeyMismatch)
        }
        (Some(_), None) if context.state.config.settings.tokens.dpop == Dpop::Off => {
            Err(Rejection::DpopTokenAsBearer)
        }
        (Some(_), None) => Err(missing(context, true)),
    }
}

fn missing(context: &RequestContext, of_token_request: bool) -> Rejection {
    record(context, ProofOutcome::Missing);
    let problem = ProofProblem::Invalid("a proof is needed in the field DPoP");
    Rejection::DpopProof(ProofRefusal { problem, of_token_request })
}

/// The field `DPoP`, if there is one.
fn field(context: &RequestContext, of_token_request: bool) -> Result<Option<Cow<'_, [u8]>>, Rejection> {
    let mut fields = context.head.headers().of_kind(HeaderKind::Dpop);
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        record(context, ProofOutcome::Invalid);
        let problem = ProofProblem::Invalid("more than one DPoP field");
        return Err(Rejection::DpopProof(ProofRefusal { problem, of_token_request }));
    }
    Ok(Some(Cow::Borrowed(field.value)))
}

fn check(context: &RequestContext, proof: &[u8], purpose: Purpose<'_>) -> Result<CheckedProof, Rejection> {
    let (of_token_request, token) = match purpose {
        Purpose::TokenRequest(token) => (true, token),
        Purpose::Use(token) => (false, Some(token)),
    };
    let refuse = |outcome, problem| {
        record(context, outcome);
        Rejection::DpopProof(ProofRefusal { problem, of_token_request })
    };
    let (config, now) = (&context.state.config, context.now());
    let uri = request_uri(context);
    let expected = |uri| ExpectedProof {
        method: context.head.method().as_str(),
        uri,
        token,
        token_hash_required: !of_token_request,
        now,
        max_age: config.settings.tokens.dpop_max_age,
        leeway: config.settings.tokens.dpop_leeway,
    };
    let verified = match (std::str::from_utf8(proof), &uri) {
        (Ok(proof), Some(uri)) => verify(proof, &expected(uri)),
        (Err(_), _) => Err("the proof is not ASCII"),
        (_, None) => Err("the request has no address that a proof can name"),
    };
    let proof = verified.map_err(|reason| {
        tracing::debug!(reason, uri = uri.as_ref().map(HttpUri::as_str), "proof refused");
        refuse(ProofOutcome::Invalid, ProofProblem::Invalid(reason))
    })?;
    let nonce = config
        .nonces
        .as_ref()
        .map(|nonces| proof.nonce.as_deref().map_or(NonceState::Unknown, |nonce| nonces.state(nonce, now)));
    if nonce == Some(NonceState::Unknown) {
        return Err(refuse(ProofOutcome::Nonce, ProofProblem::Nonce));
    }
    let renew_nonce = nonce == Some(NonceState::Neighbour);
    Ok(CheckedProof { key: proof.key, id: proof.id, of_token_request, renew_nonce })
}

/// The address of the request as its client wrote it: before proxies that are trusted have changed anything.
fn request_uri(context: &RequestContext) -> Option<HttpUri> {
    let head = &context.head;
    let origin = context.own_origin();
    let target = CanonicalTarget::parse(head.method(), head.target()).ok()?;
    let path = context.client.prefix(head) + target.as_str();
    HttpUri::new(origin.scheme.name(), &origin.host_with_port(), &path)
}

fn record(context: &RequestContext, outcome: ProofOutcome) {
    context.record.dpop.set(Some(outcome));
    context.worker.metrics.proof(outcome);
}

impl CheckedProof {
    /// Whether using the proof takes no more than this process.
    pub(crate) fn is_local(&self, context: &RequestContext) -> bool {
        !context.worker.gateway.sessions.store_is_shared()
    }

    /// Whether the response has to be given a newer nonce.
    pub(crate) fn renews_nonce(&self) -> bool {
        self.renew_nonce
    }

    /// Uses the proof in this process.
    ///
    /// # Errors
    ///
    /// It was used before.
    pub(crate) fn claim_here(&self, context: &RequestContext) -> Result<(), Rejection> {
        let replays = &context.worker.gateway.proofs;
        let claimed = replays.claim(self.id, context.now(), self.lifetime(context));
        match claimed {
            Claimed::First => {
                record(context, ProofOutcome::Valid);
                Ok(())
            }
            Claimed::Replayed => Err(self.replayed(context)),
            Claimed::Full => Err(Rejection::DpopReplaysFull),
        }
    }

    /// Uses the proof in all processes that share the store.
    ///
    /// # Errors
    ///
    /// It was used before, or nothing is known of that and the configuration asks for certainty.
    pub(crate) async fn claim(&self, context: &RequestContext) -> Result<(), Rejection> {
        self.claim_here(context)?;
        let sessions = &context.worker.gateway.sessions;
        let until = context.now_millis.saturating_add(self.lifetime(context));
        match sessions.claim_proof(&self.id.to_string(), until).await {
            Ok(None | Some(true)) => Ok(()),
            Ok(Some(false)) => Err(self.replayed(context)),
            Err(error) => {
                record(context, ProofOutcome::Unshared);
                let store = &context.state.config.settings.store;
                if matches!(store, Store::Redis(redis) if redis.revocation == Revocation::Strict) {
                    return Err(store_unavailable(&error));
                }
                tracing::debug!(%error, "a proof is checked against replays by this instance alone");
                Ok(())
            }
        }
    }

    /// How long the proof could be accepted from its first use on.
    fn lifetime(&self, context: &RequestContext) -> Duration {
        let tokens = &context.state.config.settings.tokens;
        tokens.dpop_max_age + tokens.dpop_leeway + Duration::from_secs(1)
    }

    fn replayed(&self, context: &RequestContext) -> Rejection {
        record(context, ProofOutcome::Replayed);
        let problem = ProofProblem::Invalid("the proof was used before: each request needs one of its own");
        Rejection::DpopProof(ProofRefusal { problem, of_token_request: self.of_token_request })
    }
}

/// Gives a response the nonce that the client is to use from now on.
pub(crate) fn insert_nonce(context: &RequestContext, response: &mut Response) {
    if let Some(nonces) = &context.state.config.nonces {
        response.headers_mut().insert(DPOP_NONCE, header_value(&nonces.current(context.now())));
    }
}

/// Requires the proof of a token's key, and claims it.
///
/// # Errors
///
/// As [`require_binding`], and where the proof was used before.
pub(crate) async fn require_and_claim(
    context: &RequestContext,
    mode: Dpop,
    bearer: Bearer<'_>,
    identity: &Identity,
) -> Result<(), Rejection> {
    match require_binding(context, mode, bearer, identity.key())? {
        Some(proof) => proof.claim(context).await,
        None => Ok(()),
    }
}
