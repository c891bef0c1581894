//! `[identity_headers]`: claims that upstreams get, and their header names.

use super::prelude::*;
use crate::config::source_span::SourceSpan;

/// One entry of `[identity_headers]`, which maps claims to header names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityHeader {
    /// The claim's name.
    pub claim: String,
    /// The header's name, in the spelling it is sent with.
    pub header: String,
    /// How the claim becomes its value.
    pub format: ClaimFormat,
}

/// How a claim becomes the value of a header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimFormat {
    /// `encoding`
    pub encoding: ClaimEncoding,
    /// `map`: what stands for the claim's value or each of its elements; others are left out. Empty: all stay as they are.
    pub map: BTreeMap<String, String>,
    /// `one_of`: the first of these that is there stands alone. Empty: all are sent.
    pub one_of: Vec<String>,
    /// `present`: stands for whatever the claim is.
    pub present: Option<String>,
}

/// How text that is not visible ASCII stands in a header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClaimEncoding {
    /// Percent-encoded UTF-8.
    #[default]
    Percent,
    /// UTF-8 as it is.
    #[serde(rename = "utf-8")]
    Utf8,
    /// `UTF-8''…` (RFC 8187).
    Rfc8187,
    /// `=?UTF-8?B?…?=` (RFC 2047).
    Rfc2047,
    /// Base64 of UTF-8.
    Base64,
}

section! {
    /// Which claims the upstream sees under which names; "" switches one off. Other claims (iss, aud, exp, jti, ...) can be
    /// added. What clients send under these names never arrives. In place of a name can stand how a claim becomes the header's
    /// value: { header = "X-WEBAUTH-ROLE", map = { admin = "Admin" }, one_of = ["Admin", "Viewer"], present = "true", encoding =
    /// "percent" }, or a list of names and such tables. map: what stands for a value, or for each element of a list; others are
    /// left out. one_of: the first of these that is there, alone. present: this text where the claim is there and not false. encoding
    /// of what is not visible ASCII: "percent", "utf-8" (as it is), "rfc8187" (UTF-8''...), "rfc2047" (=?UTF-8?B?...?=), "base64".
    pub(super) struct DefaultHeaders {
        /// The user's name.
        username: () = name("X-Auth-User");
        /// The user's id.
        sub: () = name("X-Auth-Subject");
        /// The user's roles, separated by commas.
        roles: () = name("X-Auth-Roles");
        /// The session's id.
        sid: () = name("X-Auth-Session");
    }
}

/// Only declared here: names are read together with those of other claims.
fn name(default: &'static str) -> Key<()> {
    Key::new(shape(), |_| ()).standard(default)
}

/// A header's name, or how a claim becomes a header, or several of them.
pub(super) fn shape() -> Shape {
    Shape::TextOrTable("claim_header", TableShape::of::<HeaderKeys>())
}

section! {
    /// How a claim becomes a header.
    struct HeaderKeys {
        /// The header's name.
        header: String = text(header_name).required("name the header: { header = \"X-Auth-User\" }").or_empty().example("\"X-WEBAUTH-ROLE\"");
        /// How text that is not visible ASCII stands in it. Control bytes are percent-encoded at least.
        encoding: ClaimEncoding = choice().default("percent");
        /// What stands for the claim's value, or for each of its elements; others are left out.
        map: BTreeMap<String, String> =
            or_default(map(Shape::Text, "{ admin = \"Admin\", user = \"Viewer\" }", |_, entry| entry.parse(plain)));
        /// Of several values only the first of these that is there is sent.
        one_of: Vec<String> = texts(plain).or_empty().example("[\"Admin\", \"Viewer\"]");
        /// This is sent where the claim is there, and not false, null or empty.
        present: Option<String> = text(plain).example("\"true\"");
    }
}

/// Text without control characters.
fn plain(text: &str) -> Result<String, InvalidValue> {
    match text.is_empty() || text.chars().any(char::is_control) {
        true => refused(
            format!("{} is not a value for a header", quoted(text)),
            "write at least one character, and none that ends a line",
        ),
        false => Ok(text.to_owned()),
    }
}

/// The headers of a claim; those with an empty name are switched off.
pub(super) fn headers_of(claim: &str, entry: &Entry<'_>) -> Vec<IdentityHeader> {
    let elements = if entry.is_list() { entry.list().unwrap_or_default() } else { vec![entry.clone()] };
    let of_element = |element: &Entry<'_>| {
        if !element.is_table() {
            let header = element.parse(header_name)?;
            return Some(IdentityHeader { claim: claim.to_owned(), header, format: ClaimFormat::default() });
        }
        let table = element.table_or_empty();
        let HeaderKeys { header, encoding, map, one_of, present } = table.read();
        if let Some(other) =
            ["map", "one_of"].map(|key| table.entry(key)).iter().find(|entry| entry.is_given())
            && present.is_some()
        {
            table.entry("present").refuse_beside(other, "`present` stands for every value: remove one");
        }
        Some(IdentityHeader {
            claim: claim.to_owned(),
            header,
            format: ClaimFormat { encoding, map, one_of, present },
        })
    };
    elements.iter().filter_map(of_element).collect()
}

