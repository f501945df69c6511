//! Loading: from flags, environment and document to one [`Config`].
//!
//! Invariant: sections are judged in one fixed order, so that the first error is always the same; a
//! section that fails does not stop the others.

use std::path::PathBuf;

use super::error::{ConfigError, ConfigErrors, ErrorKind};
use super::loader::{Loader, Lookup, Source};
use super::{
    AdminUi, Cloudflared, Config, Document, Environment, FlagValues, Health, Log, LogFormat, LogLevel,
    document, reference, select, settings, urls,
};
use crate::secret::Secret;

const MAX_LOG_BUFFER_EVENTS: i64 = 100_000;

/// Loads the configuration of a run. Opens no connection and writes nothing.
///
/// # Errors
///
/// Everything that is wrong, in the order of evaluation.
pub fn load(flags: &FlagValues, environment: &Environment) -> Result<Config, ConfigErrors> {
    let mut loader = Loader::new(flags, environment);
    for alias in flags.overruled_aliases() {
        let dotted = settings::by_flag(alias).map_or("", |setting| setting.flag);
        loader.findings.warn(format!("--{alias} is ignored because --{dotted} is given with another value"));
    }
    let selection = select::select(flags, environment)?;
    let document = loader.read_document(selection)?;
    let ca_bundle = loader.ca_bundle();
    let global_proxy = loader.proxy(&settings::HTTP_PROXY);
    let control_plane = loader.control_plane(global_proxy.as_ref());
    let mcp = loader.mcp(global_proxy.as_ref());
    let log = loader.log();
    let harpoon = loader.harpoon(global_proxy.as_ref());
    if let (Some(control_plane), Some(mcp), Some(harpoon)) = (&control_plane, &mcp, &harpoon) {
        loader.check_routes(control_plane.poll_channels.as_deref(), &mcp.bindings, harpoon.targets.len());
    } else {
        loader.check_routes_in_part(mcp.as_ref());
    }
    let cloudflared = loader.cloudflared();
    let admin_ui = loader.admin_ui();
    let proxy_check_interval =
        loader.duration(&settings::PROXY_CHECK_INTERVAL, "must be positive", |value| !value.is_zero());
    let capture_payloads = loader.boolean(&settings::HARPOON_CAPTURE_PAYLOADS);
    let health = loader.health();
    let pid_file = loader.optional_text(&settings::PID_FILE).map(PathBuf::from);
    if let Some(errors) = loader.findings.errors() {
        return Err(errors);
    }
    let secret_variables = loader.take_secret_variables();
    let assembled = || {
        let mut harpoon = harpoon?;
        harpoon.capture_payloads = capture_payloads?;
        Some(Config {
            document,
            ca_bundle,
            control_plane: control_plane?,
            log: log?,
            health: health?,
            admin_ui: admin_ui?,
            pid_file,
            mcp: mcp?,
            harpoon,
            cloudflared: cloudflared?,
            proxy_check_interval: proxy_check_interval?,
            secret_variables,
            warnings: std::mem::take(&mut loader.findings.warnings),
        })
    };
    // A section is missing only if it reported an error, and there was none.
    assembled().ok_or_else(|| {
        ConfigError::new(ErrorKind::Other, "the configuration is incomplete; please report this").into()
    })
}

/// The document that a load would read, without reading it.
///
/// # Errors
///
/// Contradicting selectors, a bad profile name, or no directory for it.
pub fn selected_document(flags: &FlagValues, environment: &Environment) -> Result<Document, ConfigErrors> {
    Ok(document::described(select::select(flags, environment)?))
}

