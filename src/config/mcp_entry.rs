//! The text form of MCP target entries.
//!
//! Invariant: no error shows the entry, whose URL or command may hold a credential.

use crate::order;
use std::collections::BTreeMap;

use super::settings::{self, Kind};

/// An entry that begins with one of these is made of keys and values.
const QUALIFIERS: &[&str] = &[
    "url=",
    "command=",
    "channel=",
    "unix-socket=",
    "http-proxy=",
    "client-cert=",
    "client-key=",
    "protocol-bridge=",
];
/// Keys that belong to HTTP entries; a qualified command must not hold them.
const HTTP_ONLY: &[&str] = &[",http-proxy=", ",url=", ",unix-socket=", ",client-cert=", ",client-key="];

/// The parts of an entry, by the keys of its text form.
pub(super) type Parts = BTreeMap<&'static str, String>;

fn is_qualified(entry: &str) -> bool {
    let lower = entry.to_ascii_lowercase();
    QUALIFIERS.iter().any(|qualifier| lower.starts_with(qualifier))
}

/// The keys and values of a trimmed HTTP entry.
pub(super) fn http_parts(entry: &str) -> Result<Parts, String> {
    if !is_qualified(entry) {
        return Ok(order::gathered([("url", entry.to_owned())]));
    }
    let Kind::Entries(_, fields) = settings::MCP_SERVER_URL.kind else { return Ok(BTreeMap::new()) };
    let mut parts = BTreeMap::new();
    for segment in entry.split(',').map(str::trim).filter(|segment| !segment.is_empty()) {
        let (key, value) =
            segment.split_once('=').ok_or("a part of the entry has no =; expected key=value pairs")?;
        let (key, value) = (key.trim(), value.trim());
        let field = fields.iter().find(|field| field.key == key);
        match field {
            _ if key.is_empty() => return Err("an empty key".to_owned()),
            None => return Err(format!("unsupported key {key:?}")),
            Some(_) if value.is_empty() => return Err(format!("{key} has an empty value")),
            Some(field) => parts.insert(field.key, value.to_owned()),
        };
    }
    let has = |key: &str| parts.contains_key(key);
    match (has("url"), has("client-cert"), has("client-key")) {
        (false, _, _) => Err("url is missing".to_owned()),
        (_, true, false) => Err("missing client-key: client-cert needs it".to_owned()),
        (_, false, true) => Err("missing client-cert: client-key needs it".to_owned()),
        _ => Ok(parts),
    }
}

/// The channel and command of a trimmed command entry.
pub(super) fn command_parts(entry: &str) -> Result<Parts, String> {
    if !is_qualified(entry) {
        return Ok(order::gathered([("command", entry.to_owned())]));
    }
    let (channel, command) = if let Some(rest) = entry.strip_prefix("channel=") {
        let (channel, rest) = rest.split_once(',').ok_or("expected channel=NAME,command=COMMAND")?;
        let command =
            rest.trim_start().strip_prefix("command=").ok_or_else(|| match rest.split_once('=') {
                Some((key, _)) if !key.contains(char::is_whitespace) => {
                    format!("unsupported key {:?}: expected channel=NAME,command=COMMAND", key.trim())
                }
                _ => "expected channel=NAME,command=COMMAND".to_owned(),
            })?;
        (Some(channel), command)
    } else if let Some(rest) = entry.strip_prefix("command=") {
        match rest.rsplit_once(",channel=") {
            Some((command, channel)) => (Some(channel), command),
            None => (None, rest),
        }
    } else {
        let key = entry.split('=').next().unwrap_or_default();
        return Err(format!("unsupported key {key:?}: expected channel=NAME,command=COMMAND"));
    };
    let lower = command.to_ascii_lowercase();
    if let Some(key) = HTTP_ONLY.iter().find(|key| lower.contains(*key)) {
        return Err(format!("unsupported key {:?} for a command", key.trim_matches([',', '='])));
    }
    let mut parts: Parts = order::gathered([("command", command.trim().to_owned())]);
    if let Some(channel) = channel {
        parts.insert("channel", channel.trim().to_owned());
    }
    Ok(parts)
}
