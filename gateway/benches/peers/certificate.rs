//! The certificate of servers with TLS.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// A certificate for 127.0.0.1, signed with its own P-256 key.
pub(crate) struct Certificate {
    pub(crate) chain: PathBuf,
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy has it.
    pub(crate) pair: PathBuf,
}

/// So that openssl adds nothing of its own.
const REQUEST: &str = "[req]
distinguished_name = subject
x509_extensions = extensions
prompt = no
[subject]
CN = bench
[extensions]
basicConstraints = critical,CA:FALSE
subjectAltName = IP:127.0.0.1
";

impl Certificate {
    /// Makes one in an empty folder.
    pub(crate) fn create(openssl: &Path, dir: &Path) -> Result<Certificate> {
        let [request, chain, key, pair] =
            ["request.cnf", "chain.pem", "key.pem", "pair.pem"].map(|name| dir.join(name));
        fs::write(&request, REQUEST)?;
        let made = Command::new(openssl)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-days", "2", "-config"])
            .args([&request, Path::new("-keyout"), &key, Path::new("-out"), &chain])
            .stdin(Stdio::null())
            .output()?;
        if !made.status.success() {
            return Err(format!("openssl: {}", String::from_utf8_lossy(&made.stderr)).into());
        }
        fs::write(&pair, [fs::read(&chain)?, fs::read(&key)?].concat())?;
        Ok(Certificate { chain, key, pair })
    }
}