/// The names of a claim's headers, for who only wants to know.
pub(super) fn quiet_names<'a>(entry: &Entry<'a>) -> Vec<&'a str> {
    let tables = entry.tables().into_iter().filter_map(|table| table.entry("header").quiet_text());
    entry.quiet_text().into_iter().chain(entry.texts()).chain(tables).collect()
}

pub(super) const DEFAULTS: [(&str, &str); 4] = [
    ("username", "X-Auth-User"),
    ("sub", "X-Auth-Subject"),
    ("roles", "X-Auth-Roles"),
    ("sid", "X-Auth-Session"),
];

/// The claims of the gateway's tokens.
const CLAIMS: [&str; 11] =
    ["iss", "aud", "sub", "iat", "nbf", "exp", "jti", "sid", "type", "username", "roles"];

/// Fields that frame a message, are hop-by-hop, carry credentials, or are set by the gateway. A claim under
/// such a name could smuggle a request or forge its origin.
const RESERVED: &str = "authorization cdn-loop connection cookie date expect forwarded host http2-settings keep-alive origin proxy range \
    set-cookie te trailer trailers transfer-encoding upgrade via x-real-ip x-request-id www-authenticate \
    x-original-url x-rewrite-url x-http-method-override";

const RESERVED_PREFIXES: [&str; 3] = ["content-", "proxy-", "x-forwarded-"];

pub(super) fn identity_headers(table: &Table<'_>) -> Vec<IdentityHeader> {
    let mut headers: Vec<(IdentityHeader, SourceSpan)> = DEFAULTS
        .iter()
        .map(|(claim, header)| {
            let (claim, header) = ((*claim).to_owned(), (*header).to_owned());
            (IdentityHeader { claim, header, format: ClaimFormat::default() }, SourceSpan::Nowhere)
        })
        .collect();
    for (claim, entry) in table.entries() {
        warn_of_unknown_claim(&claim, &entry);
        let known = headers.iter().position(|(known, _)| known.claim == claim);
        let places = known.map_or(headers.len()..headers.len(), |at| at..at + 1);
        let of_claim = headers_of(&claim, &entry).into_iter().map(|header| (header, entry.place()));
        headers.splice(places, of_claim);
    }
    headers.retain(|(header, _)| !header.header.is_empty());
    // Configured ones come last, so that a diagnostic points at them rather than at a default.
    let mut by_origin: Vec<_> = headers.iter().collect();
    by_origin.sort_by_key(|(_, place)| !place.is_unknown_place());
    for (i, (one, place)) in by_origin.iter().enumerate() {
        let twin = by_origin[..i].iter().find(|(other, _)| fold(&other.header) == fold(&one.header));
        if let Some((other, other_place)) = twin {
            table.report().push(
                Diagnostic::error(format!(
                    "the claims `{}` and `{}` would both be sent as {}",
                    other.claim,
                    one.claim,
                    quoted(&one.header)
                ))
                .at(place.clone())
                .related(format!("the header of `{}` is here", other.claim), other_place.clone())
                .help(format!(
                    "give `{}` another header, or switch `{}` off with \"\"",
                    one.claim, other.claim
                )),
            );
        }
    }
    headers.into_iter().map(|(header, _)| header).collect()
}

fn warn_of_unknown_claim(claim: &str, entry: &Entry<'_>) {
    if !CLAIMS.contains(&claim) {
        entry.warn_of(
            "unknown-claim",
            InvalidValue::unknown(
                format!("the gateway's tokens have no claim {}, so this is never sent", quoted(claim)),
                "claims",
                claim,
                &CLAIMS,
            ),
        );
    }
}

/// The normalised spelling: names with the same one may be one field to an upstream.
pub(super) fn fold(header: &str) -> String {
    header.to_ascii_lowercase().replace('_', "-")
}

