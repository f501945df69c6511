//! What the answers to our own `initialize` and `server/discover` say about a server.

use serde_json::Value;

use crate::jsonrpc::METHOD_NOT_FOUND;
use crate::mcp::bridge::own::{
    HEADER_MISMATCH, INVALID_PARAMS, MISSING_CAPABILITY, MODERN_VERSION, UNSUPPORTED_VERSION, clipped, meta,
};
use crate::mcp::era::{LEGACY_VERSIONS, is_modern_version};
use crate::mcp::{Answer, Failure, Outcome};
use crate::net::Cause;

use super::ServerInfo;

/// Errors that only servers without the handshake give.
const MODERN_ERRORS: [i64; 2] = [HEADER_MISMATCH, MISSING_CAPABILITY];
/// Errors to `initialize` that say that the server does not know the handshake.
const REFUSALS: [i64; 6] = [
    UNSUPPORTED_VERSION,
    HEADER_MISMATCH,
    MISSING_CAPABILITY,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    INVALID_PARAMS,
];
/// JSON-RPC: the request is not a valid one.
const INVALID_REQUEST: i64 = -32600;
/// Revisions of a discovery that the log tells.
const MAX_NAMED_VERSIONS: usize = 8;

/// What an answer means.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The server speaks this era.
    Speaks(ServerInfo, Option<String>),
    /// It does not; `retry` is an older version that it might accept.
    Refuses { text: String, retry: Option<&'static str> },
    /// 401.
    AuthRequired(String),
    /// Nobody listens.
    Refused(String),
    /// No answer in time.
    Silent,
    /// The client stops.
    Cancelled,
    /// Anything else.
    Failed(String),
}

impl Verdict {
    /// The word for it in metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Verdict::Speaks(..) => "supported",
            Verdict::Refuses { .. } => "unsupported",
            Verdict::AuthRequired(_) => "auth",
            Verdict::Silent => "timeout",
            Verdict::Refused(_) | Verdict::Cancelled | Verdict::Failed(_) => "error",
        }
    }
}

/// Judges the end of an exchange that sent `initialize`.
pub(super) fn initialize(outcome: Outcome, cause: Option<Cause>, origin: &str) -> Verdict {
    let answer = match common("initialize", outcome, cause, origin) {
        Ok(answer) => answer,
        Err(verdict) => return verdict,
    };
    let message = parsed(&answer);
    if let Some(version) = message["result"]["protocolVersion"].as_str() {
        let session =
            answer.head.headers.get("Mcp-Session-Id").filter(|id| !id.is_empty()).map(str::to_owned);
        let info = server_info(&message["result"]["serverInfo"], version, false);
        if !LEGACY_VERSIONS.contains(&version) {
            log::warn!(target: "mcpclient", protocol_version = info.protocol_version.as_str(); "unfamiliar MCP protocol version");
        }
        return Verdict::Speaks(info, session);
    }
    let Some(code) = message["error"]["code"].as_i64() else {
        return Verdict::Failed("initialize was answered without a protocol version".to_owned());
    };
    let text = error_text("initialize", &answer, code);
    if REFUSALS.contains(&code) || is_refusal(answer.head.status) {
        Verdict::Refuses { text, retry: older_version(code, &message["error"]["data"]["supported"]) }
    } else {
        Verdict::Failed(text)
    }
}

/// Judges the end of an exchange that sent `server/discover`.
pub(super) fn discover(outcome: Outcome, cause: Option<Cause>, origin: &str) -> Verdict {
    let answer = match common("server/discover", outcome, cause, origin) {
        Ok(answer) => answer,
        Err(verdict) => return verdict,
    };
    let message = parsed(&answer);
    let (result, error) = (&message["result"], &message["error"]);
    let info = |versions: &Value| {
        let newest =
            strings(versions).filter(|version| is_modern_version(version)).max().unwrap_or(MODERN_VERSION);
        let mut info = server_info(&result["_meta"][meta::SERVER_INFO], newest, true);
        let all: Vec<&str> = strings(versions).take(MAX_NAMED_VERSIONS).collect();
        let named = if all.is_empty() { newest.to_owned() } else { all.join(", ") };
        info.supported_versions = clipped(named.into()).into();
        Verdict::Speaks(info, None)
    };
    if result.is_object() {
        let versions = &result["supportedVersions"];
        let known = strings(versions).next().is_some();
        if strings(versions).any(is_modern_version) || (!known && result["resultType"].is_string()) {
            return info(versions);
        }
    }
    let Some(code) = error["code"].as_i64() else {
        let text = "server/discover was answered without a usable version".to_owned();
        return Verdict::Refuses { text, retry: None };
    };
    let supported = &error["data"]["supported"];
    let names_legacy_only = strings(supported).next().is_some() && !strings(supported).any(is_modern_version);
    if MODERN_ERRORS.contains(&code) || (code == UNSUPPORTED_VERSION && !names_legacy_only) {
        return info(supported);
    }
    Verdict::Refuses { text: error_text("server/discover", &answer, code), retry: None }
}

