//! The certificate that we show to servers that ask for one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::der::public_key_info;
use super::provider;
use super::watched::Watched;
use crate::net::Origin;

/// A certificate chain and its key; clones share what was read. Once one of the files has changed, new
/// connections show what they hold then.
#[derive(Clone)]
pub struct ClientCertificate(Arc<Pair>);

struct Pair {
    certificate: PathBuf,
    key: PathBuf,
    read: Watched<CertifiedKey>,
}

/// A client certificate and the one origin that gets to see it.
#[derive(Clone, Debug)]
pub struct OriginCertificate {
    /// What is shown.
    pub certificate: ClientCertificate,
    /// To whom.
    pub origin: Origin,
}

/// Why a client certificate cannot be used. The text names the file and what is wrong with it.
#[derive(Debug)]
pub enum ClientCertificateError {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The certificate file holds no certificate, or a broken one.
    NoCertificate(PathBuf),
    /// The key file holds no private key in PKCS#1, SEC1 or PKCS#8 PEM.
    NoKey(PathBuf),
    /// The key is broken, or of a kind that is not supported.
    UnusableKey(PathBuf),
    /// Key and certificate do not belong together.
    Mismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
}

impl ClientCertificate {
    /// Reads a PEM certificate chain, leaf first, and its PEM key.
    pub fn load(certificate: &Path, key: &Path) -> Result<ClientCertificate, ClientCertificateError> {
        let read = Watched::load(&[certificate, key], || read_pair(certificate, key))?;
        Ok(ClientCertificate(Arc::new(Pair { certificate: certificate.into(), key: key.into(), read })))
    }

    /// What is to be shown now.
    pub(super) fn current(&self) -> Arc<CertifiedKey> {
        let Pair { certificate, key, read } = &*self.0;
        read.current(&[certificate, key], || read_pair(certificate, key))
    }
}

fn read_pair(certificate: &Path, key: &Path) -> Result<CertifiedKey, ClientCertificateError> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|e| ClientCertificateError::Unreadable(path.to_owned(), e));
    let (certificate_pem, key_pem) = (read(certificate)?, read(key)?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificate_pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| ClientCertificateError::NoCertificate(certificate.to_owned()))?;
    let key_der =
        PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| ClientCertificateError::NoKey(key.to_owned()))?;
    let signer = provider()
        .key_provider
        .load_private_key(key_der)
        .map_err(|_| ClientCertificateError::UnusableKey(key.to_owned()))?;
    // The server judges the certificate. WebPKI would refuse those of version 1, which the usual tools
    // make unless they are told otherwise.
    let shown = chain.first().and_then(|leaf| public_key_info(leaf));
    let shown = shown.ok_or_else(|| ClientCertificateError::NoCertificate(certificate.to_owned()))?;
    if signer.public_key().is_some_and(|own| own.as_ref() != shown) {
        return Err(ClientCertificateError::Mismatch {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        });
    }
    Ok(CertifiedKey::new(chain, signer))
}

/// Shows the certificate whatever issuers the server hints at.
#[derive(Debug)]
pub(super) struct Always(pub(super) Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("chain_length", &self.0.read.latest().cert.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ClientCertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ClientCertificateError::*;
        match self {
            Unreadable(path, e) => write!(f, "cannot read {}: {e}", path.display()),
            NoCertificate(path) => write!(f, "{} holds no valid PEM certificate", path.display()),
            NoKey(path) => {
                write!(f, "{} holds no unencrypted PEM private key (PKCS#1, SEC1 or PKCS#8)", path.display())
            }
            UnusableKey(path) => write!(f, "the private key in {} is not supported", path.display()),
            Mismatch { certificate, key } => write!(
                f,
                "the private key in {} does not match the certificate in {}",
                key.display(),
                certificate.display()
            ),
        }
    }
}

impl std::error::Error for ClientCertificateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ClientCertificateError::Unreadable(_, e) => Some(e),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};

    #[test]
    fn a_certificate_of_version_1_loads_when_the_key_is_its_own() {
        let Generated { cert, signing_key } = generate_simple_self_signed(["client".to_owned()]).unwrap();
        let other = generate_simple_self_signed(["other".to_owned()]).unwrap();
        let sequence = |content: &[u8]| [&[0x30, u8::try_from(content.len()).unwrap()], content].concat();
        // Serial number; then algorithm, issuer, validity and subject, which do not matter; no version.
        let before_key = [[0x02, 1, 1].as_slice(), &sequence(&[]).repeat(4)].concat();
        let fields = [before_key, public_key_info(cert.der()).unwrap().to_vec()].concat();
        let certificate = sequence(&sequence(&fields));
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let body = crate::net::base64(&certificate);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let certificate = write("c.pem", &pem);
        let load = |key: &str| ClientCertificate::load(&certificate, &write("k.pem", key));
        load(&signing_key.serialize_pem()).unwrap();
        let error = load(&other.signing_key.serialize_pem()).unwrap_err().to_string();
        assert!(error.contains("does not match the certificate"), "{error}");
    }

    #[test]
    fn a_pair_loads_and_everything_else_is_one_clear_sentence() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let Generated { cert, signing_key } = generate_simple_self_signed(["client".to_owned()]).unwrap();
        let other = generate_simple_self_signed(["other".to_owned()]).unwrap();
        let certificate = write("c.pem", &cert.pem());
        let key = write("k.pem", &signing_key.serialize_pem());
        let other_key = write("o.pem", &other.signing_key.serialize_pem());
        let junk = write("j.pem", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        let empty = write("e.pem", "hello");
        let missing = directory.path().join("none.pem");

        let loaded = ClientCertificate::load(&certificate, &key).unwrap();
        assert_eq!(format!("{loaded:?}"), "ClientCertificate { chain_length: 1, .. }");
        for (certificate, key, expected) in [
            (&missing, &key, "cannot read"),
            (&certificate, &missing, "cannot read"),
            (&empty, &key, "holds no valid PEM certificate"),
            (&key, &key, "holds no valid PEM certificate"),
            (&certificate, &certificate, "holds no unencrypted PEM private key"),
            (&certificate, &junk, "is not supported"),
            (&certificate, &other_key, "does not match the certificate"),
        ] {
            let text = ClientCertificate::load(certificate, key).unwrap_err().to_string();
            assert!(text.contains(expected) && text.contains(".pem"), "{text}");
        }
    }
}
