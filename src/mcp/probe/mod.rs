//! The readiness probe of the main channel's HTTP server.
//!
//! One handshake of our own: `initialize`, or `server/discover` if the server knows no handshake.
//! Invariant: the reply to those alone decides; the session that the probe opened is closed by it, and
//! no text it gives out holds more of a URL than the origin.

mod judge;

use std::time::{Duration, Instant};

use crate::jsonrpc::Message;
use crate::net::{Cancel, Cause, Deadline, HeaderList};

use super::bridge::own::MODERN_VERSION;
use super::http::HttpBinding;
use super::{Exchange, Outcome};
use judge::Verdict;

/// Time for each handshake.
const BUDGET: Duration = Duration::from_secs(2);
/// Time for the closing DELETE.
const CLOSE_TIME: Duration = Duration::from_secs(2);
/// First and longest pause while nobody listens.
const LISTENER_PAUSE: Duration = Duration::from_millis(50);
const LISTENER_PAUSE_MAX: Duration = Duration::from_secs(1);
/// First and longest pause before a failed probe is repeated.
const REPEAT_PAUSE: Duration = Duration::from_secs(5);
const REPEAT_PAUSE_MAX: Duration = Duration::from_secs(60);
const PROTOCOL_VERSION: &str = "2025-06-18";

/// How the probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The server answered the handshake.
    Ready(ServerInfo),
    /// It wants authorization: commands bring their own, so it counts as ready.
    AuthRequired(String),
    /// It did not answer in time: it may be slow, so it counts as ready.
    TimedOut(String),
    /// Nobody listened for as long as the startup wait allowed.
    WaitExhausted(String),
    /// Everything else.
    Failed(String),
}

/// What a server said about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// The negotiated version, or the newest one discovered.
    pub protocol_version: String,
    /// Its name, at most 64 characters; may be empty.
    pub name: String,
    /// Its version, at most 64 characters; may be empty.
    pub version: String,
    /// The revisions that it named, if it was discovered, at most 64 characters.
    pub supported_versions: Box<str>,
    /// It knows no handshake and was discovered instead.
    pub modern: bool,
}

/// What one probe came to.
enum Attempt {
    /// A result, and the headers that name the session to be closed.
    Settled(ProbeResult, Option<HeaderList>),
    /// Nobody listens.
    Refused(String),
    /// The client stops.
    Cancelled,
}

impl ProbeResult {
    /// The state's name in the status: `ok`, `auth-required`, `timeout` or `failed`.
    pub fn status(&self) -> &'static str {
        match self {
            ProbeResult::Ready(_) => "ok",
            ProbeResult::AuthRequired(_) => "auth-required",
            ProbeResult::TimedOut(_) => "timeout",
            ProbeResult::WaitExhausted(_) | ProbeResult::Failed(_) => "failed",
        }
    }

    /// What went wrong; `None` for [`ProbeResult::Ready`].
    pub fn error(&self) -> Option<&str> {
        match self {
            ProbeResult::Ready(_) => None,
            ProbeResult::AuthRequired(text)
            | ProbeResult::TimedOut(text)
            | ProbeResult::WaitExhausted(text)
            | ProbeResult::Failed(text) => Some(text),
        }
    }

    /// Whether the server does not keep the client from being ready.
    pub fn is_ready(&self) -> bool {
        !matches!(self, ProbeResult::WaitExhausted(_) | ProbeResult::Failed(_))
    }
}

