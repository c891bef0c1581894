//! `POST /revoke` (RFC 7009), `POST /introspect` (RFC 7662), and the metadata of RFC 8414 and RFC 9728.

use std::rc::Rc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use percent_encoding::percent_decode;
use serde_json::{Map, Value, json};

use crate::auth::authenticate::require_fresh_revocations;
use crate::auth::basic::BasicCredentials;
use crate::config::{Dpop, Settings};
use crate::rejection::Rejection;
use crate::rejection::{store_unavailable, users_unavailable};
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::routing::endpoints::{PROTECTED_RESOURCE, origin};
use crate::services::login::read_body;
use crate::services::logout::end_session_of;
use crate::services::machine_credentials::claims_of_user;
use crate::sessions::personal_token::PresentedToken;
use crate::tokens::{TokenType, VerifiedClaims, dpop};

/// Ends what a token belongs to: its session, or a personal access token. Whoever holds the token may do that, and of one that is
/// not known the response says nothing else.
pub(crate) async fn revoke(context: &Rc<RequestContext>, body: RequestBody) -> Result<Response, Rejection> {
    let token = token_in(context, body).await?;
    let sessions = &context.worker.gateway.sessions;
    if let Some(presented) = PresentedToken::parse(&token) {
        let found = sessions.find_token(&presented, context.now_millis).await;
        if found.map_err(|error| store_unavailable(&error))?.is_ok() {
            let revoked = sessions.revoke_token(None, presented.id, context.now_millis).await;
            if let Some(token) = revoked.map_err(|error| store_unavailable(&error))? {
                context.audit("token-revoke", "success", &token.username, Some(token.id.to_string()));
            }
        }
    } else if let Ok(claims) = context.state.config.verifier.verify_signed(&token, context.now()) {
        end_session_of(context, &claims).await?;
    }
    Ok(response::no_store(response::empty(StatusCode::OK)))
}

/// Tells a program that may ask what a token is good for.
pub(crate) async fn introspect(
    context: &Rc<RequestContext>,
    body: RequestBody,
) -> Result<Response, Rejection> {
    authenticate_client(context)?;
    let token = token_in(context, body).await?;
    require_fresh_revocations(&context.worker, context.now_millis)?;
    let claims = match PresentedToken::parse(&token) {
        Some(presented) => of_personal_token(context, &presented).await?,
        None => of_access_token(context, &token),
    };
    let mut answer = claims.unwrap_or_default();
    answer.insert("active".to_owned(), (!answer.is_empty()).into());
    Ok(response::no_store(response::json(StatusCode::OK, &answer)))
}

/// The claims of a good access token. Refresh tokens are not active: an app must not take one for an access token.
fn of_access_token(context: &RequestContext, token: &str) -> Option<Map<String, Value>> {
    let verifier = &context.state.config.verifier;
    let claims = verifier.verify(token, TokenType::Access, context.now()).ok()?;
    let is_over = match claims.sid().parse() {
        Ok(session) => context.worker.gateway.sessions.revocations().is_revoked(&session),
        Err(_) => true,
    };
    (!is_over).then(|| members(&claims))
}

async fn of_personal_token(
    context: &RequestContext,
    presented: &PresentedToken,
) -> Result<Option<Map<String, Value>>, Rejection> {
    let config = &context.state.config;
    if !config.settings.personal_tokens.enabled {
        return Ok(None);
    }
    let found = context.worker.gateway.sessions.find_token(presented, context.now_millis).await;
    let Ok(token) = found.map_err(|error| store_unavailable(&error))? else { return Ok(None) };
    let user = config.users.by_id(&token.subject).await.map_err(|error| users_unavailable(&error))?;
    let Some(user) = user.filter(|user| !user.disabled) else { return Ok(None) };
    let lifetime = (token.created_at, token.expires_at);
    let roles = token.roles_of(&user.roles);
    let claims = claims_of_user(config, &user, roles, presented.id, lifetime);
    let mut members = members(&claims);
    if token.expires_at.is_none() {
        members.remove("exp");
    }
    if !token.routes.is_empty() {
        members.insert("routes".to_owned(), token.routes.into());
    }
    Ok(Some(members))
}

/// What a resource server learns of a token: its claims, under their own names.
fn members(claims: &VerifiedClaims) -> Map<String, Value> {
    let mut members = claims.all();
    members.remove("type");
    // RFC 9449 section 6.2.
    let token_type = if members.contains_key("cnf") { "DPoP" } else { "Bearer" };
    members.insert("token_type".to_owned(), token_type.into());
    members
}

