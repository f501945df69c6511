//! `/api/log-level`: the live level of the log.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::LogLevel;
use crate::ops::listener::{BodyError, Request, Response};
use crate::ops::log::LogHandle;

use super::routes::json_response;

/// Longest body.
const BODY_BYTES: usize = 1024 * 1024;
/// The levels that may be set.
const SUPPORTED: [(&str, LogLevel); 3] =
    [("debug", LogLevel::Debug), ("info", LogLevel::Info), ("warn", LogLevel::Warn)];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    level: Option<String>,
}

pub(super) fn answer(request: &mut Request<'_>, log: Option<&LogHandle>) -> Response {
    if request.method != "GET" && request.method != "PUT" {
        return Response::method_not_allowed("GET, PUT");
    }
    let Some(log) = log else {
        return Response::error(500, "runtime log level control unavailable");
    };
    if request.method == "PUT"
        && let Err(message) = set(request, log)
    {
        return Response::error(400, &message);
    }
    json_response(&document(log.level()))
}

fn document(level: LogLevel) -> Value {
    json!({ "level": name(level), "supported_levels": SUPPORTED.map(|(name, _)| name) })
}

fn set(request: &mut Request<'_>, log: &LogHandle) -> Result<(), String> {
    let body = request.read_body(BODY_BYTES).map_err(|error| match error {
        BodyError::TooLarge => "decode request: request body too large",
        BodyError::Broken => "decode request: the request body did not arrive",
    })?;
    let level = wanted(&body)?;
    let previous = log.level();
    log.set_level(level);
    let severity = match level {
        LogLevel::Debug => log::Level::Debug,
        LogLevel::Info => log::Level::Info,
        LogLevel::Warn => log::Level::Warn,
        LogLevel::Error => log::Level::Error,
    };
    log::log!(target: "adminui", severity, previous_level = name(previous), new_level = name(level);
        "runtime log level updated");
    Ok(())
}

fn wanted(body: &[u8]) -> Result<LogLevel, String> {
    // Only an object: the decoder would take a list for one.
    if body.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err("decode request: a JSON object is expected".to_owned());
    }
    let wanted: Wanted = serde_json::from_slice(body).map_err(|error| format!("decode request: {error}"))?;
    let raw = wanted.level.unwrap_or_default();
    let level = raw.trim().to_ascii_lowercase();
    let known = SUPPORTED.iter().find(|(name, _)| *name == level);
    known
        .map(|(_, level)| *level)
        .ok_or_else(|| format!("unsupported log level {raw:?} (expected one of: debug, info, warn)"))
}

fn name(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_level_is_one_object_with_one_known_level() {
        for (body, level) in [
            (r#"{"level":" DEBUG "}"#, Some(LogLevel::Debug)),
            (r#" {"level":"info"} "#, Some(LogLevel::Info)),
            (r#"{"level":"warn"}"#, Some(LogLevel::Warn)),
            (r#"{"level":"error"}"#, None),
            (r#"{"level":"info","x":1}"#, None),
            (r#"{"level":"info"}{}"#, None),
            (r#"{"level":"info"} x"#, None),
            (r#"["info"]"#, None),
            (r#"{"level":3}"#, None),
            ("{}", None),
            ("null", None),
            ("", None),
            ("level=info", None),
        ] {
            assert_eq!(wanted(body.as_bytes()).ok(), level, "{body}");
        }
        let text = |body: &str| wanted(body.as_bytes()).unwrap_err();
        assert_eq!(
            text(r#"{"level":"Error"}"#),
            r#"unsupported log level "Error" (expected one of: debug, info, warn)"#
        );
        assert!(text("").starts_with("decode request: "));
    }
}
