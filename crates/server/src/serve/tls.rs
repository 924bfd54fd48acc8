//! TLS: the certificate and key that the server shows, read once at the start.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// A certificate and its key, ready to be shown.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why a certificate and a key cannot be used. One line, with the file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

impl Tls {
    /// Reads a certificate chain, the server's own certificate first, and its private key; both as PEM.
    ///
    /// # Errors
    /// When a file cannot be read or has no such thing, or when the two do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unreadable("certificate", certificate, &error))?;
        if chain.is_empty() {
            return Err(unreadable("certificate", certificate, &pem::Error::NoItemsFound));
        }
        let secret =
            PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("private key", key, &error))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
            .map_err(|error| unusable(certificate, key, &error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.0).into()
    }
}

impl fmt::Debug for Tls {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

fn unreadable(what: &str, file: &Path, error: &pem::Error) -> TlsError {
    let file = file.display();
    TlsError(match error {
        pem::Error::Io(error) => format!("cannot read the {what} in {file}: {error}"),
        pem::Error::NoItemsFound => format!("there is no {what} in {file}: it must be a PEM file with one"),
        // The text of other errors may quote the file, and the file may be a key.
        _ => format!("the {what} in {file} is not valid PEM"),
    })
}

fn unusable(certificate: &Path, key: &Path, error: &rustls::Error) -> TlsError {
    let (certificate, key) = (certificate.display(), key.display());
    TlsError(match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("the private key in {key} does not belong to the certificate in {certificate}")
        }
        rustls::Error::InvalidCertificate(why) => {
            format!("the certificate in {certificate} cannot be used: {why}")
        }
        other => {
            format!("the certificate in {certificate} and the private key in {key} cannot be used: {other}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_certificate_or_a_key_is_one_line_with_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = directory.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        };
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = write("good.crt", &made.cert.pem());
        let key = write("good.key", &made.signing_key.serialize_pem());
        let other_key = write("other.key", &other.signing_key.serialize_pem());
        let text = write("text", "not PEM at all");
        let broken = write(
            "broken",
            "-----BEGIN CERTIFICATE-----\nMII!\n-----END CERTIFICATE-----\n",
        );
        let nonsense = write(
            "nonsense",
            "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n",
        );
        let missing = directory.path().join("missing");
        assert!(Tls::read(&certificate, &key).is_ok());
        for (certificate, key, expected) in [
            (&missing, &key, "cannot read the certificate in"),
            (&certificate, &missing, "cannot read the private key in"),
            (&text, &key, "there is no certificate in"),
            (&certificate, &text, "there is no private key in"),
            (&certificate, &certificate, "there is no private key in"),
            (&broken, &key, "is not valid PEM"),
            (&nonsense, &key, "cannot be used"),
            (&certificate, &other_key, "does not belong to the certificate in"),
        ] {
            let error = Tls::read(certificate, key).unwrap_err().to_string();
            assert!(
                error.contains(expected) && !error.contains('\n'),
                "{expected}: {error}"
            );
        }
    }
}
