//! The server: listeners, workers, connections, graceful shutdown, hot reload, and the admin listener.

mod admin;
mod background_tasks;
mod bench_support;
mod bidirectional_copy;
mod connection;
mod connection_limit;
mod control;
mod dry_run;
mod http1;
mod http2;
mod http2_frame_sizes;
mod https_redirect;
mod key_maintenance;
mod lifecycle;
mod listener;
mod reload;
mod reuseport_bpf;
mod small_listener;
mod socket_activation;
mod sockets;
mod status;
mod status_page;
mod strict_io;
mod takeover;
mod worker;

#[doc(hidden)]
pub use bench_support::HotPath;
pub(crate) use control::{ControlCommand, ControlError, ControlResponse, control};

pub(crate) use dry_run::DryRun;
pub(crate) use lifecycle::open_redis;
#[cfg(test)]
pub(crate) use lifecycle::prepare;
pub use lifecycle::{RunningGateway, ServeError, start};
pub use socket_activation::{ActivatedSockets, SocketActivationError};
pub use sockets::ListenError;
pub(crate) use sockets::unusable_addresses;
pub(crate) use status::{RouteStatus, Status};
pub(crate) use status_page::{age, time as utc};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use strict_io::write_stand_in;
pub use takeover::{OldProcess, TakeoverError};
