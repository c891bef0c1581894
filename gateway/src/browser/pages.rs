//! The pages for people, written from templates: plain HTML forms without scripts, under a policy that allows none.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use minijinja::value::Serde;
use serde::Serialize;

use super::branding::{Branding, BrandingError, Texts, template_problem};
use super::language;
use super::return_address::ReturnAddress;
use crate::response::{Body, Response, header_value};

/// Writes pages.
#[derive(Debug)]
pub(crate) struct Pages {
    branding: Branding,
    /// The style sheet's hash, in the terms of CSP.
    style_hash: String,
    login_path: String,
    logout_path: String,
    logout_all_path: String,
    continue_path: String,
    ask_remember: bool,
}

/// What a person sees of a page besides the operator's name and colours.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Page {
    heading: String,
    paragraphs: Vec<String>,
    /// Said to be wrong.
    error: Option<String>,
    /// Whether the fields are to blame for it.
    invalid: bool,
    username: String,
    remember: bool,
    return_to: String,
    /// What stands before the paths of the pages.
    #[serde(skip)]
    prefix: String,
    /// See [`super::cookies::CookieKind::State`].
    state: String,
    links: Vec<Link>,
    sign_out: bool,
    sign_out_everywhere: bool,
    request_id: Option<String>,
}

#[derive(Debug, Serialize)]
struct Link {
    href: String,
    text: String,
}

/// What templates are given.
#[derive(Serialize)]
struct Context<'a> {
    #[serde(flatten)]
    page: &'a Page,
    title: &'a str,
    logo: Option<&'a str>,
    style: minijinja::Value,
    lang: &'a str,
    t: &'a std::collections::BTreeMap<String, String>,
    login_path: String,
    logout_path: String,
    logout_all_path: String,
    ask_remember: bool,
}

/// Why a sign-in form is shown again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FormError {
    BothRequired,
    InvalidCredentials,
    /// For so long.
    Locked(Duration),
    RateLimited(Duration),
    TooManySessions,
    Overloaded,
    StoreUnavailable,
    /// See [`super::cookies::SessionCookies::conflict`].
    CookieConflict,
    SessionEnded,
    Other,
}

/// What a sign-in form is filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoginForm<'a> {
    pub(crate) username: &'a str,
    pub(crate) remember: bool,
    pub(crate) return_to: &'a ReturnAddress,
    /// By which the host that a person comes from knows their browser; mostly empty.
    pub(crate) state: &'a str,
    pub(crate) error: Option<FormError>,
    /// Who is signed in so far.
    pub(crate) user: Option<&'a str>,
}

/// Why a page is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal<'a> {
    /// The user has none of these roles.
    MissingRole(&'a [String]),
    /// A claim is missing or another.
    MissingClaim,
    Csrf,
    /// A form met the end of its session.
    FormLost,
    /// A sign-in on another host did not come back as it was begun.
    SignInLost,
    StoreUnavailable,
    Overloaded,
    AppUnavailable,
    NotFound,
    Other,
}

/// What a page of a refusal knows of the request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefusalContext<'a> {
    pub(crate) user: Option<&'a str>,
    /// The page that was refused, where a person can go back to it.
    pub(crate) return_to: &'a ReturnAddress,
    pub(crate) request_id: &'a str,
}

/// Paths of the gateway's endpoints, and what else the pages are made of.
#[derive(Debug)]
pub(crate) struct PageSettings<'a> {
    /// Of all endpoints.
    pub(crate) prefix: &'a str,
    pub(crate) branding_dir: Option<&'a Path>,
    pub(crate) ask_remember: bool,
}

