//! What the layers report of a request beside its response, for `explain`.

use std::cell::RefCell;

use crate::config::RouteRef;
use crate::routing::MatchResult;
use crate::tokens::{TokenError, VerifiedClaims};

/// The decisions of one request. Only the worker of a dry run has one: a served request is not traced.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// All routes in the order of matching; none where the request did not come as far as the routes.
    pub(crate) routes: RefCell<Vec<(RouteRef, MatchResult)>>,
    /// Why a CORS preflight is refused, in words.
    pub(crate) preflight_problem: RefCell<Option<String>>,
    /// Why the token is not good, with its claims, where it was at least signed here.
    pub(crate) refused_token: RefCell<Option<(TokenError, Option<VerifiedClaims>)>>,
}
