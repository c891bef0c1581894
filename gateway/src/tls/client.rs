//! Client-side TLS to upstreams and stores: trust anchors and client certificates (mTLS).

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A configuration that trusts the certificates of `ca_file`, or else the system's, and presents the `client`
/// certificate to servers that request one. Servers are always verified, including their names. An error
/// names the file.
pub(crate) fn client_config(
    ca_file: Option<&PathBuf>,
    client: Option<&(PathBuf, PathBuf)>,
) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|e| format!("{}: {e}", file.display()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                let why = found.errors.first().map_or("there are none".to_owned(), ToString::to_string);
                return Err(format!("the system's certificates cannot be read: {why}"));
            }
        }
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    match client {
        None => Ok(config.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|e| format!("{} is no private key in PEM: {e}", key.display()))?;
            let presented = config.with_client_auth_cert(chain, private);
            presented.map_err(|e| format!("{}: {e}", certificate.display()))
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let refuse = |why: String| format!("{} {why}", file.display());
    let opened = File::open(file).map_err(|e| refuse(format!("cannot be read: {e}")))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(BufReader::new(opened)).collect();
    let read = read.map_err(|e| refuse(format!("is not PEM: {e}")))?;
    if read.is_empty() {
        return Err(refuse("holds no certificate".to_owned()));
    }
    Ok(read)
}
