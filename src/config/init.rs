//! Writing a first profile from a built-in sample.

use std::fmt::Write as _;
use std::io;

use super::profiles::ProfileError;
use super::samples::{self, Sample, SampleInputs};
use super::{
    Environment, preflight, profile_directory, profile_name, profile_path, reference, settings,
    store_profile, urls, validate_document,
};
use crate::ids::TunnelId;

/// Where operators manage what the client needs: check id, label, URL.
pub const SETUP_URLS: &[(&str, &str, &str)] = &[
    (
        "tunnels_management_url",
        "Tunnels management",
        "https://platform.openai.com/settings/organization/tunnels",
    ),
    (
        "runtime_api_keys_url",
        "Runtime API keys",
        "https://platform.openai.com/settings/organization/api-keys",
    ),
    ("admin_api_keys_url", "Admin API keys", "https://platform.openai.com/settings/organization/admin-keys"),
    (
        "chatgpt_connector_settings_url",
        "ChatGPT connector settings",
        "https://chatgpt.com/#settings/Connectors",
    ),
];

/// What `init` was told; blank texts count as not given.
#[derive(Clone, Debug, Default)]
pub struct InitRequest {
    /// Name of the profile.
    pub profile: String,
    /// Name of the sample.
    pub sample: String,
    /// Directory of the profile.
    pub profile_dir: String,
    /// Replace an existing profile.
    pub force: bool,
    /// Tunnel id.
    pub tunnel_id: String,
    /// Control plane.
    pub base_url: String,
    /// Path in front of `/v1`.
    pub url_path: String,
    /// Reference to the runtime API key.
    pub api_key_reference: String,
    /// MCP server over HTTP.
    pub server_url: String,
    /// MCP server over stdio.
    pub command: String,
    /// Address of the local listener.
    pub health_listen_addr: String,
    /// Open the web UI at start.
    pub open_web_ui: bool,
}

/// Creates a profile and tells `out` what to do next.
///
/// # Errors
///
/// [`ProfileError`]; nothing is written then.
pub fn init(
    request: &InitRequest,
    environment: &Environment,
    out: &mut dyn io::Write,
) -> Result<(), ProfileError> {
    if request.tunnel_id.trim().is_empty() {
        return Err(ProfileError::Invalid(tunnel_id_is_required()));
    }
    let invalid = ProfileError::Invalid;
    let name = profile_name(or(&request.profile, samples::WITH_DCR)).map_err(invalid)?;
    let directory = profile_directory(Some(&request.profile_dir), environment).map_err(invalid)?;
    let command_alone = !request.command.trim().is_empty() && request.server_url.trim().is_empty();
    let default_sample = if command_alone { samples::STDIO_LOCAL } else { samples::WITH_DCR };
    let sample = samples::sample(or(&request.sample, default_sample)).map_err(invalid)?;
    let inputs = inputs(request, sample).map_err(invalid)?;
    let yaml = sample.render(&inputs);
    let path = profile_path(&directory, &name);
    // Before the document, whose places mean nothing to somebody who wrote a command line.
    if sample.uses_command() && !inputs.command.is_empty() {
        preflight(&inputs.command, environment)
            .map_err(|error| invalid(format!("mcp-command preflight failed: {error}")))?;
    }
    validate_document(&path, yaml.as_bytes()).map_err(ProfileError::Document)?;
    let path = store_profile(&directory, &name, yaml.as_bytes(), request.force)?;
    let selector = match request.profile_dir.trim() {
        "" => format!("--profile {name}"),
        given => format!("--profile {name} --profile-dir {}", shell_quoted(given)),
    };
    let text = next_steps(&name, &path.display().to_string(), sample, &selector);
    out.write_all(text.as_bytes()).map_err(|source| ProfileError::Io { action: "print", path, source })
}

fn or<'t>(text: &'t str, default: &'t str) -> &'t str {
    let text = text.trim();
    if text.is_empty() { default } else { text }
}

/// Checks the inputs that are knowable now.
fn inputs(request: &InitRequest, sample: &Sample) -> Result<SampleInputs, String> {
    let defaults = SampleInputs::new(&request.tunnel_id);
    let inputs = SampleInputs {
        base_url: or(&request.base_url, &defaults.base_url).to_owned(),
        url_path: request.url_path.trim().to_owned(),
        api_key_reference: or(&request.api_key_reference, &defaults.api_key_reference).to_owned(),
        server_url: request.server_url.trim().to_owned(),
        command: request.command.trim().to_owned(),
        health_listen_addr: or(&request.health_listen_addr, &defaults.health_listen_addr).to_owned(),
        open_web_ui: request.open_web_ui,
        tunnel_id: defaults.tunnel_id,
    };
    TunnelId::parse(&inputs.tunnel_id).map_err(|error| error.to_string())?;
    let named = |flag: &'static str| move |reason: String| format!("invalid --{flag}: {reason}");
    urls::absolute_http(&inputs.base_url).map_err(named("control-plane-base-url"))?;
    urls::url_path(&inputs.url_path).map_err(named("control-plane-url-path"))?;
    if !reference::is_reference(&inputs.api_key_reference) {
        return Err(
            "--control-plane-api-key-ref must start with env: or file: (a literal key is refused)".to_owned()
        );
    }
    reference::check_form(&inputs.api_key_reference).map_err(named("control-plane-api-key-ref"))?;
    urls::listen_address(&inputs.health_listen_addr).map_err(named("health-listen-addr"))?;
    sample.check_target(&inputs)?;
    Ok(inputs)
}

