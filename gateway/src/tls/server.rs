//! Server-side TLS: versions, ALPN protocols, and certificate selection by SNI.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

use super::certificate::{Certificate, CertificateError};
use crate::config::{ServerTls, TlsVersion};

/// The TLS configuration of the public listener.
pub(crate) struct Acceptance {
    pub(crate) config: Arc<ServerConfig>,
    /// Warnings about certificates, with their indices in the configuration.
    pub(crate) warnings: Vec<(usize, String)>,
    /// The DNS names that a certificate covers, in lower case; a wildcard stands for one label.
    pub(crate) names: Vec<String>,
    /// The files of the certificates and when each expires, in seconds since 1970.
    pub(crate) expiries: Vec<(String, i64)>,
    /// Indices in the configuration of certificates that no client accepts, because they have no names.
    pub(crate) unnamed: Vec<usize>,
}

/// Loads the certificates of the configuration. `now` is in seconds since 1970.
pub(crate) fn server_config(settings: &ServerTls, now: u64) -> Result<Acceptance, CertificateError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut warnings = Vec::new();
    let (mut certificates, mut expiries) = (Vec::new(), Vec::new());
    for (index, files) in settings.certificates.iter().enumerate() {
        let certificate = Certificate::load(files, index, &provider)?;
        let path = files.certificate_file.display();
        let warning = validity_warning([certificate.not_before, certificate.not_after], now);
        warnings.extend(warning.map(|why| (index, format!("the certificate {path} {why}"))));
        expiries.push((path.to_string(), certificate.not_after));
        certificates.push(certificate);
    }
    let versions: &[&SupportedProtocolVersion] = match settings.min_version {
        TlsVersion::Tls12 => &[&TLS12, &TLS13],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let names = certificates.iter().flat_map(|certificate| certificate.names.clone()).collect();
    let unnamed = (0..certificates.len()).filter(|place| !certificates[*place].is_named).collect();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider's own cipher suites fit its versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName { certificates }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Without tickets every new connection of a client costs a signature.
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap_or_else(|_| Arc::clone(&config.ticketer));
    Ok(Acceptance { config: Arc::new(config), warnings, names, expiries, unnamed })
}

/// What is wrong with the times from and to which a certificate is valid, as the end of a sentence; all in seconds since 1970.
fn validity_warning([not_before, not_after]: [i64; 2], now: u64) -> Option<String> {
    let hours = |time: i64| time.saturating_sub_unsigned(now) / 3600 + 1;
    match (not_before.saturating_sub_unsigned(now), not_after.saturating_sub_unsigned(now)) {
        (_, ..=0) => Some("has expired: clients will refuse it; renew it".to_owned()),
        (1.., _) => Some(format!(
            "is valid in {} hours only: clients will refuse it; use it later, or correct the clock",
            hours(not_before)
        )),
        (_, ..EXPIRY_WARNING_SECS) => Some(format!("expires within {} hours; renew it", hours(not_after))),
        _ => None,
    }
}

/// Certificates that expire within this time, in seconds, cause a warning.
const EXPIRY_WARNING_SECS: i64 = 3 * 24 * 3600;

/// The certificates in the order of the configuration.
#[derive(Debug)]
struct ByName {
    certificates: Vec<Certificate>,
}

impl ResolvesServerCert for ByName {
    /// The certificate that covers the name; the first for an unknown or missing name.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        let named = name.and_then(|name| self.certificates.iter().find(|c| c.is_for(&name)));
        named.or(self.certificates.first()).map(|certificate| Arc::clone(&certificate.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_about_before_and_after_its_time_and_near_its_end() {
        const NOW: i64 = 1_800_000_000;
        const DAY: i64 = 24 * 3600;
        for (from, to, expected) in [
            (NOW - DAY, NOW + 30 * DAY, None),
            (NOW, NOW + 30 * DAY, None),
            (NOW - DAY, NOW, Some("has expired")),
            (NOW - 9 * DAY, NOW - DAY, Some("has expired")),
            (NOW - DAY, NOW + DAY, Some("expires within 25 hours")),
            (NOW + 7200, NOW + 30 * DAY, Some("is valid in 3 hours only")),
            (NOW + 60, NOW + DAY, Some("is valid in 1 hours only")),
        ] {
            let warning = validity_warning([from, to], NOW as u64);
            let is_expected =
                warning.as_deref().is_some_and(|text| expected.is_some_and(|part| text.contains(part)));
            assert!(is_expected || warning.is_none() && expected.is_none(), "{from} {to}: {warning:?}");
        }
    }
}
