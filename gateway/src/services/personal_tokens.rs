//! `GET` and `POST /tokens`, `DELETE /tokens/ID`: users list, make and revoke their personal access tokens.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::auth::authenticate::{authenticate_endpoint, missing, require_fresh_revocations};
use crate::auth::credentials::browser_cookies;
use crate::browser::pages::{TokenFormError, TokensPage};
use crate::browser::{Browser, accept_language};
use crate::config::{Access, Settings};
use crate::http1::HeaderKind;
use crate::identity::Identity;
use crate::rejection::Rejection;
use crate::rejection::store_unavailable;
use crate::request::RequestContext;
use crate::request_body::RequestBody;
use crate::response::{self, Response};
use crate::services::cookie_session::resolve;
use crate::services::foreign;
use crate::services::handover::to_sign_in;
use crate::services::login::{only_json, read_body};
use crate::services::sign_in_page::see_other;
use crate::sessions::{
    CreateTokenError, NewPersonalToken, PersonalTokenInfo, SessionId, TokenText, UnixMillis,
};
use crate::strict_json;
use crate::tokens::UnixSeconds;
use crate::users::User;

/// Maximum length of a token's name, in characters.
const MAX_NAME_CHARS: usize = 100;

/// A requested token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TokenRequest {
    pub(crate) name: String,
    pub(crate) lifetime: Lifetime,
    /// `None` for all roles that the user has.
    pub(crate) roles: Option<Vec<String>>,
    /// Empty for all routes.
    pub(crate) routes: Vec<String>,
}

/// The requested lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Lifetime {
    /// `personal_tokens.default_ttl`.
    Default,
    Unlimited,
    Seconds(u64),
}

impl TokenRequest {
    /// `name`, and maybe `expires_in`, `roles` and `routes`. Other members are refused, for a misspelt limit would be none.
    ///
    /// # Errors
    ///
    /// What is wrong with the body.
    fn parse(body: &[u8]) -> Result<TokenRequest, Rejection> {
        let members = strict_json::object(body).ok_or(Rejection::BodyNotJson)?;
        let mut request = TokenRequest {
            name: String::new(),
            lifetime: Lifetime::Default,
            roles: None,
            routes: Vec::new(),
        };
        let wrong = |why: String| Rejection::BadTokenRequest(why);
        for (member, value) in members {
            match (member.as_str(), value) {
                ("name", Value::String(name)) => request.name = name,
                ("expires_in", Value::Null) => request.lifetime = Lifetime::Unlimited,
                ("expires_in", Value::Number(seconds)) if seconds.as_u64().is_some_and(|s| s > 0) => {
                    request.lifetime = Lifetime::Seconds(seconds.as_u64().unwrap_or_default());
                }
                ("expires_in", _) => {
                    return Err(wrong("expires_in must be a number of seconds, or null".into()));
                }
                ("roles", Value::Null) => {}
                ("roles", value) => request.roles = Some(texts("roles", value)?),
                ("routes", Value::Null) => {}
                ("routes", value) => request.routes = texts("routes", value)?,
                ("name", _) => return Err(wrong("name must be a string".into())),
                (other, _) => {
                    let known = "there are name, expires_in, roles and routes";
                    return Err(wrong(format!("unknown member {other:?}: {known}")));
                }
            }
        }
        Ok(request)
    }

    /// The token that this user gets, within the user's own roles and what the configuration allows.
    ///
    /// # Errors
    ///
    /// Why there is none, in words.
    pub(crate) fn grant(
        self,
        user: &User,
        settings: &Settings,
        now: UnixMillis,
    ) -> Result<NewPersonalToken, String> {
        let TokenRequest { name, lifetime, roles, routes } = self;
        let name = name.trim().to_owned();
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            return Err(format!(
                "name must have 1 to {MAX_NAME_CHARS} characters, none of them a control character"
            ));
        }
        if let Some(role) = roles.iter().flatten().find(|role| !user.roles.contains(role)) {
            return Err(format!("{} does not have the role {role:?}", user.username));
        }
        let takes_tokens = |path: &String| {
            settings.routes.iter().any(|route| route.path == *path && route.access != Access::Public)
        };
        if let Some(path) = routes.iter().find(|path| !takes_tokens(path)) {
            return Err(format!("no route that takes tokens has the path {path:?}"));
        }
        let limits = &settings.personal_tokens;
        let ttl = match lifetime {
            Lifetime::Default => Some(limits.default_ttl),
            Lifetime::Unlimited => None,
            Lifetime::Seconds(seconds) => Some(Duration::from_secs(seconds)),
        };
        if let Some(max) = limits.max_ttl.filter(|max| ttl.is_none_or(|ttl| ttl > *max)) {
            return Err(format!("a token lives for {} seconds at most", max.as_secs()));
        }
        let millis = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Ok(NewPersonalToken {
            subject: user.id.clone(),
            username: user.username.clone(),
            name,
            roles,
            routes,
            expires_at: ttl.map(|ttl| now.saturating_add(millis(ttl))),
        })
    }
}

