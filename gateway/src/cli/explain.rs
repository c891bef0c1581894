//! `auth-gateway explain`: what would happen to a request, and why, without sending it anywhere.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use clap::Args;
use http::StatusCode;

use super::CommandError;
use super::arguments::refuse_value;
use super::hash_password::Console;
use crate::clock::{UnixSeconds, now_seconds};
use crate::config::{Access, Algorithm, Dpop, OWN_ISSUER, Route, RouteTarget, Settings, Signing};
use crate::explain::{Explanation, Outcome, TokenState};
use crate::rejection::Rejection;
use crate::routing::MatchResult;
use crate::server::DryRun;
use crate::tokens::{KeyStore, TokenError, VerifiedClaims};

/// The request to explain.
#[derive(Debug, Clone, Args)]
pub(super) struct ExplainArguments {
    /// Such as GET
    method: String,
    /// http://host/path?query, or /path with -H 'Host: …'; taken literally
    url: String,
    /// A file with the bearer token, or - for a prompt or the first line of standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A header field; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    from: IpAddr,
}

/// Prints what the gateway would do. Exits with failure if the request is rejected.
pub(super) fn run(
    request: ExplainArguments,
    mut settings: Settings,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let (head, secure) = head(&request, &settings, console)?;
    let dpop = settings.tokens.dpop;
    let routes = settings.routes.clone();
    let mut notes = Vec::new();
    if let Some(note) = use_only_keys_that_exist(&mut settings) {
        notes.push(note);
    }
    let dry_run = DryRun::new(settings).map_err(CommandError::configuration)?;
    let explained = dry_run.explain(&head, SocketAddr::new(request.from, 0), secure);
    let explanation = explained.map_err(CommandError::failed)?;
    for line in describe(&explanation, &routes, dpop) {
        writeln!(console.output, "{line}").map_err(CommandError::failed)?;
    }
    for note in notes {
        writeln!(console.notes, "note: {note}").map_err(CommandError::failed)?;
    }
    match &explanation.outcome {
        Outcome::Refused(status, rejection) => {
            Err(CommandError::Failed(format_rejection(*status, rejection)))
        }
        _ => Ok(()),
    }
}

fn format_rejection(status: StatusCode, rejection: &Rejection) -> String {
    format!("refused: {} {}: {}", status.as_u16(), rejection.code().name(), rejection.detail())
}

/// The request head as a client would send it, and whether the connection is TLS.
fn head(
    request: &ExplainArguments,
    settings: &Settings,
    console: &mut Console<'_>,
) -> Result<(Vec<u8>, bool), CommandError> {
    let token = match &request.token_file {
        None => None,
        Some(file) if file == Path::new("-") => Some(console.token().map_err(CommandError::failed)?),
        Some(file) => Some(fs::read_to_string(file).map_err(|error: io::Error| {
            CommandError::failed(format!("cannot read the token file {}: {error}", file.display()))
        })?),
    };
    let without_scheme = ["https://", "http://"].iter().find_map(|scheme| request.url.strip_prefix(scheme));
    let (host, target) = match without_scheme {
        Some(rest) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        None => (None, request.url.as_str()),
    };
    let mut head = format!("{} {}{target} HTTP/1.1\r\n", request.method, slash(target));
    let mut has_host = false;
    for field in &request.headers {
        let name = field.split(':').next().unwrap_or(field).trim();
        if ["authorization", "proxy-authorization"].iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
            refuse_value(
                "arguments are seen by other processes and kept by shells: give the token with --token-file",
            );
        }
        if field.contains(['\r', '\n']) || !field.contains(':') {
            refuse_value("a header field is one line, such as -H 'Accept: text/html'");
        }
        has_host |= name.eq_ignore_ascii_case("host");
        head.push_str(&format!("{field}\r\n"));
    }
    match host {
        Some(host) => head.push_str(&format!("Host: {host}\r\n")),
        None if has_host => {}
        None => head.push_str(&format!("Host: {}\r\n", settings.server.listen)),
    }
    if let Some(token) = token {
        head.push_str(&format!("Authorization: Bearer {}\r\n", token.trim()));
    }
    head.push_str("\r\n");
    Ok((head.into_bytes(), request.url.starts_with("https://")))
}

