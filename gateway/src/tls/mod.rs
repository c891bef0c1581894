//! TLS towards clients: certificates and keys from files, one chosen for each name that clients ask for.

mod certificate;
mod server;

pub(crate) use certificate::CertificateError;
pub(crate) use server::server_config;
