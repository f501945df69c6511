//! `cloudflared`: a configuration for a cloudflared that runs as a service of its own.
//!
//! Nothing is started, and the token's file is named but never opened: no secret can reach the output.

use std::fmt::Write as _;

use crate::config::settings::Kind;
use crate::config::{OwnFlag, format_duration, parse_duration};

use super::tree::{Call, Node, Shape, Words};
use super::{Failure, help};

pub(super) static GROUP: Node = Node {
    name: "cloudflared",
    summary: "Write a configuration for a cloudflared of your own",
    about: "\
No cloudflared is part of this client, and run starts none. One that runs beside it, as a service of its
own, takes its configuration from a file.",
    kind: Shape::Group(&[&VERSION, &CONFIG]),
    ..Node::BLANK
};

static VERSION: Node = Node {
    name: "version",
    summary: "Tell which cloudflared comes with this client",
    kind: Shape::Command { words: Words::None, help: None, main: version },
    ..Node::BLANK
};

static CONFIG: Node = Node {
    name: "config",
    summary: "Print a configuration file for cloudflared",
    examples: &["tunnel-client cloudflared config --token-file /run/secrets/cloudflared/token"],
    flags: FLAGS,
    kind: Shape::Command { words: Words::Any(""), help: None, main: config },
    ..Node::BLANK
};

const TOKEN_FILE: OwnFlag =
    text("token-file", "", "File that holds the tunnel's token (required); it is not opened here.");
const METRICS: OwnFlag =
    text("metrics-address", "127.0.0.1:20241", "Host and port of cloudflared's metrics and readiness.");
const LOG_LEVEL: OwnFlag = text("log-level", "info", "debug, info, warn, error or fatal.");
const TRANSPORT_LOG_LEVEL: OwnFlag =
    text("transport-log-level", "warn", "The same, of the connections to the edge.");
const PROTOCOL: OwnFlag = text("protocol", "auto", "auto, http2 or quic.");
const EDGE_IP_VERSION: OwnFlag = text("edge-ip-version", "auto", "auto, 4 or 6.");
const RETRIES: OwnFlag = OwnFlag {
    name: "retries",
    kind: Kind::Integer,
    default: "5",
    help: "How often a failed connection is tried again.",
};
const GRACE_PERIOD: OwnFlag = OwnFlag {
    name: "grace-period",
    kind: Kind::Duration,
    default: "30s",
    help: "How long running requests may take at a stop.",
};

const FLAGS: &[OwnFlag] =
    &[TOKEN_FILE, METRICS, LOG_LEVEL, TRANSPORT_LOG_LEVEL, PROTOCOL, EDGE_IP_VERSION, RETRIES, GRACE_PERIOD];

const LEVELS: &[&str] = &["debug", "info", "warn", "error", "fatal"];

const fn text(name: &'static str, default: &'static str, help: &'static str) -> OwnFlag {
    OwnFlag { name, kind: Kind::Text, default, help }
}

fn version(_: &Call) -> Result<(), Failure> {
    help::print(
        "bundled cloudflared none\n\
         module: none\n\
         release commit: none\n\
         security patch owner: none\n",
    )
}

fn config(call: &Call) -> Result<(), Failure> {
    if let Some(word) = call.words.first() {
        return Err(Failure::new(format!("unknown command {word:?} for {:?}", call.path)));
    }
    let document = document(call).map_err(|error| Failure::new(format!("cloudflared config: {error}")))?;
    help::print(&document)
}

fn document(call: &Call) -> Result<String, String> {
    let value = |flag: &OwnFlag| {
        let value = call.flags.last(flag.name).unwrap_or(flag.default).trim();
        match value.contains(char::is_control) {
            true => Err(format!("--{} must be a single line", flag.name)),
            false => Ok(value.to_owned()),
        }
    };
    let one_of = |flag: &OwnFlag, known: &[&str]| {
        let value = value(flag)?;
        match known.contains(&value.as_str()) {
            true => Ok(quoted(&value)),
            false => Err(format!("--{} must be one of {}, not {value:?}", flag.name, known.join(", "))),
        }
    };
    let token_file = value(&TOKEN_FILE)?;
    if token_file.is_empty() {
        return Err("--token-file is required".to_owned());
    }
    let metrics = value(&METRICS)?;
    if !is_address(&metrics) {
        return Err(format!(
            "--{} must be host:port with a port from 1 to 65535, not {metrics:?}",
            METRICS.name
        ));
    }
    let retries = value(&RETRIES)?.parse::<i64>().ok().filter(|retries| *retries >= 0);
    let grace_period = parse_duration(&value(&GRACE_PERIOD)?).filter(|period| !period.is_zero());
    let rows = [
        ("token-file", quoted(&token_file)),
        ("no-autoupdate", "true".to_owned()),
        ("metrics", quoted(&metrics)),
        ("loglevel", one_of(&LOG_LEVEL, LEVELS)?),
        ("transport-loglevel", one_of(&TRANSPORT_LOG_LEVEL, LEVELS)?),
        ("protocol", one_of(&PROTOCOL, &["auto", "http2", "quic"])?),
        ("edge-ip-version", one_of(&EDGE_IP_VERSION, &["auto", "4", "6"])?),
        ("retries", retries.ok_or_else(|| format!("--{} must not be negative", RETRIES.name))?.to_string()),
        (
            "grace-period",
            quoted(&format_duration(
                grace_period.ok_or_else(|| format!("--{} must be positive", GRACE_PERIOD.name))?,
            )),
        ),
    ];
    let mut document = "# Configuration of cloudflared, written by tunnel-client cloudflared config.\n\
         # TUNNEL_MANAGEMENT_DIAGNOSTICS=false cloudflared tunnel --config FILE run\n"
        .to_owned();
    for (key, value) in rows {
        let _ = writeln!(document, "{key}: {value}");
    }
    Ok(document)
}

fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && host != "[]" && (is_bracketed || !host.contains(':'));
    is_host
        && port.bytes().all(|digit| digit.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A double-quoted scalar of YAML; JSON's strings are some.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["127.0.0.1:20241", "localhost:1", "[::1]:65535"] {
            assert!(is_address(good), "{good}");
        }
        for wrong in ["", "x", ":1", "x:0", "x:65536", "x:+1", "x:", "::1:5", "[]:5"] {
            assert!(!is_address(wrong), "{wrong}");
        }
    }
}
