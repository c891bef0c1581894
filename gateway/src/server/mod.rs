//! Running the gateway: listeners, workers, connections, draining, and the admin listener.

mod access;
mod admin;
mod answer;
mod background;
mod buffers;
mod caught;
mod connection;
mod control;
mod exchange;
mod hot_path;
mod http1;
mod http2;
mod http2_answer;
mod http2_exchange;
mod inherited;
mod listener;
mod predecessor;
mod redirect;
mod rehearsal;
mod reload;
mod running;
mod sockets;
mod sources;
mod steering;
mod tunnel;
mod worker;

pub(crate) use control::{ControlAnswer, ControlCommand, ControlError, control};
#[doc(hidden)]
pub use hot_path::HotPath;
pub use inherited::{InheritError, Inherited};
pub use predecessor::{Predecessor, TakeOverError};
pub(crate) use rehearsal::Rehearsal;
pub use running::{Running, ServeError, start};
pub use sockets::ListenError;
