//! TLS: certificates and keys from files, selection by SNI, and trust anchors for upstreams.

mod certificate;
mod client;
mod pem_content;
mod server;

pub(crate) use certificate::CertificateError;
pub(crate) use client::{client_config, in_words, remedy_of_late_alert};
pub(crate) use pem_content::describe_pem;
pub(crate) use server::server_config;
