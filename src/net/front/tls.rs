//! The server's TLS identity: certificate chain, key, and the authority that client certificates need.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

/// The files of an identity, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Certificate chain, leaf first.
    pub(crate) cert: PathBuf,
    /// Private key of the leaf.
    pub(crate) key: PathBuf,
    /// Authorities of client certificates; clients may then present one.
    pub(crate) client_ca: Option<PathBuf>,
}

/// Why an identity cannot be used.
#[derive(Debug)]
pub(crate) struct TlsError {
    path: PathBuf,
    reason: String,
}

/// An identity that can be read again while connections use it.
pub(crate) struct Identity {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Identity {
    /// Reads the files.
    pub(crate) fn load(files: TlsFiles) -> Result<Identity, TlsError> {
        let config = RwLock::new(read(&files)?);
        Ok(Identity { files, config })
    }

    /// Reads the files again, for connections accepted from now on; on failure nothing changes.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.files)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| TlsError::new(&files.key, e))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsError::new(&files.cert, e))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(path)? {
                roots.add(authority).map_err(|e| TlsError::new(path, e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|e| TlsError::new(path, e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| TlsError::new(&files.cert, e))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| TlsError::new(path, e))?.collect();
    match chain.map_err(|e| TlsError::new(path, e))? {
        chain if chain.is_empty() => Err(TlsError::new(path, "it holds no certificate")),
        chain => Ok(chain),
    }
}

impl TlsError {
    fn new(path: &Path, reason: impl fmt::Display) -> TlsError {
        TlsError { path: path.to_owned(), reason: reason.to_string() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot use the TLS file {}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for TlsError {}
