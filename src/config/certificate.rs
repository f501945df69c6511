//! Certificate files: presence, pairing and content, judged in the order of the settings and together
//! with all other mistakes. Nothing read here is kept: the network loads the files itself.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::ErrorKind;
use super::loader::{Loader, Lookup, Source};
use super::reference::Origin;
use super::settings::{self, Setting};
use super::{CertificatePair, reference};
use crate::net::ClientCertificate;

/// How errors of the control plane's client certificate begin.
pub const INVALID_CONTROL_PLANE_CERTIFICATE: &str = "invalid control-plane client certificate configuration";
/// How errors of an MCP client certificate begin.
pub const INVALID_MCP_CERTIFICATE: &str = "invalid MCP client certificate configuration";
/// How errors of the CA bundle begin.
pub const INVALID_CA_BUNDLE: &str = "invalid ca-bundle";

/// Longest PEM file, in bytes.
const MAX_PEM_BYTES: u64 = 16 * 1024 * 1024;

impl Loader<'_> {
    /// The CA bundle; an empty flag takes away what lower layers say.
    pub(crate) fn ca_bundle(&mut self) -> Option<PathBuf> {
        let Lookup::Found(found) = self.text(&settings::CA_BUNDLE) else { return None };
        let path = reference::path(&found.text, self.environment)
            .and_then(|path| path.map(|path| has_certificate(&path).map(|()| path)).transpose());
        let named = path.map_err(|reason| format!("{INVALID_CA_BUNDLE}: {reason} ({})", found.source));
        self.findings.check(ErrorKind::Other, named).flatten()
    }

    /// The pair of two settings; one without the other is an error that begins with `prefix`.
    pub(crate) fn certificate_pair(
        &mut self,
        certificate: &'static Setting,
        key: &'static Setting,
        prefix: &str,
    ) -> Option<CertificatePair> {
        let certificate_path = self.path_setting(certificate, prefix)?;
        let key_path = self.path_setting(key, prefix)?;
        let given = certificate_path.as_ref().or(key_path.as_ref()).map(|(_, source)| source.to_string());
        let path = |found: Option<(PathBuf, Source)>| found.map(|(path, _)| path);
        let pair = paired(path(certificate_path), path(key_path), certificate.flag, key.flag);
        let named = pair.map_err(|reason| format!("{prefix}: {reason} ({})", given.unwrap_or_default()));
        let pair = self.findings.check(ErrorKind::Other, named).flatten();
        self.key_is_read_from(pair.as_ref());
        pair
    }

    /// The key of a pair is a secret in a file.
    pub(crate) fn key_is_read_from(&mut self, pair: Option<&CertificatePair>) {
        if let Some(pair) = pair {
            self.secret_came_from(&Origin::File(pair.key.clone()));
        }
    }

    /// The readable path of a setting, `Some(None)` for none; `None` was reported.
    fn path_setting(&mut self, setting: &'static Setting, prefix: &str) -> Option<Option<(PathBuf, Source)>> {
        let Lookup::Found(found) = self.text(setting) else { return Some(None) };
        let path = reference::path(&found.text, self.environment)
            .and_then(|path| path.map(|path| readable(&path).map(|()| path)).transpose())
            .map_err(|reason| format!("{prefix}: {reason} ({})", found.source));
        let path = self.findings.check(ErrorKind::Other, path)?;
        Some(path.map(|path| (path, found.source)))
    }
}

/// Both paths, of a certificate and its key, or neither.
pub(crate) fn paired(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    certificate_name: &str,
    key_name: &str,
) -> Result<Option<CertificatePair>, String> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(format!("missing client-key: set {key_name} as well as {certificate_name}")),
        (None, Some(_)) => Err(format!("missing client-cert: set {certificate_name} as well as {key_name}")),
        (Some(certificate), Some(key)) => {
            readable(&certificate).and_then(|()| readable(&key))?;
            ClientCertificate::load(&certificate, &key).map_err(|error| error.to_string())?;
            Ok(Some(CertificatePair { certificate, key }))
        }
    }
}

fn readable(path: &Path) -> Result<(), String> {
    reference::read_bounded(path, MAX_PEM_BYTES).map(drop).map_err(|error| cannot_read(path, &error))
}

fn has_certificate(path: &Path) -> Result<(), String> {
    let bytes = reference::read_bounded(path, MAX_PEM_BYTES).map_err(|error| cannot_read(path, &error))?;
    let found = CertificateDer::pem_slice_iter(&bytes).any(|certificate| certificate.is_ok());
    if found { Ok(()) } else { Err(format!("{}: PEM bundle contained no certificates", path.display())) }
}

fn cannot_read(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}
