//! `request_headers` and `response_headers` of a route.

use super::super::identity_headers::{self, DEFAULTS, fold};
use super::super::prelude::*;
use super::super::upstream_assertion;
use super::template;
use crate::http1::HeaderKind;

/// The direction of the edited messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

/// What a route's edits are validated against.
#[derive(Clone, Copy)]
pub(super) struct HeaderEditScope<'s> {
    is_public: bool,
    /// The names in [identity_headers].
    identity_headers: &'s [String],
}

section! {
    /// Edits of header fields.
    struct EditKeys {
        /// Fields that replace those of the message.
        set: () = Key::new(Shape::Map(Box::new(Shape::Text)), |_| ()).example("{ X-Tenant = \"{claims.tenant}\" }");
        /// Fields that are added to those of the message.
        add: () = Key::new(Shape::Map(Box::new(Shape::Text)), |_| ()).example("{ X-Env = \"test\" }");
        /// Fields that carry claims, in place of what is there: claims with the names and forms of [identity_headers], for one app.
        claims: () = Key::new(Shape::Map(Box::new(identity_headers::shape())), |_| ())
            .example("{ roles = { header = \"X-WEBAUTH-ROLE\", map = { admin = \"Admin\" } } }");
        /// Fields that are left out.
        remove: () = Key::new(Shape::List(Box::new(Shape::Text)), |_| ()).example("[\"Cookie\"]");
    }
}

/// `request_headers` or `response_headers`.
pub(super) struct HeaderEditsKey(pub(super) Direction);

impl Declared<HeaderEdits> for HeaderEditsKey {
    fn infos(&self, name: &str, about: &str) -> Vec<KeyInfo> {
        Key::new(Shape::Table(TableShape::of::<EditKeys>()), |_| ())
            .example(match self.0 {
                Direction::Request => "{ set = { X-Tenant = \"{claims.tenant}\" }, remove = [\"Cookie\"] }",
                Direction::Response => "{ set = { Strict-Transport-Security = \"max-age=63072000\" } }",
            })
            .infos(name, about)
    }

    fn take(&self, table: &Table<'_>, name: &str) -> HeaderEdits {
        let entry = table.entry(name);
        let Some(edits) = entry.is_given().then(|| entry.table()).flatten() else {
            return HeaderEdits::default();
        };
        edits.read::<EditKeys>();
        let configured = table.root().quiet_table("identity_headers").entries();
        let defaults = DEFAULTS.iter().map(|(_, header)| (*header).to_owned());
        let identity_headers: Vec<String> = configured
            .iter()
            .flat_map(|(_, entry)| identity_headers::quiet_names(entry))
            .map(str::to_owned)
            .chain(defaults)
            .chain(upstream_assertion::quiet_header(&table.root()))
            .collect();
        let is_public = table.entry("access").quiet_text() == Some("public");
        let scope = HeaderEditScope { is_public, identity_headers: &identity_headers };
        let remove = edits.entry("remove").list_of(|name| removable(name, self.0, scope)).unwrap_or_default();
        let lines = |key: &str, replaces: bool| lines(&edits.entry(key), self.0, scope, replaces);
        let mut set = lines("set", true);
        set.extend(claim_lines(&edits.entry("claims"), self.0, scope));
        let edits = HeaderEdits { set, add: lines("add", false), remove };
        if let Some(name) = named_twice(&edits) {
            entry.report(
                Diagnostic::error(format!("`{}` names {} twice", entry.name(), quoted(name)))
                    .at(entry.key_place())
                    .help("a field that is set takes the place of all others of its name: name it once"),
            );
        }
        edits
    }
}

/// A field that is set and also added or removed. Spellings that normalise to the same name may be one field
/// to an upstream.
fn named_twice(edits: &HeaderEdits) -> Option<&str> {
    let others = edits.add.iter().map(|line| &line.name).chain(&edits.remove);
    let names: Vec<&String> = edits.set.iter().map(|line| &line.name).chain(others).collect();
    let is_twin = |place: usize, name: &str| names[..place].iter().any(|other| fold(other) == fold(name));
    let set = edits.set.len();
    let twin = names.iter().enumerate().find(|(place, name)| is_twin((*place).min(set), name));
    twin.map(|(_, name)| name.as_str())
}

