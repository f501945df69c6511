//! A certificate authority of our own.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    directory: tempfile::TempDir,
}

/// A certificate with its key.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Authority {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, "Test CA");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Authority { issuer: Issuer::new(parameters, key), certificate, directory }
    }

    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file in the authority's directory.
    pub fn file(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.file(name)
    }

    pub fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: vec![certificate.der().clone()], key, pem: certificate.pem() }
    }

    /// Paths of a client's certificate and key.
    pub fn client_pair(&self) -> (String, String) {
        let identity = self.sign("client", |_| {});
        let certificate = self.write("client.pem", &identity.pem);
        (certificate, self.write("client.key", &identity.key.serialize_pem()))
    }

    /// A server's settings that ask for a certificate of ours and, if `demanded`, insist on it.
    pub fn asking(&self, identity: &Identity, demanded: bool) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots));
        let verifier = if demanded { verifier } else { verifier.allow_unauthenticated() };
        let builder = ServerConfig::builder().with_client_cert_verifier(verifier.build().unwrap());
        Arc::new(builder.with_single_cert(identity.chain.clone(), identity.private_key()).unwrap())
    }
}

impl Identity {
    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }

    /// A server's settings.
    pub fn config(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder().with_no_client_auth();
        Arc::new(builder.with_single_cert(self.chain.clone(), self.private_key()).unwrap())
    }
}
