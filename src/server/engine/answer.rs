//! Answers: what a client posts for a command.

use std::ops::Range;

/// The wire's `resp_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerKind {
    /// `jsonrpc_response`.
    JsonRpc,
    /// `jsonrpc_notify`: the only one that does not end the command.
    Notify,
    /// `notify_ack`.
    NotifyAck,
    /// `session_termination_response`.
    SessionTermination,
    /// `oauth_discovery_response`.
    OauthDiscovery,
}

impl AnswerKind {
    /// Every kind, in the order of their declaration.
    pub(crate) const ALL: [AnswerKind; 5] = [
        AnswerKind::JsonRpc,
        AnswerKind::Notify,
        AnswerKind::NotifyAck,
        AnswerKind::SessionTermination,
        AnswerKind::OauthDiscovery,
    ];

    /// The wire's text.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            AnswerKind::JsonRpc => "jsonrpc_response",
            AnswerKind::Notify => "jsonrpc_notify",
            AnswerKind::NotifyAck => "notify_ack",
            AnswerKind::SessionTermination => "session_termination_response",
            AnswerKind::OauthDiscovery => "oauth_discovery_response",
        }
    }

    /// Reads the wire's text.
    pub(crate) fn parse(text: &str) -> Option<AnswerKind> {
        AnswerKind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether it ends the command.
    pub(crate) fn is_terminal(self) -> bool {
        self != AnswerKind::Notify
    }

    /// Whether it carries `resp_json`; otherwise it must not.
    pub(crate) fn carries_json(self) -> bool {
        !matches!(self, AnswerKind::NotifyAck | AnswerKind::SessionTermination)
    }
}

/// A JSON value as it stood in the client's post, which it keeps alive instead of copying.
#[derive(Debug)]
pub(crate) struct Json {
    post: String,
    place: Range<usize>,
}

impl Json {
    /// `value` must be a part of `post`; `None` if it is not.
    pub(crate) fn within(post: String, place: Range<usize>) -> Option<Json> {
        post.get(place.clone())?;
        Some(Json { post, place })
    }

    /// The value's text.
    pub(crate) fn as_str(&self) -> &str {
        &self.post[self.place.clone()]
    }
}

/// One posted answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its type.
    pub(crate) kind: AnswerKind,
    /// `resp_code`, unchecked.
    pub(crate) code: i64,
    /// `resp_headers`, one entry a value.
    pub(crate) headers: Vec<(String, String)>,
    /// `resp_json`.
    pub(crate) json: Option<Json>,
}

impl Answer {
    /// The MCP session it names.
    pub(crate) fn session(&self) -> Option<&str> {
        let is = |(name, value): &&(String, String)| {
            name.eq_ignore_ascii_case("Mcp-Session-Id") && !value.is_empty()
        };
        self.headers.iter().find(is).map(|(_, value)| value.as_str())
    }

    /// Bytes it occupies in a buffer, about.
    pub(crate) fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        headers + self.json.as_ref().map_or(0, |json| json.post.len())
    }
}
