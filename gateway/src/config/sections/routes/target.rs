//! The target of a route: an upstream, a folder, a redirect, or a direct response.

use http::StatusCode;

use super::super::path_pattern;
use super::super::prelude::*;
use super::super::secret::given;
use super::super::upstreams::unless_zero;
use super::content_security_policy;
use super::direct_response;
pub use super::direct_response::FixedResponse;
use super::redirect;
pub use super::redirect::{LocationPart, Redirect};

section! {
    /// The target of a route: one of upstream, static, redirect and respond.
    pub(super) struct TargetKeys {
        /// The target, one of: an upstream,
        upstream: Option<String> = text(|name| Ok(name.to_owned())).example("\"demo\"");
        /// a folder, whose files are served,
        r#static: Option<PathBuf> = text(existing_folder).example("\"public\"");
        /// a redirect,
        redirect: Option<Redirect> = optional_table::<Redirect>(redirect::EXAMPLE)
            .example("{ to = \"https://new.example{path}{query}\", status = 301 }");
        /// or a direct response.
        respond: Option<FixedResponse> = optional_table::<FixedResponse>(direct_response::EXAMPLE)
            .into(direct_response::checked)
            .example("{ status = 503, body = \"Back at noon.\", content_type = \"text/plain\" }");
        /// With a folder: browsers that request a page which is no file get index.html (single-page apps).
        index_fallback: bool = boolean().default("false").example("true");
        /// The Content-Security-Policy of a folder's files, or "off".
        content_security_policy: Option<String> = Key::new(Shape::Text, content_security_policy::policy)
            .fallback("one under which common builds of Vue and React run")
            .example("\"default-src 'self'; connect-src 'self' https://api.example\"");
        /// What routes to an upstream have.
        options: UpstreamTarget = inline();
    }
}

section! {
    /// What routes to an upstream have.
    pub struct UpstreamTarget {
        /// The upstream gets the target without the route's path, and that path as X-Forwarded-Prefix.
        strip_prefix: bool = boolean().default("false");
        /// The upstream gets this in place of the route's path.
        rewrite_prefix: Option<String> = text(new_prefix).example("\"/v2\"");
        /// With strip_prefix or rewrite_prefix, for an app that does not know X-Forwarded-Prefix: in its responses, addresses of
        /// its own in Location, Content-Location and Refresh and the paths of its cookies get the route's path; in requests, the
        /// Destination of WebDAV loses it. What has the route's path already stays as it is, and so do addresses of others.
        rewrite_locations: bool = boolean().default("false").example("true");
        /// What the upstream gets as `Authorization`.
        authorization: UpstreamAuthorization = flat(authorization);
        /// For an upstream that takes /API for /api: the route's path is compared without regard to case.
        ignore_case: bool = boolean().default("false");
        /// %2F in the path is passed on instead of refused, also beside slashes: /queues/%2F/orders. Dot segments between them
        /// are refused all the same. The risk: an upstream that decodes %2F before it looks at the path sees other segments
        /// than the gateway. What only then is below the path of a protected route is refused.
        encoded_slashes: bool = boolean().default("false");
        /// Oddities in the path that some apps live on are passed on instead of refused: empty segments (//), %2E in names,
        /// %5C, a semicolon at the front of a segment, and escapes that are not UTF-8. Dot segments are refused in every
        /// spelling. The risks: upstreams differ in whether /a//b is /a/b and whether %5C is a slash, so what one of those readings
        /// puts below the path of a protected route is refused; an app that makes redirects of its path may make //host of it,
        /// which is another host; caches in between may keep one page under several names.
        lenient_path: bool = boolean().default("false").example("true");
        /// A request's body is received whole, within max_body, and sent with Content-Length: for apps that cannot take chunks (WSGI, CGI,
        /// some WebDAV servers), and so that slow uploads do not occupy them. 64 KiB of it stay in memory, the rest is in a temporary
        /// file (TMPDIR).
        request_buffering: bool = boolean().default("false").example("true");
        /// The upstream's responses are compressed where the client accepts zstd, br or gzip: text, JSON, XML and the like of 1 KiB or
        /// more, unless they are compressed already, set a cookie, or say Cache-Control: no-transform. Their ETag becomes a weak
        /// one. The risk (BREACH): who sees the length of responses that hold both a secret and what a request chose can
        /// guess the secret; do not set it for such pages. Requests that another site's page makes with cookies are answered as without.
        compress: bool = boolean().default("false").example("true");
        /// The protocols that connections may switch to by Upgrade (HTTP/1.1): "websocket", "SPDY/3.1" (kubectl exec), "tcp"
        /// (docker), or others. The token is checked before; the connection ends with its session.
        upgrade: Vec<String> = texts(upgrade).or_empty().example("[\"websocket\"]");
        /// A browser's script cannot send Authorization with a WebSocket: let it say new WebSocket(url, ["bearer", TOKEN]).
        token_in_subprotocol: bool = boolean().default("false").example("true");
        /// Overrides of the upstream's timeouts.
        timeouts: RouteTimeouts = inline();
    }
}

