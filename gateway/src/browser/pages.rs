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
use super::forms::{AccountForm, Field, FormKind, Hidden};
use super::language;
use super::return_address::ReturnAddress;
use crate::clock::UnixMillis;
use crate::config::PersonalTokens;
use crate::response::{Body, Response, header_value};
use crate::sessions::{PersonalTokenInfo, SessionId};

const DAY_SECS: u64 = 24 * 60 * 60;

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
    password_path: String,
    pub(super) reset_path: String,
    pub(super) prove_path: String,
    pub(super) mfa_path: String,
    /// Whether people may have a second factor.
    mfa: bool,
    /// Whether people may change their passwords.
    password_change: bool,
    tokens_path: String,
    /// Whether there is a page of personal access tokens.
    has_tokens: bool,
    ask_remember: bool,
}

/// What a person sees of a page besides the operator's name and colours.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Page {
    pub(super) heading: String,
    pub(super) paragraphs: Vec<String>,
    /// Said to be wrong.
    pub(super) error: Option<String>,
    /// Whether the fields are to blame for it.
    pub(super) invalid: bool,
    pub(super) username: String,
    pub(super) remember: bool,
    pub(super) return_to: String,
    /// What stands before the paths of the pages.
    #[serde(skip)]
    pub(super) prefix: String,
    /// See [`super::cookies::CookieKind::State`].
    pub(super) state: String,
    pub(super) links: Vec<Link>,
    /// Where a form is sent to.
    pub(super) action: String,
    /// Markup of the gateway's own.
    pub(super) image: Option<minijinja::Value>,
    pub(super) secret: String,
    pub(super) fields: Vec<Field>,
    pub(super) hidden: Vec<Hidden>,
    pub(super) submit: String,
    pub(super) sign_out: bool,
    pub(super) sign_out_everywhere: bool,
    pub(super) request_id: Option<String>,
    /// A personal access token that was just made.
    pub(super) new_token: Option<String>,
    pub(super) tokens: Vec<TokenRow>,
    /// None where only the operator makes tokens.
    pub(super) lifetimes: Vec<LifetimeChoice>,
    /// The roles that a token may be given.
    pub(super) roles: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Link {
    pub(super) href: String,
    pub(super) text: String,
}

/// A personal access token in the list.
#[derive(Debug, Serialize)]
pub(super) struct TokenRow {
    id: String,
    name: String,
    dates: String,
    /// What it is limited to; may be empty.
    limits: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct LifetimeChoice {
    /// A number of days, or `never`.
    days: String,
    text: String,
    chosen: bool,
}

/// The page of a person's personal access tokens.
#[derive(Debug)]
pub(crate) struct TokensPage<'a> {
    pub(crate) user: &'a str,
    /// Those that the user has.
    pub(crate) roles: &'a [String],
    /// Of the page itself.
    pub(crate) address: &'a ReturnAddress,
    pub(crate) tokens: &'a [PersonalTokenInfo],
    /// What was just made.
    pub(crate) new_token: Option<&'a str>,
    pub(crate) error: Option<TokenFormError>,
    pub(crate) limits: PersonalTokens,
}

/// Why no token was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenFormError {
    Refused,
    TooMany,
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
    tokens_path: String,
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
    /// Perhaps: the browser came back without those of a sign-in.
    CookiesMissing,
    SessionEnded,
    /// A field is empty.
    FieldMissing,
    WrongPassword,
    /// The new password and its repetition.
    PasswordsDiffer,
    /// The minimum length, in characters.
    PasswordTooShort(usize),
    PasswordTooCommon,
    PasswordTooWeak,
    PasswordBreached,
    PasswordIsUsername,
    PasswordUnchanged,
    PasswordNotChangeable,
    PasswordConflict,
    WrongCode,
    /// Of a user who has a second factor.
    CodeRequired,
    /// There is no page for that.
    ChangeRequired,
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

/// Where the forms of a page may lead, in the terms of `form-action` (CSP).
///
/// Chrome applies it to every redirect that follows a form as well, so that a sign-in would end at a dead button where the app that
/// it leads to redirects to another host. What keeps the forms of those pages at home is that their addresses are the gateway's
/// own and all else is escaped, and not this policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FormTargets {
    OwnHost,
    /// The forms lead on to an app, and wherever that redirects to.
    AnyHost,
}

