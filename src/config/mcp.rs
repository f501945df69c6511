//! `mcp.*`: the MCP servers, one per channel.

use std::time::Duration;

use super::certificate::{INVALID_MCP_CERTIFICATE, paired};
use super::command_line::split_command;
use super::error::{ConfigError, ErrorKind};
use super::loader::{Loader, Lookup, Source};
use super::mcp_entry::{Parts, command_parts, http_parts};
use super::schema::Value;
use super::settings::{self, Kind, Setting};
use super::{CertificatePair, Mcp, McpBinding, McpTarget, ProxySetting, Switch, proxy, reference, urls};
use crate::ids::Channel;

const MIN_MESSAGE_BYTES: i64 = 1024;

const MAIN_GUIDANCE: &str = "try it with `tunnel-client run --embedded-mcp-stub --control-plane.tunnel-id tunnel_... --health.listen-addr 127.0.0.1:0 --health.url-file /tmp/tunnel-client-health.url`, write a profile with `tunnel-client init`, or read `tunnel-client help quickstart`";

impl Loader<'_> {
    /// Loads the section; `None` means that something was reported.
    pub(crate) fn mcp(&mut self, global_proxy: Option<&ProxySetting>) -> Option<Mcp> {
        let http = self.http_entries();
        let commands = self.command_entries();
        let has_http = http.as_ref().is_none_or(|entries| !entries.is_empty());
        let complete = http.is_some() && commands.is_some();
        let mut entries = http.unwrap_or_default();
        entries.extend(commands.unwrap_or_default());
        self.refuse_duplicates(&entries);
        let default_certificate = self.certificate_pair(
            &settings::MCP_CLIENT_CERT,
            &settings::MCP_CLIENT_KEY,
            INVALID_MCP_CERTIFICATE,
        );
        if default_certificate.is_some() && !has_http {
            let message = format!(
                "{INVALID_MCP_CERTIFICATE}: mcp.client-cert and mcp.client-key need an MCP server over HTTP, and none is configured"
            );
            self.findings.error(ErrorKind::Other, message);
        }
        let connection_max_ttl =
            self.duration(&settings::MCP_CONNECTION_MAX_TTL, "must be positive", |v| !v.is_zero());
        let startup_wait_timeout =
            self.duration(&settings::MCP_STARTUP_WAIT_TIMEOUT, "must not be negative", |_| true);
        let max_concurrent_requests = self.integer(
            &settings::MCP_MAX_CONCURRENT_REQUESTS,
            (1, "must be greater than zero"),
            (i64::MAX, "is too large"),
        );
        let default_proxy = self.proxy(&settings::MCP_HTTP_PROXY);
        let extra_headers = self.headers(&settings::MCP_EXTRA_HEADERS);
        let discovery_extra_headers = self.headers(&settings::MCP_DISCOVERY_EXTRA_HEADERS);
        let max_message_bytes = self.integer(
            &settings::MCP_MAX_MESSAGE_BYTES,
            (MIN_MESSAGE_BYTES, "must be at least 1024"),
            (i64::from(i32::MAX), "must be less than 2147483648"),
        );
        let protocol_bridge = self.switch(&settings::MCP_PROTOCOL_BRIDGE);
        let within = |low: Duration, high: Duration| move |value: Duration| value >= low && value <= high;
        let protocol_probe_timeout = self.duration(
            &settings::MCP_PROTOCOL_PROBE_TIMEOUT,
            "must be from 100ms to 60s",
            within(Duration::from_millis(100), Duration::from_secs(60)),
        );
        let handshake_timeout = self.duration(
            &settings::MCP_HANDSHAKE_TIMEOUT,
            "must be from 1s to 10m",
            within(Duration::from_secs(1), Duration::from_secs(600)),
        );
        let stdio_lifecycle = self.switch(&settings::MCP_STDIO_LIFECYCLE);
        let send_initialized = self.flags.is_given(settings::MCP_STDIO_SEND_INITIALIZED.flag);
        let protocol_bridge = protocol_bridge?;
        let bindings = entries
            .into_iter()
            .map(|entry| {
                let bridge = entry.protocol_bridge.unwrap_or(protocol_bridge);
                let certificate = default_certificate.as_ref();
                entry.into_binding(default_proxy.as_ref(), global_proxy, certificate, bridge)
            })
            .collect();
        Some(Mcp {
            bindings: complete.then_some(bindings)?,
            extra_headers,
            discovery_extra_headers,
            startup_wait_timeout: startup_wait_timeout?,
            connection_max_ttl: connection_max_ttl?,
            max_concurrent_requests: usize::try_from(max_concurrent_requests?).ok()?,
            max_message_bytes: usize::try_from(max_message_bytes?).ok()?,
            protocol_bridge,
            protocol_probe_timeout: protocol_probe_timeout?,
            handshake_timeout: handshake_timeout?,
            stdio_lifecycle: stdio_lifecycle?,
            stdio_send_initialized_notification: send_initialized,
        })
    }

    fn switch(&mut self, setting: &'static Setting) -> Option<Switch> {
        let found = self.text_or_default(setting)?;
        match switch_of(&found.text) {
            Some(switch) => Some(switch),
            None => {
                let (name, source) = (setting.flag, found.source);
                let message = format!("invalid {name} {:?}: it must be auto or off ({source})", found.text);
                self.findings.error(ErrorKind::Other, message);
                None
            }
        }
    }

    fn http_entries(&mut self) -> Option<Vec<Entry>> {
        let setting = &settings::MCP_SERVER_URL;
        let mut whole = true;
        let mut entries = Vec::new();
        for (parts, source) in self.entry_parts(setting, &mut whole, http_parts)? {
            match self.http_entry(&parts, &source) {
                Ok(entry) => entries.push(entry),
                Err(reason) => {
                    whole = false;
                    self.findings
                        .error(ErrorKind::McpTarget, format!("invalid mcp.server-url: {reason} ({source})"));
                }
            }
        }
        whole.then_some(entries)
    }

    fn command_entries(&mut self) -> Option<Vec<Entry>> {
        let setting = &settings::MCP_COMMAND;
        let mut whole = true;
        let mut entries = Vec::new();
        for (parts, source) in self.entry_parts(setting, &mut whole, command_parts)? {
            match command_entry(&parts, &source) {
                Ok(entry) => entries.push(entry),
                Err(reason) => {
                    whole = false;
                    self.findings
                        .error(ErrorKind::McpTarget, format!("invalid mcp.command: {reason} ({source})"));
                }
            }
        }
        whole.then_some(entries)
    }

    /// The entries of a setting as keys and values. `None`: the document's were wrong, which was
    /// reported. Entries whose text is wrong are reported, left out, and clear `whole`.
    fn entry_parts(
        &mut self,
        setting: &'static Setting,
        whole: &mut bool,
        parse: fn(&str) -> Result<Parts, String>,
    ) -> Option<Vec<(Parts, Source)>> {
        let mut found = Vec::new();
        if self.document_is_silenced(setting) {
            let Lookup::Found((texts, source)) = self.list(setting) else { return Some(found) };
            for text in texts {
                let parts = if text.trim().is_empty() {
                    Err("the entry is empty".to_owned())
                } else {
                    parse(text.trim())
                };
                let named = parts.map_err(|reason| format!("invalid {}: {reason} ({source})", setting.flag));
                match self.findings.check(ErrorKind::McpTarget, named) {
                    Some(parts) => found.push((parts, source.clone())),
                    None => *whole = false,
                }
            }
            return Some(found);
        }
        if let (Some(Value::Entries(_, entries)), Kind::Entries(_, fields)) =
            (self.in_document(setting), setting.kind)
        {
            for entry in entries {
                let parts = fields.iter().filter_map(|field| {
                    Some((field.key, entry.fields.get(field.yaml)?.text.trim().to_owned()))
                });
                let place = format!("{}[{}]", setting.yaml, entry.index);
                let parts = parts.filter(|(_, text)| !text.is_empty()).collect();
                found.push((parts, self.document.place(&place, entry.at)));
            }
        }
        (!self.document.broken.contains(setting.yaml)).then_some(found)
    }

    fn http_entry(&mut self, parts: &Parts, source: &Source) -> Result<Entry, String> {
        let part = |key: &str| parts.get(key).map(String::as_str);
        let channel = binding_channel(part("channel"))?;
        let url = urls::absolute_http(part("url").ok_or("url is missing")?)?;
        let path = |key: &str| {
            reference::path(part(key).unwrap_or_default(), self.environment)
                .map_err(|reason| format!("{key}: {reason}"))
        };
        let unix_socket = path("unix-socket")?;
        if unix_socket.is_some() && part("http-proxy").is_some() {
            return Err("unix-socket cannot be combined with http-proxy".to_owned());
        }
        let proxy = match part("http-proxy") {
            None => None,
            Some(text) => {
                let Setting { flag, yaml, .. } = settings::MCP_SERVER_URL;
                let proxy = self.proxy_of(text, flag, source, yaml);
                Some(proxy.map_err(|reason| format!("http-proxy: {reason}"))?)
            }
        };
        let certificate = paired(path("client-cert")?, path("client-key")?, "client-cert", "client-key")
            .map_err(|reason| format!("{INVALID_MCP_CERTIFICATE}: {reason}"))?;
        self.key_is_read_from(certificate.as_ref());
        // A document's URLs were looked at when their references were resolved.
        if matches!(source, Source::Variable(_)) && urls::has_user_info(&url) {
            self.secret_was_written_in(source, settings::MCP_SERVER_URL.yaml);
        }
        Ok(Entry {
            channel,
            source: source.clone(),
            protocol_bridge: entry_bridge(parts)?,
            target: Target::Http { url, unix_socket, proxy, certificate },
        })
    }

    fn refuse_duplicates(&mut self, entries: &[Entry]) {
        for (index, entry) in entries.iter().enumerate() {
            if let Some(first) = entries[..index].iter().find(|earlier| earlier.channel == entry.channel) {
                let message = format!(
                    "duplicate channel {:?} in MCP targets: {} and {} both serve it; give each its own channel=NAME",
                    entry.channel.as_str(),
                    first.source,
                    entry.source
                );
                self.findings.error(ErrorKind::McpTarget, message);
            }
        }
    }

    /// Whether every polled channel leads somewhere.
    pub(crate) fn check_routes(
        &mut self,
        polled: Option<&[Channel]>,
        bindings: &[McpBinding],
        targets: usize,
    ) {
        let has = |channel: &Channel| bindings.iter().any(|binding| binding.channel == *channel);
        let Some(polled) = polled else {
            if !has(&Channel::main()) {
                let remedy = if bindings.is_empty() {
                    "set --mcp.server-url or --mcp.command, or the variables MCP_SERVER_URL or MCP_COMMAND"
                } else {
                    "add channel=main to one of the MCP server entries"
                };
                let error =
                    ConfigError::new(ErrorKind::McpTarget, format!("main channel is required: {remedy}"));
                self.findings.push(error.with_guidance(MAIN_GUIDANCE));
            }
            return;
        };
        let polls_main = polled.iter().any(Channel::is_main);
        for channel in polled {
            let wrong = match channel.as_str() {
                Channel::MAIN if !has(channel) => {
                    "control-plane.poll-channel main has no local MCP handler: set --mcp.server-url or --mcp.command".to_owned()
                }
                Channel::HARPOON if targets == 0 && !polls_main => {
                    "control-plane.poll-channel harpoon has no routable target: set --harpoon.target".to_owned()
                }
                Channel::MAIN | Channel::HARPOON => continue,
                name if !has(channel) => format!(
                    "control-plane.poll-channel {name} has no local handler: add an MCP server entry with channel={name}"
                ),
                _ => continue,
            };
            let source = self.source(&settings::CONTROL_PLANE_POLL_CHANNELS);
            self.findings.error(ErrorKind::Other, format!("{wrong} ({source})"));
        }
    }
}

