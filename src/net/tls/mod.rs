//! Whom we trust, and who we are.
//!
//! Invariant: nothing in here can switch verification off. TLS 1.2 or newer.

mod client_certificate;
mod der;
pub(super) mod explain;
mod trust;
mod verifier;

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;

pub use self::client_certificate::{ClientCertificate, ClientCertificateError, OriginCertificate};
pub use self::trust::{BundleReport, CertificateReport, SystemTrust, Trust, TrustError, TrustReport};
use super::Origin;

/// Sessions kept for resumption, over all servers of one client.
const RESUMABLE_SESSIONS: usize = 32;

/// The TLS settings of one route, made when the first TLS connection is opened.
pub(super) struct ClientTls {
    trust: Trust,
    own: Option<OriginCertificate>,
    anonymous: OnceLock<Arc<ClientConfig>>,
    identified: OnceLock<Arc<ClientConfig>>,
}

impl ClientTls {
    pub(super) fn new(trust: Trust, own: Option<OriginCertificate>) -> ClientTls {
        ClientTls { trust, own, anonymous: OnceLock::new(), identified: OnceLock::new() }
    }

    /// The settings for a connection to `target` (`None` for a proxy), and whether a client
    /// certificate goes with them.
    pub(super) fn config_for(
        &self,
        target: Option<&Origin>,
    ) -> Result<(Arc<ClientConfig>, bool), rustls::Error> {
        let own = self.own.as_ref().filter(|own| target == Some(&own.origin));
        let slot = if own.is_some() { &self.identified } else { &self.anonymous };
        if let Some(config) = slot.get() {
            return Ok((Arc::clone(config), own.is_some()));
        }
        let config = self.build(own)?;
        Ok((Arc::clone(slot.get_or_init(|| Arc::new(config))), own.is_some()))
    }

    fn build(&self, own: Option<&OriginCertificate>) -> Result<ClientConfig, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .dangerous() // rustls's word for any verifier of one's own; ours only adds to its own.
            .with_custom_certificate_verifier(self.trust.verifier()?);
        let mut config = match own {
            Some(own) => builder.with_client_cert_resolver(own.certificate.resolver()),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(RESUMABLE_SESSIONS);
        Ok(config)
    }
}

/// The one provider of cryptography.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}