impl FormTargets {
    fn sources(self) -> &'static str {
        match self {
            FormTargets::OwnHost => "'self'",
            FormTargets::AnyHost => "'self' http: https:",
        }
    }
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
    /// A link for a new password.
    LinkUsed,
    LinkExpired,
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
    pub(crate) password_change: bool,
    pub(crate) mfa: bool,
    /// Whether there is a page of personal access tokens.
    pub(crate) has_tokens: bool,
}

impl Pages {
    /// What is missing in the branding folder, and what stands in its place.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.branding.warnings
    }

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
            password_path: path("password"),
            reset_path: path("password/reset"),
            prove_path: path("reauthenticate"),
            mfa_path: path("mfa"),
            mfa: settings.mfa,
            password_change: settings.password_change,
            tokens_path: path("tokens"),
            has_tokens: settings.has_tokens,
            ask_remember: settings.ask_remember,
        };
        let folder = settings.branding_dir.unwrap_or(Path::new(""));
        let wrong = |template: &str, problem| BrandingError { path: folder.join(template), problem };
        for texts in &pages.branding.languages {
            for (template, page) in [
                ("login.html", pages.sample_login(texts)),
                ("form.html", pages.sample_form(texts)),
                ("message.html", pages.account_page(texts, "alice", &ReturnAddress::home())),
                ("message.html", pages.sample_refusal(texts)),
                ("tokens.html", pages.sample_tokens(texts)),
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
            tokens_path: below(&self.tokens_path),
            ask_remember: self.ask_remember,
        };
        self.branding.templates.get_template(template)?.render(Serde(context))
    }

    /// The sign-in form.
    pub(crate) fn login(&self, status: StatusCode, accept_language: &[u8], form: LoginForm<'_>) -> Response {
        let texts = self.texts(accept_language);
        let page = login_page(texts, form);
        self.respond(status, "login.html", texts, &page, FormTargets::AnyHost)
    }

    /// Who is signed in, with the ways out.
    pub(crate) fn account(&self, accept_language: &[u8], user: &str, return_to: &ReturnAddress) -> Response {
        let texts = self.texts(accept_language);
        let page = self.account_page(texts, user, return_to);
        self.respond(StatusCode::OK, "message.html", texts, &page, FormTargets::OwnHost)
    }

    /// A person's personal access tokens, with the forms that make and revoke them.
    pub(crate) fn tokens(
        &self,
        status: StatusCode,
        accept_language: &[u8],
        page: &TokensPage<'_>,
    ) -> Response {
        let texts = self.texts(accept_language);
        let page = self.tokens_page(texts, page);
        self.respond(status, "tokens.html", texts, &page, FormTargets::OwnHost)
    }

    fn sample_refusal(&self, texts: &Texts) -> Page {
        let (roles, return_to) = (["admin".to_owned()], ReturnAddress::home());
        let context = RefusalContext { user: Some("alice"), return_to: &return_to, request_id: "1" };
        self.refusal_page(texts, Refusal::MissingRole(&roles), context)
    }

    fn sample_tokens(&self, texts: &Texts) -> Page {
        let limits = PersonalTokens {
            enabled: true,
            self_service: true,
            default_ttl: Duration::from_secs(90 * DAY_SECS),
            max_ttl: None,
            max_per_user: 1,
        };
        let error = Some(TokenFormError::Refused);
        let made = PersonalTokenInfo {
            id: SessionId::random(),
            subject: "1".to_owned(),
            username: "alice".to_owned(),
            name: "backup".to_owned(),
            roles: Some(vec!["user".to_owned()]),
            routes: vec!["/dav".to_owned()],
            created_at: UnixMillis::default(),
            expires_at: None,
            last_used_at: None,
            last_used_from: None,
        };
        let page = TokensPage {
            user: "alice",
            roles: &["user".to_owned()],
            address: &ReturnAddress::home(),
            tokens: &[made],
            new_token: Some("agp_x"),
            error,
            limits,
        };
        self.tokens_page(texts, &page)
    }

    fn tokens_page(&self, texts: &Texts, page: &TokensPage<'_>) -> Page {
        let TokensPage { user, roles, address, tokens, new_token, error, limits } = page;
        let limit = |name: &str, values: &[String]| {
            let limits = if values.is_empty() { "–".to_owned() } else { values.join(", ") };
            texts.filled(name, &[("limits", &limits)])
        };
        let row = |token: &PersonalTokenInfo| TokenRow {
            id: token.id.to_string(),
            name: token.name.clone(),
            dates: texts.filled(
                "token_dates",
                &[
                    ("created", &date(Some(token.created_at), texts)),
                    ("expires", &date(token.expires_at, texts)),
                    ("used", &date(token.last_used_at, texts)),
                ],
            ),
            limits: [
                token.roles.as_ref().map(|roles| limit("token_roles", roles)),
                (!token.routes.is_empty()).then(|| limit("token_routes", &token.routes)),
            ]
            .into_iter()
            .flatten()
            .collect(),
        };
        let by_operator = (!limits.self_service).then_some("tokens_by_operator");
        let paragraphs =
            ["tokens_about"].into_iter().chain(by_operator).map(|name| texts.get(name).to_owned());
        Page {
            heading: texts.get("tokens_heading").to_owned(),
            paragraphs: paragraphs.chain([texts.filled("signed_in_as", &[("user", user)])]).collect(),
            error: error.map(|error| {
                let name = match error {
                    TokenFormError::Refused => "token_refused",
                    TokenFormError::TooMany => "tokens_too_many",
                };
                texts.get(name).to_owned()
            }),
            new_token: new_token.map(str::to_owned),
            tokens: tokens.iter().map(row).collect(),
            lifetimes: if limits.self_service { lifetimes(texts, limits) } else { Vec::new() },
            roles: roles.to_vec(),
            prefix: address.prefix().to_owned(),
            links: vec![Link {
                href: address.prefixed(&self.logout_path),
                text: texts.get("signed_in_heading").to_owned(),
            }],
            ..Page::default()
        }
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
        self.respond(StatusCode::OK, "message.html", texts, &page, FormTargets::OwnHost)
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
        self.respond(status, "message.html", texts, &page, FormTargets::OwnHost)
    }

    /// The address of the sign-in form that leads back to `return_to`; `switch` shows it to who is signed in, too.
    pub(crate) fn login_link(&self, return_to: &ReturnAddress, switch: bool) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if switch {
            query.append_pair("switch", "1");
        }
        query.append_pair("return", return_to.as_str());
        format!("{}?{}", return_to.prefixed(&self.login_path), query.finish())
    }

    /// The address of the page that proves an identity anew, and leads back to `return_to`; with a second factor, if that is needed.
    pub(crate) fn prove_link(&self, return_to: &ReturnAddress, second_factor: bool) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if second_factor {
            query.append_pair("factor", "1");
        }
        query.append_pair("return", return_to.as_str());
        format!("{}?{}", return_to.prefixed(&self.prove_path), query.finish())
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

    pub(super) fn texts(&self, accept_language: &[u8]) -> &Texts {
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

    fn sample_form(&self, texts: &Texts) -> Page {
        let return_to = ReturnAddress::home();
        let form = AccountForm {
            kind: FormKind::ChangePassword,
            username: "alice",
            is_named: true,
            asks_code: true,
            at_own_address: false,
            token: "x",
            remember: true,
            return_to: &return_to,
            state: "x",
            error: Some(FormError::PasswordsDiffer),
        };
        self.form_page(texts, form)
    }

    fn account_page(&self, texts: &Texts, user: &str, return_to: &ReturnAddress) -> Page {
        let link = |href: String, text: &str| Link { href, text: texts.get(text).to_owned() };
        Page {
            heading: texts.get("signed_in_heading").to_owned(),
            paragraphs: vec![texts.filled("signed_in_as", &[("user", user)])],
            links: [
                Some(link(return_to.as_str().to_owned(), "continue")),
                self.has_tokens.then(|| link(return_to.prefixed(&self.tokens_path), "tokens_heading")),
                Some(link(self.login_link(return_to, true), "another_account")),
                self.mfa.then(|| link(return_to.prefixed(&self.mfa_path), "second_factor")),
                self.password_change
                    .then(|| link(return_to.prefixed(&self.password_path), "change_password")),
            ]
            .into_iter()
            .flatten()
            .collect(),
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
                    Refusal::LinkUsed => ("link_heading", "link_used"),
                    Refusal::LinkExpired => ("link_heading", "link_expired"),
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
            Refusal::FormLost | Refusal::LinkUsed | Refusal::LinkExpired => {
                (vec![link(self.login_link(return_to, false), "sign_in")], false)
            }
            Refusal::Csrf => (vec![link(return_to.as_str().to_owned(), "back_to_page")], false),
            Refusal::SignInLost
            | Refusal::StoreUnavailable
            | Refusal::Overloaded
            | Refusal::AppUnavailable => (vec![link(return_to.as_str().to_owned(), "try_again")], false),
            Refusal::NotFound | Refusal::Other => (vec![link(return_to.prefixed("/"), "home")], false),
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

    pub(super) fn respond(
        &self,
        status: StatusCode,
        template: &str,
        texts: &Texts,
        page: &Page,
        form_targets: FormTargets,
    ) -> Response {
        // The same templates were rendered when the configuration was loaded; what else a page holds is text.
        let html = self.render(template, texts, page).unwrap_or_else(|error| {
            tracing::error!(template, error = template_problem(&error), "a page could not be written");
            page.heading.clone()
        });
        let mut response = http::Response::new(Body::Bytes(html.into()));
        *response.status_mut() = status;
        let policy = format!(
            "default-src 'none'; style-src {}; img-src data:; form-action {}; frame-ancestors 'none'; base-uri 'none'",
            self.style_hash,
            form_targets.sources(),
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

/// The lifetimes that a person can choose, with the usual one chosen.
fn lifetimes(texts: &Texts, limits: &PersonalTokens) -> Vec<LifetimeChoice> {
    let usual = limits.default_ttl.as_secs().div_ceil(DAY_SECS);
    let most = limits.max_ttl.map(|max| max.as_secs() / DAY_SECS);
    let mut days: Vec<u64> =
        [7, 30, 90, 365].into_iter().filter(|days| most.is_none_or(|most| *days <= most)).collect();
    if most.is_none_or(|most| usual <= most) {
        days.push(usual);
    }
    days.sort_unstable();
    days.dedup();
    let choice = |days: u64| LifetimeChoice {
        days: days.to_string(),
        text: wait_text(texts, Duration::from_secs(days * DAY_SECS)),
        chosen: days == usual,
    };
    let mut choices: Vec<LifetimeChoice> = days.into_iter().map(choice).collect();
    if most.is_none() {
        let text = texts.get("token_never").to_owned();
        choices.push(LifetimeChoice { days: "never".to_owned(), text, chosen: false });
    }
    choices
}

/// The day of a time in UTC, or that there is none.
fn date(at: Option<UnixMillis>, texts: &Texts) -> String {
    at.map_or_else(|| texts.get("token_never").to_owned(), |at| at.to_string().chars().take(10).collect())
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

pub(super) fn form_error(texts: &Texts, error: FormError) -> String {
    let plain = match error {
        FormError::Locked(wait) => {
            let time = httpdate_time(wait);
            return texts.filled("account_locked", &[("wait", &wait_text(texts, wait)), ("time", &time)]);
        }
        FormError::RateLimited(wait) => {
            return texts.filled("rate_limited", &[("wait", &wait_text(texts, wait))]);
        }
        FormError::PasswordTooShort(min) => {
            return texts.filled("password_too_short", &[("min", itoa::Buffer::new().format(min))]);
        }
        FormError::FieldMissing => "field_missing",
        FormError::WrongPassword => "wrong_password",
        FormError::PasswordsDiffer => "passwords_differ",
        FormError::PasswordTooCommon => "password_too_common",
        FormError::PasswordTooWeak => "password_too_weak",
        FormError::PasswordBreached => "password_breached",
        FormError::PasswordIsUsername => "password_is_username",
        FormError::PasswordUnchanged => "password_unchanged",
        FormError::PasswordNotChangeable => "password_not_changeable",
        FormError::PasswordConflict => "password_conflict",
        FormError::WrongCode => "wrong_code",
        FormError::CodeRequired => "code_about",
        FormError::ChangeRequired => "change_required",
        FormError::BothRequired => "both_required",
        FormError::InvalidCredentials => "invalid_credentials",
        FormError::TooManySessions => "too_many_sessions",
        FormError::Overloaded => "overloaded",
        FormError::StoreUnavailable => "store_unavailable",
        FormError::CookieConflict => "cookie_conflict",
        FormError::CookiesMissing => "cookies_missing",
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

const EVENT_HANDLER: &str =
    "has an event handler, which the pages' Content-Security-Policy forbids: remove it";

/// Whether a page does without what the policy forbids, and a form has what it needs.
fn check_html(template: &str, html: &str) -> Result<(), String> {
    let lower = html.to_ascii_lowercase();
    let forbidden = [
        ("<script", "has a script, which the pages' Content-Security-Policy forbids: remove it"),
        (" onclick=", EVENT_HANDLER),
        (" onsubmit=", EVENT_HANDLER),
        (" onload=", EVENT_HANDLER),
        (" style=", "has a style attribute, which the pages' Content-Security-Policy forbids: use style.css"),
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