/// An entry before defaults are applied.
struct Entry {
    channel: Channel,
    source: Source,
    /// What it says itself.
    protocol_bridge: Option<Switch>,
    target: Target,
}

#[expect(clippy::large_enum_variant, reason = "a handful of values, made once")]
enum Target {
    Http {
        url: url::Url,
        unix_socket: Option<std::path::PathBuf>,
        proxy: Option<ProxySetting>,
        certificate: Option<CertificatePair>,
    },
    Stdio {
        command: String,
        argv: Vec<String>,
    },
}

impl Entry {
    fn into_binding(
        self,
        default_proxy: Option<&ProxySetting>,
        global_proxy: Option<&ProxySetting>,
        default_certificate: Option<&CertificatePair>,
        protocol_bridge: Switch,
    ) -> McpBinding {
        let target = match self.target {
            Target::Stdio { command, argv } => McpTarget::Stdio { command, argv },
            Target::Http { url, unix_socket, proxy, certificate } => McpTarget::Http {
                url,
                // A socket is dialled directly: no proxy setting reaches it.
                proxy: match unix_socket {
                    Some(_) => ProxySetting::Environment,
                    None => proxy::effective([proxy.as_ref(), default_proxy, global_proxy]),
                },
                unix_socket,
                client_certificate: certificate.or_else(|| default_certificate.cloned()),
            },
        };
        McpBinding { channel: self.channel, target, protocol_bridge }
    }
}

