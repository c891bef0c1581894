//! The `Set-Cookie` fields of sign-ins, refreshes and sign-outs, on whatever response a request gets.

use http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth::credentials::browser_cookies;
use crate::browser::cookies::{CookieKind, CookieScope};
use crate::browser::{Browser, CookieChange};
use crate::layers::decorate::{Decorate, DecorateLayer};
use crate::request::RequestContext;
use crate::response::header_value;

/// Adds what a request has done to its session's cookies.
pub(crate) type SessionCookiesLayer = DecorateLayer<SessionCookieFields>;

/// See [`SessionCookiesLayer`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SessionCookieFields;

impl Decorate for SessionCookieFields {
    fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap) {
        let Some(change) = context.record.cookies.take() else { return };
        let Some(browser) = &context.state.config.browser else { return };
        for cookie in set_cookies(browser, context, &change) {
            headers.append(SET_COOKIE, header_value(&cookie));
        }
        // Whoever were given this response out of a cache would have the session.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // What an app says to caches of a CDN counts before that (RFC 9213).
        let targeted: Vec<HeaderName> = headers.keys().filter(|name| is_targeted(name)).cloned().collect();
        targeted.iter().for_each(|name| drop(headers.remove(name)));
        headers.append(VARY, HeaderValue::from_static("Cookie"));
    }
}

/// Whether a field is `Cache-Control` for some caches only: `CDN-Cache-Control`, those of single vendors, and `Surrogate-Control`.
fn is_targeted(name: &HeaderName) -> bool {
    name.as_str().ends_with("cdn-cache-control") || name == "surrogate-control"
}

fn set_cookies(browser: &Browser, context: &RequestContext, change: &CookieChange) -> Vec<String> {
    let cookies = &browser.cookies;
    let scope = CookieScope::of(context.own_origin());
    let set = |kind, value: &str, max_age| cookies.set(kind, value, scope, max_age);
    let remembered = browser_cookies(browser, context).remember;
    match change {
        CookieChange::Set { tokens, remember } => {
            let max_age = remember.then_some(tokens.session_expires_in);
            let mut fields = vec![set(CookieKind::Access, &tokens.access_token, max_age)];
            fields
                .extend(tokens.refresh_token.as_ref().map(|token| set(CookieKind::Refresh, token, max_age)));
            match (remember, remembered) {
                (true, _) => fields.push(set(CookieKind::Remember, "1", max_age)),
                (false, true) => fields.push(set(CookieKind::Remember, "", Some(0))),
                (false, false) => {}
            }
            fields
        }
        CookieChange::Clear => {
            let mut kinds = vec![CookieKind::Access, CookieKind::Refresh];
            kinds.extend(remembered.then_some(CookieKind::Remember));
            kinds.into_iter().map(|kind| set(kind, "", Some(0))).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_says_to_some_caches_only_is_known() {
        for (name, targeted) in [
            ("cdn-cache-control", true),
            ("cloudflare-cdn-cache-control", true),
            ("vercel-cdn-cache-control", true),
            ("surrogate-control", true),
            ("cache-control", false),
            ("age", false),
        ] {
            assert_eq!(is_targeted(&HeaderName::from_static(name)), targeted, "{name}");
        }
    }
}
