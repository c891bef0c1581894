//! Tests of `[[issuers]]`.

use super::super::test_support::{load_diagnostics, load_text, minimal, settings};
use super::*;

/// One issuer with these keys, on a route.
fn with(keys: &str) -> String {
    minimal()
        + &format!(
            "issuers = [\"own\", \"kc\"]\n[[issuers]]\nname = \"kc\"\nissuer = \"https://login.example/realms/a\"\naudiences = [\"api\"]\n{keys}\n"
        )
}

/// The same with other lines in place of those of the name, the issuer and the audiences.
fn of(lines: &str) -> String {
    minimal() + &format!("[[issuers]]\n{lines}\n")
}

const SECRET: &str = "pX4v9TqL2mZr8KcW1nBy6HsD3fGj7QaE5uRt0iVo";

#[test]
fn an_issuer_needs_a_name_its_iss_and_an_audience() {
    let issuer = settings(with("")).issuers.remove(0);
    let IssuerKeys::Discovery(url) = &issuer.keys else { panic!("{:?}", issuer.keys) };
    assert_eq!(url.as_str(), "https://login.example/realms/a/.well-known/openid-configuration");
    assert!(
        issuer.algorithms.iter().all(|algorithm| !algorithm.is_symmetric()) && issuer.algorithms.len() == 9
    );
    assert_eq!(issuer.types, ["at+jwt", "JWT"]);
    assert_eq!(settings(with("")).routes[0].issuers, ["own", "kc"]);
    assert_eq!(settings(minimal()).routes[0].issuers, ["own"]);
    // A slash at the end belongs to the issuer, and not to the address of its document.
    let slash = settings(with("").replace("realms/a", "")).issuers.remove(0);
    assert_eq!(slash.issuer, "https://login.example/");
    let IssuerKeys::Discovery(url) = &slash.keys else { panic!("{:?}", slash.keys) };
    assert_eq!(url.as_str(), "https://login.example/.well-known/openid-configuration");
}

#[test]
fn mistakes_are_named_with_their_remedy() {
    for (keys, message, help) in [
        ("jwks_url = \"http://login.example/jwks\"", "forge its keys", "allow_http = true"),
        ("jwks_url = \"ftp://login.example/jwks\"", "does not begin with https://", ""),
        ("jwks_url = \"https://a:b@login.example/jwks\"", "has a user, a password or a fragment", ""),
        (
            "jwks_url = \"https://x/\"\njwks_file = \"Cargo.toml\"",
            "both `issuers[0].jwks_url` and",
            "remove one",
        ),
        ("jwks_file = \"no/such/file\"", "does not exist", ""),
        ("algorithms = [\"none\"]", "`none` is never accepted", ""),
        (
            "algorithms = [\"RS256\", \"HS256\"]",
            "HS256 verifies with a secret",
            "never be taken for a secret",
        ),
        ("algorithms = []", "no token could be verified", "introspection_url"),
        ("secret = \"short\"", "has 5 bytes, and at least 32", "openssl rand"),
        ("role_map = { a = \"\" }", "is not the name of a role", ""),
        ("claims = { sub = \"sub\" }", "the claim `sub` is the gateway's own", "provider_sub"),
        ("roles_claim = \"a..b\"", "is not the name of a claim", "realm_access.roles"),
        ("types = [\"\"]", "is not a type of tokens", "at+jwt"),
        ("refresh_min = \"1h\"\nrefresh_max = \"1m\"", "is shorter than `refresh_min`", ""),
        ("leeway = \"6m\"", "must be at most 5m", ""),
        (
            "introspection_url = \"https://login.example/i\"",
            "without `introspection_client_secret_file`",
            "registered clients",
        ),
        (
            "introspection_url = \"https://login.example/i\"\nintrospection_client_secret = \"x\"",
            "without `introspection_client_id`",
            "",
        ),
        ("token_use = \"refresh\"", "unknown value `refresh`", "access"),
    ] {
        load_diagnostics(with(keys)).only(message, help);
    }
    let secret = format!("secret = {SECRET:?}\nalgorithms = [\"RS256\"]");
    load_diagnostics(with(&secret)).only("RS256 verifies with a public key", "HS*");
}

#[test]
fn issuers_are_told_apart_by_name_and_iss() {
    let one = "name = \"kc\"\nissuer = \"https://a.example\"\naudiences = [\"api\"]\n";
    for (lines, message) in [
        (one.replace("\"kc\"", "\"own\""), "is not a name for another issuer"),
        (one.replace("\"kc\"", "\"K c\""), "is not a name for another issuer"),
        (one.replace("https://a.example", "http://127.0.0.1:8080"), "is the gateway's own"),
        (one.replace("https://a.example", "accounts"), "is no URL, so its keys cannot be discovered"),
        (format!("{one}[[issuers]]\n{}", one.replace("a.example", "b.example")), "has the same name"),
        (format!("{one}[[issuers]]\n{}", one.replace("kc", "b")), "that of an issuer before"),
        (one.replace("audiences = [\"api\"]\n", ""), "`issuers[0].audiences` is missing"),
        (one.replace("name = \"kc\"\n", ""), "`issuers[0].name` is missing"),
    ] {
        load_diagnostics(of(&lines)).only(message, "");
    }
    // A client that is named replaces an audience.
    settings(of(&one.replace("audiences = [\"api\"]", "required_claims = { client_id = \"web\" }")));
    settings(
        of(&one.replace("https://a.example", "accounts.example\"\njwks_url = \"https://a.example/jwks")),
    );
    settings(of(&format!("{one}jwks_url = \"http://127.0.0.1:1/jwks\"")));
    settings(of(&format!("{one}jwks_url = \"http://idp:1/jwks\"\nallow_http = true")));
    let secret = settings(of(&format!("{one}secret = {SECRET:?}"))).issuers.remove(0);
    assert_eq!(secret.algorithms, [Algorithm::HS256]);
    assert!(!format!("{secret:?}").contains(SECRET));
}

#[test]
fn routes_name_issuers_that_are_there() {
    for (list, message) in [
        ("[\"own\", \"keycloack\"]", "there is no issuer `keycloack`"),
        ("[]", "no issuer is named"),
        ("[\"kc\"]\naccess = \"public\"", "has no meaning on a public route"),
    ] {
        load_diagnostics(with("").replace("[\"own\", \"kc\"]", list)).only(message, "");
    }
    let introspected = "introspection_url = \"https://a.example/i\"\nintrospection_client_id = \"g\"\nintrospection_client_secret = \"x\"\n";
    let second = "[[issuers]]\nname = \"b\"\nissuer = \"https://b.example\"\naudiences = [\"api\"]\n";
    let both = with(&format!("{introspected}{second}{introspected}"));
    settings(both.clone());
    load_diagnostics(both.replace("\"kc\"]", "\"kc\", \"b\"]"))
        .only("does not say whose it is", "must not be shown");
}

#[test]
fn ids_of_local_users_do_not_begin_like_those_of_an_issuer() {
    let users = "[users]\nsources = [{ kind = \"file\", file = \"Cargo.toml\" }, { kind = \"htpasswd\", file = \"Cargo.toml\", name = \"kc\" }]\n";
    let text = with("").replace(super::super::test_support::USERS, users);
    load_diagnostics(text).only("have ids that begin with \"kc:\"", "choose another name");
    assert!(load_text(with("tls_ca_file = \"Cargo.toml\"")).is_ok());
}
