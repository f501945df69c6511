//! What this process is and how it is configured, redacted: part of every support bundle.
//!
//! Invariant: no value of a header, key or token is in it, and of URLs nothing but the harmless parts.

use crate::order;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};
use url::Url;

use crate::config::{
    CertificatePair, Config, Document, Environment, LogFormat, LogLevel, McpBinding, McpTarget, ProxySetting,
    document_as_json, format_duration,
};
use crate::net::HeaderList;
use crate::redact::{self, REDACTED};
use crate::{CLIENT_NAME, VERSION};

/// `argv`, `environment`, `client`, the document that was read (if any) and the settings in effect.
pub(super) fn snapshot(config: &Config, arguments: &[String], environment: &Environment) -> Value {
    let variables = redact::environment(environment.iter(), arguments, &config.secret_variables);
    let variables: Map<String, Value> =
        order::gathered(variables.into_iter().map(|(name, value)| (name, Value::from(value))));
    let mut snapshot = vec![
        ("argv", list(redact::arguments(arguments))),
        ("environment", Value::Object(variables)),
        (
            "client",
            object([
                ("client_name", CLIENT_NAME.into()),
                ("semantic_version", VERSION.into()),
                ("version", VERSION.into()),
                ("user_agent", format!("{CLIENT_NAME}/{VERSION}").into()),
            ]),
        ),
        ("effective_config", effective(config)),
    ];
    if let Some(actual) = actual(&config.document) {
        snapshot.push(("actual_config", actual));
    }
    object(snapshot)
}

/// The document as it was read.
fn actual(document: &Document) -> Option<Value> {
    let (path, bytes) = (document.path.as_deref()?, document.bytes.as_ref()?);
    let contents = match document_as_json(bytes.expose()) {
        Ok(mut contents) => {
            redact::document(&mut contents);
            contents
        }
        Err(error) => object([("parse_error", redact::text(&error).into_owned().into())]),
    };
    Some(object([("path", path_text(Some(path))), ("contents", contents)]))
}

fn effective(config: &Config) -> Value {
    let mut sections = vec![
        ("source", source(&config.document)),
        ("control_plane", control_plane(config)),
        ("log", log(config)),
        (
            "health",
            object([
                ("listen_addr", config.health.listen_addr.as_str().into()),
                ("unix_socket", path_text(config.health.unix_socket.as_deref())),
                ("url_file", path_text(config.health.url_file.as_deref())),
            ]),
        ),
        ("process", object([("pid_file", path_text(config.pid_file.as_deref()))])),
        ("cloudflared", cloudflared(config)),
        (
            "admin_ui",
            object([
                ("allow_remote", config.admin_ui.allow_remote.into()),
                ("open_browser", config.admin_ui.open_browser.into()),
                ("log_buffer_events", config.admin_ui.log_buffer_events.into()),
            ]),
        ),
        ("mcp", mcp(config)),
        ("harpoon", harpoon(config)),
        ("proxy", object([("check_interval", format_duration(config.proxy_check_interval).into())])),
    ];
    if let Some(bundle) = &config.ca_bundle {
        sections.push(("tls", object([("ca_bundle", path_text(Some(bundle)))])));
    }
    object(sections)
}

fn source(document: &Document) -> Value {
    let path = document.path.as_deref();
    let profile = document.profile_name.is_some() || document.from_profile_file;
    object([
        ("config_file", path_text(path.filter(|_| !profile))),
        ("profile", document.profile_name.as_deref().unwrap_or_default().into()),
        ("profile_path", path_text(path.filter(|_| profile))),
        ("profile_dir", path_text(document.profile_dir.as_deref())),
    ])
}

fn control_plane(config: &Config) -> Value {
    let settings = &config.control_plane;
    let guardrail = settings.poll_deadline_guardrail;
    let channels = settings.poll_channels.iter().flatten().map(|channel| channel.as_str().to_owned());
    object([
        ("base_url", redact::origin(settings.base_url.as_str()).into()),
        ("url_path", redact::snapshot(&settings.url_path).into()),
        ("tunnel_id", settings.tunnel_id.as_str().into()),
        ("organization_id", settings.organization_id.as_deref().unwrap_or_default().into()),
        ("api_key", secret(!settings.api_key.expose().is_empty())),
        ("client_certificate", certificate(settings.client_certificate.as_ref())),
        ("max_inflight_requests", settings.max_inflight.into()),
        ("poll_timeout", format_duration(settings.poll_timeout).into()),
        ("poll_deadline_guardrail", unless_zero(guardrail)),
        ("poll_channels", list(channels.collect())),
        ("extra_headers", headers(&settings.extra_headers)),
        ("http_proxy", proxy_url(&settings.proxy)),
        ("http_proxy_source", proxy_source(&settings.proxy)),
        // Fixed, not settings.
        ("poll_backoff_min", "".into()),
        ("poll_backoff_max", "".into()),
    ])
}

fn log(config: &Config) -> Value {
    let level = match config.log.level {
        LogLevel::Debug => "DEBUG",
        LogLevel::Info => "INFO",
        LogLevel::Warn => "WARN",
        LogLevel::Error => "ERROR",
    };
    let format = match config.log.format {
        Some(LogFormat::StructText) => "struct-text",
        Some(LogFormat::Json) => "json",
        None => "",
    };
    object([
        ("level", level.into()),
        ("format", format.into()),
        ("file", path_text(config.log.file.as_deref())),
        ("http_raw_unsafe", config.log.http_raw_unsafe.into()),
    ])
}

