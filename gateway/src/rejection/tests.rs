use serde_json::Value;

use super::*;

/// A rejection, its status and code, and what its response and its connection are like.
struct Row(Rejection, u16, &'static str, Fields, u8);

/// What a response has besides `Cache-Control` and `Content-Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fields {
    Plain,
    /// The connection ends.
    Closes,
    /// A bare challenge.
    Bare,
    /// A challenge with an error, whose description is the detail.
    Error(&'static str),
    /// The same for the scheme `DPoP`.
    Dpop(&'static str),
    /// A client has to authenticate.
    Client,
    /// `Retry-After`, in seconds.
    Retry(&'static str),
    /// One of several.
    RetrySpread(u64, u64),
    Allow(&'static str),
    /// `Allow`, and the connection ends.
    AllowAndClose(&'static str),
    AcceptPost,
}

use Fields::{
    AcceptPost, Allow, AllowAndClose, Bare, Client, Closes, Dpop, Error, Plain, Retry, RetrySpread,
};

const INVALID_TOKEN: Fields = Error("invalid_token");
const INVALID_REQUEST: Fields = Error("invalid_request");
const STEP_UP: Fields = Error("insufficient_user_authentication");
const SCOPE: Fields = Error("insufficient_scope");

/// Every variant, the ones with data for every code that it can have.
fn rows() -> Vec<Row> {
    use Rejection as R;
    let methods = || "GET, PUT".to_owned();
    let proof = |problem, of_token_request| R::DpopProof(ProofRefusal { problem, of_token_request });
    let seconds = Duration::from_secs;
    vec![
        Row(R::BadHead(HeadError::BadField), 400, "bad_request", Closes, 3),
        Row(R::BadHead(HeadError::LineTooLong(9)), 414, "uri_too_long", Closes, 3),
        Row(R::BadHead(HeadError::AuthorityDisagrees), 400, "ambiguous_target", Closes, 3),
        Row(R::BadHead(HeadError::BlockTooLarge(9)), 431, "headers_too_large", Closes, 8),
        Row(R::BadHead(HeadError::TooManyFields(9)), 431, "headers_too_large", Closes, 8),
        Row(R::IncompleteHead, 400, "bad_request", Closes, 3),
        Row(R::HeadTimeout, 408, "request_timeout", Closes, 4),
        Row(R::BadFraming(FramingError::BothFramings), 400, "bad_request", Closes, 3),
        Row(R::BadFraming(FramingError::UnknownCoding), 501, "unsupported_transfer_coding", Closes, 12),
        Row(R::BadTarget(TargetError::Malformed), 400, "bad_request", Closes, 3),
        Row(R::BadTarget(TargetError::Ambiguous("a NUL")), 400, "ambiguous_target", Closes, 3),
        Row(R::BadHost(HostError::NotOne), 400, "bad_request", Closes, 3),
        Row(R::BadHost(HostError::Disagrees), 400, "ambiguous_target", Closes, 3),
        Row(R::UnknownExpectation, 417, "bad_request", Closes, 3),
        Row(R::MethodNeverForwarded(methods()), 405, "method_not_allowed", AllowAndClose("GET, PUT"), 12),
        Row(R::MalformedBody, 400, "bad_request", Closes, 3),
        Row(R::BodyTimeout, 408, "request_timeout", Closes, 4),
        Row(R::BodyTooLarge, 413, "payload_too_large", Closes, 8),
        Row(R::BodyStorageFailed, 500, "internal", Plain, 13),
        Row(R::NoRoute, 404, "not_found", Plain, 12),
        Row(R::HostNotServed, 421, "misdirected", Plain, 12),
        Row(R::EncodedSlash, 400, "ambiguous_target", Plain, 3),
        Row(R::RouteMethod(methods()), 405, "method_not_allowed", Allow("GET, PUT"), 12),
        Row(R::LoopDetected, 508, "loop_detected", Plain, 13),
        Row(R::RepeatedAuthorization, 400, "invalid_request", INVALID_REQUEST, 3),
        Row(R::MalformedAuthorization, 400, "invalid_request", INVALID_REQUEST, 3),
        Row(R::AuthorizationNotAscii, 400, "invalid_request", INVALID_REQUEST, 3),
        Row(R::BearerWithoutSpace, 400, "invalid_request", INVALID_REQUEST, 3),
        Row(R::MalformedBasic, 400, "invalid_request", INVALID_REQUEST, 3),
        Row(R::BearerEmpty, 400, "invalid_request", INVALID_REQUEST, 3),
        Row(R::BearerNotOneToken, 400, "invalid_request", INVALID_REQUEST, 3),
        Row(R::TokenSubprotocols, 400, "invalid_request", INVALID_REQUEST, 3),
        Row(R::TokenInTwoPlaces, 400, "invalid_request", INVALID_REQUEST, 3),
        Row(R::AccessTokenMissing, 401, "missing_token", Bare, 16),
        Row(R::RefreshTokenMissing, 401, "missing_token", Bare, 16),
        Row(R::TokenInvalid("reason"), 401, "invalid_token", INVALID_TOKEN, 16),
        Row(R::TokenWithoutSession, 401, "invalid_token", INVALID_TOKEN, 16),
        Row(R::TokenExpired, 401, "token_expired", INVALID_TOKEN, 16),
        Row(R::TokenNotYetValid, 401, "token_not_yet_valid", INVALID_TOKEN, 16),
        Row(R::TokenOfWrongType, 401, "wrong_token_type", INVALID_TOKEN, 16),
        Row(
            proof(ProofProblem::Invalid("htm"), false),
            401,
            "invalid_dpop_proof",
            Dpop("invalid_dpop_proof"),
            16,
        ),
        Row(
            proof(ProofProblem::Invalid("htm"), true),
            400,
            "invalid_dpop_proof",
            Dpop("invalid_dpop_proof"),
            3,
        ),
        Row(proof(ProofProblem::Nonce, false), 401, "use_dpop_nonce", Dpop("use_dpop_nonce"), 16),
        Row(R::DpopTokenAsBearer, 401, "invalid_token", INVALID_TOKEN, 16),
        Row(R::DpopTokenUnbound, 401, "invalid_token", INVALID_TOKEN, 16),
        Row(R::CookieOfClient, 401, "invalid_token", INVALID_TOKEN, 16),
        Row(R::DpopBasic, 401, "invalid_token", INVALID_TOKEN, 16),
        Row(R::DpopKeyMismatch, 401, "invalid_token", INVALID_TOKEN, 16),
        Row(R::DpopReplaysFull, 503, "overloaded", RetrySpread(1, 2), 8),
        Row(R::ClaimTooLarge, 431, "headers_too_large", Closes, 8),
        Row(R::PersonalTokenNotHere, 401, "invalid_token", INVALID_TOKEN, 16),
        Row(R::PersonalTokenRevoked, 401, "token_revoked", INVALID_TOKEN, 16),
        Row(R::TokenUserGone, 401, "token_revoked", INVALID_TOKEN, 16),
        Row(R::TokenNotForRoute, 403, "insufficient_scope", SCOPE, 7),
        Row(R::FreshTokenMissing, 403, "insufficient_scope", SCOPE, 7),
        Row(R::RoleMissing, 403, "insufficient_scope", SCOPE, 7),
        Row(R::FreshTokenMissing, 403, "insufficient_scope", SCOPE, 7),
        Row(R::ClaimMissing, 403, "insufficient_scope", SCOPE, 7),
        Row(R::SessionEnded, 401, "token_revoked", INVALID_TOKEN, 16),
        Row(R::SessionUnknown, 401, "token_revoked", INVALID_TOKEN, 16),
        Row(R::SessionExpired, 401, "token_expired", INVALID_TOKEN, 16),
        Row(R::SessionIdle, 401, "token_expired", INVALID_TOKEN, 16),
        Row(R::RefreshTokenReused, 401, "token_reused", INVALID_TOKEN, 16),
        Row(R::AccountChanged, 401, "token_revoked", INVALID_TOKEN, 16),
        Row(R::SessionNotFound, 404, "not_found", Plain, 12),
        Row(R::EndpointMethod(methods()), 405, "method_not_allowed", Allow("GET, PUT"), 12),
        Row(R::ContentTypeNotJson, 415, "unsupported_media_type", AcceptPost, 3),
        Row(R::ContentEncoded, 415, "unsupported_media_type", AcceptPost, 3),
        Row(R::BodyNotJson, 400, "bad_request", Plain, 3),
        Row(R::CredentialsNotText, 400, "bad_request", Plain, 3),
        Row(R::CredentialsMissing, 400, "bad_request", Plain, 3),
        Row(R::NewPasswordNotText, 400, "bad_request", Plain, 3),
        Row(R::NewPasswordMissing, 400, "bad_request", Plain, 3),
        Row(R::PasswordTooShort(8), 422, "password_too_short", Plain, 3),
        Row(R::PasswordTooCommon, 422, "password_too_common", Plain, 3),
        Row(R::PasswordTooWeak, 422, "password_too_weak", Plain, 3),
        Row(R::PasswordBreached, 422, "password_breached", Plain, 3),
        Row(R::PasswordIsUsername, 422, "password_is_username", Plain, 3),
        Row(R::PasswordUnchanged, 422, "password_unchanged", Plain, 3),
        Row(R::PasswordNotChangeable, 403, "password_not_changeable", Plain, 7),
        Row(R::PasswordConflict, 409, "password_conflict", Plain, 3),
        Row(R::PasswordChangeRequired(false), 403, "password_change_required", Plain, 7),
        Row(R::SecondFactorRequired("token".to_owned().into()), 403, "mfa_required", Plain, 7),
        Row(R::CodeRequired, 403, "mfa_required", Plain, 7),
        Row(R::CodeMissing, 400, "bad_request", Plain, 3),
        Row(R::CodeNotText, 400, "bad_request", Plain, 3),
        Row(R::WrongCode, 401, "invalid_code", Bare, 16),
        Row(R::LoginStepOver, 401, "mfa_token_expired", Bare, 16),
        Row(R::NoFactor, 404, "mfa_not_enrolled", Plain, 12),
        Row(R::FactorExists, 409, "mfa_enrolled", Plain, 3),
        Row(R::FactorUnreadable, 500, "internal", Plain, 13),
        Row(
            R::StepUpRequired(StepUp { max_age: None, second_factor: false }),
            401,
            "insufficient_user_authentication",
            STEP_UP,
            16,
        ),
        Row(R::ResetIncomplete, 400, "bad_request", Plain, 3),
        Row(R::LinkUsed, 410, "link_used", Plain, 3),
        Row(R::LinkExpired, 410, "link_expired", Plain, 3),
        Row(R::PasswordNotStored, 503, "store_unavailable", RetrySpread(2, 5), 14),
        Row(R::PasswordNotChecked, 500, "internal", Plain, 13),
        Row(R::RefreshTokenNotText, 400, "bad_request", Plain, 3),
        Row(R::PasswordTooLong, 400, "bad_request", Plain, 3),
        Row(R::WrongCredentials, 401, "invalid_credentials", Bare, 16),
        Row(R::AccountLocked(seconds(900)), 403, "account_locked", Retry("900"), 7),
        // Whole seconds, rounded up and never none.
        Row(R::AccountLocked(Duration::from_millis(1001)), 403, "account_locked", Retry("2"), 7),
        Row(R::RateLimited(Duration::from_millis(999)), 429, "rate_limited", Retry("1"), 8),
        Row(R::RateLimited(seconds(0)), 429, "rate_limited", Retry("1"), 8),
        Row(R::TooManySessions, 403, "too_many_sessions", Plain, 7),
        Row(R::TooManyLogins, 503, "overloaded", RetrySpread(1, 2), 8),
        Row(R::StoreUnavailable, 503, "store_unavailable", RetrySpread(2, 5), 14),
        Row(R::IssuerUnavailable(Duration::from_secs(7)), 503, "issuer_unavailable", RetrySpread(7, 10), 14),
        Row(R::UsersUnavailable, 503, "store_unavailable", RetrySpread(2, 5), 14),
        Row(R::RevocationsUnknown, 503, "store_unavailable", RetrySpread(2, 5), 14),
        Row(R::SigningFailed, 500, "internal", Plain, 13),
        Row(R::UntrustedProxy, 403, "untrusted_proxy", Plain, 7),
        Row(R::OriginalRequest("why"), 400, "bad_request", Plain, 3),
        Row(R::FileMethod, 405, "method_not_allowed", Allow("GET, HEAD"), 12),
        Row(R::FileNotFound, 404, "not_found", Plain, 12),
        Row(R::FileChanged, 412, "precondition_failed", Plain, 9),
        Row(R::FileUnreadable, 500, "internal", Plain, 13),
        Row(R::UpgradeOrigin, 403, "origin_not_allowed", Plain, 7),
        Row(R::WebSocketNotGet, 400, "bad_request", Plain, 3),
        Row(R::WebSocketNotAlone, 400, "bad_request", Plain, 3),
        Row(R::WebSocketKey, 400, "bad_request", Plain, 3),
        Row(R::WebSocketVersion, 400, "bad_request", Plain, 3),
        Row(R::BadDestination("why"), 400, "bad_request", Plain, 3),
        Row(R::UpstreamUnreachable, 502, "bad_gateway", Plain, 14),
        Row(R::UpstreamBroken, 502, "bad_gateway", Plain, 14),
        Row(R::UpstreamConnectTimeout, 504, "gateway_timeout", Plain, 14),
        Row(R::UpstreamTimeout, 504, "gateway_timeout", Plain, 14),
        Row(R::UpstreamUnhealthy, 503, "no_healthy_upstream", RetrySpread(1, 2), 14),
        Row(R::UpstreamFull, 503, "overloaded", RetrySpread(1, 2), 8),
        Row(R::AudienceMissing, 403, "insufficient_scope", SCOPE, 7),
        Row(R::ClientUnknown, 401, "invalid_client", Client, 16),
        Row(R::ContentTypeNotForm, 400, "bad_request", Plain, 3),
        Row(R::TokenNotInForm, 400, "bad_request", Plain, 3),
        Row(R::PersonalTokenNotFound, 404, "not_found", Plain, 12),
        Row(R::BadTokenRequest("why".into()), 400, "bad_request", Plain, 3),
        Row(R::TooManyPersonalTokens, 403, "too_many_tokens", Plain, 7),
        Row(R::TokensByOperator, 403, "insufficient_scope", SCOPE, 7),
        Row(R::ForeignPage, 403, "csrf_rejected", Plain, 7),
        Row(R::FormFieldTwice, 400, "bad_request", Plain, 3),
        Row(R::NoPagesHere, 404, "not_found", Plain, 12),
        Row(R::CookieTooLarge, 500, "internal", Plain, 13),
        Row(R::RefreshFailed, 500, "internal", Plain, 13),
        Row(R::WrongTarget, 500, "internal", Plain, 13),
        Row(R::Panic, 500, "internal", Closes, 13),
        Row(R::AdminHost, 403, "misdirected", Plain, 7),
        Row(R::AdminMethod, 405, "method_not_allowed", Allow("GET, HEAD, OPTIONS"), 12),
        Row(R::AdminPath, 404, "not_found", Plain, 12),
    ]
}

#[test]
fn clients_that_an_outage_stopped_come_back_spread_over_seconds() {
    use std::collections::BTreeMap;
    for (rejection, seconds) in [
        (Rejection::StoreUnavailable, &[2, 3, 4, 5][..]),
        (Rejection::UsersUnavailable, &[2, 3, 4, 5]),
        (Rejection::UpstreamUnhealthy, &[1, 2]),
        (Rejection::TooManyLogins, &[1, 2]),
        (Rejection::AccountLocked(Duration::from_secs(2)), &[2]),
        (Rejection::RateLimited(Duration::from_secs(1)), &[1]),
    ] {
        let mut counts = BTreeMap::new();
        for random in 0..=255 {
            *counts.entry(rejection.retry_after_seconds(random).unwrap()).or_insert(0) += 1;
        }
        assert_eq!(counts.keys().copied().collect::<Vec<u64>>(), seconds, "{rejection:?}");
        assert!(counts.values().all(|count| *count == 256 / seconds.len()), "{rejection:?}: {counts:?}");
    }
    let sent: std::collections::BTreeSet<_> = (0..200)
        .map(|_| Rejection::StoreUnavailable.to_response("id").headers()["retry-after"].clone())
        .collect();
    assert!(sent.len() > 1, "200 responses all said {sent:?}");
}

#[test]
fn every_rejection_has_its_status_code_fields_and_problem() {
    for Row(rejection, status, code, fields, grpc_status) in rows() {
        let response = rejection.to_response("id-1");
        assert_eq!(response.status().as_u16(), status, "{rejection:?}");
        assert_eq!(rejection.grpc_status(), grpc_status, "{rejection:?}");
        assert_eq!(
            rejection.closes(),
            matches!(fields, Closes | AllowAndClose(_)),
            "whether the connection ends after {rejection:?}"
        );

        let detail = rejection.detail().replace('"', "'");
        let own = match fields {
            Plain | Closes => None,
            Bare => Some(("www-authenticate", "Bearer".to_owned())),
            Dpop(error) => Some((
                "www-authenticate",
                format!("DPoP error=\"{error}\", error_description=\"{detail}\", algs=\"{ALGORITHMS}\""),
            )),
            Client => {
                Some(("www-authenticate", "Basic realm=\"introspection\", charset=\"UTF-8\"".to_owned()))
            }
            Error(error) => Some((
                "www-authenticate",
                format!("Bearer error=\"{error}\", error_description=\"{detail}\""),
            )),
            Retry(seconds) => Some(("retry-after", seconds.to_owned())),
            RetrySpread(least, most) => {
                let found = response.headers()["retry-after"].to_str().unwrap().to_owned();
                assert!((least..=most).contains(&found.parse().unwrap()), "{rejection:?}: {found}");
                Some(("retry-after", found))
            }
            Allow(methods) | AllowAndClose(methods) => Some(("allow", methods.to_owned())),
            AcceptPost => Some(("accept-post", "application/json".to_owned())),
        };
        let mut expected = vec![
            ("cache-control", "no-store".to_owned()),
            ("content-type", "application/problem+json".to_owned()),
        ];
        expected.extend(own);
        expected.sort();
        let mut found: Vec<(&str, String)> = response
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap().to_owned()))
            .collect();
        found.sort();
        assert_eq!(found, expected, "{rejection:?}");

        let problem: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(problem["type"], "about:blank", "{rejection:?}");
        assert_eq!(problem["title"], response.status().canonical_reason().unwrap(), "{rejection:?}");
        assert_eq!(problem["status"], status, "{rejection:?}");
        assert_eq!(problem["code"], code, "{rejection:?}");
        assert_eq!(problem["detail"], *rejection.detail(), "{rejection:?}");
        assert_eq!(problem["request_id"], "id-1", "{rejection:?}");
        assert!(problem["message"].as_str().unwrap().ends_with('.'), "{rejection:?}");
    }
}

#[test]
fn challenges_name_the_scheme_that_was_used_and_the_others_that_are_possible() {
    let algs = format!("algs=\"{ALGORITHMS}\"");
    let expired = "error=\"invalid_token\", error_description=\"the token has expired\"";
    for (rejection, bearer_too, used, challenge) in [
        (Rejection::AccessTokenMissing, true, false, Some(format!("Bearer, DPoP {algs}"))),
        (Rejection::AccessTokenMissing, false, false, Some(format!("DPoP {algs}"))),
        (Rejection::TokenExpired, true, false, Some(format!("Bearer {expired}, DPoP {algs}"))),
        (Rejection::TokenExpired, true, true, Some(format!("Bearer, DPoP {expired}, {algs}"))),
        (Rejection::TokenExpired, false, true, Some(format!("DPoP {expired}, {algs}"))),
        (Rejection::TokenExpired, false, false, Some(format!("DPoP {expired}, {algs}"))),
        (Rejection::WrongCredentials, false, false, None),
        (Rejection::NoRoute, true, true, None),
    ] {
        let mut headers = HeaderMap::new();
        let inserted = rejection.insert_dpop_challenge(DpopChallenge { bearer_too, used }, &mut headers);
        assert_eq!(inserted, challenge.is_some(), "{rejection:?}");
        let found = headers.get(WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(found, challenge, "{rejection:?} {bearer_too} {used}");
    }
}

#[test]
fn the_table_has_every_variant() {
    let named: Vec<String> = rows().iter().map(|Row(rejection, ..)| format!("{rejection:?}")).collect();
    for variant in Rejection::VARIANTS {
        let is_it = |name: &String| name.split('(').next() == Some(variant);
        assert!(named.iter().any(is_it), "{variant} has no row");
    }
}

#[test]
fn every_code_has_its_section_in_the_error_reference() {
    let page = include_str!("../../../docs/reference/errors.md");
    for Row(rejection, _, code, ..) in rows() {
        let status = rejection.code().status().as_u16();
        assert!(
            page.contains(&format!("\n## {code}\n\n**{status}.** ")),
            "docs/reference/errors.md: {code}, {status}"
        );
    }
}

#[test]
fn the_type_leads_to_the_codes_section_of_a_published_reference() {
    let response =
        Rejection::AccessTokenMissing.to_response_of_type("id-1", Some("https://docs.example/errors/#"));
    let problem: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(problem["type"], "https://docs.example/errors/#missing_token");
    assert_eq!(problem["code"], "missing_token");
}
