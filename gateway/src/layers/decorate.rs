//! The layer for header fields that are added to every response, rejections included.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::HeaderMap;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::request::{Received, RequestContext};
use crate::response::Response;

/// What is added.
pub(crate) trait Decorate: Copy {
    /// Edits the header fields of the response to this request.
    fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap);
}

/// Decorates the responses of the services below.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct DecorateLayer<D>(pub(crate) D);

impl<S, D: Decorate> Layer<S> for DecorateLayer<D> {
    type Service = DecorateService<S, D>;

    fn layer(&self, inner: S) -> DecorateService<S, D> {
        DecorateService { inner, decoration: self.0 }
    }
}

/// See [`DecorateLayer`].
#[derive(Debug)]
pub(crate) struct DecorateService<S, D> {
    inner: S,
    decoration: D,
}

impl<S, D> Service<Received> for DecorateService<S, D>
where
    S: Service<Received, Response = Response, Error = Infallible>,
    D: Decorate,
{
    type Response = Response;
    type Error = Infallible;
    type Future = DecorateFuture<S::Future, D>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Received) -> Self::Future {
        let context = Rc::clone(&request.context);
        DecorateFuture { inner: self.inner.call(request), decoration: self.decoration, context }
    }
}

pin_project! {
    /// See [`DecorateLayer`].
    #[derive(Debug)]
    pub(crate) struct DecorateFuture<F, D> {
        #[pin]
        inner: F,
        decoration: D,
        context: Rc<RequestContext>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>, D: Decorate> Future for DecorateFuture<F, D> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Edited in place: to take it out and put it back would copy it.
        let mut polled = this.inner.poll(cx);
        if let Poll::Ready(Ok(response)) = &mut polled {
            this.decoration.decorate(this.context, response.headers_mut());
        }
        polled
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderValue, StatusCode};
    use tower::{ServiceBuilder, ServiceExt, service_fn};

    use super::*;
    use crate::client_addr::ClientAddr;
    use crate::config::test_support::{ROUTE, settings};
    use crate::http1::HeadLimits;
    use crate::layers::request_id::RequestIdLayer;
    use crate::request::Incoming;
    use crate::request_body::RequestBody;
    use crate::response;
    use crate::runtime::Worker;
    use crate::server::prepare;
    use crate::stream_state::StreamState;

    /// Appends its word, the request's method and the number of fields that were there.
    #[derive(Clone, Copy)]
    struct Mark(&'static str);

    impl Decorate for Mark {
        fn decorate(&self, context: &RequestContext, headers: &mut HeaderMap) {
            let text = format!("{} {} {}", self.0, context.head.method(), headers.len());
            headers.append("x-mark", HeaderValue::from_str(&text).unwrap());
        }
    }

    #[tokio::test]
    async fn every_response_is_decorated_the_inner_layer_first_and_keeps_what_it_has() {
        let keys = tempfile::tempdir().unwrap();
        let more =
            format!("[tokens]\nkeys_dir = {:?}\n[store]\nkind = \"memory\"\n", keys.path().join("keys"));
        let users = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/users.toml");
        let settings = settings(format!("[users]\nfile = {users:?}\n{ROUTE}{more}"));
        // It creates a runtime, which cannot be nested in that of a test.
        let gateway = std::thread::spawn(move || prepare(settings).unwrap()).join().unwrap();
        let worker = Rc::new(Worker::new(Arc::new(gateway), 0));
        for (method, status, own) in [
            ("GET", 200, &[][..]),
            ("HEAD", 304, &[("etag", "\"a\"")]),
            ("POST", 401, &[("www-authenticate", "Bearer"), ("x-mark", "the app's")]),
            ("GET", 500, &[]),
        ] {
            let stack = ServiceBuilder::new()
                .layer(RequestIdLayer::new(Rc::clone(&worker)))
                .layer(DecorateLayer(Mark("outer")))
                .layer(DecorateLayer(Mark("inner")))
                .service(service_fn(async |_: Received| {
                    let mut response = response::empty(StatusCode::from_u16(status).unwrap());
                    for (name, value) in own {
                        response.headers_mut().append(*name, HeaderValue::from_static(value));
                    }
                    Ok::<Response, Infallible>(response)
                }));
            let mut head = worker.take_head();
            head.parse(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &HeadLimits::default())
                .unwrap()
                .unwrap();
            let incoming = Incoming {
                head,
                refused: None,
                body: RequestBody::default(),
                client: Rc::new(ClientAddr::new(([192, 0, 2, 7], 1).into(), &[], false)),
                stream: StreamState::of_http1_connection(),
            };
            let response = stack.oneshot(incoming).await.unwrap();
            assert_eq!(response.status().as_u16(), status);
            let marks: Vec<&str> =
                response.headers().get_all("x-mark").iter().map(|value| value.to_str().unwrap()).collect();
            let apps = own.iter().filter(|(name, _)| *name == "x-mark").map(|(_, value)| (*value).to_owned());
            let ours = [format!("inner {method} {}", own.len()), format!("outer {method} {}", own.len() + 1)];
            assert_eq!(marks, apps.chain(ours).collect::<Vec<_>>(), "{method} {status}");
            for (name, value) in own {
                assert!(response.headers().get_all(*name).iter().any(|found| found == value), "{name}");
            }
        }
    }
}
