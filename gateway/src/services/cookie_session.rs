//! The session of a browser's request: found by the access token in its cookie, or refreshed by the gateway itself.
//!
//! Requests of one session that need a refresh at the same moment share one, on all workers of the process. The cookies of the new
//! tokens travel with the response of each; how long one may be on its way is in [`Delivery`].

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::auth::authenticate::{authenticate, require_fresh_revocations};
use crate::auth::bearer::Bearer;
use crate::auth::dpop;
use crate::browser::cookies::SessionCookies;
use crate::browser::navigation::{RequestPurpose, purpose};
use crate::browser::{Browser, CookieChange};
use crate::clock::now_millis;
use crate::config::Dpop;
use crate::identity::Identity;
use crate::rejection::Rejection;
use crate::request::RequestContext;
use crate::runtime::{FlightKey, RefreshResult};
use crate::services::foreign;
use crate::services::refresh::{redeem, verify};
use crate::services::token_response::Recipient;
use crate::sessions::{SessionId, Sessions, TokenId};
use crate::tokens::VerifiedClaims;

/// How long an app behind a proxy that got a verdict may take to respond before the browser's old tokens count as used.
const RELAY_TIME: Duration = Duration::from_secs(60);

/// What the cookies say without asking for anything.
#[derive(Debug)]
pub(crate) enum CookieLookup {
    Found(Rc<Identity>),
    NeedsRefresh,
    /// There is no session, or none that counts.
    None,
}

/// Looks the access token up.
///
/// # Errors
///
/// The session is over (401), or it is not known whether it is (503).
pub(crate) fn lookup(
    context: &RequestContext,
    cookies: SessionCookies<'_>,
) -> Result<CookieLookup, Rejection> {
    if cookies.conflict {
        return Ok(CookieLookup::None);
    }
    let found = cookies
        .access
        .map(|token| authenticate(&context.worker, &context.state, Bearer::new(token), context.now()));
    match found {
        // Its proof cannot come with a cookie: it was put there by somebody else.
        Some(Ok(identity)) if identity.key().is_some() => Err(over(context, Rejection::DpopTokenAsBearer)),
        Some(Ok(identity)) => {
            require_sign_in(context, identity.claims())?;
            require_fresh_revocations(&context.worker, context.now_millis)?;
            Ok(CookieLookup::Found(identity))
        }
        _ if cookies.refresh.is_some() => Ok(CookieLookup::NeedsRefresh),
        None => Ok(CookieLookup::None),
        Some(Err(rejection)) => Err(over(context, rejection)),
    }
}

/// Requires that the token of a cookie was issued by the sign-in pages where tokens have to be bound to a key: a client's token,
/// which may be stolen, gets no further as a cookie than in `Authorization`.
fn require_sign_in(context: &RequestContext, claims: &VerifiedClaims) -> Result<(), Rejection> {
    match dpop::mode_of_request(context) == Dpop::Required && !claims.is_of_cookie_session() {
        true => Err(over(context, Rejection::CookieOfClient)),
        false => Ok(()),
    }
}

/// The identity behind the cookies, after a refresh where one is needed.
///
/// # Errors
///
/// The session is over (401), or nothing is known of it at the moment (503): an outage ends no session.
pub(crate) async fn resolve(
    context: &Rc<RequestContext>,
    browser: &Browser,
    cookies: SessionCookies<'_>,
) -> Result<Option<Rc<Identity>>, Rejection> {
    match lookup(context, cookies)? {
        CookieLookup::Found(identity) => Ok(Some(identity)),
        CookieLookup::None => Ok(None),
        CookieLookup::NeedsRefresh => {
            let (identity, _) = refresh(context, browser, cookies).await?;
            Ok(Some(identity))
        }
    }
}

/// Like [`resolve`] for a page, which does without a session: the identity, and whether the session of the cookies is over.
///
/// # Errors
///
/// Nothing is known of it at the moment (503).
pub(crate) async fn resolve_for_page(
    context: &Rc<RequestContext>,
    browser: &Browser,
    cookies: SessionCookies<'_>,
) -> Result<(Option<Rc<Identity>>, bool), Rejection> {
    match resolve(context, browser, cookies).await {
        Ok(identity) => Ok((identity, false)),
        Err(rejection) if rejection.code().status() == StatusCode::UNAUTHORIZED => Ok((None, true)),
        Err(rejection) => Err(rejection),
    }
}

/// Refreshes the session; the response of this request will carry the cookies.
///
/// # Errors
///
/// As [`resolve`].
pub(crate) async fn refresh(
    context: &Rc<RequestContext>,
    browser: &Browser,
    cookies: SessionCookies<'_>,
) -> Result<(Rc<Identity>, Delivery), Rejection> {
    let token = cookies.refresh.and_then(|token| std::str::from_utf8(token).ok()).unwrap_or_default();
    let claims = verify(context, token).map_err(|rejection| over(context, rejection))?;
    require_sign_in(context, &claims)?;
    let session = claims.sid().parse().map_err(|_| Rejection::TokenWithoutSession)?;
    let id = foreign::refresh_token_of(&claims)?;
    let tokens =
        shared(context, (session, id), claims).await.map_err(|rejection| over(context, rejection))?;
    let bearer = Bearer::new(tokens.access_token.as_bytes());
    let identity = authenticate(&context.worker, &context.state, bearer, context.now());
    let identity = identity.map_err(|rejection| over(context, rejection))?;
    require_fresh_revocations(&context.worker, context.now_millis)?;
    let remember = browser.remember_me.applies(cookies.remember);
    context.record.cookies.replace(Some(CookieChange::Set { tokens, remember }));
    Ok((identity, Delivery::watch(context, session, id)))
}

