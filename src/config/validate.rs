//! Checking a document by itself, without resolving references or touching other files.
//!
//! Only what a run with this document alone would refuse as well is refused here; required settings
//! may be missing, for they may come from elsewhere.

use std::path::Path;

use super::error::{ConfigErrors, ErrorKind};
use super::loader::Loader;
use super::schema::{self, Entry, Text, Value};
use super::settings::{self, Kind, Reference, Setting};
use super::yaml::At;
use super::{Environment, FlagValues, document, headers, reference};

/// Checks a document's bytes; `path` only names it in messages.
///
/// # Errors
///
/// Every problem of the document.
pub fn validate_document(path: &Path, bytes: &[u8]) -> Result<(), ConfigErrors> {
    let (values, _) = schema::decode(bytes).map_err(|problems| document::malformed(path, &problems))?;
    let flags = FlagValues::default();
    let environment = Environment::default();
    let mut loader = Loader::new(&flags, &environment);
    loader.document.path = path.display().to_string();
    loader.document.values = values;
    for setting in settings::ALL.iter().filter(|setting| !setting.yaml.is_empty()) {
        loader.settle(setting);
    }
    // Missing is no mistake of the document.
    for required in [&settings::CONTROL_PLANE_TUNNEL_ID, &settings::CONTROL_PLANE_API_KEY] {
        if loader.in_document(required).is_none() {
            loader.document.broken.insert(required.yaml);
        }
    }
    let _ = loader.proxy(&settings::HTTP_PROXY);
    let _ = loader.control_plane(None);
    let _ = loader.mcp(None);
    let _ = loader.log_level();
    let _ = loader.log_format();
    let _ = loader.harpoon(None);
    let _ = loader.health();
    let _ = loader.admin_ui();
    for setting in [&settings::LOG_HTTP_RAW_UNSAFE, &settings::CLOUDFLARED_MANAGED] {
        let _ = loader.boolean(setting);
    }
    for setting in [&settings::PROXY_CHECK_INTERVAL, &settings::CLOUDFLARED_READY_TIMEOUT] {
        let _ = loader.duration(setting, "must be positive", |value| !value.is_zero());
    }
    loader.findings.errors().map_or(Ok(()), Err)
}