fn texts(member: &str, value: Value) -> Result<Vec<String>, Rejection> {
    serde_json::from_value(value)
        .map_err(|_| Rejection::BadTokenRequest(format!("{member} must be a list of strings")))
}

#[derive(Serialize)]
struct List {
    tokens: Vec<Entry>,
}

/// Times are seconds since 1970.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Entry {
    id: SessionId,
    name: String,
    created_at: UnixSeconds,
    /// Null for never.
    expires_at: Option<UnixSeconds>,
    /// Accurate to a minute; null where it was not used.
    last_used_at: Option<UnixSeconds>,
    last_used_from: Option<IpAddr>,
    /// Null for all that the user has.
    roles: Option<Vec<String>>,
    /// Empty for all.
    routes: Vec<String>,
}

impl From<PersonalTokenInfo> for Entry {
    fn from(token: PersonalTokenInfo) -> Entry {
        Entry {
            id: token.id,
            name: token.name,
            created_at: token.created_at / 1000,
            expires_at: token.expires_at.map(|at| at / 1000),
            last_used_at: token.last_used_at.map(|at| at / 1000),
            last_used_from: token.last_used_from,
            roles: token.roles,
            routes: token.routes,
        }
    }
}

/// A token with its text, which is never shown again.
#[derive(Serialize)]
struct Created {
    token: TokenText,
    #[serde(flatten)]
    entry: Entry,
}

/// Lists the caller's tokens.
pub(crate) async fn list(context: &Rc<RequestContext>) -> Result<Response, Rejection> {
    let (_, subject) = caller(context, false).await?;
    let tokens = tokens_of(context, &subject).await?;
    let list = List { tokens: tokens.into_iter().map(Entry::from).collect() };
    Ok(response::no_store(response::json(StatusCode::OK, &list)))
}

async fn tokens_of(context: &RequestContext, subject: &str) -> Result<Vec<PersonalTokenInfo>, Rejection> {
    let tokens = context.worker.gateway.sessions.list_tokens(Some(subject), context.now_millis).await;
    tokens.map_err(|error| store_unavailable(&error))
}

/// Makes a token for the caller.
pub(crate) async fn create(context: &Rc<RequestContext>, body: RequestBody) -> Result<Response, Rejection> {
    let (identity, _) = caller(context, true).await?;
    only_json(&context.head)?;
    let request = TokenRequest::parse(&read_body(context, body).await?)?;
    let (token, info) = create_for(context, &identity, request).await?;
    let created = Created { token, entry: info.into() };
    Ok(response::no_store(response::json(StatusCode::CREATED, &created)))
}

async fn create_for(
    context: &RequestContext,
    identity: &Identity,
    request: TokenRequest,
) -> Result<(TokenText, PersonalTokenInfo), Rejection> {
    let settings = &context.state.config.settings;
    let limits = &settings.personal_tokens;
    if !limits.self_service {
        return Err(Rejection::TokensByOperator);
    }
    let user = foreign::user_of(context, identity.claims()).await?.filter(|user| !user.disabled);
    let user = user.ok_or(Rejection::AccountChanged)?;
    let new = request.grant(&user, settings, context.now_millis).map_err(Rejection::BadTokenRequest)?;
    let created =
        context.worker.gateway.sessions.create_token(new, limits.max_per_user, context.now_millis).await;
    let (token, info) = created.map_err(|error| match error {
        CreateTokenError::TooMany => Rejection::TooManyPersonalTokens,
        CreateTokenError::Store(error) => store_unavailable(&error),
    })?;
    context.audit("token-create", "success", &user.username, Some(info.id.to_string()));
    Ok((token, info))
}

/// Revokes one of the caller's tokens, on all instances at once.
pub(crate) async fn revoke(context: &Rc<RequestContext>, path: &str) -> Result<Response, Rejection> {
    let (identity, subject) = caller(context, true).await?;
    let id =
        path.rsplit_once('/').and_then(|(_, id)| id.parse().ok()).ok_or(Rejection::PersonalTokenNotFound)?;
    revoke_one(context, &identity, &subject, id).await?;
    Ok(response::no_store(response::empty(StatusCode::NO_CONTENT)))
}

