//! The built-in samples: what each is for, and the document it makes of a few inputs.
//!
//! Invariant: a sample never contains a literal key, and every document it makes loads.

use std::fmt::Write as _;
use std::io;

use super::settings;

/// Reference that a sample's `api_key` gets if none is given.
pub const DEFAULT_API_KEY_REFERENCE: &str = "env:CONTROL_PLANE_API_KEY";
/// The sample of `init` for HTTP servers, and of a profile that is edited into being.
pub const WITH_DCR: &str = "sample_mcp_with_dcr";
/// The sample of `init` for a command alone.
pub const STDIO_LOCAL: &str = "sample_mcp_stdio_local";

/// Which MCP target a sample needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetRule {
    /// Exactly one of URL and command.
    Either,
    /// A command; a URL is ignored.
    Command,
    /// A URL; a command is ignored.
    Url,
}

/// One built-in sample.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Its name.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// When to take it.
    pub use_when: &'static str,
    /// What must be given.
    pub required: &'static [&'static str],
    /// Worth knowing.
    pub notes: &'static [&'static str],
    /// Which MCP target it needs.
    pub target: TargetRule,
    /// Comment lines at the top of the document.
    header: &'static [&'static str],
    /// Whether it sets the proxy and the CA bundle.
    enterprise: bool,
    example_url: &'static str,
    example_command: &'static str,
}

/// What a document is made of. Blank optional texts count as not given.
#[derive(Clone, Debug, Default)]
pub struct SampleInputs {
    /// `control_plane.tunnel_id`
    pub tunnel_id: String,
    /// `control_plane.base_url`
    pub base_url: String,
    /// `control_plane.url_path`
    pub url_path: String,
    /// `control_plane.api_key`, a reference.
    pub api_key_reference: String,
    /// `mcp.server_urls[0].url`
    pub server_url: String,
    /// `mcp.commands[0].command`
    pub command: String,
    /// `health.listen_addr`
    pub health_listen_addr: String,
    /// `admin_ui.open_browser`
    pub open_web_ui: bool,
}

impl SampleInputs {
    /// Inputs with every default.
    pub fn new(tunnel_id: &str) -> SampleInputs {
        SampleInputs {
            tunnel_id: tunnel_id.trim().to_owned(),
            base_url: settings::CONTROL_PLANE_BASE_URL.default.to_owned(),
            api_key_reference: DEFAULT_API_KEY_REFERENCE.to_owned(),
            health_listen_addr: settings::HEALTH_LISTEN_ADDR.default.to_owned(),
            ..SampleInputs::default()
        }
    }
}

const OPTIONAL: &[&str] = &[
    "--control-plane-base-url: another control plane (init only)",
    "--control-plane-url-path: a path in front of /v1 (init only)",
    "--control-plane-api-key-ref: env:NAME or file:PATH of the runtime API key (init only)",
    "--health-listen-addr: address of the local listener (init only)",
    "--open-web-ui: open the web UI at start (init only)",
];
const PORT_NOTE: &str =
    "health.listen_addr with port 0 takes a free port; add health.url_file to learn which";
const TUNNEL_ID_INPUT: &str = "--tunnel-id: the tunnel to serve";
const EITHER_INPUT: &str = "exactly one of --mcp-server-url and --mcp-command";