fn cloudflared(config: &Config) -> Value {
    let settings = &config.cloudflared;
    object([
        ("enabled", (settings.token.is_some() || settings.managed).into()),
        ("managed", settings.managed.into()),
        ("token", secret(settings.token.is_some())),
        ("path", path_text(settings.path.as_deref())),
        ("ready_timeout", format_duration(settings.ready_timeout).into()),
    ])
}

fn mcp(config: &Config) -> Value {
    let settings = &config.mcp;
    let main = settings.bindings.iter().find(|binding| binding.channel.is_main());
    let mut members = main.map(|main| target(&main.target)).unwrap_or_default();
    let bindings = settings.bindings.iter().map(|McpBinding { channel, target: to, .. }| {
        let mut members = target(to);
        members.insert("channel".to_owned(), channel.as_str().into());
        Value::Object(members)
    });
    for (name, value) in [
        ("connection_max_ttl", format_duration(settings.connection_max_ttl).into()),
        ("max_concurrent_requests", settings.max_concurrent_requests.into()),
        ("max_message_bytes", settings.max_message_bytes.into()),
        ("startup_wait_timeout", format_duration(settings.startup_wait_timeout).into()),
        ("extra_headers", headers(&settings.extra_headers)),
        ("discovery_extra_headers", headers(&settings.discovery_extra_headers)),
        ("channel_bindings", Value::Array(bindings.collect())),
    ] {
        members.insert(name.to_owned(), value);
    }
    Value::Object(members)
}

/// The members that an MCP server of either kind has.
fn target(target: &McpTarget) -> Map<String, Value> {
    let none = || Value::from("");
    let members = match target {
        McpTarget::Http { url, unix_socket, proxy, client_certificate } => [
            ("transport", "http-streamable".into()),
            ("server_url", url_text(url)),
            ("unix_socket_path", path_text(unix_socket.as_deref())),
            ("command", none()),
            ("command_args", Value::Array(Vec::new())),
            ("client_certificate", certificate(client_certificate.as_ref())),
            ("http_proxy", proxy_url(proxy)),
            ("http_proxy_source", proxy_source(proxy)),
        ],
        McpTarget::Stdio { argv, .. } => {
            let (program, arguments) =
                argv.split_first().map_or(("", &[][..]), |(program, rest)| (program, rest));
            [
                ("transport", "stdio".into()),
                ("server_url", none()),
                ("unix_socket_path", none()),
                ("command", redact::text(program).into_owned().into()),
                ("command_args", list(redact::arguments(arguments))),
                ("client_certificate", Value::Null),
                ("http_proxy", none()),
                ("http_proxy_source", none()),
            ]
        }
    };
    order::gathered(members.into_iter().map(|(name, value)| (name.to_owned(), value)))
}

fn harpoon(config: &Config) -> Value {
    let settings = &config.harpoon;
    let targets = settings.targets.iter().map(|target| {
        object([
            ("label", redact::text(&target.label).into_owned().into()),
            ("description", redact::text(&target.description).into_owned().into()),
            ("base_url", redact::snapshot(&target.spelled).into()),
            ("unix_socket_path", path_text(target.unix_socket.as_deref())),
        ])
    });
    let transports = settings.http_streamable.then(|| "http-streamable".to_owned());
    object([
        ("allow_plaintext_http", settings.allow_plaintext_http.into()),
        ("max_response_bytes", settings.max_response_bytes.into()),
        ("max_redirects", settings.max_redirects.into()),
        ("additional_transports", list(transports.into_iter().collect())),
        ("targets", Value::Array(targets.collect())),
        ("capture_payloads", settings.capture_payloads.into()),
        (
            "host_classifier",
            object([
                ("include_suffix", list(settings.hosts_include_suffix.clone())),
                ("include_regex", list(settings.hosts_include_regex.clone())),
                ("include_loopback", settings.hosts_include_loopback.into()),
                ("include_private", settings.hosts_include_private.into()),
            ]),
        ),
        ("http_proxy", proxy_url(&settings.proxy)),
        ("http_proxy_source", proxy_source(&settings.proxy)),
    ])
}

pub(super) fn object<'n>(members: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    Value::Object(order::gathered(members.into_iter().map(|(name, value)| (name.to_owned(), value))))
}

pub(super) fn list(items: Vec<String>) -> Value {
    Value::Array(items.into_iter().map(Value::from).collect())
}

fn secret(set: bool) -> Value {
    if set { REDACTED } else { "" }.into()
}

fn path_text(path: Option<&Path>) -> Value {
    path.map_or_else(String::new, |path| redact::text(&path.to_string_lossy()).into_owned()).into()
}

fn url_text(url: &Url) -> Value {
    redact::snapshot(url.as_str()).into()
}

fn proxy_url(proxy: &ProxySetting) -> Value {
    match proxy {
        ProxySetting::Environment => "".into(),
        ProxySetting::Fixed { url, .. } => redact::origin(url.expose().as_str()).into(),
    }
}

fn proxy_source(proxy: &ProxySetting) -> Value {
    match proxy {
        ProxySetting::Environment => "".into(),
        ProxySetting::Fixed { source, .. } => source.as_str().into(),
    }
}

fn headers(headers: &HeaderList) -> Value {
    Value::Object(order::gathered(headers.iter().map(|(name, _)| (name.to_owned(), REDACTED.into()))))
}

fn certificate(pair: Option<&CertificatePair>) -> Value {
    pair.map_or(Value::Null, |pair| {
        object([("cert_path", path_text(Some(&pair.certificate))), ("key_path", REDACTED.into())])
    })
}

fn unless_zero(duration: Duration) -> Value {
    if duration.is_zero() { String::new() } else { format_duration(duration) }.into()
}
