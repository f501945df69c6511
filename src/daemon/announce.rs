//! The lines that tell an operator, and scripts, that the client runs and where.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use url::Url;

use crate::config::{Config, Document, McpTarget};
use crate::control_plane::{MetadataFetch, MetadataSlot};
use crate::mcp::http::resource_metadata_urls;
use crate::net::{Cancel, Deadline};
use crate::ops::log::List;
use crate::redact;

use super::{Daemon, systemd};

/// How long the "started" line waits for the tunnel's name.
const METADATA_WAIT: Duration = Duration::from_secs(2);
/// Granularity of that wait; a stop ends it.
const METADATA_WAIT_STEP: Duration = Duration::from_millis(50);
/// Path of the web UI.
const UI_PATH: &str = "/ui";

impl Daemon {
    /// Logs where everything is and that it runs; waits a moment for the tunnel's name, unless `stop`
    /// fires.
    pub fn announce(&mut self, config: &Config, stop: &Cancel) {
        self.summarize(config);
        if config.admin_ui.open_browser {
            self.open_browser(&config.secret_variables);
        }
        let slot = self.metadata.as_ref().map(MetadataFetch::slot).unwrap_or_default();
        let (name, description) = wait_for_name(&slot, stop);
        let (base, id) = (&config.control_plane.base_url, &config.control_plane.tunnel_id);
        let url = format!("{}/v1/tunnel/{id}", base.origin().ascii_serialization());
        let discovery = main_url(config).map(resource_metadata_urls).unwrap_or_default();
        let discovery: Vec<String> = discovery
            .iter()
            .enumerate()
            .map(|(i, url)| format!("{}:{}", i + 1, redact::snapshot(url.as_str())))
            .collect();
        log::info!(target: "process", tunnel_id = id.as_str(), tunnel_url = url.as_str(), name = name.as_str(),
            description = description.as_str(), oauth_discovery_urls:% = List(&discovery),
            version = crate::VERSION; "🟢 tunnel-client started");
    }

    fn summarize(&self, config: &Config) {
        let base = self.health_url().unwrap_or_default();
        let at = |path: &str| if base.is_empty() { String::new() } else { format!("{base}{path}") };
        let (ui, metrics) = (at(UI_PATH), at("/metrics"));
        if !ui.is_empty() {
            log::info!(target: "adminui", ui_url = ui.as_str(), health_url = base, metrics_url = metrics.as_str();
                "🌐 WEB UI: {ui}");
        }
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let url_file = path(&config.health.url_file).unwrap_or_default();
        let document = &config.document;
        let profile_path =
            document.profile_name.as_ref().and_then(|_| path(&document.path)).unwrap_or_default();
        let (kind, value) = main_target(config);
        log::info!(target: "adminui",
            health_url = base,
            health_url_file = url_file.as_str(),
            ui_url = ui.as_str(),
            metrics_url = metrics.as_str(),
            config_source = config_source(document).as_str(),
            profile_name = document.profile_name.as_deref().unwrap_or_default(),
            profile_path = profile_path.as_str(),
            tunnel_id = config.control_plane.tunnel_id.as_str(),
            mcp_target_kind = kind,
            mcp_target_value = value.as_str(),
            first_failing_dependency = self.state.first_failing_dependency().as_str(),
            // Of an assistant that this client has no part in; scripts read the fields.
            codex_detected = false,
            codex_home = "",
            codex_plugin_installed = false,
            codex_plugin_dir = "",
            codex_plugin_install_hint = "";
            "tunnel-client startup summary");
    }
}

/// What opens a URL in the user's browser.
const BROWSER: &str = "xdg-open";

impl Daemon {
    /// Shows the web UI in a browser, which nothing waits for. No browser could follow the URL of a Unix
    /// socket.
    fn open_browser(&mut self, secret_variables: &[String]) {
        let Some(url) = self.health_url().filter(|url| url.starts_with("http://")) else { return };
        let mut command = Command::new(BROWSER);
        command.arg(format!("{url}{UI_PATH}")).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        secret_variables.iter().map(String::as_str).chain(systemd::VARIABLES).for_each(|name| {
            command.env_remove(name);
        });
        match command.spawn() {
            Ok(browser) => self.browser = Some(browser),
            Err(error) => {
                log::warn!(target: "adminui", error:%; "failed to open web UI in browser");
            }
        }
    }
}

/// Where the configuration came from.
fn config_source(document: &Document) -> String {
    let path = document.path.as_ref().map(|path| path.display().to_string());
    match (&document.profile_name, path) {
        (Some(_), Some(path)) if document.from_profile_file => format!("profile-file:{path}"),
        (Some(name), _) => format!("profile:{name}"),
        (None, Some(path)) => path,
        (None, None) => "flags/environment".to_owned(),
    }
}

/// Transport and place of the server of channel `main`; empty if there is none.
fn main_target(config: &Config) -> (&'static str, String) {
    let main = config.mcp.bindings.iter().find(|binding| binding.channel.is_main());
    match main.map(|binding| &binding.target) {
        Some(McpTarget::Http { url, .. }) => ("http-streamable", redact::snapshot(url.as_str())),
        Some(McpTarget::Stdio { command, .. }) => ("stdio", redact::text(command).into_owned()),
        None => ("", String::new()),
    }
}

pub(super) fn main_url(config: &Config) -> Option<&Url> {
    config.mcp.bindings.iter().find_map(|binding| match &binding.target {
        McpTarget::Http { url, .. } if binding.channel.is_main() => Some(url),
        _ => None,
    })
}

fn wait_for_name(slot: &MetadataSlot, stop: &Cancel) -> (String, String) {
    let until = Deadline::after(METADATA_WAIT);
    while !until.is_past() && !stop.is_cancelled() {
        match slot.wait(METADATA_WAIT_STEP) {
            Some(Ok(metadata)) => return (metadata.name, metadata.description),
            Some(Err(_)) => break,
            None => {}
        }
    }
    let unknown = "tunnel meta hasn't fetched".to_owned();
    (unknown.clone(), unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_of_a_configuration_is_named() {
        let document = |path: Option<&str>, name: Option<&str>, file: bool| Document {
            path: path.map(Into::into),
            profile_name: name.map(Into::into),
            from_profile_file: file,
            ..Document::default()
        };
        for (document, source) in [
            (document(None, None, false), "flags/environment"),
            (document(Some("/c.yaml"), None, false), "/c.yaml"),
            (document(Some("/p/lab.yaml"), Some("lab"), false), "profile:lab"),
            (document(Some("/p/lab.yaml"), Some("lab"), true), "profile-file:/p/lab.yaml"),
        ] {
            assert_eq!(config_source(&document), source);
        }
    }
}
