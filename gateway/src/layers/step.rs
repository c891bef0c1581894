//! The layer for steps, which only pass a request on or reject it: each is a function from one request type
//! to the next.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::rejection::Rejection;
use crate::response::Response;

/// Puts a step before a service. A step is synchronous.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepLayer<F>(pub(crate) F);

impl<S, F: Clone> Layer<S> for StepLayer<F> {
    type Service = StepService<S, F>;

    fn layer(&self, inner: S) -> StepService<S, F> {
        StepService { inner, step: self.0.clone() }
    }
}

/// A service behind a step.
#[derive(Debug)]
pub(crate) struct StepService<S, F> {
    inner: S,
    step: F,
}

impl<S, F, In, Out> Service<In> for StepService<S, F>
where
    F: Fn(In) -> Result<Out, Rejection>,
    S: Service<Out, Response = Response, Error = Rejection>,
{
    type Response = Response;
    type Error = Rejection;
    type Future = StepFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: In) -> Self::Future {
        match (self.step)(request) {
            Ok(request) => StepFuture::Passed { inner: self.inner.call(request) },
            Err(rejection) => StepFuture::decided(Err(rejection)),
        }
    }
}

pin_project! {
    /// The response of the inner service, or what was decided without it.
    #[project = StepProjection]
    #[derive(Debug)]
    pub(crate) enum StepFuture<F> {
        Passed { #[pin] inner: F },
        Decided { result: Option<Box<Result<Response, Rejection>>> },
    }
}

impl<F> StepFuture<F> {
    /// Boxed, for every request's future has room for it.
    pub(crate) fn decided(result: Result<Response, Rejection>) -> StepFuture<F> {
        StepFuture::Decided { result: Some(Box::new(result)) }
    }
}

impl<F: Future<Output = Result<Response, Rejection>>> Future for StepFuture<F> {
    type Output = Result<Response, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            StepProjection::Passed { inner } => inner.poll(cx),
            // Polled after its end, there is nothing left to give.
            StepProjection::Decided { result } => {
                result.take().map_or(Poll::Pending, |result| Poll::Ready(*result))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::StatusCode;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::response;

    #[tokio::test]
    async fn a_step_passes_its_result_on_or_refuses_without_a_call() {
        let even = |n: u16| if n.is_multiple_of(2) { Ok(200 + n) } else { Err(Rejection::NoRoute) };
        let inner = |status| std::future::ready(Ok(response::empty(StatusCode::from_u16(status).unwrap())));
        for (request, result) in [(2, Ok(202)), (4, Ok(204)), (1, Err(Rejection::NoRoute))] {
            let service = StepLayer(even).layer(service_fn(inner));
            let found = service.oneshot(request).await.map(|response| response.status().as_u16());
            assert_eq!(found, result, "{request}");
        }
    }
}