/// What is judged alike for both methods; otherwise the answer.
fn common(method: &str, outcome: Outcome, cause: Option<Cause>, origin: &str) -> Result<Answer, Verdict> {
    let rejected = |status| format!("{method} was answered with HTTP status {status}");
    match outcome {
        Outcome::Answered(answer) if answer.head.status == 401 => Err(Verdict::AuthRequired(rejected(401))),
        Outcome::Answered(answer) if decides_nothing(answer.head.status) => {
            Err(Verdict::Failed(rejected(answer.head.status)))
        }
        Outcome::Answered(answer) => Ok(answer),
        Outcome::Failed(Failure::Rejected { head, .. }) => Err(match head.status {
            401 => Verdict::AuthRequired(rejected(401)),
            status if is_refusal(status) => Verdict::Refuses { text: rejected(status), retry: None },
            status => Verdict::Failed(rejected(status)),
        }),
        Outcome::Failed(Failure::Broken { kind, .. } | Failure::Lifecycle { kind, .. }) => {
            let text = format!("{method} got no usable answer from {origin}: {}", kind.label());
            Err(match cause {
                Some(Cause::ConnectionRefused | Cause::SocketMissing) => Verdict::Refused(text),
                Some(Cause::Cancelled) => Verdict::Cancelled,
                _ => Verdict::Failed(text),
            })
        }
        Outcome::Expired | Outcome::Withdrawn => Err(Verdict::Silent),
        Outcome::Accepted(head) => Err(Verdict::Failed(rejected(head.status))),
    }
}

/// Statuses that say nothing about eras, whatever the body.
fn decides_nothing(status: u16) -> bool {
    matches!(status, 403 | 407 | 408 | 429 | 500..)
}

fn is_refusal(status: u16) -> bool {
    (400..500).contains(&status) && status != 401 && !decides_nothing(status)
}

/// An own answer is small and read for a few members only; what is no JSON reads as null.
fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.json).unwrap_or_default()
}

fn error_text(method: &str, answer: &Answer, code: i64) -> String {
    format!("{method} was answered with JSON-RPC error {code} (HTTP status {})", answer.head.status)
}

fn strings(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// The version to repeat `initialize` with, if any.
fn older_version(code: i64, supported: &Value) -> Option<&'static str> {
    if supported.is_array() {
        return LEGACY_VERSIONS.into_iter().find(|known| strings(supported).any(|version| version == *known));
    }
    if code == INVALID_PARAMS { LEGACY_VERSIONS.last().copied() } else { None }
}