/// The claims of the first token in the cookies that was signed here, expired or not.
pub(crate) fn signed_claims(context: &RequestContext, cookies: SessionCookies<'_>) -> Option<VerifiedClaims> {
    [cookies.access, cookies.refresh].into_iter().flatten().find_map(|token| {
        let token = std::str::from_utf8(token).ok()?;
        context.state.config.verifier.verify_signed(token, context.now()).ok()
    })
}

/// The result of the refresh that is under way for this token, or of one that begins. It is carried through, also where
/// all who wait for it go away.
async fn shared(context: &Rc<RequestContext>, key: FlightKey, claims: VerifiedClaims) -> RefreshResult {
    let mut begun = {
        let flights = &context.worker.gateway.refresh_flights;
        let mut flights = flights.lock().unwrap_or_else(PoisonError::into_inner);
        match flights.get(&key) {
            Some(result) => result.clone(),
            None => {
                let (sender, result) = watch::channel(None);
                flights.insert(key, result.clone());
                let (context, recipient) = (Rc::clone(context), Recipient::in_place_of(&claims));
                spawn_local(async move {
                    let flight = Flight { context, key };
                    let redeemed = redeem(&flight.context, &claims, None, recipient).await.map(Arc::new);
                    drop(flight);
                    sender.send_replace(Some(redeemed));
                });
                result
            }
        }
    };
    let result = begun.wait_for(Option::is_some).await.ok().and_then(|result| result.clone());
    result.unwrap_or(Err(Rejection::RefreshFailed))
}

/// A refresh under way; it is none any more when this is dropped.
struct Flight {
    context: Rc<RequestContext>,
    key: FlightKey,
}

impl Drop for Flight {
    fn drop(&mut self) {
        let flights = &self.context.worker.gateway.refresh_flights;
        flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

/// The refusal for a session that is over. A person gets a page next, so the cookies go with it; with other responses they
/// stay, for a late one could take the cookies of a new sign-in away.
fn over(context: &RequestContext, rejection: Rejection) -> Rejection {
    let purpose = purpose(context.head.method(), context.head.headers());
    if rejection.code().status() == StatusCode::UNAUTHORIZED
        && matches!(purpose, RequestPurpose::Navigation | RequestPurpose::FormSubmission)
    {
        context.record.cookies.replace(Some(CookieChange::Clear));
    }
    rejection
}

/// New tokens on their way to a browser with the response of the request that caused the refresh.
///
/// The token that was presented dies `reuse_grace` after that, but until the response is there the browser has no other: while an
/// upload or a slow page is under way its grace is prolonged, and where the response never left, the token was never used.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Whether the response left; shared with the task that watches it.
    done: Rc<Cell<bool>>,
    session: SessionId,
    presented: TokenId,
    begun: Instant,
    interval: Duration,
}

impl Delivery {
    fn watch(context: &RequestContext, session: SessionId, presented: TokenId) -> Delivery {
        let interval = context.state.config.settings.tokens.reuse_grace / 2;
        let done = Rc::new(Cell::new(false));
        if !interval.is_zero() {
            let sessions = context.worker.gateway.sessions.clone();
            spawn_local(watch(sessions, Rc::clone(&done), session, presented, interval));
        }
        Delivery { done, session, presented, begun: Instant::now(), interval }
    }

    /// The new tokens go to a proxy, which sends them with the response of an app: when, cannot be seen.
    pub(crate) fn relay(self) {
        spawn_local(async move {
            tokio::time::sleep(RELAY_TIME).await;
            self.done.set(true);
        });
    }

    /// The response is about to leave. A late one must not take newer tokens away: then it goes without cookies.
    pub(crate) async fn complete(self, context: &RequestContext) {
        self.done.set(true);
        if !self.interval.is_zero() && self.begun.elapsed() >= self.interval {
            let sessions = &context.worker.gateway.sessions;
            if let Ok(false) = sessions.hold_presented(self.session, self.presented, now_millis()).await {
                context.record.cookies.replace(None);
            }
        }
    }
}

/// Prolongs the grace of the token that was presented until the response leaves or is lost.
async fn watch(
    sessions: Sessions,
    done: Rc<Cell<bool>>,
    session: SessionId,
    presented: TokenId,
    interval: Duration,
) {
    loop {
        tokio::time::sleep(interval).await;
        // The request's own handle went with it where its client left.
        let is_lost = Rc::strong_count(&done) == 1;
        let kept = match (done.get(), is_lost) {
            (true, _) => return,
            (false, true) => sessions.withdraw_presented(session, presented).await,
            (false, false) => sessions.hold_presented(session, presented, now_millis()).await,
        };
        if let Err(error) = kept {
            tracing::debug!(%error, "the grace of a refresh token was not prolonged");
        }
        if is_lost {
            return;
        }
    }
}