/// Probes `binding`, after waiting up to `startup_wait` for a listener (zero: no wait), and again with
/// growing pauses until it is ready. Every change of the result goes to `report`, the first one as soon
/// as it is known; after the last one, or when `cancel` fires, this returns. `cancel` must be what cuts
/// the binding's client.
pub fn run(
    binding: &HttpBinding,
    startup_wait: Duration,
    cancel: &Cancel,
    report: &mut dyn FnMut(&ProbeResult),
) {
    let first = if startup_wait.is_zero() {
        run_once(binding, report)
    } else {
        wait_for_listener(binding, startup_wait, cancel, report)
    };
    let Some(mut current) = first else { return };
    let mut pause = REPEAT_PAUSE;
    while !current.is_ready() {
        if cancel.wait(pause) {
            return;
        }
        pause = (pause * 2).min(REPEAT_PAUSE_MAX);
        let since = Instant::now();
        let (result, session) = match attempt(binding, BUDGET) {
            Attempt::Settled(result, session) => (result, session),
            // The wait is what failed, and it has not been made good.
            Attempt::Refused(_) if matches!(current, ProbeResult::WaitExhausted(_)) => continue,
            Attempt::Refused(text) => (ProbeResult::Failed(text), None),
            Attempt::Cancelled => return,
        };
        if result != current {
            log_result(binding, &result, since);
            report(&result);
            current = result;
        }
        close(binding, session);
    }
}

/// Probes once. The result goes to `report` before the probe's own session is closed, and is returned;
/// `None` if the client stops.
pub fn run_once(binding: &HttpBinding, report: &mut dyn FnMut(&ProbeResult)) -> Option<ProbeResult> {
    log_start(binding);
    let since = Instant::now();
    match attempt(binding, BUDGET) {
        Attempt::Settled(result, session) => Some(settle(binding, result, session, since, report)),
        Attempt::Refused(text) => Some(settle(binding, ProbeResult::Failed(text), None, since, report)),
        Attempt::Cancelled => None,
    }
}

/// Like [`run_once`], but probes again while nobody listens, for at most `wait`.
pub fn wait_for_listener(
    binding: &HttpBinding,
    wait: Duration,
    cancel: &Cancel,
    report: &mut dyn FnMut(&ProbeResult),
) -> Option<ProbeResult> {
    log_start(binding);
    let overall = Deadline::after(wait);
    let remaining = || overall.remaining().unwrap_or_default();
    let mut last = "deadline exceeded".to_owned();
    let mut pause = LISTENER_PAUSE;
    let mut attempts = 0u32;
    while !overall.is_past() {
        attempts += 1;
        let since = Instant::now();
        let text = match attempt(binding, BUDGET.min(remaining())) {
            Attempt::Settled(ProbeResult::TimedOut(_), _) if overall.is_past() => break,
            Attempt::Settled(result, session) => {
                return Some(settle(binding, result, session, since, report));
            }
            Attempt::Refused(text) => text,
            Attempt::Cancelled => return None,
        };
        if remaining() > pause {
            log::warn!(target: "mcpclient", attempt = attempts, backoff:% = spelled(pause), error = text.as_str();
                "retrying MCP startup probe");
        }
        last = text;
        if cancel.wait(pause.min(remaining())) {
            return None;
        }
        pause = (pause * 2).min(LISTENER_PAUSE_MAX);
    }
    let text = format!("mcp startup wait timed out after {}: {last}", spelled(wait));
    log::error!(target: "mcpclient", timeout:% = spelled(wait), error = last; "MCP startup wait timed out");
    let result = ProbeResult::WaitExhausted(text);
    report(&result);
    Some(result)
}

fn settle(
    binding: &HttpBinding,
    result: ProbeResult,
    session: Option<HeaderList>,
    since: Instant,
    report: &mut dyn FnMut(&ProbeResult),
) -> ProbeResult {
    log_result(binding, &result, since);
    report(&result);
    close(binding, session);
    result
}

