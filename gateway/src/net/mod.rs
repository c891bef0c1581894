//! Transport: TCP, Unix and TLS sockets, the PROXY protocol, timers and lingering close.

mod deadline;
mod happy_eyeballs;
mod lingering_close;
mod proxy_protocol;
mod read_buffer;
mod socket;
mod ticks;
mod tls_socket;

pub(crate) use deadline::Deadline;
pub(crate) use happy_eyeballs::{connect_any, is_localhost, servers_of};
pub(crate) use lingering_close::Lingering;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use proxy_protocol::parse as parse_proxy_header;
pub(crate) use proxy_protocol::{ProxyHeader, take_proxy_header};
pub(crate) use read_buffer::ReadBuffer;
pub(crate) use socket::{Linger, Socket};
pub(crate) use ticks::Ticks;
pub(crate) use tls_socket::TlsSocket;
