//! Running the gateway: listeners, workers, connections, draining, and the admin listener.

mod access;
mod admin;
mod answer;
mod background;
mod buffers;
mod connection;
mod control;
mod hot_path;
mod listener;
mod running;
mod worker;

pub use control::{UnlockError, unlock};
#[doc(hidden)]
pub use hot_path::HotPath;
pub use running::{Running, ServeError, start};