/// The handshake: `initialize`, and `server/discover` if the server refuses that.
fn attempt(binding: &HttpBinding, budget: Duration) -> Attempt {
    let deadline = Deadline::after(budget);
    let verdict = initialize(binding, deadline);
    binding.tally().probe("initialize", verdict.label());
    let refusal = match verdict {
        Verdict::Speaks(info, session_id) => return welcome(binding, info, session_id, deadline),
        Verdict::Refuses { text, .. } => text,
        Verdict::AuthRequired(text) => return Attempt::Settled(ProbeResult::AuthRequired(text), None),
        Verdict::Refused(text) => return Attempt::Refused(text),
        Verdict::Silent => {
            let text = format!(
                "mcp probe timed out after {}: no answer to initialize from {}",
                spelled(budget),
                binding.origin()
            );
            return Attempt::Settled(ProbeResult::TimedOut(text), None);
        }
        Verdict::Cancelled => return Attempt::Cancelled,
        Verdict::Failed(text) => return Attempt::Settled(ProbeResult::Failed(text), None),
    };
    let discovered = discover(binding);
    binding.tally().probe("server_discover", discovered.label());
    let result = match discovered {
        Verdict::Speaks(info, _) => ProbeResult::Ready(info),
        Verdict::AuthRequired(text) => ProbeResult::AuthRequired(text),
        Verdict::Silent => {
            let text = format!("no answer in {}", spelled(BUDGET));
            ProbeResult::Failed(format!("initialize: {refusal}; server/discover: {text}"))
        }
        Verdict::Cancelled => return Attempt::Cancelled,
        Verdict::Refuses { text, .. } | Verdict::Refused(text) | Verdict::Failed(text) => {
            ProbeResult::Failed(format!("initialize: {refusal}; server/discover: {text}"))
        }
    };
    Attempt::Settled(result, None)
}

/// What a server says to the test of one era.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It speaks it: the negotiated version, or the newest one discovered.
    Speaks(String),
    /// It wants authorization first.
    AuthRequired,
    /// It answered that it does not.
    Refuses(String),
    /// It gave no answer that says anything.
    Undecided(String),
}

/// Tests both eras, `initialize` first, and closes the session that this opens; sends nothing else.
pub fn examine(binding: &HttpBinding) -> [Finding; 2] {
    let verdict = initialize(binding, Deadline::after(BUDGET));
    if let Verdict::Speaks(info, Some(session)) = &verdict {
        close(binding, Some(session_headers(info, Some(session))));
    }
    let discovered = discover(binding);
    let found = |verdict| match verdict {
        Verdict::Speaks(info, _) => Finding::Speaks(info.protocol_version),
        Verdict::AuthRequired(_) => Finding::AuthRequired,
        Verdict::Refuses { text, .. } => Finding::Refuses(text),
        Verdict::Refused(_) => Finding::Undecided("connection refused".to_owned()),
        Verdict::Silent => Finding::Undecided("timeout".to_owned()),
        Verdict::Cancelled => Finding::Undecided("canceled".to_owned()),
        Verdict::Failed(text) => Finding::Undecided(text),
    };
    [found(verdict), found(discovered)]
}

/// Asks for a handshake, and once more if the server names an older version that it would accept.
fn initialize(binding: &HttpBinding, deadline: Deadline) -> Verdict {
    let ask = |version: &str| {
        let (outcome, cause) = exchange(binding, initialize_json(version), &HeaderList::new(), deadline);
        judge::initialize(outcome, cause, &binding.origin())
    };
    match ask(PROTOCOL_VERSION) {
        Verdict::Refuses { retry: Some(older), .. } => ask(older),
        verdict => verdict,
    }
}

fn discover(binding: &HttpBinding) -> Verdict {
    let headers = [("Mcp-Protocol-Version", MODERN_VERSION), ("Mcp-Method", "server/discover")];
    let headers = headers.into_iter().collect();
    let (outcome, cause) = exchange(binding, discover_json(), &headers, Deadline::after(BUDGET));
    judge::discover(outcome, cause, &binding.origin())
}

/// Completes a handshake that the server accepted. Its answer to the notification decides nothing.
fn welcome(
    binding: &HttpBinding,
    info: ServerInfo,
    session_id: Option<String>,
    deadline: Deadline,
) -> Attempt {
    let headers = session_headers(&info, session_id.as_deref());
    let json = r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":{}}"#;
    if let (_, Some(Cause::Cancelled)) = exchange(binding, json.to_owned(), &headers, deadline) {
        return Attempt::Cancelled;
    }
    Attempt::Settled(ProbeResult::Ready(info), Some(headers))
}