async fn revoke_one(
    context: &RequestContext,
    identity: &Identity,
    subject: &str,
    id: SessionId,
) -> Result<(), Rejection> {
    let sessions = &context.worker.gateway.sessions;
    let revoked = sessions.revoke_token(Some(subject), id, context.now_millis).await;
    if revoked.map_err(|error| store_unavailable(&error))?.is_none() {
        return Err(Rejection::PersonalTokenNotFound);
    }
    context.audit("token-revoke", "success", identity.claims().username(), Some(id.to_string()));
    Ok(())
}

/// Shows a person's tokens, after a sign-in where one is needed.
pub(crate) async fn show(context: &Rc<RequestContext>, browser: &Browser) -> Result<Response, Rejection> {
    match caller(context, false).await {
        Ok((identity, subject)) => page(context, browser, (&identity, &subject), None, None).await,
        Err(rejection) if rejection.status() == StatusCode::UNAUTHORIZED => {
            Ok(to_sign_in(context, browser, &browser.own_address(&context.head, &context.client)))
        }
        Err(rejection) => Err(rejection),
    }
}

/// Makes or revokes a token as the page's forms ask for.
pub(crate) async fn submit(
    context: &Rc<RequestContext>,
    browser: &Browser,
    body: RequestBody,
) -> Result<Response, Rejection> {
    let (identity, subject) = caller(context, true).await?;
    let body = read_body(context, body).await?;
    let field = |name: &str| {
        let mut found = form_urlencoded::parse(&body).filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.into_owned())
    };
    if let Some(id) = field("revoke") {
        let id = id.parse().map_err(|_| Rejection::PersonalTokenNotFound)?;
        match revoke_one(context, &identity, &subject, id).await {
            // Of two clicks the second finds it revoked.
            Ok(()) | Err(Rejection::PersonalTokenNotFound) => {}
            Err(rejection) => return Err(rejection),
        }
        return Ok(see_other(browser.own_address(&context.head, &context.client).as_str()));
    }
    let lifetime = match field("days").as_deref() {
        None => Lifetime::Default,
        Some("never") => Lifetime::Unlimited,
        Some(days) => {
            let days: u64 =
                days.parse().map_err(|_| Rejection::BadTokenRequest("days must be a number".into()))?;
            Lifetime::Seconds(days.saturating_mul(24 * 60 * 60))
        }
    };
    let name = field("name").unwrap_or_default();
    let chosen: Vec<String> = form_urlencoded::parse(&body)
        .filter(|(key, _)| key == "role")
        .map(|(_, role)| role.into_owned())
        .collect();
    // All of them are those to come, too.
    let has_all = identity.claims().roles().iter().all(|role| chosen.contains(role));
    let roles = (field("limit_roles").is_some() && !has_all).then_some(chosen);
    let routes = field("routes").unwrap_or_default();
    let routes = routes.split([' ', ',']).filter(|path| !path.is_empty()).map(str::to_owned).collect();
    let request = TokenRequest { name, lifetime, roles, routes };
    let caller = (&*identity, &*subject);
    match create_for(context, &identity, request).await {
        Ok((token, _)) => page(context, browser, caller, Some(&token), None).await,
        Err(rejection @ (Rejection::BadTokenRequest(_) | Rejection::TooManyPersonalTokens)) => {
            page(context, browser, caller, None, Some(rejection)).await
        }
        Err(rejection) => Err(rejection),
    }
}

async fn page(
    context: &RequestContext,
    browser: &Browser,
    (identity, subject): (&Identity, &str),
    new_token: Option<&TokenText>,
    refused: Option<Rejection>,
) -> Result<Response, Rejection> {
    let tokens = tokens_of(context, subject).await?;
    let error = refused.as_ref().map(|rejection| match rejection {
        Rejection::TooManyPersonalTokens => TokenFormError::TooMany,
        _ => TokenFormError::Refused,
    });
    let status = refused.as_ref().map_or(StatusCode::OK, Rejection::status);
    let address = browser.own_address(&context.head, &context.client);
    let shown = TokensPage {
        user: identity.claims().username(),
        roles: identity.claims().roles(),
        address: &address,
        tokens: &tokens,
        new_token: new_token.map(TokenText::as_str),
        error,
        limits: context.state.config.settings.personal_tokens,
    };
    Ok(browser.pages.tokens(status, accept_language(&context.head), &shown))
}

