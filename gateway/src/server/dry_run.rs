//! A gateway that listens nowhere and asks nobody, to find out what it would do with a request.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Builder;
use tokio::time::Instant;

use crate::client_addr::Client;
use crate::config::{Settings, Store};
use crate::explain::Explanation;
use crate::http1::RequestHead;
use crate::pipeline::Exchange;
use crate::rejection::{Code, Rejection};
use crate::runtime::Worker;
use crate::server::exchange::{bad_head, head_limits, request_id, unix_millis};
use crate::server::lifecycle::{ServeError, prepare};

/// One worker without a thread.
pub(crate) struct Rehearsal {
    worker: Worker,
}

impl Rehearsal {
    /// Loads what the settings name, but for the store: it belongs to the running gateway.
    pub(crate) fn new(settings: Settings) -> Result<Rehearsal, ServeError> {
        let gateway = Arc::new(prepare(Settings { store: Store::Memory, ..settings })?);
        Ok(Rehearsal { worker: Worker::new(gateway, 0) })
    }

    /// What would become of the request with this head if it arrived now from `peer`, `secure` over TLS.
    pub(crate) fn explain(
        &self,
        input: &[u8],
        peer: SocketAddr,
        secure: bool,
    ) -> Result<Explanation, Rejection> {
        let serving = self.worker.serving();
        let settings = &serving.snapshot.settings;
        let mut head = RequestHead::default();
        let complete = head.parse(input, &head_limits(&settings.limits)).map_err(|error| bad_head(&error))?;
        if complete.is_none() {
            return Err(Rejection::new(Code::BadRequest, "the head is not complete"));
        }
        let request = crate::layers::admission::admit(&head)?;
        let client = Client::new(peer, &settings.server.trusted_proxies, secure);
        let request_id = request_id(&self.worker, &client, &head);
        let exchange = Exchange {
            request: &request,
            request_id: &request_id,
            started: Instant::now(),
            now_millis: unix_millis(),
        };
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Rejection::new(Code::Internal, error.to_string()))?;
        Ok(runtime.block_on(crate::explain::explain(&self.worker, &client, &exchange)))
    }
}