fn session_headers(info: &ServerInfo, session_id: Option<&str>) -> HeaderList {
    let mut headers = HeaderList::new();
    headers.add("Mcp-Protocol-Version", info.protocol_version.as_str());
    if let Some(session_id) = session_id {
        headers.add("Mcp-Session-Id", session_id);
    }
    headers
}

/// Closes the session that the probe opened; best effort.
fn close(binding: &HttpBinding, session: Option<HeaderList>) {
    let Some(headers) = session else { return };
    let error = match binding.terminate_own_session(&headers, Deadline::after(CLOSE_TIME)) {
        Outcome::Expired => "no answer in time".to_owned(),
        Outcome::Failed(super::Failure::Broken { kind, .. }) => kind.label().to_owned(),
        _ => return,
    };
    log::warn!(target: "mcpclient", error = error; "failed to close mcp session");
}

fn exchange(
    binding: &HttpBinding,
    json: String,
    headers: &HeaderList,
    deadline: Deadline,
) -> (Outcome, Option<Cause>) {
    match Message::parse(json) {
        Ok(message) => {
            let exchange = Exchange { message: &message, headers, deadline };
            binding.discovery_exchange(&exchange, &mut |_| {})
        }
        // Unreachable: the messages are our own.
        Err(_) => (Outcome::Expired, None),
    }
}

fn initialize_json(version: &str) -> String {
    format!(
        concat!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{{"protocolVersion":"{}","#,
            r#""capabilities":{{"roots":{{"listChanged":true}}}},"#,
            r#""clientInfo":{{"name":"tunnel-client","version":"{}"}}}}}}"#
        ),
        version,
        crate::VERSION
    )
}

fn discover_json() -> String {
    format!(
        concat!(
            r#"{{"jsonrpc":"2.0","id":"tc-probe-1","method":"server/discover","params":{{"_meta":{{"#,
            r#""io.modelcontextprotocol/protocolVersion":"{}","#,
            r#""io.modelcontextprotocol/clientInfo":{{"name":"tunnel-client","version":"{}"}},"#,
            r#""io.modelcontextprotocol/clientCapabilities":{{}}}}}}}}"#
        ),
        MODERN_VERSION,
        crate::VERSION
    )
}

fn log_start(binding: &HttpBinding) {
    log::info!(target: "mcpclient", transport = "http-streamable", target:% = binding.origin(); "Probing MCP server");
}

fn log_result(binding: &HttpBinding, result: &ProbeResult, since: Instant) {
    if let ProbeResult::Ready(info) = result {
        binding.probed(info, since);
    }
    match result {
        ProbeResult::Ready(info) => log_ready(info),
        ProbeResult::TimedOut(error) => {
            log::error!(target: "mcpclient", timeout:% = spelled(BUDGET), error = error.as_str(); "mcp probe timed out");
        }
        ProbeResult::AuthRequired(error) | ProbeResult::WaitExhausted(error) | ProbeResult::Failed(error) => {
            log::error!(target: "mcpclient", error = error.as_str(); "failed to connect to mcp");
        }
    }
}

fn log_ready(info: &ServerInfo) {
    let (name, protocol) = (info.name.as_str(), info.protocol_version.as_str());
    match (info.modern, info.version.as_str()) {
        (false, "") => {
            log::info!(target: "mcpclient", protocol_version = protocol, server_name = name;
                "mcp session initialized");
        }
        (false, version) => {
            log::info!(target: "mcpclient", protocol_version = protocol, server_name = name, server_version = version;
                "mcp session initialized");
        }
        (true, version) => {
            log::info!(target: "mcpclient", supported_versions = &*info.supported_versions, server_name = name, server_version = version;
                "mcp server discovered");
        }
    }
}

/// A duration as operators write it: `50ms`, `2s`, `1m30s`.
fn spelled(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") };
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let mut text = match (minutes / 60, minutes % 60) {
        (0, 0) => String::new(),
        (0, minutes) => format!("{minutes}m"),
        (hours, minutes) => format!("{hours}h{minutes}m"),
    };
    text.push_str(&(rest / 1000).to_string());
    if rest % 1000 > 0 {
        text.push_str(format!(".{:03}", rest % 1000).trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests;
