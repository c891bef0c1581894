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
            Err(rejection) => StepFuture::Refused { rejection: Some(Box::new(rejection)) },
        }
    }
}

pin_project! {
    /// The response of the inner service, or the rejection.
    #[project = StepProjection]
    #[derive(Debug)]
    pub(crate) enum StepFuture<F> {
        Passed { #[pin] inner: F },
        Refused { rejection: Option<Box<Rejection>> },
    }
}

impl<F: Future<Output = Result<Response, Rejection>>> Future for StepFuture<F> {
    type Output = Result<Response, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            StepProjection::Passed { inner } => inner.poll(cx),
            StepProjection::Refused { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(*rejection)),
                // Polled after completion.
                None => Poll::Pending,
            },
        }
    }
}

pin_project! {
    /// A ready response, or that of the inner service.
    #[project = AnsweredProjection]
    #[derive(Debug)]
    pub(crate) enum AnsweredOr<F> {
        Answered { response: Option<Box<Response>> },
        Inner { #[pin] inner: F },
    }
}

impl<F> AnsweredOr<F> {
    pub(crate) fn answered(response: Response) -> AnsweredOr<F> {
        AnsweredOr::Answered { response: Some(Box::new(response)) }
    }
}

impl<F: Future<Output = Result<Response, Rejection>>> Future for AnsweredOr<F> {
    type Output = Result<Response, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AnsweredProjection::Inner { inner } => inner.poll(cx),
            AnsweredProjection::Answered { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(*response)),
                // Polled after completion.
                None => Poll::Pending,
            },
        }
    }
}
