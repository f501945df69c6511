//! Loading as a whole: which layer wins, what is refused, and in which words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

mod control_plane;
mod layers;
mod others;
mod targets;

const TUNNEL: &str = "tunnel_0123456789abcdef0123456789abcdef";

/// A run's inputs: the minimal set, changed by each test.
struct Given {
    arguments: Vec<String>,
    environment: Environment,
    directory: tempfile::TempDir,
}

impl Given {
    fn nothing() -> Given {
        Given {
            arguments: Vec::new(),
            environment: Environment::default(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn minimal() -> Given {
        Given::nothing()
            .variable("CONTROL_PLANE_TUNNEL_ID", TUNNEL)
            .variable("CONTROL_PLANE_API_KEY", "sk-test")
            .variable("MCP_SERVER_URL", "http://127.0.0.1:9/mcp")
    }

    fn variable(mut self, name: &str, value: &str) -> Given {
        self.environment.set(name, value);
        self
    }

    fn without(mut self, name: &str) -> Given {
        self.environment = self.environment.iter().filter(|(have, _)| *have != name).collect();
        self
    }

    fn arguments(mut self, arguments: &[&str]) -> Given {
        self.arguments.extend(arguments.iter().map(|a| (*a).to_owned()));
        self
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        restrict(&path, 0o600);
        path
    }

    /// Selects a document; `DIR` in it stands for the temporary directory.
    fn document(self, content: &str) -> Given {
        let content = content.replace("DIR", &self.directory.path().display().to_string());
        let path = self.file("doc.yaml", &content).display().to_string();
        self.arguments(&["--config", &path])
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        let extracted = extract(self.arguments.iter().cloned(), settings::ALL, &[]).unwrap();
        load(&extracted.flags, &self.environment)
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn errors(&self) -> Vec<String> {
        match self.load() {
            Ok(_) => panic!("accepted {:?}", self.arguments),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    }

    /// The only error.
    #[track_caller]
    fn error(&self) -> String {
        let errors = self.errors();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        errors.into_iter().next().unwrap_or_default()
    }

    #[track_caller]
    fn refused(&self, part: &str) {
        let error = self.error();
        assert!(error.contains(part), "{part:?} not in {error:?}");
    }
}

fn restrict(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A certificate and its key in one PEM text.
fn pem() -> String {
    let made = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
    made.cert.pem() + &made.signing_key.serialize_pem()
}

fn key(config: &Config) -> &str {
    config.control_plane.api_key.expose()
}

fn headers(list: &crate::net::HeaderList) -> Vec<(&str, &str)> {
    list.iter().collect()
}

fn proxy(setting: &ProxySetting) -> Option<(String, &str)> {
    match setting {
        ProxySetting::Environment => None,
        ProxySetting::Fixed { url, source } => Some((url.expose().to_string(), source)),
    }
}

#[expect(clippy::type_complexity, reason = "taken apart at once")]
fn http(
    binding: &McpBinding,
) -> (&url::Url, Option<&Path>, Option<(String, &str)>, Option<&CertificatePair>) {
    match &binding.target {
        McpTarget::Http { url, unix_socket, proxy: via, client_certificate } => {
            (url, unix_socket.as_deref(), proxy(via), client_certificate.as_ref())
        }
        McpTarget::Stdio { .. } => panic!("{binding:?}"),
    }
}

fn argv(binding: &McpBinding) -> Vec<&str> {
    match &binding.target {
        McpTarget::Stdio { argv, .. } => argv.iter().map(String::as_str).collect(),
        McpTarget::Http { .. } => panic!("{binding:?}"),
    }
}

fn channels(config: &Config) -> Vec<&str> {
    config.mcp.bindings.iter().map(|binding| binding.channel.as_str()).collect()
}
