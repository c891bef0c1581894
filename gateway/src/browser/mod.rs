//! Sessions in cookies, and pages for people who use a browser: `[browser]`.
//!
//! What decides is pure and stands in a file of its own: [`csrf`], [`navigation`], [`return_address`], [`cookies`],
//! [`refusal`]. [`pages`] writes HTML from templates that [`branding`] has loaded and tried. What is done with it is in
//! `layers/authenticate.rs` and `services/`.

pub(crate) mod branding;
pub(crate) mod cookies;
pub(crate) mod csrf;
pub(crate) mod forms;
mod language;
pub(crate) mod navigation;
pub(crate) mod pages;
pub(crate) mod refusal;
pub(crate) mod return_address;

use std::sync::Arc;

use http::Method;

use branding::BrandingError;
use cookies::{CookieScope, Cookies, SessionCookies};
use csrf::RequestSource;
use pages::{PageSettings, Pages};
use return_address::{ReturnAddress, return_address};

use crate::client_addr::{ClientAddr, RequestOrigin, Scheme};
use crate::config::{self, RememberMe};
use crate::http1::{CanonicalTarget, Headers, RequestHead};
use crate::rejection::Rejection;
use crate::sessions::IssuedTokens;

/// What a response does to the session's cookies.
#[derive(Debug, Clone)]
pub(crate) enum CookieChange {
    /// Sets them.
    Set {
        tokens: Arc<IssuedTokens>,
        /// Whether they outlive the browser.
        remember: bool,
    },
    /// Removes them.
    Clear,
}

/// `[browser]`, prepared.
#[derive(Debug)]
pub(crate) struct Browser {
    pub(crate) cookies: Cookies,
    pub(crate) pages: Pages,
    pub(crate) remember_me: RememberMe,
    pub(crate) trusted_origins: Vec<String>,
    return_hosts: Vec<String>,
    login_host: Option<String>,
    /// Where a login leads that came from nowhere.
    home: ReturnAddress,
}

impl Browser {
    /// `None` where it is off.
    ///
    /// # Errors
    ///
    /// The branding folder has a mistake.
    pub(crate) fn new(all: &config::Settings) -> Result<Option<Browser>, BrandingError> {
        let (settings, endpoints, users) = (&all.browser, &all.endpoints, &all.users);
        if !settings.enabled {
            return Ok(None);
        }
        let pages = Pages::new(&PageSettings {
            prefix: &endpoints.prefix,
            branding_dir: settings.branding_dir.as_deref(),
            ask_remember: settings.remember_me == RememberMe::Ask,
            password_change: users.password_change,
            mfa: all.mfa.enabled,
            has_tokens: all.personal_tokens.enabled,
        })?;
        let own = RequestOrigin { scheme: Scheme::Http, host: "localhost", port: None };
        Ok(Some(Browser {
            cookies: Cookies::new(&settings.cookie_name, settings.domain.as_deref()),
            pages,
            remember_me: settings.remember_me,
            trusted_origins: settings.trusted_origins.clone(),
            return_hosts: settings.return_hosts.clone(),
            login_host: settings.login_host.clone(),
            home: return_address(&settings.home, own, &[]).unwrap_or_else(ReturnAddress::home),
        }))
    }

    /// Where `text`, which came with a request, may lead back to: never to the sign-in pages themselves.
    pub(crate) fn return_address(
        &self,
        head: &RequestHead,
        client: &ClientAddr,
        text: &str,
    ) -> ReturnAddress {
        self.address_below(text, client.own_origin(head), client.prefix(head))
    }

    /// The address of the request's own page.
    pub(crate) fn own_address(&self, head: &RequestHead, client: &ClientAddr) -> ReturnAddress {
        let target = CanonicalTarget::parse(head.method(), head.target());
        let target = target.as_ref().map_or("", |target| target.as_str());
        self.return_address(head, client, &(client.prefix(head) + target))
    }

    fn address_below(&self, text: &str, own: RequestOrigin<'_>, prefix: String) -> ReturnAddress {
        let found = return_address(text, own, &self.return_hosts).filter(|address| {
            let path = address.as_str().split(['?', '#']).next().unwrap_or_default();
            let path = path.strip_prefix(&prefix).unwrap_or(path);
            let target = CanonicalTarget::parse(&Method::GET, path.as_bytes());
            let path = target.as_ref().map_or(path, CanonicalTarget::decoded_path);
            ![self.pages.login_path(), self.pages.logout_path(), self.pages.continue_path()].contains(&path)
        });
        let home = || return_address(&format!("{prefix}{}", self.home.as_str()), own, &[]);
        found.or_else(home).unwrap_or_else(ReturnAddress::home).below(prefix)
    }

    /// Refuses a request that a page of somebody else has sent, which may have a session's cookies by no one's doing.
    pub(crate) fn require_own_page(&self, head: &RequestHead, client: &ClientAddr) -> Result<(), Rejection> {
        match RequestSource::of(head.headers()).is_trusted(client.own_origin(head), &self.trusted_origins) {
            true => Ok(()),
            false => Err(Rejection::ForeignPage),
        }
    }

    /// The session's cookies of a request that a browser sent to `own`.
    pub(crate) fn session_cookies<'h>(
        &self,
        headers: &'h Headers,
        own: RequestOrigin<'_>,
    ) -> SessionCookies<'h> {
        self.cookies.read(headers, CookieScope::of(own))
    }

    /// The host that has the sign-in page, where `own` has none.
    pub(crate) fn login_elsewhere(&self, own: RequestOrigin<'_>) -> Option<&str> {
        self.login_host.as_deref().filter(|host| !host.eq_ignore_ascii_case(&own.host_with_port()))
    }

    /// Whether a sign-in for another host has to be handed over to it, because it gets none of the cookies.
    pub(crate) fn hands_over(&self) -> bool {
        self.login_host.is_some() && !self.cookies.are_for_a_domain()
    }

    /// The address of the sign-in page on `login_host`, leading back to `return_to`, which is an address of `own`.
    pub(crate) fn login_link_at(
        &self,
        login_host: &str,
        return_to: &ReturnAddress,
        own: RequestOrigin<'_>,
        state: Option<&str>,
    ) -> String {
        let scheme = own.scheme.name();
        let back = match return_to.other_origin() {
            None => format!("{scheme}://{}{}", own.host_with_port(), return_to.as_str()),
            Some(_) => return_to.as_str().to_owned(),
        };
        let there = RequestOrigin { scheme: own.scheme, host: login_host, port: None };
        let mut link = self.pages.login_link(&self.address_below(&back, there, String::new()), false);
        if let Some(state) = state {
            link.push_str("&state=");
            link.push_str(state);
        }
        format!("{scheme}://{login_host}{link}")
    }
}

/// What a browser prefers to read.
pub(crate) fn accept_language(head: &RequestHead) -> &[u8] {
    let field = head.headers().iter().find(|field| field.name.eq_ignore_ascii_case(b"accept-language"));
    field.map_or(b"", |field| field.value)
}