impl Pages {
    /// Loads the branding and tries every page in every language.
    ///
    /// # Errors
    ///
    /// Something in the folder is wrong.
    pub(crate) fn new(settings: &PageSettings<'_>) -> Result<Pages, BrandingError> {
        let branding = Branding::load(settings.branding_dir)?;
        let hash = STANDARD.encode(digest(&SHA256, branding.style.as_bytes()).as_ref());
        let path = |name: &str| format!("{}/{name}", settings.prefix);
        let pages = Pages {
            style_hash: format!("'sha256-{hash}'"),
            branding,
            login_path: path("login"),
            logout_path: path("logout"),
            logout_all_path: path("logout-all"),
            continue_path: path("login/continue"),
            ask_remember: settings.ask_remember,
        };
        let folder = settings.branding_dir.unwrap_or(Path::new(""));
        let wrong = |template: &str, problem| BrandingError { path: folder.join(template), problem };
        for texts in &pages.branding.languages {
            for (template, page) in [
                ("login.html", pages.sample_login(texts)),
                ("message.html", pages.account_page(texts, "alice", &ReturnAddress::home())),
            ] {
                let html = pages.render(template, texts, &page);
                let html = html.map_err(|error| wrong(template, template_problem(&error)))?;
                check_html(template, &html).map_err(|problem| wrong(template, problem))?;
            }
        }
        Ok(pages)
    }

    fn render(&self, template: &str, texts: &Texts, page: &Page) -> Result<String, minijinja::Error> {
        let below = |path: &str| format!("{}{path}", page.prefix);
        let context = Context {
            page,
            title: &self.branding.title,
            logo: self.branding.logo.as_deref(),
            style: minijinja::Value::from_safe_string(self.branding.style.clone()),
            lang: &texts.language,
            t: texts.all(),
            login_path: below(&self.login_path),
            logout_path: below(&self.logout_path),
            logout_all_path: below(&self.logout_all_path),
            ask_remember: self.ask_remember,
        };
        self.branding.templates.get_template(template)?.render(Serde(context))
    }

    /// The sign-in form.
    pub(crate) fn login(&self, status: StatusCode, accept_language: &[u8], form: LoginForm<'_>) -> Response {
        let texts = self.texts(accept_language);
        let page = login_page(texts, form);
        self.respond(status, "login.html", texts, &page, form.return_to.other_origin())
    }

    /// Who is signed in, with the ways out.
    pub(crate) fn account(&self, accept_language: &[u8], user: &str, return_to: &ReturnAddress) -> Response {
        let texts = self.texts(accept_language);
        let page = self.account_page(texts, user, return_to);
        self.respond(StatusCode::OK, "message.html", texts, &page, None)
    }

    /// That no user is signed in any more.
    pub(crate) fn signed_out(&self, accept_language: &[u8], return_to: &ReturnAddress) -> Response {
        let texts = self.texts(accept_language);
        let sign_in = self.login_link(return_to, false);
        let page = Page {
            heading: texts.get("signed_out_heading").to_owned(),
            paragraphs: vec![texts.get("signed_out").to_owned()],
            links: vec![Link { href: sign_in, text: texts.get("sign_in").to_owned() }],
            prefix: return_to.prefix().to_owned(),
            ..Page::default()
        };
        self.respond(StatusCode::OK, "message.html", texts, &page, None)
    }

    /// Why a page is not shown.
    pub(crate) fn refusal(
        &self,
        status: StatusCode,
        accept_language: &[u8],
        refusal: Refusal<'_>,
        context: RefusalContext<'_>,
    ) -> Response {
        let texts = self.texts(accept_language);
        let page = self.refusal_page(texts, refusal, context);
        self.respond(status, "message.html", texts, &page, None)
    }