section! {
    /// The credentials that go to the upstream.
    struct AuthorizationKeys {
        /// The upstream gets the client's Authorization field. If this is not given, public routes pass on all but the gateway's
        /// own tokens, and other routes, where the field is for the gateway, pass on nothing.
        forward_authorization: Option<bool> = boolean().example("true");
        /// The former name of forward_authorization.
        forward_token: Option<bool> = boolean().example("true");
        /// A file with a credential for the upstream: the value of the Authorization field that it gets in place of the client's,
        /// such as Basic dXNlcjpwYXNzd29yZA== or Bearer abc.
        upstream_authorization: SecretSource<Secret<String>> =
            secret("\"secrets/app-authorization\"", "\"Basic dXNlcjpwYXNzd29yZA==\"").parse(credential);
    }
}

section! {
    /// Timeouts and retries of these requests.
    #[derive(Copy, Default)]
    pub struct RouteTimeouts {
        /// Timeout from the end of the request to the head of the response.
        response: Option<Duration> = duration(up_to(HOUR)).named("response_timeout").fallback("the upstream's").example("\"5m\"");
        /// Between two reads of the response's body.
        body: Option<Duration> = duration(up_to(HOUR)).named("body_timeout").fallback("the upstream's").example("\"5m\"");
        /// Between two reads of the request's body; then 408. gRPC streams have none by default while their client answers PING.
        request_body: Option<Duration> = duration(up_to(DAY)).named("request_body_timeout").fallback("limits.body_timeout").example("\"5m\"");
        /// From the request to the end of its response; "0s": no limit.
        total: Option<Option<Duration>> = duration(Duration::ZERO..=DAY).map(unless_zero).named("total_timeout").fallback("the upstream's").example("\"10m\"");
        /// How often a request is retried.
        retries: Option<u32> = integer(0..=10).fallback("the upstream's").example("0");
    }
}

impl UpstreamTarget {
    /// Replaces the route's path for the upstream: `rewrite_prefix`, or empty with `strip_prefix`.
    pub fn new_prefix(&self) -> Option<&str> {
        if self.strip_prefix { Some("") } else { self.rewrite_prefix.as_deref() }
    }
}

/// Replaces an invalid target, which has been reported.
const PLACEHOLDER: RouteTarget = RouteTarget::Respond(FixedResponse {
    status: StatusCode::NOT_FOUND,
    body: Vec::new(),
    content_type: String::new(),
});

/// Whether a target replaces an invalid one.
pub(super) fn is_placeholder(target: &RouteTarget) -> bool {
    matches!(target, RouteTarget::Respond(response) if response.content_type.is_empty())
}

/// The target of the route.
pub(super) fn target(keys: TargetKeys, table: &Table<'_>) -> RouteTarget {
    let of = |key: &str| table.entry(key);
    let options = keys.options;
    if options.strip_prefix && of("rewrite_prefix").is_given() {
        let help = "the route's path is either left out or replaced: remove one";
        of("rewrite_prefix").refuse_beside(&of("strip_prefix"), help);
    }
    let targets = ["upstream", "static", "redirect", "respond"];
    let leads_nowhere = !targets.iter().any(|key| of(key).is_given());
    let help = "a route leads to one upstream, folder, address or response: remove one";
    if !table.at_most_one(&targets, help) {
        return PLACEHOLDER;
    }
    for option in ["index_fallback", "content_security_policy"].map(of) {
        if option.is_given() && !of("static").is_given() {
            refuse_without("static", &option);
        }
    }
    if !leads_nowhere && !of("upstream").is_given() {
        let options = UpstreamTarget::keys().into_iter().map(|key| of(&key.name));
        options.filter(|option| option.is_given()).for_each(|option| refuse_without("upstream", &option));
    }
    if let Some(name) = keys.upstream {
        if !is_upstream(&of("upstream"), &name, table) {
            return PLACEHOLDER;
        }
        if of("token_in_subprotocol").is_given() && !options.upgrade.iter().any(|name| name == WEBSOCKET) {
            refuse_without("upgrade", &of("token_in_subprotocol"));
        }
        if options.rewrite_locations && options.new_prefix().is_none() {
            refuse_without("strip_prefix", &of("rewrite_locations"));
        }
        return RouteTarget::Upstream { name, options: Box::new(options) };
    }
    if leads_nowhere {
        let names = upstream_names(table);
        table.report().push(
            Diagnostic::error(
                "the route leads nowhere: `upstream`, `static`, `redirect` or `respond` is missing",
            )
            .at(table.place())
            .help(match names.first() {
                None => {
                    "add static = \"FOLDER\", or an [upstreams.NAME] table and upstream = \"NAME\"".to_owned()
                }
                Some(name) => format!("add upstream = \"{name}\" or static = \"FOLDER\""),
            }),
        );
    }
    redirect::check(keys.redirect.as_ref(), table);
    let (index_fallback, content_security_policy) = (keys.index_fallback, keys.content_security_policy);
    let folder =
        keys.r#static.map(|root| RouteTarget::Static { root, index_fallback, content_security_policy });
    let redirect = keys.redirect.map(RouteTarget::Redirect);
    folder.or(redirect).or(keys.respond.map(RouteTarget::Respond)).unwrap_or(PLACEHOLDER)
}