/// All samples, sorted by name.
pub static SAMPLES: &[Sample] = &[
    Sample {
        name: "sample_mcp_enterprise_proxy",
        summary: "Outbound proxy and private PKI in front of an internal MCP server",
        use_when: "the host reaches the internet only through a proxy, or internal servers use a private CA",
        required: &[
            TUNNEL_ID_INPUT,
            EITHER_INPUT,
            "at run time HTTPS_PROXY: URL of the outbound proxy",
            "at run time ENTERPRISE_CA_BUNDLE: path of a PEM file with the private roots",
        ],
        notes: &[
            "the proxy carries all outbound HTTP; control_plane.http_proxy and mcp.http_proxy make exceptions",
            "the CA bundle adds to the system's trust, it does not replace it",
            PORT_NOTE,
        ],
        target: TargetRule::Either,
        header: &[
            "Set these variables before `tunnel-client run`:",
            "  CONTROL_PLANE_API_KEY  runtime API key of the tunnel",
            "  HTTPS_PROXY            URL of the outbound proxy",
            "  ENTERPRISE_CA_BUNDLE   path of a PEM file with the private roots",
            "OPENAI_ADMIN_KEY is for admin commands only; never give it to the daemon.",
        ],
        enterprise: true,
        example_url: "https://mcp.internal.example.com/mcp",
        example_command: "",
    },
    Sample {
        name: "sample_mcp_remote_no_auth",
        summary: "HTTP MCP server without OAuth metadata",
        use_when: "the MCP server is reached over HTTP and needs no OAuth",
        required: &[TUNNEL_ID_INPUT, "--mcp-server-url: the server's endpoint"],
        notes: &["a command is ignored by this sample", PORT_NOTE],
        target: TargetRule::Url,
        header: &[],
        enterprise: false,
        example_url: "https://mcp.example.com/mcp",
        example_command: "",
    },
    Sample {
        name: STDIO_LOCAL,
        summary: "Local stdio command, the shortest path",
        use_when: "the MCP server is a program on this host that speaks over stdin and stdout",
        required: &[TUNNEL_ID_INPUT, "--mcp-command: the command line, which is run without a shell"],
        notes: &[
            "a server URL is ignored by this sample",
            "`tunnel-client doctor` checks the command without running it",
            PORT_NOTE,
        ],
        target: TargetRule::Command,
        header: &[],
        enterprise: false,
        example_url: "",
        example_command: "python /path/to/server.py",
    },
    Sample {
        name: WITH_DCR,
        summary: "General HTTP or stdio MCP server, with OAuth metadata and dynamic client registration",
        use_when: "the MCP server announces its authorization server, or none of the others fits",
        required: &[TUNNEL_ID_INPUT, EITHER_INPUT],
        notes: &["`tunnel-client dev mcp-stub` offers a server to try it with", PORT_NOTE],
        target: TargetRule::Either,
        header: &[],
        enterprise: false,
        example_url: "http://127.0.0.1:3001/mcp",
        example_command: "",
    },
];

/// The sample of that name.
///
/// # Errors
///
/// A sentence with the way to list them.
pub fn sample(name: &str) -> Result<&'static Sample, String> {
    let name = name.trim();
    SAMPLES
        .iter()
        .find(|sample| sample.name == name)
        .ok_or_else(|| format!("unknown sample {name:?}: `tunnel-client profiles samples list` shows them"))
}

/// Writes one line for each sample.
pub fn list_samples(out: &mut dyn io::Write) -> io::Result<()> {
    SAMPLES.iter().try_for_each(|sample| writeln!(out, "{}\t{}", sample.name, sample.summary))
}

impl Sample {
    /// Checks that the inputs name the MCP target that the sample needs.
    ///
    /// # Errors
    ///
    /// A sentence naming the sample and the flags.
    pub fn check_target(&self, inputs: &SampleInputs) -> Result<(), String> {
        let (url, command) = (!inputs.server_url.trim().is_empty(), !inputs.command.trim().is_empty());
        let name = self.name;
        match (self.target, url, command) {
            (TargetRule::Either, true, true) => {
                Err(format!("{name} takes exactly one of --mcp-server-url and --mcp-command, not both"))
            }
            (TargetRule::Either, false, false) => {
                Err(format!("{name} needs exactly one of --mcp-server-url and --mcp-command"))
            }
            (TargetRule::Command, _, false) => Err(format!("{name} needs --mcp-command")),
            (TargetRule::Url, false, _) => Err(format!("{name} needs --mcp-server-url")),
            _ => Ok(()),
        }
    }

    /// Whether a command among the inputs ends up in the document.
    pub fn uses_command(&self) -> bool {
        self.target != TargetRule::Url
    }