/// The slash that a URL without a path leaves out.
fn slash(target: &str) -> &'static str {
    if target.is_empty() || target.starts_with('?') { "/" } else { "" }
}

/// Generates no keys: where the gateway has yet to generate its first key, a secret that signs nothing
/// replaces it.
fn use_only_keys_that_exist(settings: &mut Settings) -> Option<&'static str> {
    let Signing::Kept { algorithm, dir } = &settings.tokens.signing else { return None };
    let signs = |dir: &Path| {
        let keys = KeyStore::open_to_read(dir).and_then(|store| store.list()).unwrap_or_default();
        keys.iter().any(|key| key.signs_with(*algorithm))
    };
    if KeyStore::list_path(dir).exists() && signs(dir) {
        return None;
    }
    let mut secret = vec![0; 32];
    // Without random bytes the secret is predictable, for the one request of this process.
    let _ = aws_lc_rs::rand::fill(&mut secret);
    settings.tokens.signing = Signing::Secret { algorithm: Algorithm::HS256, secret: secret.into() };
    Some("the gateway has not made its key yet, so no token can be good")
}

/// What the route does to bodies, beside forwarding them.
fn format_bodies(route: &Route) -> Vec<String> {
    let RouteTarget::Upstream { options, .. } = &route.target else { return Vec::new() };
    let mut rows = Vec::new();
    if options.request_buffering {
        rows.push(format_row("buffers", "the body of a request whole, and sends it with Content-Length"));
    }
    if options.compress {
        rows.push(format_row("compress", "responses, where the client accepts zstd, br or gzip"));
    }
    if !options.upgrade.is_empty() {
        rows.push(format_row("upgrades", &format!("connections to {}", options.upgrade.join(", "))));
    }
    rows
}

/// What the route does to addresses in responses.
fn format_rewrite(route: &Route) -> Option<String> {
    let RouteTarget::Upstream { options, .. } = &route.target else { return None };
    let prefix = options.new_prefix().filter(|_| options.rewrite_locations)?;
    let fields = "Location, Content-Location, Refresh and paths of cookies";
    Some(format_row(
        "rewrites",
        &format!("{fields} in responses: {prefix}/ becomes {}/", route.path.trim_end_matches('/')),
    ))
}

/// The explanation, line by line.
fn describe(explanation: &Explanation, routes: &[Route], dpop: Dpop) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(explanation.client.as_ref().map(|client| format_row("client", client)));
    for (placed, verdict) in &explanation.tried {
        let route = &routes[placed.route];
        let hosts = match placed.hosts.as_slice() {
            [] => "any host".to_owned(),
            hosts => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        let why = match verdict {
            MatchResult::Matches => "takes it",
            MatchResult::HostMismatch => "has another host",
            MatchResult::PathMismatch => "has another path",
            MatchResult::MethodMismatch => "fits, but does not take the method",
            MatchResult::LowerPriority => "would fit, but comes later",
        };
        lines.push(format_row("route", &format!("{hosts} {} (routes[{}]) {why}", route.path, placed.route)));
        if *verdict == MatchResult::Matches {
            lines.push(format_row("asks for", &format_requirements(route, dpop)));
            lines.extend(format_rewrite(route));
            lines.extend(format_bodies(route));
        }
    }
    if !explanation.tried.is_empty() {
        lines.extend(token(&explanation.token));
    }
    if let Some(preflight) = &explanation.preflight {
        lines.push(format_row("preflight", preflight));
    }
    match &explanation.outcome {
        Outcome::Refused(status, rejection) => {
            if explanation.tried.is_empty() {
                lines.push(format_row("request", "is refused before any route is looked for"));
            }
            lines.push(format_row("outcome", &format_rejection(*status, rejection)));
        }
        Outcome::Endpoint => lines.push(format_row("outcome", "one of the gateway's own endpoints answers")),
        Outcome::Here(status) => {
            lines.push(format_row("outcome", &format!("answered by the gateway: {status}")))
        }
        Outcome::Upstream(name, head) => {
            lines.push(format_row("outcome", &format!("forwarded to upstream {name}:")));
            lines.extend(head_lines(head));
        }
    }
    if matches!(explanation.outcome, Outcome::Upstream(..) | Outcome::Endpoint)
        && !explanation.headers.is_empty()
    {
        lines.push(format_row("response", "gets these fields from the gateway:"));
    }
    let headers = explanation.headers.iter();
    lines.extend(headers.map(|(name, value)| {
        format_row("", &redacted(&format!("{}: {value}", title_case(name))).replace(char::is_control, "?"))
    }));
    lines
}

