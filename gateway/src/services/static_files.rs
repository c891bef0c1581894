//! The service of static routes.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::rejection::Rejection;
use crate::request::Authorized;
use crate::response::{Body, Response};
use crate::routing::Target;
use crate::static_files::FileRequest;

/// Responds with the file that the request names below the route's path.
///
/// # Errors
///
/// As [`StaticRoot::serve`](crate::static_files::StaticRoot::serve).
pub(crate) async fn respond(request: Authorized) -> Result<Response, Rejection> {
    let (view, route) = (request.view(), request.route());
    let Target::Static { root, index_fallback } = &route.target else {
        return Err(Rejection::WrongTarget);
    };
    let mut headers = HeaderMap::new();
    for field in view.headers().iter() {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(field.name), HeaderValue::from_bytes(field.value))
        {
            headers.append(name, value);
        }
    }
    let target = view.target();
    let response = root
        .serve(FileRequest {
            method: view.method(),
            headers: &headers,
            path: view.decoded_path(),
            query: target.as_str()[target.path().len()..].strip_prefix('?'),
            route_path: route.path(),
            index_fallback: *index_fallback,
        })
        .await?;
    Ok(response.map(|body| Body::File(Box::new(body))))
}