pub(super) fn header_name(text: &str) -> Result<String, InvalidValue> {
    let folded = fold(text);
    let reserved = RESERVED.split(' ').any(|name| name == folded)
        || RESERVED_PREFIXES.iter().any(|prefix| folded.starts_with(prefix));
    if reserved {
        return refused(
            format!("the header {} may not carry a claim", quoted(text)),
            "it has a meaning of its own in HTTP or is set by the gateway: use a name such as X-Auth-User",
        );
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') || text.starts_with('-') {
        return refused(
            format!("{} is not a header name for a claim", quoted(text)),
            "use letters, digits and hyphens, such as X-Auth-User",
        );
    }
    if text.len() > 64 {
        return refused("the header name is longer than 64 characters", "shorten it");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_diagnostics, load_text, minimal, settings};

    fn pairs(config: &str) -> Vec<(String, String)> {
        let settings = settings(minimal() + "[identity_headers]\n" + config);
        settings.identity_headers.into_iter().map(|h| (h.claim, h.header)).collect()
    }

    #[test]
    fn defaults_can_be_renamed_switched_off_and_added_to() {
        assert_eq!(pairs("")[0], ("username".into(), "X-Auth-User".into()));
        assert_eq!(pairs("").len(), 4);
        let changed = pairs("sub = \"Remote-User\"\nsid = \"\"\niss = \"X-Auth-Issuer\"");
        assert_eq!(changed.len(), 4);
        assert!(changed.contains(&("sub".into(), "Remote-User".into())));
        assert!(!changed.iter().any(|(claim, _)| claim == "sid"));
    }

    #[test]
    fn names_that_mean_something_else_are_refused() {
        for header in [
            "Host",
            "content-length",
            "Transfer_Encoding",
            "CONNECTION",
            "te",
            "Trailer",
            "Upgrade",
            "Via",
            "CDN-Loop",
            "Authorization",
            "Cookie",
            "Forwarded",
            "X-Forwarded-For",
            "x_forwarded_user",
            "X-Request-Id",
            "Keep-Alive",
            "Proxy-Authorization",
            "Proxy",
        ] {
            load_diagnostics(minimal() + &format!("[identity_headers]\nsub = \"{header}\""))
                .only("`identity_headers.sub`: the header", "X-Auth-User");
        }
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        for header in [":authority", "X Auth", "X-Äuth", "X_Auth", "X-Auth\\r\\nHost: a", "-x"] {
            load_diagnostics(minimal() + &format!("[identity_headers]\nsub = \"{header}\""))
                .only("is not a header name", "letters, digits and hyphens");
        }
    }

    #[test]
    fn two_claims_on_one_header_are_refused() {
        load_diagnostics(minimal() + "[identity_headers]\nsub = \"x-auth-user\"").only(
            "the claims `username` and `sub` would both be sent as `x-auth-user`",
            "switch `username` off",
        );
        let complaints = load_diagnostics(minimal() + "[identity_headers]\nusername = \"x-auth-roles\"");
        complaints.only("the claims `roles` and `username` would both be sent", "");
        assert!(complaints.text().contains("--> a.toml:"));
        pairs("sub = \"X-Auth-User\"\nusername = \"\"");
    }

    #[test]
    fn a_claim_that_no_token_has_is_warned_about() {
        let loaded = load_text(minimal() + "[identity_headers]\nusrname = \"X-Name\"").unwrap();
        assert!(loaded.warnings.to_string().contains("did you mean `username`?"));
    }

    #[test]
    fn a_claim_may_have_several_headers_each_in_its_form() {
        let config = minimal()
            + "[identity_headers]\nroles = [\"X-Auth-Roles\", { header = \"X-Role\", map = { admin = \"Admin\" }, one_of = [\"Admin\"] }]\n\
               sub = { header = \"X-Sub\", encoding = \"rfc8187\" }\n";
        let headers = settings(config).identity_headers;
        let names: Vec<&str> = headers.iter().map(|header| header.header.as_str()).collect();
        assert_eq!(names, ["X-Auth-User", "X-Sub", "X-Auth-Roles", "X-Role", "X-Auth-Session"]);
        assert_eq!(headers[1].format.encoding, super::ClaimEncoding::Rfc8187);
        assert_eq!(headers[3].format.map["admin"], "Admin");
        for (value, message) in [
            ("{ encoding = \"utf-8\" }", "is missing"),
            ("{ header = \"X-A\", encoding = \"latin1\" }", "latin1"),
            ("{ header = \"X-A\", map = { a = \"b\\n\" } }", "is not a value for a header"),
            ("{ header = \"X-A\", present = \"1\", one_of = [\"b\"] }", "present"),
            ("{ header = \"Cookie\" }", "may not carry a claim"),
            ("{ header = \"X-A\", heder = 1 }", "unknown key"),
        ] {
            load_diagnostics(minimal() + &format!("[identity_headers]\nsub = {value}")).only(message, "");
        }
    }
}
