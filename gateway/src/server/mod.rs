//! Running the gateway: listeners, workers, connections, draining, and the admin listener.

mod admin;
mod answer;
mod background_tasks;
mod bench_support;
mod bidirectional_copy;
mod buffers;
mod connection;
mod connection_limit;
mod control;
mod dry_run;
mod exchange;
mod http1;
mod http2;
mod http2_answer;
mod http2_exchange;
mod https_redirect;
mod lifecycle;
mod listener;
mod reload;
mod reuseport_bpf;
mod socket_activation;
mod sockets;
mod takeover;
mod worker;

#[doc(hidden)]
pub use bench_support::HotPath;
pub use control::{UnlockError, unlock};
pub(crate) use dry_run::Rehearsal;
pub use lifecycle::{Running, ServeError, start};
pub use socket_activation::{InheritError, Inherited};
pub use sockets::ListenError;
pub use takeover::{Predecessor, TakeOverError};