    /// The address of the sign-in form that leads back to `return_to`; `switch` shows it to who is signed in, too.
    pub(crate) fn login_link(&self, return_to: &ReturnAddress, switch: bool) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if switch {
            query.append_pair("switch", "1");
        }
        query.append_pair("return", return_to.as_str());
        format!("{}{}?{}", return_to.prefix(), self.login_path, query.finish())
    }

    pub(crate) fn login_path(&self) -> &str {
        &self.login_path
    }

    /// Where sessions are claimed that were handed over.
    pub(crate) fn continue_path(&self) -> &str {
        &self.continue_path
    }

    pub(crate) fn logout_path(&self) -> &str {
        &self.logout_path
    }

    fn texts(&self, accept_language: &[u8]) -> &Texts {
        let languages = &self.branding.languages;
        let tags: Vec<&str> = languages.iter().map(|texts| texts.language.as_str()).collect();
        let chosen = language::choose(accept_language, &tags);
        // The built-in languages are always there.
        languages.iter().find(|texts| Some(texts.language.as_str()) == chosen).unwrap_or(&languages[0])
    }

    fn sample_login(&self, texts: &Texts) -> Page {
        let return_to = ReturnAddress::home();
        let error = Some(FormError::Locked(Duration::from_secs(900)));
        login_page(
            texts,
            LoginForm {
                username: "alice",
                remember: true,
                return_to: &return_to,
                state: "x",
                error,
                user: Some("alice"),
            },
        )
    }

    fn account_page(&self, texts: &Texts, user: &str, return_to: &ReturnAddress) -> Page {
        let link = |href: String, text: &str| Link { href, text: texts.get(text).to_owned() };
        Page {
            heading: texts.get("signed_in_heading").to_owned(),
            paragraphs: vec![texts.filled("signed_in_as", &[("user", user)])],
            links: vec![
                link(return_to.as_str().to_owned(), "continue"),
                link(self.login_link(return_to, true), "another_account"),
            ],
            sign_out: true,
            sign_out_everywhere: true,
            prefix: return_to.prefix().to_owned(),
            ..Page::default()
        }
    }

    fn refusal_page(&self, texts: &Texts, refusal: Refusal<'_>, context: RefusalContext<'_>) -> Page {
        let RefusalContext { user, return_to, request_id } = context;
        let (heading, text) = match refusal {
            Refusal::MissingRole([role]) => ("role_heading", texts.filled("role", &[("roles", role)])),
            Refusal::MissingRole(roles) => {
                ("role_heading", texts.filled("roles", &[("roles", &roles.join(", "))]))
            }
            _ => {
                let (heading, text) = match refusal {
                    Refusal::MissingRole(_) | Refusal::MissingClaim => ("role_heading", "claim"),
                    Refusal::Csrf => ("csrf_heading", "csrf"),
                    Refusal::FormLost => ("form_lost_heading", "form_lost"),
                    Refusal::SignInLost => ("sign_in_lost_heading", "sign_in_lost"),
                    Refusal::StoreUnavailable => ("outage_heading", "store_unavailable"),
                    Refusal::Overloaded => ("outage_heading", "overloaded"),
                    Refusal::AppUnavailable => ("outage_heading", "app_unavailable"),
                    Refusal::NotFound => ("not_found_heading", "not_found"),
                    Refusal::Other => ("error_heading", "error"),
                };
                (heading, texts.get(text).to_owned())
            }
        };
        let user = user.map(|user| texts.filled("signed_in_as", &[("user", user)]));
        let link = |href: String, text: &str| Link { href, text: texts.get(text).to_owned() };
        let (links, sign_out) = match refusal {
            Refusal::MissingRole(_) | Refusal::MissingClaim => {
                (vec![link(self.login_link(return_to, true), "another_account")], true)
            }
            Refusal::FormLost => (vec![link(self.login_link(return_to, false), "sign_in")], false),
            Refusal::Csrf => (vec![link(return_to.as_str().to_owned(), "back_to_page")], false),
            Refusal::SignInLost
            | Refusal::StoreUnavailable
            | Refusal::Overloaded
            | Refusal::AppUnavailable => (vec![link(return_to.as_str().to_owned(), "try_again")], false),
            Refusal::NotFound | Refusal::Other => {
                (vec![link(format!("{}/", return_to.prefix()), "home")], false)
            }
        };
        Page {
            heading: texts.get(heading).to_owned(),
            paragraphs: [Some(text), user].into_iter().flatten().collect(),
            links,
            sign_out,
            request_id: Some(request_id.to_owned()),
            prefix: return_to.prefix().to_owned(),
            ..Page::default()
        }
    }

    fn respond(
        &self,
        status: StatusCode,
        template: &str,
        texts: &Texts,
        page: &Page,
        form_target: Option<&str>,
    ) -> Response {
        // The same templates were rendered when the configuration was loaded; what else a page holds is text.
        let html = self.render(template, texts, page).unwrap_or_else(|error| {
            tracing::error!(template, error = template_problem(&error), "a page could not be written");
            page.heading.clone()
        });
        let mut response = http::Response::new(Body::Bytes(html.into()));
        *response.status_mut() = status;
        let policy = format!(
            "default-src 'none'; style-src {}; img-src data:; form-action 'self'{}; frame-ancestors 'none'; base-uri 'none'",
            self.style_hash,
            form_target.map_or(String::new(), |origin| format!(" {origin}")),
        );
        *response.headers_mut() = page_headers(&policy, &texts.language);
        response
    }
}