/// Whether the client may ask: HTTP Basic with one of the configured names and its secret. Both may be form-encoded, as RFC 6749 section
/// 2.3.1 has it and half of all clients do.
fn authenticate_client(context: &RequestContext) -> Result<(), Rejection> {
    let basic = BasicCredentials::of(&context.head)?.ok_or(Rejection::ClientUnknown)?;
    let clients = &context.state.config.settings.oauth.introspection_clients;
    let is_known = |name: &[u8], secret: &[u8]| {
        let known = std::str::from_utf8(name).ok().and_then(|name| clients.get(name));
        let presented = digest(&SHA256, secret);
        known.is_some_and(|known| verify_slices_are_equal(&known.0, presented.as_ref()).is_ok())
    };
    let (name, secret) = (basic.username.as_bytes(), basic.password.as_bytes());
    match is_known(name, secret) || is_known(&form_decoded(name), &form_decoded(secret)) {
        true => Ok(()),
        false => Err(Rejection::ClientUnknown),
    }
}

fn form_decoded(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_decode(&spaced).collect()
}

/// The member `token` of a form; `token_type_hint` is not needed to find it.
async fn token_in(context: &RequestContext, body: RequestBody) -> Result<String, Rejection> {
    if !context.head.media_type().eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
        return Err(Rejection::ContentTypeNotForm);
    }
    let body = read_body(context, body).await?;
    let mut tokens = form_urlencoded::parse(&body).filter(|(name, _)| name == "token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) if !token.is_empty() => Ok(token.into_owned()),
        (Some(_), Some(_)) => Err(Rejection::FormFieldTwice),
        _ => Err(Rejection::TokenNotInForm),
    }
}

/// The metadata of the authorization server (RFC 8414): what there is, and nothing else.
pub(crate) fn authorization_server(settings: &Settings) -> Response {
    let at = |path: &str| format!("{}{}{path}", origin(&settings.tokens.issuer), settings.endpoints.prefix);
    let mut metadata = json!({
        "issuer": settings.tokens.issuer,
        "jwks_uri": jwks_uri(settings),
        // Required members; logins and refreshes are the gateway's own, not those of RFC 6749.
        "response_types_supported": [],
        "grant_types_supported": [],
        "access_token_signing_alg_values_supported": [settings.tokens.signing.algorithm().name()],
    });
    if settings.tokens.dpop != Dpop::Off {
        metadata["dpop_signing_alg_values_supported"] = dpop_algorithms();
    }
    if settings.oauth.revocation {
        metadata["revocation_endpoint"] = at("/revoke").into();
        metadata["revocation_endpoint_auth_methods_supported"] = json!(["none"]);
    }
    if !settings.oauth.introspection_clients.is_empty() {
        metadata["introspection_endpoint"] = at("/introspect").into();
        metadata["introspection_endpoint_auth_methods_supported"] = json!(["client_secret_basic"]);
    }
    cacheable(&metadata)
}

/// The metadata of the protected resource (RFC 9728), which is everything behind the gateway.
pub(crate) fn protected_resource(settings: &Settings) -> Response {
    let mut metadata = json!({
        "resource": origin(&settings.tokens.issuer),
        "authorization_servers": [settings.tokens.issuer],
        "jwks_uri": jwks_uri(settings),
        "bearer_methods_supported": ["header"],
    });
    if settings.tokens.dpop != Dpop::Off {
        metadata["dpop_signing_alg_values_supported"] = dpop_algorithms();
        metadata["dpop_bound_access_tokens_required"] = (settings.tokens.dpop == Dpop::Required).into();
    }
    cacheable(&metadata)
}

/// The algorithms of proofs, for metadata (RFC 9449 section 5.1).
fn dpop_algorithms() -> Value {
    dpop::ALGORITHMS.split(' ').collect::<Vec<_>>().into()
}

/// Where the metadata of the protected resource is.
pub(crate) fn resource_metadata_uri(settings: &Settings) -> String {
    format!("{}{PROTECTED_RESOURCE}", origin(&settings.tokens.issuer))
}

fn jwks_uri(settings: &Settings) -> String {
    format!("{}/.well-known/jwks.json", origin(&settings.tokens.issuer))
}

fn cacheable(body: &Value) -> Response {
    let mut response = response::json(StatusCode::OK, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
