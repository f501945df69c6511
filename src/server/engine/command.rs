//! Commands: what a connector's request becomes for the client that polls.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::ids::Channel;
use crate::server::clock;

/// Identifies one command; its text is `req_` and 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestId(u128);

/// Bytes of a request id's text.
const ID_PREFIX: &str = "req_";
const ID_DIGITS: usize = 32;

impl RequestId {
    /// Reads the text form.
    pub(crate) fn parse(text: &str) -> Option<RequestId> {
        let digits = text.strip_prefix(ID_PREFIX)?;
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if digits.len() != ID_DIGITS || !digits.bytes().all(lower_hex) {
            return None;
        }
        u128::from_str_radix(digits, 16).ok().map(RequestId)
    }
}

/// Makes ids: unique, and told apart from those of other processes. They need not be hard to guess,
/// since a shard token vouches for each.
pub(crate) struct RequestIds {
    prefix: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Fails when the kernel gives no random bytes.
    pub(crate) fn new() -> Result<RequestIds, getrandom::Error> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes)?;
        let random = u128::from_ne_bytes(bytes);
        Ok(RequestIds { prefix: (random >> 64) as u64, next: AtomicU64::new(random as u64) })
    }

    /// A fresh id.
    pub(crate) fn next(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        RequestId(u128::from(self.prefix) << 64 | u128::from(number))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{ID_PREFIX}{:032x}", self.0)
    }
}

/// What a command asks the client to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Forward a JSON-RPC message.
    JsonRpc,
    /// End an MCP session.
    SessionTermination,
    /// Fetch the protected-resource metadata of the MCP server.
    OauthDiscovery,
}

impl Kind {
    /// Every kind, in the order of their declaration.
    pub(crate) const ALL: [Kind; 3] = [Kind::JsonRpc, Kind::SessionTermination, Kind::OauthDiscovery];

    /// The wire's `command_type`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::JsonRpc => "jsonrpc",
            Kind::SessionTermination => "session_termination",
            Kind::OauthDiscovery => "oauth_discovery",
        }
    }
}

/// A header of a command: its name and its values in order.
pub(crate) type Header = (String, Vec<String>);

/// A command as a poll's reply carries it, but for `response_timeout`, which is known only then.
#[derive(Debug)]
pub(crate) struct Command {
    before_timeout: String,
    after_timeout: String,
}

impl Command {
    /// Renders the parts; `payload` is the JSON-RPC message, which is copied as it is.
    pub(crate) fn render(
        id: RequestId,
        shard_token: &str,
        kind: Kind,
        channel: &Channel,
        created_at: SystemTime,
        headers: &[Header],
        payload: Option<&str>,
    ) -> Command {
        let before_timeout = format!(
            r#"{{"request_id":"{id}","shard_token":"{shard_token}","command_type":"{}","channel":"{channel}","created_at":"{}","response_timeout":""#,
            kind.as_str(),
            clock::rfc3339(created_at),
        );
        let mut after_timeout = String::with_capacity(512 + payload.map_or(0, str::len));
        after_timeout.push_str(r#"ms","headers":{"#);
        for (number, (name, values)) in headers.iter().enumerate() {
            if number > 0 {
                after_timeout.push(',');
            }
            push_string(&mut after_timeout, name);
            after_timeout.push_str(":[");
            for (number, value) in values.iter().enumerate() {
                if number > 0 {
                    after_timeout.push(',');
                }
                push_string(&mut after_timeout, value);
            }
            after_timeout.push(']');
        }
        after_timeout.push('}');
        if let Some(payload) = payload {
            after_timeout.push_str(r#","jsonrpc":"#);
            after_timeout.push_str(payload);
        }
        after_timeout.push('}');
        Command { before_timeout, after_timeout }
    }

    /// Bytes it occupies in the queue and on the wire, about.
    pub(crate) fn bytes(&self) -> usize {
        self.before_timeout.len() + self.after_timeout.len()
    }

    /// Writes it out with its time-out.
    pub(crate) fn write(&self, timeout_ms: u64, out: &mut String) {
        out.push_str(&self.before_timeout);
        out.push_str(&timeout_ms.to_string());
        out.push_str(&self.after_timeout);
    }
}

/// Appends `text` as a JSON string.
fn push_string(out: &mut String, text: &str) {
    if text.bytes().all(|b| b >= b' ' && b != b'"' && b != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text_form_and_nothing_else_is_one() {
        let ids = RequestIds::new().unwrap();
        let id = ids.next();
        assert_ne!(id, ids.next());
        assert_eq!(RequestId::parse(&id.to_string()), Some(id));
        let text = "req_0123456789abcdef0123456789abcdef";
        assert_eq!(RequestId::parse(text).unwrap().to_string(), text);
        for bad in
            ["", "req_", "req_0123456789ABCDEF0123456789ABCDEF", "req_+123456789abcdef0123456789abcdef"]
        {
            assert_eq!(RequestId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_command_is_valid_json_with_its_payload_untouched() {
        let id = RequestId::parse("req_0123456789abcdef0123456789abcdef").unwrap();
        let headers = vec![("X-A".to_owned(), vec!["1".to_owned(), "\"q\"\\\u{1}é".to_owned()])];
        let payload = r#"{ "jsonrpc":"2.0" , "id":1.0e0, "method":"m" }"#;
        let command = Command::render(
            id,
            "v1.tok",
            Kind::JsonRpc,
            &Channel::main(),
            std::time::UNIX_EPOCH,
            &headers,
            Some(payload),
        );
        let mut out = String::new();
        command.write(29_480, &mut out);
        assert!(out.contains(payload));
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["request_id"], "req_0123456789abcdef0123456789abcdef");
        assert_eq!(value["response_timeout"], "29480ms");
        assert_eq!(value["command_type"], "jsonrpc");
        assert_eq!(value["channel"], "main");
        assert_eq!(value["created_at"], "1970-01-01T00:00:00.000Z");
        assert_eq!(value["headers"]["X-A"][1], "\"q\"\\\u{1}é");
    }

    #[test]
    fn a_command_without_headers_or_payload_has_an_empty_object_and_no_member() {
        let id = RequestIds::new().unwrap().next();
        let command = Command::render(
            id,
            "t",
            Kind::SessionTermination,
            &Channel::main(),
            SystemTime::now(),
            &[],
            None,
        );
        let mut out = String::new();
        command.write(1, &mut out);
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["headers"], serde_json::json!({}));
        assert!(value.get("jsonrpc").is_none());
    }
}
