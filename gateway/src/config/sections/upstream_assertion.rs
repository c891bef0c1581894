//! `[upstream_assertion]`: a signed assertion with each request to an upstream.

use super::identity_headers::header_name;
use super::prelude::*;

/// The default of `header`.
const HEADER: &str = "X-Auth-Assertion";

section! {
    /// A signed assertion with each request, by which an app knows that the gateway sent it: a JWT (EdDSA) that is valid for seconds, for one upstream,
    /// method and path, with the identity. Its keys are in the public key set, and it is never accepted as an access token.
    pub struct UpstreamAssertion {
        /// Whether every upstream gets one; `assertion` of an upstream comes first.
        enabled: bool = boolean().default("false");
        /// The header. What clients send under this name never arrives.
        header: String = text(own_header).default(HEADER)
            .only_where(is_used, "no upstream gets assertions");
        /// How long an assertion is valid. One is used again for the same token, route and method during the first half of that.
        ttl: Duration = whole_seconds(seconds(2)..=5 * MINUTE).default("30s")
            .only_where(is_used, "no upstream gets assertions");
        /// What its `path` is: that of the route ("route"), below which the request's is, or the request's own ("path"), which is signed for each path.
        bind: AssertionBinding = choice().default("route")
            .only_where(is_used, "no upstream gets assertions");
        /// An Ed25519 key of your own (PEM, PKCS#8), for gateways that share no folder; else the gateway makes one in keys_dir/assertion.
        private_key_file: Option<PathBuf> = text(key_file).secret_file().example("\"secrets/assertion-key.pem\"")
            .only_where(is_used, "no upstream gets assertions");
    }
}

/// What the `path` of an assertion is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AssertionBinding {
    /// The path of the route, as the upstream sees it.
    Route,
    /// The path of the request, as the upstream sees it.
    Path,
}

/// Whether an upstream may get assertions.
fn is_used(table: &Table<'_>) -> bool {
    let upstreams = table.root().quiet_table("upstreams");
    let decides = |name: &str| upstreams.quiet_table(name).entry("assertion").is_given();
    table.entry("enabled").is_given() || upstreams.entries().iter().any(|(name, _)| decides(name))
}

/// The header of assertions where the configuration has any, for who only wants to know.
pub(super) fn quiet_header(root: &Table<'_>) -> Option<String> {
    let table = root.quiet_table("upstream_assertion");
    let is_used = !table.is_blank() || is_used(&table);
    is_used.then(|| table.entry("header").quiet_text().unwrap_or(HEADER).to_owned())
}

fn own_header(text: &str) -> Result<String, InvalidValue> {
    match text.is_empty() {
        true => refused("an assertion needs a header", "write a name such as X-Auth-Assertion"),
        false => header_name(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::test_support::{load_diagnostics, minimal, settings};
    use super::*;

    const UPSTREAMS: &str =
        "[upstreams.a]\nurls = [\"http://127.0.0.1:1\"]\n[upstreams.b]\nurls = [\"http://127.0.0.1:2\"]\n";

    #[test]
    fn an_upstream_decides_for_itself_and_else_all_do_the_same() {
        for (all, own, expected) in [
            ("", "", [false, false]),
            ("enabled = true", "", [true, true]),
            ("enabled = true", "assertion = false", [true, false]),
            ("", "assertion = true", [false, true]),
        ] {
            let config = format!("{}[upstream_assertion]\n{all}\n{UPSTREAMS}{own}\n", minimal());
            let config = format!(
                "{config}[[routes]]\npath = \"/a\"\nupstream = \"a\"\n[[routes]]\npath = \"/b\"\nupstream = \"b\"\n"
            );
            let settings = settings(config);
            let of = |name: &str| settings.upstreams[name].assertion == Some(true);
            assert_eq!([of("a"), of("b")], expected, "{all} {own}");
        }
        let settings = settings(minimal()).upstream_assertion;
        assert_eq!((settings.header.as_str(), settings.ttl), ("X-Auth-Assertion", seconds(30)));
        assert_eq!((settings.bind, settings.enabled), (AssertionBinding::Route, false));
    }

    #[test]
    fn an_assertion_that_could_not_be_sent_or_lasts_long_is_refused() {
        for (keys, message) in [
            ("header = \"\"", "an assertion needs a header"),
            ("header = \"Authorization\"", "may not carry a claim"),
            ("ttl = \"1h\"", "must be at most 5m"),
            ("ttl = \"1s\"", "must be at least 2s"),
            ("bind = \"host\"", "unknown value `host`"),
            ("private_key_file = \"no/such\"", "the key no/such does not exist"),
        ] {
            load_diagnostics(format!("{}[upstream_assertion]\n{keys}", minimal())).only(message, "");
        }
        let forged = "[[routes]]\npath = \"/a\"\nupstream = \"a\"\nrequest_headers = { set = { \"x-auth-assertion\" = \"x\" } }\n";
        let upstream = "[upstreams.a]\nurls = [\"http://127.0.0.1:1\"]\nassertion = true\n";
        let complaints = load_diagnostics(format!("{}{upstream}{forged}", minimal()));
        assert!(complaints.text().contains("x-auth-assertion"), "{}", complaints.text());
    }
}
