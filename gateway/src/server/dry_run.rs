//! A dry run of the request stack, for `explain`: a gateway that listens nowhere, and contacts no upstream
//! and no store.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::runtime::{Builder, LocalOptions};

use crate::client_addr::ClientAddr;
use crate::config::{Settings, Store};
use crate::explain::{self, Explanation};
use crate::rejection::Rejection;
use crate::runtime::Worker;
use crate::server::lifecycle::{ServeError, prepare};

/// One worker without a thread.
pub(crate) struct DryRun {
    worker: Rc<Worker>,
}

impl DryRun {
    /// Loads everything the settings name except the store, which belongs to the running gateway.
    pub(crate) fn new(settings: Settings) -> Result<DryRun, ServeError> {
        let gateway = Arc::new(prepare(Settings { store: Store::Memory, ..settings })?);
        Ok(DryRun { worker: Rc::new(Worker::new(gateway, 0).traced()) })
    }

    /// What would happen to a request with this head that arrived now from `peer`, over TLS if `secure`.
    ///
    /// # Errors
    ///
    /// No runtime can be created.
    pub(crate) fn explain(
        &self,
        input: &[u8],
        peer: SocketAddr,
        secure: bool,
    ) -> std::io::Result<Explanation> {
        let state = self.worker.state();
        let settings = &state.config.settings;
        let mut head = self.worker.take_head();
        let refused = match head.parse(input, &settings.limits.head()) {
            Ok(Some(_)) => None,
            Ok(None) => Some(Rejection::IncompleteHead),
            Err(error) => Some(Rejection::BadHead(error)),
        };
        let client = ClientAddr::new(peer, &settings.server.trusted_proxies, secure);
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        Ok(runtime.block_on(explain::explain(Rc::clone(&self.worker), client, head, refused)))
    }
}
