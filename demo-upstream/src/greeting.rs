//! What the upstream answers: a pure function of the request's head.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode;
use serde_json::{Value, json};

/// Answers a request. The body, if there is one, is not read.
pub(crate) fn answer<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/protected" | "/healthz" if !readable => {
            let mut response =
                json_answer(StatusCode::METHOD_NOT_ALLOWED, &json!({"message": "This can only be read."}));
            response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/protected" => match user(request.headers()) {
            Some(name) => {
                let message = format!("Hello {name}, welcome to the protected page.");
                json_answer(StatusCode::OK, &json!({ "message": message }))
            }
            None => json_answer(
                StatusCode::FORBIDDEN,
                &json!({"message": "Nobody is named in X-Auth-User: ask through the gateway."}),
            ),
        },
        "/healthz" => json_answer(StatusCode::OK, &json!({"status": "ok"})),
        _ => json_answer(StatusCode::NOT_FOUND, &json!({"message": "There is only /protected."})),
    }
}

/// The verified name: the gateway percent-encodes what is not visible ASCII, as UTF-8.
fn user(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("x-auth-user")?.as_bytes();
    let name = percent_decode(value).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

fn json_answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn ask(method: &str, path: &str, user: Option<&str>) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(user) = user {
            request = request.header("X-Auth-User", user);
        }
        let response = answer(&request.body(()).unwrap());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_greeting_names_whom_the_gateway_names() {
        let (status, body) = ask("GET", "/protected", Some("alice")).await;
        assert_eq!(
            (status, body.as_str()),
            (200, r#"{"message":"Hello alice, welcome to the protected page."}"#)
        );
        let (_, body) = ask("GET", "/protected", Some("%E3%82%A2%22")).await;
        assert_eq!(body, r#"{"message":"Hello ア\", welcome to the protected page."}"#);
    }

    #[tokio::test]
    async fn without_an_identity_nobody_is_greeted() {
        assert_eq!(ask("GET", "/protected", None).await.0, 403);
        assert_eq!(ask("GET", "/protected", Some("")).await.0, 403);
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        assert_eq!(ask("GET", "/", Some("alice")).await.0, 404);
        assert_eq!(ask("POST", "/protected", Some("alice")).await.0, 405);
        assert_eq!(ask("GET", "/healthz", None).await.0, 200);
    }
}
