//! The certificates that servers are checked against: the system's, and an operator's bundle besides.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

use super::der::Facts;
use super::provider;
use super::verifier::SystemAndBundle;
use super::watched::Watched;
use crate::net::hex_sha256;

/// Whom to trust; clones share what has been loaded. The bundle is read when this value is made, and
/// again when its file has changed; the system's certificates when they are first needed, since they
/// take milliseconds to load.
#[derive(Clone)]
pub struct Trust(Arc<Shared>);

struct Shared {
    bundle: Option<(PathBuf, Watched<Bundle>)>,
    system: OnceLock<System>,
    summary: OnceLock<Summary>,
    verifier: Mutex<Option<Made>>,
}

/// A verifier, and the bundle that it was made of.
struct Made {
    bundle: Option<Arc<Bundle>>,
    verifier: Arc<dyn ServerCertVerifier>,
}

struct Bundle {
    certificates: Vec<CertificateDer<'static>>,
    report: BundleReport,
}

struct System {
    certificates: Vec<CertificateDer<'static>>,
    /// Why there is none.
    failure: Option<String>,
}

/// What a report says about the system's certificates.
struct Summary {
    enabled: bool,
    failure: Option<String>,
}

/// Why a CA bundle cannot be used.
#[derive(Debug)]
pub enum TrustError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// No certificate in it can be used.
    NoCertificates(PathBuf),
}

/// What is trusted, for logs and the local status API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrustReport {
    /// The system's certificates.
    pub system_trust: SystemTrust,
    /// The operator's bundle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_bundle: Option<BundleReport>,
}

/// The system's part of a [`TrustReport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemTrust {
    /// Whether any system certificate is trusted.
    pub enabled: bool,
    /// What supplied them.
    pub source: &'static str,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`, when they replace the usual places.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_paths: Vec<String>,
    /// Why only the bundle is trusted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fallback_note: String,
}

/// The bundle's part of a [`TrustReport`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BundleReport {
    /// The file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Certificates in use.
    pub cert_count: usize,
    /// Certificates that could not be used.
    pub parse_errors: usize,
    /// All of them, in the order of the file.
    pub certificates: Vec<CertificateReport>,
}

/// One certificate of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CertificateReport {
    /// SHA-256 of the DER, hex; empty if it could not be used.
    pub cert_id: String,
    /// The subject's common name, or its whole name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is there for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The subject's common name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject_cn: String,
    /// The issuer's common name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_cn: String,
    /// RFC 3339, UTC.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub not_before: String,
    /// RFC 3339, UTC.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub not_after: String,
    /// The file it came from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// `ok`, or what is wrong with it.
    pub parse_status: String,
}

impl Trust {
    /// The system's certificates alone.
    pub fn system() -> Trust {
        Trust::with_bundle(None)
    }

    /// The system's certificates and those in `ca_bundle` (PEM). Blocks that are not certificates, and
    /// certificates that cannot be used, are skipped; a bundle without any that can is an error.
    pub fn load(ca_bundle: Option<&Path>) -> Result<Trust, TrustError> {
        let watched = |path: &Path| {
            Watched::load(&[path], || Bundle::load(path)).map(|bundle| (path.to_owned(), bundle))
        };
        Ok(Trust::with_bundle(ca_bundle.map(watched).transpose()?))
    }

    fn with_bundle(bundle: Option<(PathBuf, Watched<Bundle>)>) -> Trust {
        Trust(Arc::new(Shared {
            bundle,
            system: OnceLock::new(),
            summary: OnceLock::new(),
            verifier: Mutex::default(),
        }))
    }

    /// The file whose certificates are trusted besides the system's.
    pub fn bundle_path(&self) -> Option<&Path> {
        self.0.bundle.as_ref().map(|(path, _)| path.as_path())
    }

    /// Loads everything that a handshake needs, which takes milliseconds, so that the first one finds it.
    pub fn prepare(&self) {
        // Handshakes report the failure.
        let _ = self.verifier();
    }

    /// What is trusted. Certificates of the system that no handshake has needed yet are loaded once and
    /// let go again: routes without TLS keep none in memory.
    pub fn report(&self) -> TrustReport {
        let system = self.0.summary.get_or_init(|| match self.0.system.get() {
            Some(system) => system.summary(),
            None => System::load().summary(),
        });
        let variables = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
        let paths = variables.iter().filter_map(std::env::var_os);
        TrustReport {
            system_trust: SystemTrust {
                enabled: system.enabled,
                source: "system cert pool",
                source_paths: paths.map(|path| path.to_string_lossy().into_owned()).collect(),
                fallback_note: system.failure.clone().unwrap_or_default(),
            },
            extra_bundle: self.current_bundle().map(|bundle| bundle.report.clone()),
        }
    }

    fn current_bundle(&self) -> Option<Arc<Bundle>> {
        let (path, watched) = self.0.bundle.as_ref()?;
        Some(watched.current(&[path], || Bundle::load(path)))
    }