/// A field name as it is written in HTTP/1.1.
fn title_case(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

fn format_row(name: &str, text: &str) -> String {
    format!("{name:<9} {text}")
}

fn format_requirements(route: &Route, dpop: Dpop) -> String {
    let mut text = match route.access.name() {
        "authenticated" => "a good access token".to_owned(),
        "optional" => "nothing, but a token that is there must be good".to_owned(),
        _ => "nothing".to_owned(),
    };
    if route.access != Access::Public {
        text.push_str(match route.dpop.unwrap_or(dpop) {
            Dpop::Required => ", one that is bound to a key, with its proof (DPoP)",
            Dpop::Optional => ", with its proof where it is bound to a key (DPoP)",
            Dpop::Off => "",
        });
        if route.issuers != [OWN_ISSUER] {
            text.push_str(&format!(", issued by {}", route.issuers.join(" or ")));
        }
    }
    if !route.roles.is_empty() {
        text.push_str(&format!(", one of the roles {}", route.roles.join(", ")));
    }
    for claim in &route.claims {
        text.push_str(&format!(", the claim {claim}"));
    }
    text
}

fn token(state: &TokenState) -> Vec<String> {
    let (verdict, claims) = match state {
        TokenState::NotAskedFor => ("is not looked at".to_owned(), None),
        TokenState::None => ("there is none".to_owned(), None),
        TokenState::Unreadable(why) => (format!("cannot be read: {why}"), None),
        TokenState::Unjudged => {
            let why = "cannot be judged: its issuer would have to be asked; keys that a running gateway has fetched are in cache_dir";
            (why.to_owned(), None)
        }
        TokenState::Good(identity) => {
            let claims = identity.claims();
            let of_issuer = identity
                .origin()
                .map_or(String::new(), |origin| format!("of the issuer {} ", origin.issuer.settings.name));
            let left = span(claims.expires_at(), now_seconds());
            (format!("{of_issuer}is good for another {left}"), Some(claims))
        }
        TokenState::Refused(error, claims) => (refused(*error, claims.as_ref()), claims.as_ref()),
    };
    let mut lines = vec![format_row("token", &verdict)];
    if let Some(claims) = claims {
        let session = match claims.sid() {
            "" => "no session here".to_owned(),
            sid => {
                let sid = sid.escape_debug();
                format!("session {sid}; whether that was ended is known to the running gateway only")
            }
        };
        lines.push(format_row(
            "identity",
            &format!(
                "{} (sub {}), roles {}, {session}",
                claims.username().escape_debug(),
                claims.subject().escape_debug(),
                claims.roles().join(",").escape_debug(),
            ),
        ));
    }
    lines
}

fn refused(error: TokenError, claims: Option<&VerifiedClaims>) -> String {
    match (error, claims) {
        (TokenError::Expired, Some(claims)) => {
            format!("expired {} ago", span(now_seconds(), claims.expires_at()))
        }
        (TokenError::NotYetValid, Some(claims)) => {
            format!("is valid only in {}: do the clocks agree?", span(claims.issued_at(), now_seconds()))
        }
        (TokenError::WrongType, _) => "is a refresh token: routes take access tokens".to_owned(),
        (error, _) => format!("is not good: {error}"),
    }
}

/// The time between two points, in words.
fn span(later: UnixSeconds, earlier: UnixSeconds) -> impl std::fmt::Display {
    humantime::format_duration(later.since(earlier))
}

/// A head's lines, indented, with credentials redacted.
fn head_lines(head: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(head);
    let lines = text.split("\r\n").filter(|line| !line.is_empty());
    lines.map(|line| format_row("", &redacted(line).replace(char::is_control, "?"))).collect()
}

fn redacted(line: &str) -> String {
    const SECRET: [&str; 7] = ["dpop", "authorization", "cookie", "key", "token", "secret", "password"];
    match line.split_once(": ") {
        Some((name, _)) if SECRET.iter().any(|part| name.to_ascii_lowercase().contains(part)) => {
            format!("{name}: (redacted)")
        }
        _ => line.to_owned(),
    }
}
