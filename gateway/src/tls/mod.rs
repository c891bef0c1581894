//! TLS: certificates and keys from files, one chosen for each name that clients ask for, and whom the gateway trusts.

mod certificate;
mod client;
mod server;

pub(crate) use certificate::CertificateError;
pub(crate) use client::{client_config, in_words};
pub(crate) use server::server_config;