    /// Checks servers' certificates; the same one as long as the bundle stays as it is.
    pub(super) fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, rustls::Error> {
        let bundle = self.current_bundle();
        let system = self.0.system.get_or_init(System::load);
        let mut made = self.0.verifier.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Made { bundle: of, verifier }) = &*made
            && of.as_ref().map(Arc::as_ptr) == bundle.as_ref().map(Arc::as_ptr)
        {
            return Ok(Arc::clone(verifier));
        }
        let certificates = bundle.as_ref().map(|bundle| bundle.certificates.as_slice()).unwrap_or_default();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(certificates.iter().chain(&system.certificates).cloned());
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|_| rustls::Error::General("no trusted certificate was found on this system".into()))?;
        let verifier: Arc<dyn ServerCertVerifier> =
            Arc::new(SystemAndBundle::new(webpki, certificates.to_vec()));
        Ok(Arc::clone(&made.insert(Made { bundle, verifier }).verifier))
    }
}

impl System {
    fn load() -> System {
        let loaded = rustls_native_certs::load_native_certs();
        let failure = loaded.certs.is_empty().then(|| match loaded.errors.first() {
            Some(error) => format!("system certificates could not be loaded: {error}"),
            None => "system certificates could not be loaded: none was found".to_owned(),
        });
        System { certificates: loaded.certs, failure }
    }

    fn summary(&self) -> Summary {
        Summary { enabled: !self.certificates.is_empty(), failure: self.failure.clone() }
    }
}

impl Bundle {
    fn load(path: &Path) -> Result<Bundle, TrustError> {
        let pem = std::fs::read(path).map_err(|e| TrustError::Unreadable(path.to_owned(), e))?;
        let source = path.display().to_string();
        let mut report = BundleReport { path: source.clone(), ..BundleReport::default() };
        let mut certificates = Vec::new();
        for item in CertificateDer::pem_slice_iter(&pem) {
            let checked = item.map_err(|e| e.to_string()).and_then(|certificate| {
                let mut probe = RootCertStore::empty();
                probe.add(certificate.clone()).map_err(|e| e.to_string())?;
                let facts = Facts::read(&certificate).ok_or("it is not an X.509 certificate")?;
                Ok((certificate, facts))
            });
            report.certificates.push(match checked {
                Ok((certificate, facts)) => {
                    let entry = CertificateReport::of(&certificate, facts, &source);
                    certificates.push(certificate);
                    entry
                }
                Err(error) => {
                    report.parse_errors += 1;
                    CertificateReport {
                        source: source.clone(),
                        parse_status: error,
                        ..CertificateReport::default()
                    }
                }
            });
        }
        if certificates.is_empty() {
            return Err(TrustError::NoCertificates(path.to_owned()));
        }
        report.cert_count = certificates.len();
        Ok(Bundle { certificates, report })
    }
}

impl CertificateReport {
    fn of(certificate: &[u8], facts: Facts, source: &str) -> CertificateReport {
        let subject = facts.subject;
        let name = if subject.common_name.is_empty() { subject.whole } else { subject.common_name.clone() };
        CertificateReport {
            cert_id: hex_sha256(certificate),
            name,
            description: "extra CA bundle certificate".into(),
            subject_cn: subject.common_name,
            issuer_cn: facts.issuer.common_name,
            not_before: facts.not_before.text,
            not_after: facts.not_after.text,
            source: source.to_owned(),
            parse_status: "ok".into(),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("bundle", &self.bundle_path())
            .field("system_loaded", &self.0.system.get().is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for TrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustError::Unreadable(path, e) => write!(f, "cannot read CA bundle {}: {e}", path.display()),
            TrustError::NoCertificates(path) => {
                write!(f, "CA bundle {}: PEM bundle contained no certificates", path.display())
            }
        }
    }
}

impl std::error::Error for TrustError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            TrustError::Unreadable(_, e) => Some(e),
            TrustError::NoCertificates(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn authority(name: &str) -> String {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn load(text: &str) -> Result<Trust, TrustError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Trust::load(Some(file.path()))
    }

    #[test]
    fn a_bundle_may_hold_other_things_as_long_as_it_holds_a_certificate() {
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let key = KeyPair::generate().unwrap().serialize_pem();
        let text = format!("comment\n{key}{}{broken}{}", authority("One"), authority("Two"));
        let trust = load(&text).unwrap();
        let report = trust.report().extra_bundle.unwrap();
        assert_eq!((report.cert_count, report.parse_errors, report.certificates.len()), (2, 1, 3));
        let [one, bad, two] = &report.certificates[..] else { panic!("{report:?}") };
        assert_eq!((one.name.as_str(), one.subject_cn.as_str()), ("One", "One"));
        assert_eq!((one.cert_id.len(), one.parse_status.as_str()), (64, "ok"));
        assert_eq!(two.issuer_cn, "Two");
        assert!(bad.cert_id.is_empty() && bad.parse_status != "ok" && !bad.parse_status.is_empty());
        let json = serde_json::to_value(bad).unwrap();
        assert_eq!(
            json.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["cert_id", "parse_status", "source"]
        );
    }

    #[test]
    fn a_bundle_without_a_certificate_or_that_cannot_be_read_is_an_error() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = load(text).unwrap_err().to_string();
            assert!(error.contains("PEM bundle contained no certificates"), "{error}");
        }
        let error = Trust::load(Some(Path::new("/nonexistent/ca.pem"))).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    }

    #[test]
    fn a_report_without_a_bundle_leaves_it_out() {
        let json = serde_json::to_value(Trust::system().report()).unwrap();
        assert!(json.get("extra_bundle").is_none());
        assert_eq!(json["system_trust"]["source"], "system cert pool");
    }
}