/// The table under `claims`: claims, and the fields that carry them.
fn claim_lines(entry: &Entry<'_>, direction: Direction, scope: HeaderEditScope<'_>) -> Vec<HeaderLine> {
    let Some(table) = entry.is_given().then(|| entry.table()).flatten() else { return Vec::new() };
    if scope.is_public {
        entry.error(
            "there are no claims on a route with access = \"public\"",
            "tokens are ignored there: use access = \"optional\" or \"authenticated\"",
        );
    }
    let mut lines = Vec::new();
    for (claim, entry) in table.entries() {
        for header in identity_headers::headers_of(&claim, &entry) {
            match writable(&header.header, direction, scope) {
                Ok(()) => lines.push(HeaderLine {
                    name: header.header,
                    value: vec![ValuePart::Claim { name: claim.clone(), format: header.format }],
                }),
                Err(invalid) => entry.refuse(invalid),
            }
        }
    }
    lines
}

/// The table under `set` or `add`: names and values.
fn lines(
    entry: &Entry<'_>,
    direction: Direction,
    scope: HeaderEditScope<'_>,
    replaces: bool,
) -> Vec<HeaderLine> {
    if !entry.is_given() {
        return Vec::new();
    }
    let line = |(name, entry): (String, Entry<'_>)| {
        if let Err(invalid) = writable(&name, direction, scope) {
            entry.report(
                Diagnostic::error(format!("`{}`: {}", entry.name(), invalid.message))
                    .at(entry.key_place())
                    .maybe_help(invalid.help),
            );
            return None;
        }
        let value = entry.parse(|text| value(text, direction, scope, replaces))?;
        Some(HeaderLine { name, value })
    };
    entry.table().map(|table| table.entries().into_iter().filter_map(line).collect()).unwrap_or_default()
}

fn value(
    text: &str,
    direction: Direction,
    scope: HeaderEditScope<'_>,
    replaces: bool,
) -> Result<Vec<ValuePart>, InvalidValue> {
    if text.trim() != text || !text.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return refused(
            format!("{} is not a value for a header", quoted(text)),
            "use visible ASCII, without blanks at its ends",
        );
    }
    let known = ["{claims.NAME}", "{request_id}", "{client_address}", "{host}"];
    let parts = template::parts(text, &known, ValuePart::Text, |name| match name {
        "request_id" => Some(ValuePart::RequestId),
        "client_address" => Some(ValuePart::ClientAddress),
        "host" => Some(ValuePart::Host),
        _ => name
            .strip_prefix("claims.")
            .filter(|n| !n.is_empty())
            .map(|name| ValuePart::Claim { name: name.to_owned(), format: ClaimFormat::default() }),
    })?;
    let has_claim = parts.iter().any(|part| matches!(part, ValuePart::Claim { .. }));
    if has_claim && scope.is_public {
        return refused(
            "there are no claims on a route with access = \"public\"",
            "tokens are ignored there: use access = \"optional\" or \"authenticated\"",
        );
    }
    if has_claim && direction == Direction::Request && !replaces {
        return refused(
            "a claim beside what a client sends under the same name proves nothing",
            "write it under `set`, which takes the client's out",
        );
    }
    Ok(parts)
}

/// Fields that some upstreams take for the origin of a request. They are removed from clients' requests; a
/// route may set them.
const ORIGIN_OF_REQUEST: [&str; 5] =
    ["x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip", "x-cluster-client-ip"];

