//! Running the gateway: listeners, workers, connections, draining, and the admin listener.

mod access;
mod admin;
mod answer;
mod background;
mod buffers;
mod connection;
mod listener;
mod running;
mod worker;

pub use running::{Running, ServeError, start};