    /// Inputs to show the sample with.
    pub fn example_inputs(&self) -> SampleInputs {
        SampleInputs {
            server_url: self.example_url.to_owned(),
            command: self.example_command.to_owned(),
            ..SampleInputs::new("tunnel_0123456789abcdef0123456789abcdef")
        }
    }

    /// The document.
    pub fn render(&self, inputs: &SampleInputs) -> String {
        let mut yaml = String::new();
        for line in self.header {
            let _ = writeln!(yaml, "# {line}");
        }
        yaml.push_str("config_version: 1\n");
        if self.enterprise {
            yaml.push_str("\nca_bundle: \"env:ENTERPRISE_CA_BUNDLE\"\nhttp_proxy: \"env:HTTPS_PROXY\"\n");
        }
        let mut line = |indent: &str, key: &str, value: &str| {
            let _ = writeln!(yaml, "{indent}{key}{}", quoted(value));
        };
        line("\ncontrol_plane:\n", "  base_url: ", inputs.base_url.trim());
        if !inputs.url_path.trim().is_empty() {
            line("", "  url_path: ", inputs.url_path.trim());
        }
        line("", "  tunnel_id: ", inputs.tunnel_id.trim());
        line("", "  api_key: ", inputs.api_key_reference.trim());
        let comment = "\nhealth:\n  # Port 0 takes a free port; then add `url_file` with a path to learn the base URL.\n";
        line(comment, "  listen_addr: ", inputs.health_listen_addr.trim());
        let _ = write!(yaml, "\nadmin_ui:\n  open_browser: {}\n", inputs.open_web_ui);
        yaml.push_str("\nlog:\n  level: info\n  format: json\n\nmcp:\n");
        let url = inputs.server_url.trim();
        let command = inputs.command.trim();
        if self.target != TargetRule::Command && !url.is_empty() {
            let _ = write!(yaml, "  server_urls:\n    - channel: main\n      url: {}\n", quoted(url));
        }
        if self.uses_command() && !command.is_empty() {
            let _ = write!(yaml, "  commands:\n    - channel: main\n      command: {}\n", quoted(command));
        }
        yaml
    }

    /// Writes what the sample is for and its document with example inputs.
    pub fn show(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "Sample: {}", self.name)?;
        writeln!(out, "Summary: {}", self.summary)?;
        writeln!(out, "Use when: {}", self.use_when)?;
        for (title, items) in [("Required", self.required), ("Optional", OPTIONAL), ("Notes", self.notes)] {
            writeln!(out, "{title}:")?;
            items.iter().try_for_each(|item| writeln!(out, "  - {item}"))?;
        }
        write!(out, "\n{}", self.render(&self.example_inputs()))
    }
}

