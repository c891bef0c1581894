//! The innermost service: dispatches to the route's target.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready};
use tower::Service;

use crate::rejection::Rejection;
use crate::request::Authorized;
use crate::response::Response;
use crate::routing::Target;
use crate::services::{redirect, static_files};

type Boxed = Pin<Box<dyn Future<Output = Result<Response, Rejection>>>>;

/// Serves static files, redirects and direct responses; requests for an upstream go to `proxy`.
#[derive(Debug, Clone)]
pub(crate) struct TargetService<P> {
    proxy: P,
}

impl<P> TargetService<P> {
    pub(crate) fn new(proxy: P) -> TargetService<P> {
        TargetService { proxy }
    }
}

impl<P> Service<Authorized> for TargetService<P>
where
    P: Service<Authorized, Response = Response, Error = Rejection>,
{
    type Response = Response;
    type Error = Rejection;
    type Future = Either<P::Future, Either<Ready<Result<Response, Rejection>>, Boxed>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.proxy.poll_ready(cx)
    }

    fn call(&mut self, request: Authorized) -> Self::Future {
        let route = request.route();
        match &route.target {
            Target::Upstream(_) => Either::Left(self.proxy.call(request)),
            Target::Redirect(to) => {
                let response = redirect::respond(to, route.path(), request.view());
                Either::Right(Either::Left(futures_util::future::ready(Ok(response))))
            }
            Target::DirectResponse(direct) => {
                Either::Right(Either::Left(futures_util::future::ready(Ok(direct.respond()))))
            }
            Target::Static { .. } => Either::Right(Either::Right(Box::pin(static_files::respond(request)))),
        }
    }
}