fn page_headers(policy: &str, language: &str) -> HeaderMap {
    let fixed = HeaderValue::from_static;
    [
        (CONTENT_TYPE, fixed("text/html; charset=utf-8")),
        (CONTENT_LANGUAGE, header_value(language)),
        (CACHE_CONTROL, fixed("no-store")),
        (VARY, fixed("Cookie, Accept, Accept-Language, Sec-Fetch-Mode")),
        (CONTENT_SECURITY_POLICY, header_value(policy)),
        (X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
        (X_FRAME_OPTIONS, fixed("DENY")),
        // With `no-referrer` a form would be sent with `Origin: null`.
        (REFERRER_POLICY, fixed("same-origin")),
    ]
    .into_iter()
    .collect()
}

fn login_page(texts: &Texts, form: LoginForm<'_>) -> Page {
    let user = form.user.map(|user| texts.filled("signed_in_as", &[("user", user)]));
    Page {
        heading: texts.get("sign_in").to_owned(),
        paragraphs: user.into_iter().collect(),
        error: form.error.map(|error| form_error(texts, error)),
        invalid: matches!(form.error, Some(FormError::BothRequired | FormError::InvalidCredentials)),
        username: form.username.to_owned(),
        remember: form.remember,
        return_to: form.return_to.as_str().to_owned(),
        prefix: form.return_to.prefix().to_owned(),
        state: form.state.to_owned(),
        ..Page::default()
    }
}

fn form_error(texts: &Texts, error: FormError) -> String {
    let plain = match error {
        FormError::Locked(wait) => {
            let time = httpdate_time(wait);
            return texts.filled("account_locked", &[("wait", &wait_text(texts, wait)), ("time", &time)]);
        }
        FormError::RateLimited(wait) => {
            return texts.filled("rate_limited", &[("wait", &wait_text(texts, wait))]);
        }
        FormError::BothRequired => "both_required",
        FormError::InvalidCredentials => "invalid_credentials",
        FormError::TooManySessions => "too_many_sessions",
        FormError::Overloaded => "overloaded",
        FormError::StoreUnavailable => "store_unavailable",
        FormError::CookieConflict => "cookie_conflict",
        FormError::SessionEnded => "session_ended",
        FormError::Other => "error",
    };
    texts.get(plain).to_owned()
}

/// The time of day in `wait` from now: hours and minutes, in UTC.
fn httpdate_time(wait: Duration) -> String {
    // `Sun, 06 Nov 1994 08:49:37 GMT`.
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + wait);
    date.get(17..22).unwrap_or_default().to_owned()
}

/// A wait in the largest unit that it has, rounded up.
fn wait_text(texts: &Texts, wait: Duration) -> String {
    let seconds = (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1);
    let (unit, one, many) = match seconds {
        0..=90 => (1, "second", "seconds"),
        91..=5400 => (60, "minute", "minutes"),
        5401..=172_800 => (3600, "hour", "hours"),
        _ => (86_400, "day", "days"),
    };
    match seconds.div_ceil(unit) {
        1 => texts.get(one).to_owned(),
        count => texts.filled(many, &[("count", itoa::Buffer::new().format(count))]),
    }
}

/// Whether a page does without what the policy forbids, and a form has what it needs.
fn check_html(template: &str, html: &str) -> Result<(), String> {
    let lower = html.to_ascii_lowercase();
    let forbidden = [
        ("<script", "has a script, which the pages' Content-Security-Policy forbids: remove it"),
        (
            " style=\"",
            "has a style attribute, which the pages' Content-Security-Policy forbids: use style.css",
        ),
        (
            "<link rel=\"stylesheet\"",
            "has a link to a style sheet, which the pages' Content-Security-Policy forbids: use style.css",
        ),
    ];
    if let Some((_, problem)) = forbidden.into_iter().find(|(sign, _)| lower.contains(sign)) {
        return Err(problem.to_owned());
    }
    let needed: &[&str] = match template {
        "login.html" => &["method=\"post\"", "name=\"username\"", "name=\"password\"", "name=\"return\""],
        _ => &["method=\"post\""],
    };
    match needed.iter().find(|part| !lower.contains(**part)) {
        Some(part) => Err(format!("has no {part}, without which no user could sign in or out")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
