//! What a panic costs: the request that caused it, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use crate::rejection::{Code, Rejection};
use crate::response::Response;
use crate::telemetry::RequestId;

/// The answer that `handling` comes to; if it panics, the answer says that something went wrong, and the connection ends
/// after it, for where it stands is not known.
///
/// It is pinned by the caller, for a future that is handed over has two places in whom it is handed to, and is copied.
pub(crate) async fn answered<'c>(
    mut handling: Pin<&mut impl Future<Output = Response<'c>>>,
    request_id: &RequestId,
) -> Response<'c> {
    std::future::poll_fn(|cx| {
        // Nothing that outlives the request is left half-changed: a worker's counters and caches are whole between any two
        // statements, and locks are of those that a panic does not poison.
        match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(cx))) {
            Ok(polled) => polled,
            Err(_) => {
                let rejection =
                    Rejection::new(Code::Internal, "the gateway failed; its log says where").close();
                Poll::Ready(Response::refusal(&rejection, request_id.as_str()))
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use http::StatusCode;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer_and_the_request_beside_it_gets_its_own() {
        let broken = async {
            tokio::task::yield_now().await;
            panic!("injected");
        };
        let well = async {
            tokio::task::yield_now().await;
            Response::new(StatusCode::NO_CONTENT)
        };
        let (broken, well) = {
            let (broken, well) = (pin!(broken), pin!(well));
            let (one, two) = (RequestId::Given("one".into()), RequestId::Given("two".into()));
            tokio::join!(answered(broken, &one), answered(well, &two))
        };
        assert_eq!((broken.status, broken.close), (StatusCode::INTERNAL_SERVER_ERROR, true));
        assert_eq!((well.status, well.close), (StatusCode::NO_CONTENT, false));
    }
}
