//! Whether that identity may pass: the route's access and roles.

use std::rc::Rc;

use super::identity::Identity;
use super::route::Route;
use super::snapshot::Snapshot;
use super::{Worker, authenticate};
use crate::config::Access;
use crate::problem::{Code, Rejection};
use crate::tokens::UnixSeconds;
use crate::wire::RequestHead;

/// The identity a request passes with; `None` where the route asks for none.
pub(crate) fn authorize(
    worker: &Worker,
    snapshot: &Snapshot,
    route: &Route,
    head: &RequestHead,
    now: UnixSeconds,
) -> Result<Option<Rc<Identity>>, Rejection> {
    if route.access == Access::Public {
        return Ok(None);
    }
    let Some(identity) = authenticate::authenticate(worker, snapshot, head, now)? else {
        return if route.access == Access::Optional { Ok(None) } else { Err(authenticate::missing(worker)) };
    };
    if !route.roles.is_empty() && !identity.has_one_of(&route.roles) {
        return Err(Rejection::new(Code::InsufficientScope, "none of the route's roles"));
    }
    Ok(Some(identity))
}