/// A prefix that replaces the route's path.
fn new_prefix(text: &str) -> Result<String, InvalidValue> {
    match text {
        "/" => refused("a slash is no prefix", "write strip_prefix = true"),
        _ => path_pattern::segments(text).map(|()| text.to_owned()),
    }
}

/// What the upstream gets as `Authorization`.
fn authorization(keys: AuthorizationKeys, table: &Table<'_>) -> UpstreamAuthorization {
    let of = |key: &str| table.entry(key);
    let (new, old) = (of("forward_authorization"), of("forward_token"));
    let forwards = keys.forward_authorization.or(keys.forward_token);
    if new.is_given() && old.is_given() {
        old.refuse_beside(&new, "`forward_token` is the former name of `forward_authorization`: remove it");
    }
    if keys.upstream_authorization != SecretSource::Nothing && forwards == Some(true) {
        let help =
            "the upstream gets either the client's Authorization or one of the gateway's own: remove one";
        given(table, "upstream_authorization").refuse_beside(if new.is_given() { &new } else { &old }, help);
    }
    match (keys.upstream_authorization, forwards) {
        (SecretSource::Secret(value), _) => UpstreamAuthorization::Set(value),
        (_, Some(true)) => UpstreamAuthorization::Forwarded,
        (_, None) if of("access").quiet_text() == Some("public") => UpstreamAuthorization::AppsOwn,
        _ => UpstreamAuthorization::Removed,
    }
}

/// The value of an `Authorization` field: a scheme, and what belongs to it.
fn credential(value: Vec<u8>) -> Result<Secret<String>, InvalidValue> {
    let text = std::str::from_utf8(&value).ok().filter(|text| text.trim() == *text);
    let visible = text.filter(|text| text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
    let is_scheme = |scheme: &str| scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+".contains(&b));
    match visible.and_then(|text| Some((text, text.split_once(' ')?))) {
        Some((text, (scheme, _))) if is_scheme(scheme) => Ok(Secret(text.to_owned())),
        _ => refused(
            "the secret is not the value of an Authorization field",
            "write a scheme, a space and the credential in one line: Bearer TOKEN, or Basic and the base64 of USER:PASSWORD",
        ),
    }
}

const WEBSOCKET: &str = "websocket";

/// A protocol that a connection may switch to.
fn upgrade(text: &str) -> Result<String, InvalidValue> {
    let lower = text.to_ascii_lowercase();
    // The requests that a client sends in them would pass the gateway unseen.
    if lower == "h2c" || lower == "h2" || lower.starts_with("http") || lower.starts_with("tls") {
        return refused(
            format!("a connection that switches to {} carries requests", quoted(text)),
            "leave it out: they would pass the gateway unseen. HTTP/2 to the upstream is protocol = \"http2\"",
        );
    }
    let is_token = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'+-.^_`|~".contains(&b))
    };
    match text.split_once('/').map_or(is_token(text), |(name, version)| is_token(name) && is_token(version)) {
        true if lower == WEBSOCKET => Ok(lower),
        true => Ok(text.to_owned()),
        false => refused(
            format!("{} is not the name of a protocol", quoted(text)),
            "write it as Upgrade has it, such as \"websocket\", \"SPDY/3.1\" or \"tcp\"",
        ),
    }
}

fn refuse_without(needed: &str, option: &Entry<'_>) {
    option.report(
        Diagnostic::error(format!("`{}` has no meaning without `{needed}`", option.name()))
            .at(option.key_place())
            .help(format!("remove it: it is for routes with `{needed}`")),
    );
}

fn upstream_names(table: &Table<'_>) -> Vec<String> {
    table.root().quiet_table("upstreams").entries().into_iter().map(|(name, _)| name).collect()
}

/// Whether there is an upstream with that name; reports it if not.
fn is_upstream(entry: &Entry<'_>, name: &str, table: &Table<'_>) -> bool {
    let names = upstream_names(table);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if names.contains(&name) {
        return true;
    }
    // What is wrong with the tables has been reported.
    let upstreams = table.root().entry("upstreams");
    let usable = || upstreams.table_or_empty().entries().iter().any(|(_, entry)| entry.is_table());
    if upstreams.is_misspelt() || (upstreams.is_given() && !(upstreams.is_table() && usable())) {
        return false;
    }
    let help = suggest("known upstreams", name, &names)
        .unwrap_or_else(|| "there are no upstreams: add an [upstreams.NAME] table with `urls`".to_owned());
    entry.error(format!("unknown upstream {}", quoted(name)), help);
    false
}
