//! Whom we trust, and who we are.
//!
//! Invariant: nothing in here can switch verification off. TLS 1.2 or newer.

mod client_certificate;
mod der;
pub(super) mod explain;
mod trust;
mod verifier;
mod watched;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;

use self::client_certificate::Always;
pub use self::client_certificate::{ClientCertificate, ClientCertificateError, OriginCertificate};
pub use self::trust::{BundleReport, CertificateReport, SystemTrust, Trust, TrustError, TrustReport};
use super::Origin;

/// Sessions kept for resumption, over all servers of one client.
const RESUMABLE_SESSIONS: usize = 32;
/// Time between two looks at the files behind connections that stand.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The TLS settings of one route, made when the first TLS connection is opened, and again for the first
/// one after the files behind them have changed: sessions with what was in them are not resumed then.
pub(super) struct ClientTls {
    trust: Trust,
    own: Option<OriginCertificate>,
    anonymous: Mutex<Option<Made>>,
    identified: Mutex<Option<Made>>,
    next_look: Mutex<Option<Instant>>,
    /// Counts the changes that were met.
    generation: AtomicU32,
}

/// Settings, and what they were made of.
struct Made {
    verifier: Arc<dyn ServerCertVerifier>,
    certificate: Option<Arc<CertifiedKey>>,
    config: Arc<ClientConfig>,
}

impl ClientTls {
    pub(super) fn new(trust: Trust, own: Option<OriginCertificate>) -> ClientTls {
        ClientTls {
            trust,
            own,
            anonymous: Mutex::default(),
            identified: Mutex::default(),
            next_look: Mutex::default(),
            generation: AtomicU32::new(0),
        }
    }

    /// The settings for a connection to `target` (`None` for a proxy), and whether a client
    /// certificate goes with them.
    pub(super) fn config_for(
        &self,
        target: Option<&Origin>,
    ) -> Result<(Arc<ClientConfig>, bool), rustls::Error> {
        let own = self.own.as_ref().filter(|own| target == Some(&own.origin));
        let verifier = self.trust.verifier()?;
        let certificate = own.map(|own| own.certificate.current());
        let slot = if own.is_some() { &self.identified } else { &self.anonymous };
        let mut slot = lock(slot);
        let made = match slot.take() {
            Some(made) if made.is_of(&verifier, certificate.as_ref()) => made,
            Some(_) => {
                self.generation.fetch_add(1, Ordering::Relaxed);
                Made::new(verifier, certificate)?
            }
            None => Made::new(verifier, certificate)?,
        };
        let config = Arc::clone(&slot.insert(made).config);
        Ok((config, own.is_some()))
    }

    /// How often the files behind connections have been found changed. A connection that was begun at
    /// another count than [`ClientTls::look`] tells now was opened with what they held before.
    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// The same after a look at the files, of which there is one every [`LOOK_INTERVAL`] at most.
    pub(super) fn look(&self) -> u32 {
        if self.own.is_some() || self.trust.bundle_path().is_some() {
            let now = Instant::now();
            let due = {
                let mut next_look = lock(&self.next_look);
                let due = next_look.is_none_or(|next_look| now >= next_look);
                due.then(|| *next_look = Some(now + LOOK_INTERVAL)).is_some()
            };
            if due {
                self.drop_outdated(&self.anonymous, None);
                self.drop_outdated(&self.identified, self.own.as_ref());
            }
        }
        self.generation()
    }

    fn drop_outdated(&self, slot: &Mutex<Option<Made>>, own: Option<&OriginCertificate>) {
        // Nothing is loaded for the sake of connections that there never were.
        if lock(slot).is_none() {
            return;
        }
        let Ok(verifier) = self.trust.verifier() else { return };
        let certificate = own.map(|own| own.certificate.current());
        if lock(slot).take_if(|made| !made.is_of(&verifier, certificate.as_ref())).is_some() {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Made {
    fn new(
        verifier: Arc<dyn ServerCertVerifier>,
        certificate: Option<Arc<CertifiedKey>>,
    ) -> Result<Made, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous() // rustls's word for any verifier of one's own; ours only adds to its own.
            .with_custom_certificate_verifier(Arc::clone(&verifier));
        let mut config = match &certificate {
            Some(certificate) => builder.with_client_cert_resolver(Arc::new(Always(Arc::clone(certificate)))),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
        Ok(Made { verifier, certificate, config: Arc::new(config) })
    }

    fn is_of(&self, verifier: &Arc<dyn ServerCertVerifier>, certificate: Option<&Arc<CertifiedKey>>) -> bool {
        Arc::ptr_eq(&self.verifier, verifier)
            && self.certificate.as_ref().map(Arc::as_ptr) == certificate.map(Arc::as_ptr)
    }
}

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}