fn binding_channel(text: Option<&str>) -> Result<Channel, String> {
    let channel = Channel::parse(text.unwrap_or_default()).map_err(|error| error.to_string())?;
    if channel.as_str() == Channel::HARPOON {
        return Err("channel \"harpoon\" is reserved for the built-in server".to_owned());
    }
    Ok(channel)
}

fn command_entry(parts: &Parts, source: &Source) -> Result<Entry, String> {
    let mut command = parts.get("command").map_or("", String::as_str);
    let mut channel = parts.get("channel").map(String::as_str);
    // Documents have always been able to name the channel behind the command.
    if channel.is_none()
        && matches!(source, Source::Document(_))
        && let Some((before, name)) = command.rsplit_once(",channel=")
    {
        (command, channel) = (before.trim(), Some(name));
    }
    let channel = binding_channel(channel)?;
    let argv = split_command(command).map_err(|error| error.to_string())?;
    Ok(Entry {
        channel,
        source: source.clone(),
        protocol_bridge: entry_bridge(parts)?,
        target: Target::Stdio { command: command.to_owned(), argv },
    })
}

/// `auto` or `off`, in any letter case.
fn switch_of(text: &str) -> Option<Switch> {
    match text.trim().to_ascii_lowercase().as_str() {
        "auto" => Some(Switch::Auto),
        "off" => Some(Switch::Off),
        _ => None,
    }
}

fn entry_bridge(parts: &Parts) -> Result<Option<Switch>, String> {
    let Some(text) = parts.get("protocol-bridge") else { return Ok(None) };
    switch_of(text).map(Some).ok_or_else(|| format!("protocol-bridge {text:?} must be auto or off"))
}