impl Loader<'_> {
    /// Checks the form of a setting's references and takes away what only a run can judge.
    fn settle(&mut self, setting: &'static Setting) {
        let Some(value) = self.in_document(setting).cloned() else { return };
        match (setting.reference, value) {
            (Reference::None, _) => {}
            (Reference::DocumentValue | Reference::Key | Reference::Token, Value::Text(found)) => {
                let wrong = match reference::check_form(&found.text) {
                    Err(reason) => Some(reason),
                    Ok(())
                        if setting.reference == Reference::Token && !reference::is_reference(&found.text) =>
                    {
                        Some("must be prefixed with env: or file:".to_owned())
                    }
                    Ok(()) => None,
                };
                if wrong.is_some() || reference::is_reference(&found.text) {
                    self.set_aside(setting, wrong.map(|reason| (found.at, reason)));
                }
            }
            (Reference::Path, Value::Text(found)) => {
                let strict =
                    [settings::CONTROL_PLANE_CLIENT_CERT.yaml, settings::CONTROL_PLANE_CLIENT_KEY.yaml];
                let wrong =
                    reference::check_form(&found.text).err().filter(|_| strict.contains(&setting.yaml));
                self.set_aside(setting, wrong.map(|reason| (found.at, reason)));
            }
            (Reference::Proxy, Value::Text(found)) if found.text.trim().starts_with("env:") => {
                self.set_aside(setting, None);
            }
            (Reference::Header, Value::Headers(_, pairs)) => {
                let mut list = headers::Collector::new(setting);
                for (name, value) in &pairs {
                    let source = self.document.place(setting.yaml, value.at);
                    list.check_only(name, &value.text, &source, &mut self.findings);
                }
                self.set_aside(setting, None);
            }
            (Reference::Entry, Value::Entries(at, entries)) => self.settle_entries(setting, at, entries),
            _ => {}
        }
    }

    fn set_aside(&mut self, setting: &'static Setting, wrong: Option<(At, String)>) {
        if let Some((at, reason)) = wrong {
            let message = self.broken_value(setting.yaml, at, &reason);
            self.findings.error(ErrorKind::Document, message);
        }
        self.document.values.remove(setting.yaml);
        self.document.broken.insert(setting.yaml);
    }

    /// Leaves the entries with what can be judged: a reference becomes a value that always fits.
    fn settle_entries(&mut self, setting: &'static Setting, at: At, entries: Vec<Entry>) {
        let Kind::Entries(_, fields) = setting.kind else { return };
        let mut kept = Vec::with_capacity(entries.len());
        for mut entry in entries {
            let mut whole = true;
            for field in fields {
                let Some(Text { text, at }) = entry.fields.get(field.yaml).cloned() else { continue };
                let key = format!("{}[{}].{}", setting.yaml, entry.index, field.yaml);
                let (judged, stand_in) = match field.yaml {
                    "url" => (true, Some("https://referenced.invalid")),
                    "command" => (true, Some("referenced")),
                    "unix_socket" => (true, Some("/referenced")),
                    "http_proxy" if text.trim().starts_with("env:") => {
                        (false, Some("http://referenced.invalid"))
                    }
                    "client_cert" | "client_key" => (false, None),
                    _ => continue,
                };
                if judged && let Err(reason) = reference::check_form(&text) {
                    let message = self.broken_value(&key, at, &reason);
                    self.findings.error(ErrorKind::Document, message);
                    whole = false;
                }
                if let Some(stand_in) = stand_in.filter(|_| reference::is_reference(&text)) {
                    entry.fields.insert(field.yaml, Text { text: stand_in.to_owned(), at });
                }
            }
            // Whether the files can be read is for the run; that both are named is not.
            let certificates = (entry.fields.remove("client_cert"), entry.fields.remove("client_key"));
            let missing = match certificates {
                (Some(_), None) => Some("missing client-key"),
                (None, Some(_)) => Some("missing client-cert"),
                _ => None,
            };
            if let Some(missing) = missing {
                let key = format!("{}[{}]", setting.yaml, entry.index);
                let message = self.broken_value(&key, entry.at, missing);
                self.findings.error(ErrorKind::Document, message);
            }
            if whole {
                kept.push(entry);
            }
        }
        self.document.values.insert(setting.yaml, Value::Entries(at, kept));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        validate_document(Path::new("p.yaml"), text.as_bytes()).map_err(|errors| errors.to_string())
    }

    #[test]
    fn a_document_need_not_be_complete_nor_its_references_resolvable() {
        for good in [
            "config_version: 1",
            "{}",
            "control_plane: {api_key: 'env:NOPE', client_cert: /nope, client_key: 'file:/nope', base_url: 'env:NOPE'}",
            "ca_bundle: 'env:NOPE'\nhttp_proxy: 'env:NOPE'\nmcp: {client_cert: /nope, client_key: /nope, http_proxy: 'env:NOPE'}",
            "mcp: {server_urls: [{url: 'env:NOPE', unix_socket: 'env:NOPE'}], commands: [{channel: x, command: 'file:/nope'}]}",
            "mcp: {server_urls: [{url: 'http://a', client_cert: /nope, client_key: /nope, http_proxy: 'env:NOPE'}]}",
            "mcp: {extra_headers: {X-A: 'env:NOPE'}}\ncloudflared: {token: 'env:NOPE'}",
            "log: {level: debug}\nhealth: {unix_socket: 'env:NOPE'}",
            "control_plane: {poll_channels: [harpoon]}",
            "harpoon: {targets: [{label: a, url: 'env:NOPE'}]}",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_a_run_would_refuse_anyway_is_refused() {
        for (bad, part) in [
            ("x: 1", "field x not found"),
            ("config_version: 2", "unsupported config_version"),
            ("control_plane: {api_key: ''}", "control_plane.api_key cannot be empty"),
            ("control_plane: {api_key: 'env:9'}", "env: must be followed by the name of a variable"),
            ("control_plane: {client_cert: 'file: ', client_key: x}", "file: names no path"),
            ("control_plane: {tunnel_id: nope}", "invalid tunnel ID"),
            ("control_plane: {poll_timeout: 30}", "no duration"),
            ("control_plane: {max_inflight_requests: 0}", "greater than zero"),
            ("control_plane: {base_url: 'nope'}", "scheme and host"),
            ("control_plane: {extra_headers: {authorization: x}}", "cannot override"),
            ("mcp: {extra_headers: {X-A: ' '}}", "is empty"),
            ("mcp: {extra_headers: {X-A: ~}}", "is empty"),
            ("mcp: {extra_headers: {X-A: 'env:9'}}", "name of a variable"),
            ("mcp: {server_urls: [{url: ' '}]}", "mcp.server_urls[0].url cannot be empty"),
            ("mcp: {server_urls: [{url: \"http://a\\nb\"}]}", "line break"),
            ("mcp: {server_urls: [{url: 'localhost:1'}]}", "scheme and host"),
            ("mcp: {server_urls: [{url: 'http://a'}], commands: [{command: x}]}", "duplicate channel"),
            ("mcp: {server_urls: [{url: 'http://a', client_cert: x}]}", "missing client-key"),
            ("mcp: {commands: [{channel: 'a b', command: x}]}", "invalid channel name"),
            ("cloudflared: {token: abc}", "must be prefixed"),
            ("harpoon: {max_redirects: 6}", "less than or equal to 5"),
            ("log: {format: yaml}", "unsupported log format"),
        ] {
            let error = check(bad).expect_err(bad);
            assert!(error.contains(part), "{bad}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