fn tunnel_id_is_required() -> String {
    let mut text = format!(
        "tunnel ID is required: pass --tunnel-id (for the daemon, {} or --{})\n",
        settings::CONTROL_PLANE_TUNNEL_ID.variable,
        settings::CONTROL_PLANE_TUNNEL_ID.flag
    );
    push_setup_urls(&mut text);
    text.push_str(
        "Next:\n  tunnel-client admin tunnels create --help\n  tunnel-client admin tunnels list --help\n  tunnel-client init --tunnel-id tunnel_... --mcp-server-url http://127.0.0.1:3001/mcp\n  tunnel-client help quickstart",
    );
    text
}

fn push_setup_urls(text: &mut String) {
    text.push_str("Canonical setup URLs:\n");
    for (_, label, url) in SETUP_URLS {
        let _ = writeln!(text, "  {label}: {url}");
    }
}

fn next_steps(name: &str, path: &str, sample: &Sample, selector: &str) -> String {
    let mut text = format!("Created profile {name} at {path}\nSample: {}\nNext:\n", sample.name);
    let _ = write!(text, "  tunnel-client doctor {selector}\n  tunnel-client run {selector}\n");
    push_setup_urls(&mut text);
    let _ = writeln!(
        text,
        "Create or verify the connector in the connector settings page while `tunnel-client run {selector}` is running. Keep the daemon up: discovery and every MCP call need it."
    );
    text
}

/// The text as one word for a POSIX shell.
pub fn shell_quoted(text: &str) -> String {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:@%+,=~".contains(&b));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TUNNEL: &str = "tunnel_0123456789abcdef0123456789abcdef";

    fn request(directory: &Path) -> InitRequest {
        InitRequest {
            profile: "lab".to_owned(),
            profile_dir: directory.display().to_string(),
            tunnel_id: format!(" {TUNNEL} "),
            server_url: "http://127.0.0.1:3001/mcp".to_owned(),
            ..InitRequest::default()
        }
    }

    fn run(request: &InitRequest) -> Result<String, String> {
        let environment = [("PATH", "/usr/bin:/bin")].into_iter().collect();
        let mut out = Vec::new();
        init(request, &environment, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_profile_is_created_once_and_the_next_steps_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut request = request(directory.path());
        let text = run(&request).unwrap();
        let path = directory.path().join("lab.yaml");
        assert!(text.starts_with(&format!(
            "Created profile lab at {}\nSample: sample_mcp_with_dcr\n",
            path.display()
        )));
        for part in [
            "  tunnel-client doctor --profile lab",
            "  tunnel-client run --profile lab",
            "connector settings",
        ] {
            assert!(text.contains(part), "{part}");
        }
        for (_, label, url) in SETUP_URLS {
            assert!(text.contains(&format!("  {label}: {url}\n")));
        }
        assert!(run(&request).unwrap_err().contains("already exists"));
        request.force = true;
        request.url_path = "/x".to_owned();
        run(&request).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("url_path: \"/x\""));
    }

    #[test]
    fn a_missing_tunnel_id_is_told_with_all_setup_urls() {
        let error = run(&InitRequest::default()).unwrap_err();
        assert!(error.starts_with("tunnel ID is required"));
        for (_, _, url) in SETUP_URLS {
            assert!(error.contains(url));
        }
        for part in [
            "admin tunnels create --help",
            "admin tunnels list --help",
            "tunnel-client init",
            "tunnel-client help quickstart",
        ] {
            assert!(error.contains(part), "{part}");
        }
    }

    #[test]
    fn wrong_inputs_leave_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let wrong = |change: fn(&mut InitRequest), part: &str| {
            let mut request = request(directory.path());
            change(&mut request);
            let error = run(&request).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        };
        wrong(|r| r.tunnel_id = "nope".into(), "invalid tunnel ID");
        wrong(|r| r.profile = "a/b".into(), "path separators");
        wrong(|r| r.sample = "nope".into(), "profiles samples list");
        wrong(|r| r.base_url = "nope".into(), "scheme and host");
        wrong(|r| r.url_path = "x".into(), "control-plane-url-path");
        wrong(|r| r.api_key_reference = "sk-live".into(), "env: or file:");
        wrong(|r| r.health_listen_addr = "8080".into(), "health-listen-addr");
        wrong(|r| r.command = "sh".into(), "exactly one of");
        wrong(|r| r.server_url = "localhost:1/mcp".into(), "scheme and host");
        wrong(
            |r| {
                r.server_url.clear();
                r.command = "/path/not-executable".into();
            },
            "mcp-command preflight failed",
        );
        wrong(
            |r| {
                r.server_url.clear();
                r.command = "sh 'never closed".into();
            },
            "mcp-command preflight failed: unterminated",
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_sample_follows_from_the_target() {
        let directory = tempfile::tempdir().unwrap();
        let mut request = request(directory.path());
        request.server_url.clear();
        request.command = "sh -c true".to_owned();
        assert!(run(&request).unwrap().contains("Sample: sample_mcp_stdio_local"));
        request.force = true;
        request.sample = samples::STDIO_LOCAL.to_owned();
        request.server_url = "http://ignored".to_owned();
        run(&request).unwrap();
        let yaml = std::fs::read_to_string(directory.path().join("lab.yaml")).unwrap();
        assert!(!yaml.contains("ignored") && yaml.contains("command: \"sh -c true\""), "{yaml}");
        request.sample = "sample_mcp_remote_no_auth".to_owned();
        request.command = "/not/executable/but/ignored".to_owned();
        run(&request).unwrap();
    }
}
