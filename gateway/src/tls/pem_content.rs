//! What a file holds in place of the expected PEM, in words for an error.

use std::path::Path;

/// What is in the file, as a sentence without its end: "it is a certificate".
pub(crate) fn describe_pem_file(path: &Path) -> String {
    match std::fs::read(path) {
        Ok(content) => describe_pem(&content).to_owned(),
        Err(error) => format!("it cannot be read ({error})"),
    }
}

/// What the content of a file is, as a sentence without its end.
pub(crate) fn describe_pem(content: &[u8]) -> &'static str {
    if content.iter().all(u8::is_ascii_whitespace) {
        return "the file is empty";
    }
    // What DER begins with, and PKCS#12 too: a sequence with a long length.
    if content.starts_with(&[0x30, 0x82]) || content.starts_with(&[0x30, 0x81]) {
        return "it is DER or PKCS#12, which `openssl x509 -inform der`, `openssl pkey -inform der` or `openssl pkcs12` converts";
    }
    let text = String::from_utf8_lossy(content);
    let Some((_, label)) = text.split_once("-----BEGIN ") else { return "it is no PEM file" };
    let label = label.split("-----").next().unwrap_or_default();
    match label {
        "ENCRYPTED PRIVATE KEY" => ENCRYPTED,
        _ if label.ends_with("PRIVATE KEY") && text.contains("Proc-Type: 4,ENCRYPTED") => ENCRYPTED,
        "OPENSSH PRIVATE KEY" => {
            "it is a key in OpenSSH's own format, which `ssh-keygen -p -m PKCS8` converts"
        }
        "EC PRIVATE KEY" => "it is an EC key in SEC1 form, which `openssl pkcs8 -topk8 -nodes` converts",
        "RSA PRIVATE KEY" => "it is an RSA key in PKCS#1 form, which `openssl pkcs8 -topk8 -nodes` converts",
        "CERTIFICATE" | "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => "it is a certificate",
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            "it is a request for a certificate, not the certificate"
        }
        _ if label.ends_with("PUBLIC KEY") => "it is a public key",
        "PRIVATE KEY" => kind_of_private_key(content),
        "EC PARAMETERS" => {
            "it begins with EC PARAMETERS, not with the key: `openssl pkcs8 -topk8 -nodes` converts it"
        }
        _ => "it is PEM of another kind",
    }
}

const ENCRYPTED: &str =
    "the key is encrypted, and `openssl pkey -in FILE -out FILE` takes the passphrase off";

/// The kind of a PKCS#8 key, by the object identifier of its algorithm.
fn kind_of_private_key(content: &[u8]) -> &'static str {
    let Ok(pem) = pem::parse(content) else { return "its PEM is damaged" };
    let has = |oid: &[u8]| pem.contents().windows(oid.len()).take(40).any(|window| window == oid);
    let kinds: [(&[u8], &str); 5] = [
        (&[0x2b, 0x65, 0x70], "it is an Ed25519 key, for EdDSA"),
        (&[0x2b, 0x65, 0x71], "it is an Ed448 key, which no algorithm here takes"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], "it is a P-256 key, for ES256"),
        (&[0x2b, 0x81, 0x04, 0x00, 0x22], "it is a P-384 key, for ES384"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01], "it is an RSA key, for RS256 and the like"),
    ];
    kinds
        .into_iter()
        .find(|(oid, _)| has(oid))
        .map_or("it is a private key of another kind, or damaged", |(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_named_by_mistake_is_named_in_words() {
        for (content, expected) in [
            (" \n", "empty"),
            ("hello", "no PEM file"),
            ("-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", "is a certificate"),
            ("-----BEGIN PUBLIC KEY-----\n", "public key"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", "openssl pkey"),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "openssl pkey"),
            ("-----BEGIN EC PRIVATE KEY-----\n", "SEC1"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "OpenSSH"),
            ("-----BEGIN CERTIFICATE REQUEST-----\n", "request"),
            ("-----BEGIN PRIVATE KEY-----\nxxxx\n-----END PRIVATE KEY-----\n", "damaged"),
            (
                "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f\n-----END PRIVATE KEY-----\n",
                "Ed25519",
            ),
        ] {
            let found = describe_pem(content.as_bytes());
            assert!(found.contains(expected), "{content}: {found}");
        }
        assert!(describe_pem(&[0x30, 0x82, 0x01, 0x00]).contains("DER"));
    }
}