/// A double-quoted YAML scalar.
fn quoted(text: &str) -> String {
    let mut scalar = String::with_capacity(text.len() + 2);
    scalar.push('"');
    for c in text.chars() {
        match c {
            '"' => scalar.push_str("\\\""),
            '\\' => scalar.push_str("\\\\"),
            '\n' => scalar.push_str("\\n"),
            '\r' => scalar.push_str("\\r"),
            '\t' => scalar.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(scalar, "\\u{:04X}", u32::from(c));
            }
            c => scalar.push(c),
        }
    }
    scalar.push('"');
    scalar
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{self, Environment, FlagValues, schema, validate_document};

    #[test]
    fn exactly_four_samples_exist_sorted_by_name() {
        let mut out = Vec::new();
        list_samples(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let names: Vec<&str> = text.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(
            names,
            [
                "sample_mcp_enterprise_proxy",
                "sample_mcp_remote_no_auth",
                "sample_mcp_stdio_local",
                "sample_mcp_with_dcr"
            ]
        );
        assert!(sample("nope").unwrap_err().contains("profiles samples list"));
        assert!(sample(" sample_mcp_with_dcr ").is_ok());
    }

    #[test]
    fn every_sample_loads_with_its_example_inputs() {
        let directory = tempfile::tempdir().unwrap();
        let roots = directory.path().join("roots.pem");
        let authority = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap();
        std::fs::write(&roots, authority.cert.pem()).unwrap();
        for sample in SAMPLES {
            let path = directory.path().join(format!("{}.yaml", sample.name));
            let yaml = sample.render(&sample.example_inputs());
            validate_document(&path, yaml.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"));
            std::fs::write(&path, &yaml).unwrap();
            let environment: Environment = [
                ("CONTROL_PLANE_API_KEY", "sk-x".to_owned()),
                ("HTTPS_PROXY", "http://proxy:3128".to_owned()),
                ("ENTERPRISE_CA_BUNDLE", roots.display().to_string()),
            ]
            .into_iter()
            .collect();
            let mut flags = FlagValues::default();
            flags.set("config", vec![path.display().to_string()]);
            let config = config::load(&flags, &environment).unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(config.mcp.bindings.len(), 1, "{}", sample.name);
            assert!(yaml.contains("\nadmin_ui:\n  open_browser: false\n"), "{yaml}");
            assert!(yaml.contains("api_key: \"env:CONTROL_PLANE_API_KEY\""), "{yaml}");
            assert!(yaml.contains("url_file"), "{yaml}");
        }
    }

    #[test]
    fn the_enterprise_sample_begins_with_the_variables_to_set() {
        let yaml = sample("sample_mcp_enterprise_proxy").unwrap().render(&SampleInputs::default());
        for name in ["CONTROL_PLANE_API_KEY", "OPENAI_ADMIN_KEY", "HTTPS_PROXY", "ENTERPRISE_CA_BUNDLE"] {
            let comment =
                yaml.lines().take_while(|line| line.starts_with('#')).any(|line| line.contains(name));
            assert!(comment, "{name}");
        }
    }

    #[test]
    fn any_text_survives_quoting() {
        for text in ["a \"b\" \\ c", "tab\there", "é✓ # not a comment: x", "line\nbreak\u{1}\u{2028}x"] {
            let inputs = SampleInputs { command: text.to_owned(), ..SampleInputs::new("x") };
            let yaml = sample(STDIO_LOCAL).unwrap().render(&inputs);
            let (values, _) = schema::decode(yaml.as_bytes()).unwrap();
            let schema::Value::Entries(_, entries) = &values["mcp.commands"] else { panic!() };
            assert_eq!(entries[0].fields["command"].text, text);
        }
        assert!(validate_document(Path::new("x"), b"config_version: 1").is_ok());
    }

    #[test]
    fn each_sample_needs_its_kind_of_target() {
        let inputs = |url: &str, command: &str| SampleInputs {
            server_url: url.to_owned(),
            command: command.to_owned(),
            ..SampleInputs::new("x")
        };
        let check =
            |name: &str, url: &str, command: &str| sample(name).unwrap().check_target(&inputs(url, command));
        for either in [WITH_DCR, "sample_mcp_enterprise_proxy"] {
            assert!(check(either, "u", "").is_ok() && check(either, "", "c").is_ok());
            for wrong in [check(either, "u", "c"), check(either, " ", "")] {
                let error = wrong.unwrap_err();
                assert!(
                    error.contains(either)
                        && error.contains("--mcp-server-url")
                        && error.contains("--mcp-command")
                );
            }
        }
        assert!(check(STDIO_LOCAL, "u", "c").is_ok() && check(STDIO_LOCAL, "u", "").is_err());
        assert!(check("sample_mcp_remote_no_auth", "u", "c").is_ok());
        assert!(check("sample_mcp_remote_no_auth", "", "c").is_err());
    }

    #[test]
    fn showing_a_sample_lists_its_inputs_and_its_document() {
        let mut out = Vec::new();
        sample(STDIO_LOCAL).unwrap().show(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "Sample: sample_mcp_stdio_local\nSummary: ",
            "\nUse when: ",
            "\nRequired:\n  - ",
            "\nOptional:\n  - ",
            "\nNotes:\n  - ",
            "\n\nconfig_version: 1\n",
            "python /path/to/server.py",
            "tunnel_0123456789abcdef0123456789abcdef",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