/// A field that may be set or added.
fn writable(name: &str, direction: Direction, scope: HeaderEditScope<'_>) -> Result<(), InvalidValue> {
    well_formed(name)?;
    if direction == Direction::Response {
        return owned_in_responses(name);
    }
    let refuse =
        |why: &str, help: &str| refused(format!("the header {} {why}", quoted(name)), help.to_owned());
    let lower = name.to_ascii_lowercase();
    match HeaderKind::of(name.as_bytes()) {
        HeaderKind::Authorization => refuse(
            "carries credentials",
            "forward_authorization = true passes the client's on; upstream_authorization_file names one for the upstream",
        ),
        HeaderKind::RoutingOverride
            if !ORIGIN_OF_REQUEST.contains(&lower.as_str()) && !lower.starts_with("x-forwarded-") =>
        {
            refuse(
                "would let an upstream see another request than the one that was authorised",
                "use `rewrite_prefix` for another path, or a name of your own",
            )
        }
        _ => requests_own(name, scope),
    }
}

/// A field that may be removed.
fn removable(name: &str, direction: Direction, scope: HeaderEditScope<'_>) -> Result<String, InvalidValue> {
    well_formed(name)?;
    match direction {
        Direction::Response => owned_in_responses(name)?,
        Direction::Request => requests_own(name, scope)?,
    }
    Ok(name.to_owned())
}

fn well_formed(name: &str) -> Result<(), InvalidValue> {
    let is_name = !name.is_empty()
        && name.len() <= 64
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_name {
        return Ok(());
    }
    refused(
        format!("{} is not a header name", quoted(name)),
        "use letters, digits and hyphens, 64 at most, such as X-Tenant",
    )
}

/// Fields that the gateway sets in requests, and hop-by-hop fields.
fn requests_own(name: &str, scope: HeaderEditScope<'_>) -> Result<(), InvalidValue> {
    if scope.identity_headers.iter().any(|header| fold(header) == fold(name)) {
        return refused(
            format!("the header {} carries the identity to upstreams", quoted(name)),
            "[identity_headers] says what stands in it; choose another name here",
        );
    }
    match HeaderKind::of(name.as_bytes()) {
        HeaderKind::Connection
        | HeaderKind::ContentLength
        | HeaderKind::Expect
        | HeaderKind::Forwarded
        | HeaderKind::HopByHop
        | HeaderKind::Host
        | HeaderKind::MaxForwards
        | HeaderKind::TransferEncoding
        | HeaderKind::Upgrade
        | HeaderKind::Via
        | HeaderKind::XForwardedFor
        | HeaderKind::XForwardedHost
        | HeaderKind::XForwardedProto
        | HeaderKind::XRequestId => refused(
            format!("the header {} is the gateway's own", quoted(name)),
            "it frames the message, belongs to one connection, or says where the request came from",
        ),
        _ => Ok(()),
    }
}

/// Fields that the gateway sets in responses.
fn owned_in_responses(name: &str) -> Result<(), InvalidValue> {
    let help = match HeaderKind::of(name.as_bytes()) {
        HeaderKind::AccessControl => "[cors] says which pages may read answers",
        HeaderKind::Connection
        | HeaderKind::ContentLength
        | HeaderKind::Date
        | HeaderKind::HopByHop
        | HeaderKind::TransferEncoding
        | HeaderKind::Upgrade
        | HeaderKind::XRequestId => {
            "it frames the message, belongs to one connection, or describes the response"
        }
        _ => return Ok(()),
    };
    refused(format!("the header {} is the gateway's own", quoted(name)), help)
}

#[cfg(test)]
mod tests {
    use super::super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    fn with(keys: &str) -> String {
        minimal() + "[[routes]]\npath = \"/x\"\nupstream = \"demo\"\n" + keys
    }