/// Refuses targets beside the embedded stub, which is a target itself; only flags count.
///
/// # Errors
///
/// A sentence naming both flags.
pub fn check_stub_flags(flags: &FlagValues) -> Result<(), ConfigError> {
    let stub = settings::EMBEDDED_STUB;
    let targets = [settings::MCP_COMMAND.flag, settings::MCP_SERVER_URL.flag];
    match targets.into_iter().find(|target| flags.is_true(stub) && flags.is_given(target)) {
        None => Ok(()),
        Some(target) => {
            let message =
                format!("--{stub} cannot be combined with --{target}; use one main MCP target path");
            Err(ConfigError::new(ErrorKind::McpTarget, message))
        }
    }
}

impl Loader<'_> {
    fn log(&mut self) -> Option<Log> {
        let level = self.log_level();
        let format = self.log_format();
        let file = self.optional_text(&settings::LOG_FILE).map(PathBuf::from);
        // A file without a format is written as structured text.
        let format = format.map(|format| format.or(file.as_ref().map(|_| LogFormat::StructText)));
        // `info` with an offset is another level too.
        let is_info = |text: &String| text.trim().eq_ignore_ascii_case(settings::LOG_LEVEL.default);
        if let (Some(_), Some(None)) = (level, format)
            && !self.optional_text(&settings::LOG_LEVEL).as_ref().is_none_or(is_info)
        {
            let source = self.source(&settings::LOG_LEVEL);
            let message = format!(
                "log level requires 'struct-text' or 'json' log format: set --log.format, LOG_FORMAT or log.format ({source} is not info)"
            );
            self.findings.error(ErrorKind::Other, message);
        }
        let http_raw_unsafe = self.boolean(&settings::LOG_HTTP_RAW_UNSAFE);
        Some(Log { level: level?, format: format?, file, http_raw_unsafe: http_raw_unsafe? })
    }

    /// `Some(None)` for no format; `None` was reported.
    pub(crate) fn log_format(&mut self) -> Option<Option<LogFormat>> {
        let Some(text) = self.optional_text(&settings::LOG_FORMAT) else { return Some(None) };
        match text.trim().to_ascii_lowercase().as_str() {
            "struct-text" => Some(Some(LogFormat::StructText)),
            "json" => Some(Some(LogFormat::Json)),
            _ => {
                let source = self.source(&settings::LOG_FORMAT);
                let message =
                    format!("unsupported log format {:?}: use struct-text or json ({source})", text.trim());
                self.findings.error(ErrorKind::Other, message);
                None
            }
        }
    }

    pub(crate) fn log_level(&mut self) -> Option<LogLevel> {
        let text = self
            .optional_text(&settings::LOG_LEVEL)
            .unwrap_or_else(|| settings::LOG_LEVEL.default.to_owned());
        let level = log_level(text.trim());
        if level.is_none() {
            let source = self.source(&settings::LOG_LEVEL);
            let message =
                format!("parse log level {:?}: use debug, info, warn or error ({source})", text.trim());
            self.findings.error(ErrorKind::Other, message);
        }
        level
    }

    pub(crate) fn health(&mut self) -> Option<Health> {
        let unix_socket = self.optional_text(&settings::HEALTH_UNIX_SOCKET).map(PathBuf::from);
        let address = self.text_or_default(&settings::HEALTH_LISTEN_ADDR)?;
        let listen_addr = address.text.trim().to_owned();
        if unix_socket.is_none()
            && let Err(reason) = urls::listen_address(&listen_addr)
        {
            let message =
                format!("invalid health.listen-addr {listen_addr:?}: {reason} ({})", address.source);
            self.findings.error(ErrorKind::Other, message);
        }
        let url_file = self.optional_text(&settings::HEALTH_URL_FILE).map(PathBuf::from);
        Some(Health { listen_addr, unix_socket, url_file })
    }

    pub(crate) fn admin_ui(&mut self) -> Option<AdminUi> {
        let allow_remote = self.boolean(&settings::ALLOW_REMOTE_UI);
        let open_browser = self.boolean(&settings::OPEN_WEB_UI);
        let log_buffer_events = self.integer(
            &settings::LOG_BUFFER_EVENTS,
            (1, "must be greater than zero"),
            (MAX_LOG_BUFFER_EVENTS, "must be less than or equal to 100000"),
        );
        Some(AdminUi {
            allow_remote: allow_remote?,
            open_browser: open_browser?,
            log_buffer_events: usize::try_from(log_buffer_events?).ok()?,
        })
    }

    fn cloudflared(&mut self) -> Option<Cloudflared> {
        let token = self.cloudflared_token();
        let managed = self.boolean(&settings::CLOUDFLARED_MANAGED);
        let path = self.optional_text(&settings::CLOUDFLARED_PATH).map(|text| PathBuf::from(text.trim()));
        let ready_timeout =
            self.duration(&settings::CLOUDFLARED_READY_TIMEOUT, "must be positive", |value| !value.is_zero());
        if matches!(token, Some(Some(_))) || managed == Some(true) {
            let message = "the cloudflared companion is not part of this client: remove cloudflared.token and cloudflared.managed, and run cloudflared as a service of its own";
            self.findings.error(ErrorKind::Other, message);
        }
        Some(Cloudflared { token: token?, managed: managed?, path, ready_timeout: ready_timeout? })
    }

    /// `Some(None)` for no token; `None` was reported.
    fn cloudflared_token(&mut self) -> Option<Option<Secret<String>>> {
        let found = match self.text(&settings::CLOUDFLARED_TOKEN) {
            Lookup::Found(found) => found,
            Lookup::Absent => return Some(None),
            Lookup::Broken => return None,
        };
        let resolved = match found.source {
            Source::Variable(name) if found.text.trim().is_empty() => Err(format!("{name} is set but empty")),
            Source::Variable(name) => Ok(reference::Resolved {
                text: found.text.trim().to_owned(),
                origin: reference::Origin::Variable(name.to_owned()),
            }),
            _ => reference::token(&found.text, self.environment),
        };
        let named =
            resolved.map_err(|reason| format!("invalid cloudflared.token: {reason} ({})", found.source));
        let resolved = self.findings.check(ErrorKind::Other, named)?;
        self.secret_came_from(&resolved.origin);
        Some(Some(Secret::new(resolved.text)))
    }

    /// The missing `main` channel is worth telling even if other sections failed, unless the poll
    /// channels or the targets themselves are in doubt.
    fn check_routes_in_part(&mut self, mcp: Option<&super::Mcp>) {
        let unscoped = matches!(self.list(&settings::CONTROL_PLANE_POLL_CHANNELS), Lookup::Absent);
        if let (true, Some(mcp)) = (unscoped, mcp) {
            self.check_routes(None, &mcp.bindings, 0);
        }
    }
}

/// A level's name in any case, with an optional offset: four steps lie between two levels.
fn log_level(text: &str) -> Option<LogLevel> {
    let (name, offset) = match text.find(['+', '-']) {
        Some(at) => (&text[..at], text[at..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let base = match name.to_ascii_lowercase().as_str() {
        "debug" => -4,
        "info" => 0,
        "warn" => 4,
        "error" => 8,
        _ => return None,
    };
    Some(match base + offset.clamp(-100, 100) {
        ..=-4 => LogLevel::Debug,
        -3..=0 => LogLevel::Info,
        1..=4 => LogLevel::Warn,
        5.. => LogLevel::Error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_may_have_an_offset() {
        for (text, level) in [
            ("debug", LogLevel::Debug),
            ("DEBUG-1", LogLevel::Debug),
            ("Info", LogLevel::Info),
            ("info+2", LogLevel::Warn),
            ("warn+2", LogLevel::Error),
            ("error", LogLevel::Error),
        ] {
            assert_eq!(log_level(text), Some(level), "{text}");
        }
        for bad in ["", "loud", "info+", "info+x", "+1"] {
            assert_eq!(log_level(bad), None, "{bad}");
        }
    }
}
