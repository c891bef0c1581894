//! Client-side TLS to upstreams and stores: trust anchors and client certificates (mTLS).

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

/// A configuration that trusts the certificates of `ca_file`, or else the system's, and shows the `client` certificate
/// with its key to those who ask. Servers are always verified, with their names; a certificate that is itself in `ca_file` needs no
/// authority. An error says which file is why not.
pub(crate) fn client_config(
    ca_file: Option<&PathBuf>,
    client: Option<&(PathBuf, PathBuf)>,
) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let mut named = Vec::new();
    match ca_file {
        Some(file) => {
            named = certificates(file)?;
            for certificate in &named {
                roots.add(certificate.clone()).map_err(|e| format!("{}: {e}", file.display()))?;
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
    let authorities = WebPkiServerVerifier::builder(Arc::new(roots)).build();
    let authorities = authorities.map_err(|e| format!("the trusted certificates cannot be used: {e}"))?;
    let verifier = Arc::new(ServerVerifier { authorities, named });
    let config = ClientConfig::builder().dangerous().with_custom_certificate_verifier(verifier);
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

/// Verifies servers as usual, and takes a certificate that is itself named for trusted: what `openssl req -x509` makes is its own
/// authority, which no chain may end with.
#[derive(Debug)]
struct ServerVerifier {
    authorities: Arc<WebPkiServerVerifier>,
    /// The certificates of the operator's file.
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.named.iter().any(|named| named == end_entity) {
            return verify_named(end_entity, server_name, now).map(|()| ServerCertVerified::assertion());
        }
        self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Judges a certificate that is trusted by itself: its time, and its names if it has any besides the subject.
fn verify_named(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let (_, x509) =
        x509_parser::parse_x509_certificate(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if seconds < x509.validity().not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if seconds > x509.validity().not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    match x509.subject_alternative_name() {
        Ok(None) => Ok(()),
        _ => verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name),
    }
}

/// A failure of TLS to a server in words, with what to do about it.
pub(crate) fn in_words(error: &io::Error, server_name: &ServerName<'_>) -> String {
    let name = server_name.to_str();
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => format!(
                "TLS: the server ends the connection within the handshake ({error}); see its log, and whether it speaks TLS on this port"
            ),
            _ => format!("TLS: {error}"),
        };
    };
    let what_to_do = match error {
        Error::InvalidCertificate(reason) => match reason {
            CertificateError::UnknownIssuer => {
                "the server's certificate comes from no authority that is trusted here; name that authority's certificate, or exactly the server's own, in tls_ca_file".to_owned()
            }
            // A reason of the library below, which has no name here.
            CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                "the server shows the certificate of an authority (CA:TRUE) as its own; if it is self-signed, name exactly that certificate in tls_ca_file".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => format!(
                "the server's certificate is not for {name}; set tls_server_name to a name that it is for, or issue it with the subjectAltName {name}"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the server's certificate has expired; renew it, or correct the clock of this machine".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet; correct the clock of this machine or of the one that issued it".to_owned()
            }
            CertificateError::BadSignature => {
                "the server's certificate is not signed by the authority of that name in tls_ca_file; name the authority's present certificate".to_owned()
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "the server's certificate is not for servers; issue it with extendedKeyUsage = serverAuth".to_owned()
            }
            CertificateError::Revoked => "the server's certificate is revoked; issue a new one".to_owned(),
            _ => "the server's certificate cannot be used; issue a new one (version 3, SHA-256, RSA of 2048 bits or more, or ECDSA)".to_owned(),
        },
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => {
                "the server wants another client certificate, or any at all; set tls_client_certificate_file and tls_client_key_file".to_owned()
            }
            AlertDescription::ProtocolVersion => {
                "the server speaks neither TLS 1.2 nor 1.3; switch one of them on there".to_owned()
            }
            AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
                "the server has no cipher or key in common with the gateway, or wants a client certificate (tls_client_certificate_file)".to_owned()
            }
            AlertDescription::UnrecognisedName => {
                format!("the server does not know the name {name}; set tls_server_name to one that it knows")
            }
            AlertDescription::NoApplicationProtocol => {
                "the server does not speak this version of HTTP over TLS; set protocol to \"http1\" or \"http2\"".to_owned()
            }
            _ => "the server refuses the handshake; see its log".to_owned(),
        },
        Error::InvalidMessage(_) | Error::PeerMisbehaved(_) => {
            "what answers is not TLS; write http:// where the server speaks plain HTTP".to_owned()
        }
        Error::PeerIncompatible(_) => {
            "the server speaks neither TLS 1.2 nor 1.3, or no cipher that the gateway has".to_owned()
        }
        Error::NoCertificatesPresented => "the server shows no certificate; configure one there".to_owned(),
        _ => "see the server's log".to_owned(),
    };
    format!("TLS: {what_to_do} ({error})")
}

/// What to do about an alert that ended a connection after its handshake, or nothing: with TLS 1.3 a server that wants a client
/// certificate refuses the connection only then. `error` is the failure's text, for hyper hides its cause.
pub(crate) fn remedy_of_late_alert(error: &str) -> &'static str {
    let alert = error.split_once("fatal alert: ").map_or("", |(_, alert)| alert);
    let wants_certificate = [
        "CertificateRequired",
        "BadCertificate",
        "CertificateExpired",
        "CertificateUnknown",
        "UnknownCA",
        "AccessDenied",
    ];
    match wants_certificate.iter().any(|name| alert.starts_with(name)) {
        true => {
            "; the server wants another client certificate, or any at all: set tls_client_certificate_file and tls_client_key_file"
        }
        false => "",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_after_the_handshake_comes_with_its_remedy() {
        for alert in [AlertDescription::CertificateRequired, AlertDescription::UnknownCA] {
            let error = io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(alert)).to_string();
            for text in [error.clone(), format!("http2 error: {error}")] {
                assert!(remedy_of_late_alert(&text).contains("set tls_client_certificate_file"), "{text}");
            }
        }
        for text in ["received fatal alert: DecodeError", "Connection reset by peer (os error 104)"] {
            assert_eq!(remedy_of_late_alert(text), "", "{text}");
        }
    }
}