    #[test]
    fn fields_are_set_added_and_removed() {
        let keys = "response_headers.set.Strict-Transport-Security = \"max-age=60\"\n[routes.request_headers]\n\
            set = { X-Tenant = \"t-{claims.tenant}\", X-Real-IP = \"{client_address}\" }\n\
            add = { X-Env = \"{host} {request_id}\" }\nremove = [\"Cookie\", \"Authorization\"]";
        let route = settings(with(keys)).routes.remove(1);
        let HeaderEdits { set, add, remove } = route.request_headers;
        let claim = vec![
            ValuePart::Text("t-".into()),
            ValuePart::Claim { name: "tenant".into(), format: ClaimFormat::default() },
        ];
        assert!(set.contains(&HeaderLine { name: "X-Tenant".into(), value: claim }));
        assert!(
            set.contains(&HeaderLine { name: "X-Real-IP".into(), value: vec![ValuePart::ClientAddress] })
        );
        assert_eq!(add[0].value, [ValuePart::Host, ValuePart::Text(" ".into()), ValuePart::RequestId]);
        assert_eq!(remove, ["Cookie", "Authorization"]);
        assert_eq!(route.response_headers.set.len(), 1);
    }

    #[test]
    fn what_the_gateway_owns_cannot_be_edited() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "TE",
            "Upgrade",
            "Via",
            "CDN-Loop",
            "Forwarded",
            "X-Forwarded-For",
            "x-request-id",
            "Expect",
            "Max-Forwards",
            "Proxy-Authorization",
        ] {
            for keys in [
                format!("request_headers.set.{name} = \"x\""),
                format!("request_headers.add.{name} = \"x\""),
                format!("request_headers.remove = [\"{name}\"]"),
            ] {
                load_diagnostics(with(&keys)).only("is the gateway's own", "");
            }
        }
        for name in ["x-auth-user", "X-Auth-Session", "X-Mail"] {
            let keys = format!(
                "request_headers.set.{name} = \"x\"\n[identity_headers]\niss = \"X-Mail\"\nsid = \"\""
            );
            load_diagnostics(with(&keys)).only("carries the identity to upstreams", "[identity_headers]");
        }
        for (keys, message) in [
            ("request_headers.set.Authorization = \"x\"", "carries credentials"),
            (
                "request_headers.set.X-Original-URL = \"/x\"",
                "another request than the one that was authorised",
            ),
            ("request_headers.set.Proxy = \"x\"", "another request than the one that was authorised"),
            ("response_headers.set.Content-Length = \"1\"", "is the gateway's own"),
            ("response_headers.remove = [\"X-Request-Id\"]", "is the gateway's own"),
            ("response_headers.set.Access-Control-Allow-Origin = \"*\"", "is the gateway's own"),
            ("request_headers.set.X_Tenant = \"x\"", "is not a header name"),
            ("request_headers.set.\"X-A: b\\r\\nHost\" = \"x\"", "is not a header name"),
            ("request_headers.remove = [\"\"]", "is not a header name"),
        ] {
            load_diagnostics(with(keys)).only(message, "");
        }
    }

    #[test]
    fn values_that_cannot_mean_what_they_say_are_refused() {
        for (keys, message, help) in [
            ("request_headers.set.X-A = \"a\\nb\"", "is not a value for a header", "visible ASCII"),
            ("request_headers.set.X-A = \" a\"", "is not a value for a header", ""),
            ("request_headers.set.X-A = \"{claim.x}\"", "unknown placeholder `{claim.x}`", "{claims.NAME}"),
            ("request_headers.set.X-A = \"{claims.}\"", "unknown placeholder", ""),
            ("request_headers.set.X-A = 1", "expected a string", ""),
            ("request_headers.add.X-A = \"{claims.a}\"", "proves nothing", "`set`"),
            (
                "access = \"public\"\nrequest_headers.set.X-A = \"{claims.a}\"",
                "there are no claims",
                "optional",
            ),
            ("request_headers = { set = { X-A = \"1\", x-a = \"2\" } }", "names `x-a` twice", "name it once"),
            ("request_headers = { set = { X-A = \"1\" }, remove = [\"x-a\"] }", "names `x-a` twice", ""),
            ("request_headers.sett.X-A = \"1\"", "unknown key `sett`", "did you mean `set`?"),
        ] {
            load_diagnostics(with(keys)).only(message, help);
        }
    }
}
