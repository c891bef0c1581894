//! A certificate chain with its private key, and the metadata for selecting it (SNI).

use std::path::PathBuf;
use std::sync::Arc;

use tokio_rustls::rustls;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::pem_content::describe_pem_file;
use crate::config::CertificateFiles;

/// The files cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {path}: {why}")]
pub struct CertificateError {
    path: PathBuf,
    /// Behind a semicolon follows the remedy.
    why: String,
    /// The key of the configuration that names the file.
    pub(crate) key: String,
}

/// A certificate that is ready to be presented.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// The DNS names of its subject alternative names, in lower case; a wildcard stands for one label.
    pub(super) names: Vec<String>,
    /// Whether it has any subject alternative name; browsers reject certificates without.
    pub(super) is_named: bool,
    /// When it becomes valid, in seconds since 1970.
    pub(super) not_before: i64,
    /// Expiry, in seconds since 1970.
    pub(super) not_after: i64,
}

impl Certificate {
    /// Loads a certificate and its key, and checks that they match. `index` is that of the configuration.
    pub(super) fn load(
        files: &CertificateFiles,
        index: usize,
        provider: &CryptoProvider,
    ) -> Result<Certificate, CertificateError> {
        const CHAIN: &str =
            "name a PEM file that begins with the server's certificate; those that signed it follow";
        const KEY: &str = "name the PEM file with the certificate's unencrypted private key";
        let (certificate_file, key_file) = (&files.certificate_file, &files.private_key_file);
        let key = |name: &str| format!("server.tls.certificates[{index}].{name}");
        let of_chain = |why: String| CertificateError {
            path: certificate_file.clone(),
            why,
            key: key("certificate_file"),
        };
        let of_key =
            |why: String| CertificateError { path: key_file.clone(), why, key: key("private_key_file") };
        let chain = CertificateDer::pem_file_iter(certificate_file)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| of_chain(format!("it is not a PEM file of certificates ({e}); {CHAIN}")))?;
        let Some(leaf) = chain.first() else {
            let found = describe_pem_file(certificate_file);
            return Err(of_chain(format!("there is no certificate in it: {found}; {CHAIN}")));
        };
        let (names, is_named, [not_before, not_after]) =
            describe(leaf).map_err(|why| of_chain(format!("{why}; {CHAIN}")))?;
        let key = PrivateKeyDer::from_pem_file(key_file).map_err(|_| {
            of_key(format!("there is no usable private key in it: {}; {KEY}", describe_pem_file(key_file)))
        })?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|e| match e {
            rustls::Error::InconsistentKeys(_) => of_key(format!(
                "it is not the key of {}; name the key that the certificate was requested with",
                certificate_file.display()
            )),
            other => of_key(format!(
                "it cannot sign ({other}); name a key of Ed25519, of P-256, P-384 or P-521, or of RSA with 2048 bits at least, \
                 and the certificate for it"
            )),
        })?;
        Ok(Certificate { key: Arc::new(key), names, is_named, not_before, not_after })
    }

    /// Whether it covers a name, given in lower case.
    pub(super) fn is_for(&self, name: &str) -> bool {
        let parent = name.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|own| match own.strip_prefix("*.") {
            Some(own) => parent == Some(own),
            None => own == name,
        })
    }
}

/// The DNS names of a certificate, whether it has names of any kind, and from when to when it is valid, in seconds since 1970.
fn describe(leaf: &[u8]) -> Result<(Vec<String>, bool, [i64; 2]), String> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|e| format!("it cannot be read ({e})"))?;
    let alternatives = certificate.subject_alternative_name().map_err(|e| e.to_string())?;
    let names = alternatives.iter().flat_map(|names| &names.value.general_names);
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let is_named = alternatives.as_ref().is_some_and(|names| !names.value.general_names.is_empty());
    let validity = [&certificate.validity().not_before, &certificate.validity().not_after];
    Ok((dns.collect(), is_named, validity.map(|time| time.timestamp())))
}