/// Who asks, by access token or session cookie, with the id that the tokens are stored under. A personal access token does not do:
/// a leaked one must not make others.
async fn caller(context: &Rc<RequestContext>, changes: bool) -> Result<(Rc<Identity>, String), Rejection> {
    let identity = match &context.state.config.browser {
        Some(browser) if !context.head.headers().has(HeaderKind::Authorization) => {
            if changes {
                browser.require_own_page(&context.head, &context.client)?;
            }
            resolve(context, browser, browser_cookies(browser, context)).await?
        }
        _ => {
            let identity = authenticate_endpoint(context).await?;
            require_fresh_revocations(&context.worker, context.now_millis)?;
            Some(identity)
        }
    };
    let identity = identity.ok_or_else(|| missing(&context.worker))?;
    context.record.identity.replace(Some(Rc::clone(&identity)));
    let subject = foreign::account_id(context, identity.claims()).await?;
    Ok((identity, subject))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::test_support::{minimal, settings};
    use crate::users::PasswordHash;

    fn parse(body: &str) -> Result<TokenRequest, Rejection> {
        TokenRequest::parse(body.as_bytes())
    }

    #[test]
    fn a_limit_that_is_not_understood_makes_no_token_without_it() {
        let request =
            parse(r#"{"name":"backup","expires_in":60,"roles":["user"],"routes":["/dav"]}"#).unwrap();
        assert_eq!(request.lifetime, Lifetime::Seconds(60));
        assert_eq!((request.roles, request.routes), (Some(vec!["user".into()]), vec!["/dav".into()]));
        assert_eq!(parse(r#"{"name":"x","expires_in":null}"#).unwrap().lifetime, Lifetime::Unlimited);
        assert_eq!(parse(r#"{"name":"x"}"#).unwrap().lifetime, Lifetime::Default);
        for body in [
            "",
            "[]",
            r#"{"name":1}"#,
            r#"{"name":"x","role":["a"]}"#,
            r#"{"name":"x","roles":"a"}"#,
            r#"{"name":"x","routes":[1]}"#,
            r#"{"name":"x","expires_in":0}"#,
            r#"{"name":"x","expires_in":-1}"#,
            r#"{"name":"x","expires_in":"60"}"#,
            r#"{"name":"x","expires_in":1.5}"#,
            r#"{"name":"x","name":"y"}"#,
        ] {
            assert!(parse(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_token_gets_no_more_than_its_user_has_and_the_configuration_allows() {
        let config = "[[routes]]\npath = \"/open\"\nupstream = \"demo\"\naccess = \"public\"\n\
                      [[routes]]\npath = \"/dav\"\nupstream = \"demo\"\n\
                      [personal_tokens]\nenabled = true\nmax_ttl = \"1h\"\n";
        let settings = settings(minimal() + config);
        let alice = User {
            id: "1".into(),
            username: "alice".into(),
            credential: PasswordHash::create(&crate::users::Password::new("x").unwrap()).unwrap().into(),
            roles: vec!["user".into()],
            claims: serde_json::Map::new(),
            disabled: false,
            must_change_password: false,
            session_epoch: 0,
        };
        let grant = |body: &str| parse(body).unwrap().grant(&alice, &settings, 1_000);
        let granted = grant(r#"{"name":" nightly ","routes":["/dav"],"roles":[]}"#).unwrap();
        assert_eq!((granted.name.as_str(), granted.expires_at), ("nightly", Some(3_601_000)));
        assert_eq!((granted.roles, granted.routes), (Some(Vec::new()), vec!["/dav".to_owned()]));
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(101));
        for (body, why) in [
            (r#"{"name":""}"#, "1 to 100 characters"),
            (r#"{"name":"a\u0007"}"#, "control character"),
            (&long, "1 to 100 characters"),
            (r#"{"name":"x","roles":["admin"]}"#, "alice does not have the role \"admin\""),
            (r#"{"name":"x","routes":["/nowhere"]}"#, "has the path \"/nowhere\""),
            (r#"{"name":"x","routes":["/open"]}"#, "no route that takes tokens"),
            (r#"{"name":"x","expires_in":3601}"#, "3600 seconds at most"),
            (r#"{"name":"x","expires_in":null}"#, "3600 seconds at most"),
        ] {
            let refused = grant(body).unwrap_err();
            assert!(refused.contains(why), "{body}: {refused}");
        }
    }
}