fn server_info(info: &Value, protocol_version: &str, modern: bool) -> ServerInfo {
    let text = |member: &str| info[member].as_str().unwrap_or_default().chars().take(64).collect();
    ServerInfo {
        protocol_version: protocol_version.chars().take(64).collect(),
        name: text("name"),
        version: text("version"),
        supported_versions: Box::default(),
        modern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::{FailureKind, Head};

    fn answer(status: u16, json: &str) -> Outcome {
        Outcome::Answered(Answer { head: Head::bare(status), json: json.to_owned() })
    }

    fn error(status: u16, error: &str) -> Outcome {
        answer(status, &format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#))
    }

    fn rejected(status: u16) -> Outcome {
        Outcome::Failed(Failure::Rejected { head: Head::bare(status), kind: FailureKind::MalformedJson })
    }

    fn word(verdict: Verdict) -> String {
        match verdict {
            Verdict::Speaks(info, _) => format!("speaks {}", info.protocol_version),
            Verdict::Refuses { retry, .. } => format!("refuses {}", retry.unwrap_or("for good")),
            Verdict::AuthRequired(_) => "auth".to_owned(),
            Verdict::Refused(_) => "refused".to_owned(),
            Verdict::Silent => "silent".to_owned(),
            Verdict::Cancelled => "cancelled".to_owned(),
            Verdict::Failed(_) => "failed".to_owned(),
        }
    }

    #[test]
    fn an_answer_to_initialize_tells_whether_the_server_knows_the_handshake() {
        let result = |version: &str| answer(200, &format!(r#"{{"result":{{"protocolVersion":{version}}}}}"#));
        for (outcome, expected) in [
            (result(r#""2025-03-26""#), "speaks 2025-03-26"),
            (result(r#""1999-01-01""#), "speaks 1999-01-01"),
            (result("7"), "failed"),
            (rejected(401), "auth"),
            (error(401, r#"{"code":-32600,"message":""}"#), "auth"),
            (rejected(403), "failed"),
            (rejected(429), "failed"),
            (rejected(503), "failed"),
            (error(500, r#"{"code":-32601,"message":""}"#), "failed"),
            (rejected(302), "failed"),
            (rejected(404), "refuses for good"),
            (error(400, r#"{"code":-32000,"message":""}"#), "refuses for good"),
            (error(200, r#"{"code":-32000,"message":""}"#), "failed"),
            (error(200, r#"{"code":-32601,"message":""}"#), "refuses for good"),
            (error(200, r#"{"code":-32602,"message":""}"#), "refuses 2024-11-05"),
            (
                error(
                    400,
                    r#"{"code":-32022,"data":{"supported":["2024-11-05","2025-03-26","2026-07-28"]}}"#,
                ),
                "refuses 2025-03-26",
            ),
            (error(400, r#"{"code":-32022,"data":{"supported":["2026-07-28"]}}"#), "refuses for good"),
            (Outcome::Expired, "silent"),
        ] {
            let shown = format!("{outcome:?}");
            assert_eq!(word(initialize(outcome, None, "http://h")), expected, "{shown}");
        }
    }

    #[test]
    fn an_answer_to_discover_tells_whether_the_server_does_without() {
        let result = |members: &str| answer(200, &format!(r#"{{"result":{{{members}}}}}"#));
        for (outcome, expected) in [
            (result(r#""supportedVersions":["2025-11-25","2026-07-28"]"#), "speaks 2026-07-28"),
            (result(r#""supportedVersions":["2025-11-25"]"#), "refuses for good"),
            (result(r#""resultType":"complete""#), "speaks 2026-07-28"),
            (result(""), "refuses for good"),
            (error(400, r#"{"code":-32022}"#), "speaks 2026-07-28"),
            (error(400, r#"{"code":-32022,"data":{"supported":["2027-01-01"]}}"#), "speaks 2027-01-01"),
            (error(400, r#"{"code":-32022,"data":{"supported":["2025-11-25"]}}"#), "refuses for good"),
            (error(400, r#"{"code":-32020}"#), "speaks 2026-07-28"),
            (error(200, r#"{"code":-32601}"#), "refuses for good"),
            (rejected(401), "auth"),
            (rejected(500), "failed"),
            (rejected(400), "refuses for good"),
        ] {
            let shown = format!("{outcome:?}");
            assert_eq!(word(discover(outcome, None, "http://h")), expected, "{shown}");
        }
    }

    #[test]
    fn only_a_missing_listener_is_worth_waiting_for() {
        let broken = || Outcome::Failed(Failure::broken(crate::mcp::Source::Connect, FailureKind::Dial));
        for (cause, expected) in [
            (Cause::ConnectionRefused, "refused"),
            (Cause::SocketMissing, "refused"),
            (Cause::Cancelled, "cancelled"),
            (Cause::Dns, "failed"),
            (Cause::Tls, "failed"),
            (Cause::HostUnreachable, "failed"),
        ] {
            assert_eq!(word(initialize(broken(), Some(cause), "http://h")), expected, "{cause:?}");
        }
    }
}
