//! Settings of the admin commands: no document, no proxy setting, no client certificate.

use std::path::PathBuf;

use url::Url;

use super::error::{ConfigError, ConfigErrors, ErrorKind};
use super::loader::Loader;
use super::{Environment, FlagValues, reference, settings};
use crate::secret::Secret;

const KEY_FLAG: &str = "admin-key";
const KEY_VARIABLE: &str = "OPENAI_ADMIN_KEY";

/// Where the admin commands go.
#[derive(Clone, Debug)]
pub struct AdminEndpoint {
    /// Scheme, host and port, without path.
    pub base_url: Url,
    /// Decoded path in front of `/v1`; empty, or with a leading slash.
    pub url_path: String,
    /// PEM file whose certificates are trusted besides the system's.
    pub ca_bundle: Option<PathBuf>,
}

/// Loads where to go. Flags stand above the environment.
///
/// # Errors
///
/// Everything that is wrong.
pub fn admin_endpoint(flags: &FlagValues, environment: &Environment) -> Result<AdminEndpoint, ConfigErrors> {
    let mut loader = Loader::new(flags, environment);
    let setting = &settings::CONTROL_PLANE_BASE_URL;
    let by_flag = flags.last(setting.flag).is_some_and(|text| !text.is_empty());
    if !by_flag && environment.get(setting.variable) == Some("") {
        let message = format!("invalid {}: {} is set but empty", setting.flag, setting.variable);
        loader.findings.error(ErrorKind::BaseUrl, message);
    }
    let base_url = loader.base_url(false);
    let url_path = loader.url_path();
    let ca_bundle = loader.ca_bundle();
    if let Some(errors) = loader.findings.errors() {
        return Err(errors);
    }
    match (base_url, url_path) {
        (Some(base_url), Some(url_path)) => Ok(AdminEndpoint { base_url, url_path, ca_bundle }),
        _ => Err(ConfigError::new(ErrorKind::Other, "the admin settings are incomplete; please report this")
            .into()),
    }
}

/// The admin API key.
///
/// # Errors
///
/// A sentence; it never shows the key.
pub fn admin_key(flags: &FlagValues, environment: &Environment) -> Result<Secret<String>, ConfigError> {
    let error = |message: String| ConfigError::new(ErrorKind::ApiKey, message);
    if let Some(text) = flags.last(KEY_FLAG).filter(|text| !text.is_empty()) {
        let is_reference = text.starts_with("env:") || text.starts_with("file:");
        if !is_reference {
            return Err(error(format!("{KEY_FLAG} must use env: or file: prefixes")));
        }
        let resolved =
            reference::value(text, environment).map_err(|reason| error(format!("{KEY_FLAG}: {reason}")))?;
        return Ok(Secret::new(resolved.text));
    }
    match environment.get(KEY_VARIABLE).map(str::trim) {
        Some("") => Err(error(format!("{KEY_VARIABLE} must be non-empty"))),
        Some(key) => Ok(Secret::new(key.to_owned())),
        None => Err(error(format!("admin key is required; set --{KEY_FLAG} or {KEY_VARIABLE}"))),
    }
}

/// The key of the one admin command that only reads: without an admin key (flag absent or naming
/// `OPENAI_ADMIN_KEY`, variable blank) the runtime key's variables serve.
///
/// # Errors
///
/// As [`admin_key`].
pub fn admin_or_runtime_key(
    flags: &FlagValues,
    environment: &Environment,
) -> Result<Secret<String>, ConfigError> {
    let own = format!("env:{KEY_VARIABLE}");
    let open = flags.last(KEY_FLAG).is_none_or(|text| text.is_empty() || text == own);
    if open && environment.non_blank(KEY_VARIABLE).is_none() {
        let runtime = ["CONTROL_PLANE_API_KEY", "OPENAI_API_KEY"]
            .into_iter()
            .find_map(|name| environment.non_blank(name));
        if let Some(key) = runtime {
            return Ok(Secret::new(key.to_owned()));
        }
    }
    admin_key(flags, environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::extract;

    fn flags(arguments: &[&str]) -> FlagValues {
        extract(arguments.iter().copied(), settings::ADMIN, settings::ADMIN_FLAGS).unwrap().flags
    }

    #[test]
    fn flags_stand_above_the_environment_and_have_no_alias() {
        let environment: Environment =
            [("CONTROL_PLANE_BASE_URL", "https://b/x"), ("CONTROL_PLANE_URL_PATH", "/p/")]
                .into_iter()
                .collect();
        let endpoint = admin_endpoint(&flags(&[]), &environment).unwrap();
        assert_eq!((endpoint.base_url.as_str(), endpoint.url_path.as_str()), ("https://b/", "/p"));
        let endpoint = admin_endpoint(&flags(&["--control-plane.base-url=https://c"]), &environment).unwrap();
        assert_eq!(endpoint.base_url.as_str(), "https://c/");
        assert!(extract(["--control-plane-base-url=x"], settings::ADMIN, settings::ADMIN_FLAGS).is_err());
        let empty: Environment = [("CONTROL_PLANE_BASE_URL", "")].into_iter().collect();
        let error = admin_endpoint(&flags(&[]), &empty).unwrap_err().to_string();
        assert!(error.contains("invalid control-plane.base-url: "), "{error}");
    }

    #[test]
    fn the_admin_key_is_a_reference_or_a_variable() {
        let environment: Environment =
            [("OPENAI_ADMIN_KEY", " a\n"), ("K", "k"), ("B", " ")].into_iter().collect();
        let key = |arguments: &[&str]| {
            admin_key(&flags(arguments), &environment)
                .map(|key| key.expose().clone())
                .map_err(|e| e.to_string())
        };
        assert_eq!(key(&[]), Ok("a".to_owned()));
        assert_eq!(key(&["--admin-key", "env:K"]), Ok("k".to_owned()));
        assert_eq!(
            key(&["--admin-key", "sk-raw"]),
            Err("admin-key must use env: or file: prefixes".to_owned())
        );
        assert!(key(&["--admin-key", "ENV:K"]).is_err());
        assert!(key(&["--admin-key", "env:B"]).unwrap_err().contains("is empty"));
        let of = |pairs: &[(&str, &str)]| {
            let environment = pairs.iter().copied().collect();
            admin_key(&FlagValues::default(), &environment).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(of(&[("OPENAI_ADMIN_KEY", " ")]), Err("OPENAI_ADMIN_KEY must be non-empty".to_owned()));
        assert_eq!(of(&[]), Err("admin key is required; set --admin-key or OPENAI_ADMIN_KEY".to_owned()));
    }

    #[test]
    fn the_runtime_key_serves_only_without_an_admin_key() {
        let runtime = ("OPENAI_API_KEY", "r");
        let key = |arguments: &[&str], pairs: &[(&str, &str)]| {
            let environment = pairs.iter().copied().collect();
            admin_or_runtime_key(&flags(arguments), &environment)
                .map(|key| key.expose().clone())
                .map_err(|_| ())
        };
        assert_eq!(key(&[], &[runtime]), Ok("r".to_owned()));
        assert_eq!(
            key(&["--admin-key", "env:OPENAI_ADMIN_KEY"], &[runtime, ("OPENAI_ADMIN_KEY", " ")]),
            Ok("r".to_owned())
        );
        assert_eq!(key(&[], &[runtime, ("OPENAI_ADMIN_KEY", "a")]), Ok("a".to_owned()));
        assert_eq!(key(&["--admin-key", "env:X"], &[runtime]), Err(()));
    }
}
