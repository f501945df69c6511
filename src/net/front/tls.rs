//! TLS towards callers: the identity shown to them, and the layer over each connection.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::socket::{Peek, Socket};
use super::transport::{Layer, Secure, Until, read_socket};

/// Time for the peer to take what the protocol itself sends within a read.
const PROTOCOL_WRITE_TIME: Duration = Duration::from_secs(5);

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

/// What the files of an identity hold by now.
pub(crate) struct Renewal(Arc<ServerConfig>);

impl Identity {
    /// Reads the files.
    pub(crate) fn load(files: TlsFiles) -> Result<Identity, TlsError> {
        let config = RwLock::new(read(&files)?);
        Ok(Identity { files, config })
    }

    /// Reads the files again; nothing changes before [`Identity::adopt`].
    pub(crate) fn read_again(&self) -> Result<Renewal, TlsError> {
        read(&self.files).map(Renewal)
    }

    /// Shows what was read to connections accepted from now on.
    pub(crate) fn adopt(&self, Renewal(config): Renewal) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

impl Secure for Identity {
    fn layer(&self) -> io::Result<Box<dyn Layer>> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        Ok(Box::new(ServerConnection::new(config).map_err(io::Error::other)?))
    }
}

impl Layer for ServerConnection {
    fn has_client_certificate(&self) -> bool {
        self.peer_certificates().is_some_and(|chain| !chain.is_empty())
    }

    /// The handshake happens within the first read.
    fn read(&mut self, socket: &Socket, buffer: &mut [u8], until: Until) -> io::Result<usize> {
        loop {
            match self.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            let mut wire = Wire { socket, until };
            if self.read_tls(&mut wire)? == 0 {
                return Ok(0);
            }
            let state = self.process_new_packets();
            // Handshake messages and alerts must leave even when the packets were bad.
            while self.wants_write() {
                self.write_tls(&mut wire)?;
            }
            state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    fn write_all(&mut self, socket: &Socket, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        let mut wire = Wire { socket, until: Until::Time(deadline) };
        while !bytes.is_empty() {
            let taken = self.writer().write(bytes)?;
            bytes = &bytes[taken..];
            while self.wants_write() {
                self.write_tls(&mut wire)?;
            }
        }
        Ok(())
    }

    /// Bytes of TLS records that carry no data are taken in.
    fn peek(&mut self, socket: &Socket) -> Peek {
        let mut wire = Wire { socket, until: Until::Now };
        match self.read_tls(&mut wire) {
            Ok(0) => return Peek::Gone,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Peek::Quiet,
            Err(_) => return Peek::Gone,
        }
        match self.process_new_packets() {
            Ok(state) if state.peer_has_closed() => Peek::Gone,
            Ok(state) if state.plaintext_bytes_to_read() > 0 => Peek::Bytes,
            Ok(_) => Peek::Quiet,
            Err(_) => Peek::Gone,
        }
    }

    fn close_notify(&mut self, socket: &Socket, deadline: Instant) {
        self.send_close_notify();
        let mut wire = Wire { socket, until: Until::Time(deadline) };
        while self.wants_write() && self.write_tls(&mut wire).is_ok() {}
    }
}

/// The socket as rustls wants to see it.
struct Wire<'a> {
    socket: &'a Socket,
    until: Until,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_socket(self.socket, buffer, self.until)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let deadline = match self.until {
            Until::Time(deadline) => deadline,
            // Replies within a read (handshake, alerts) are small: the send buffer has room or the peer stalls.
            Until::Idle | Until::Now => Instant::now() + PROTOCOL_WRITE_TIME,
        };
        self.socket.send(bytes, deadline)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
