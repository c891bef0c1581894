//! The upstream's response, a function of method, path and header fields.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use percent_encoding::percent_decode;
use serde_json::json;

/// The header field with the user's name: percent-encoded UTF-8.
const USER_HEADER: &str = "x-auth-user";

/// Answers one request.
pub(crate) fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let page: fn(&HeaderMap) -> Response<Full<Bytes>> = match path {
        "/protected" => protected,
        "/healthz" => healthz,
        _ => return message(StatusCode::NOT_FOUND, "There is no such page. Try /protected."),
    };
    if method != Method::GET && method != Method::HEAD {
        let mut refusal =
            message(StatusCode::METHOD_NOT_ALLOWED, "This page can only be read: use GET or HEAD.");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    page(headers)
}

fn protected(headers: &HeaderMap) -> Response<Full<Bytes>> {
    match user(headers) {
        Some(name) => message(StatusCode::OK, &format!("Hello {name}, welcome to the protected page.")),
        None => message(
            StatusCode::FORBIDDEN,
            "This application must be reached through the gateway: the request names no user in X-Auth-User.",
        ),
    }
}

fn healthz(_: &HeaderMap) -> Response<Full<Bytes>> {
    message(StatusCode::OK, "The demo upstream is up.")
}

/// The user's name, if there is exactly one and it is what the gateway would write.
fn user(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(USER_HEADER).iter();
    let value = values.next()?;
    // The gateway sends one line. Two mean that one of them was forged.
    if values.next().is_some() {
        return None;
    }
    let name = percent_decode(value.as_bytes()).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

fn message(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(json!({ "message": text }).to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The same URL greets every user differently.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http_body_util::BodyExt;
    use serde_json::Value;

    use super::*;

    fn fields(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    async fn get(path: &str, lines: &[(&'static str, &str)]) -> (StatusCode, String) {
        let response = answer(&Method::GET, path, &fields(lines));
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn greets_the_user_whom_the_header_names() {
        let (status, body) = get("/protected", &[("x-auth-user", "alice")]).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(body, r#"{"message":"Hello alice, welcome to the protected page."}"#);
    }

    #[tokio::test]
    async fn decodes_and_escapes_the_name() {
        for (field, name) in [
            ("Zo%C3%AB", "Zoë"),
            ("%22%3E%5C%0A%25", "\">\\\n%"),
            ("a+b", "a+b"),
            ("%E6%97%A5%E6%9C%AC", "日本"),
        ] {
            let (status, body) = get("/protected", &[("x-auth-user", field)]).await;
            assert_eq!(status, StatusCode::OK, "{field}");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["message"], format!("Hello {name}, welcome to the protected page."));
        }
    }

    #[tokio::test]
    async fn refuses_who_did_not_come_through_the_gateway() {
        for lines in [
            &[][..],
            &[("x-auth-user", "")],
            &[("x-auth-user", "%FF")],
            &[("x-auth-user", "alice"), ("x-auth-user", "root")],
            &[("authorization", "Bearer alice"), ("cookie", "user=alice"), ("x-auth-subject", "1")],
        ] {
            let (status, body) = get("/protected", lines).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{lines:?}");
            assert!(body.contains("through the gateway"), "{body}");
        }
    }

    #[tokio::test]
    async fn knows_no_other_page() {
        for path in ["/", "/protected/", "/Protected", "/protected/more", "/healthz/"] {
            let (status, body) = get(path, &[("x-auth-user", "alice")]).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            assert!(serde_json::from_str::<Value>(&body).unwrap()["message"].is_string());
        }
    }

    #[tokio::test]
    async fn is_healthy_without_an_identity() {
        assert_eq!(get("/healthz", &[]).await.0, StatusCode::OK);
    }

    #[test]
    fn names_the_allowed_methods_when_it_refuses_one() {
        for path in ["/protected", "/healthz"] {
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
                let response = answer(&method, path, &fields(&[("x-auth-user", "alice")]));
                assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
                assert_eq!(response.headers()[ALLOW], "GET, HEAD");
            }
        }
        assert_eq!(answer(&Method::HEAD, "/healthz", &fields(&[])).status(), StatusCode::OK);
    }

    #[test]
    fn greetings_are_not_kept_by_caches() {
        let response = answer(&Method::GET, "/protected", &fields(&[("x-auth-user", "alice")]));
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    }
}
