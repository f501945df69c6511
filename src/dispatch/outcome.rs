//! The outcome table: what is posted for each way an exchange can end.

use crate::control_plane::ResponseBody;
use crate::jsonrpc::{INTERNAL_ERROR, Id, error_response};
use crate::mcp::{Answer, Failure, FailureKind, Head, LifecycleNote, Source};
use crate::net::{HeaderList, reason_phrase};

pub(super) const CONTENT_TYPE: &str = "Content-Type";
pub(super) const JSON: &str = "application/json";
const EVENT_STREAM: &str = "text/event-stream";
const BAD_GATEWAY: u16 = 502;
const GATEWAY_TIMEOUT: u16 = 504;
/// The message of an error under a status that has no phrase.
const NO_PHRASE: &str = "MCP transport error";

/// Type, code and headers of one response; the headers are not filtered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) body: ResponseBody,
    pub(super) code: u16,
    pub(super) headers: HeaderList,
}

/// What a failure means to the caller; for the response and the log alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Classified {
    pub(super) code: u16,
    pub(super) source: Source,
    pub(super) kind: FailureKind,
    /// Present exactly when the target itself answered with an error status.
    pub(super) upstream_status: Option<u16>,
}

/// The call was answered.
pub(super) fn answered(answer: Answer) -> Response {
    let Answer { head, json } = answer;
    Response {
        code: head.status,
        headers: json_unless_stream(head.headers),
        body: ResponseBody::JsonRpc(json),
    }
}

/// The headers of the notifications met before the response.
pub(super) fn event_headers(head: &Head) -> HeaderList {
    let mut headers = head.headers.clone();
    default_content_type(&mut headers, EVENT_STREAM);
    headers
}

/// Why an answer's content type is not kept: `missing`, or `non_sse`. `None` when it is, or when it is
/// plain JSON already.
pub(super) fn replaced_content_type(headers: &HeaderList) -> Option<&'static str> {
    match headers.get(CONTENT_TYPE) {
        None | Some("") => Some("missing"),
        Some(JSON) => None,
        Some(value) if is_stream(value) => None,
        Some(_) => Some("non_sse"),
    }
}

/// The notification was delivered.
pub(super) fn acknowledged(head: Head) -> Response {
    Response { body: ResponseBody::NotifyAck, code: head.status, headers: head.headers }
}

/// The session's end was answered.
pub(super) fn terminated(head: Head) -> Response {
    Response { body: ResponseBody::SessionTermination, code: head.status, headers: head.headers }
}

/// A call failed: a synthesised error with the call's id.
pub(super) fn failed_call(id: Option<&Id>, failure: Failure) -> Response {
    let classified = classify(&failure);
    let (headers, note) = match failure {
        Failure::Rejected { head, .. } => {
            let mut headers = head.headers;
            default_content_type(&mut headers, JSON);
            (headers, None)
        }
        Failure::Broken { head, .. } => {
            (json_unless_stream(head.map(|head| head.headers).unwrap_or_default()), None)
        }
        Failure::Lifecycle { note, .. } => (json_unless_stream(HeaderList::new()), Some(note)),
    };
    let json = error_json(id, classified, note.as_ref());
    Response { body: ResponseBody::JsonRpc(json), code: classified.code, headers }
}

/// A notification was not accepted: an acknowledgement under the real status.
pub(super) fn failed_notification(failure: Failure) -> Response {
    failed_without_payload(failure, ResponseBody::NotifyAck)
}

/// The session's end got no answer.
pub(super) fn failed_termination(failure: Failure) -> Response {
    failed_without_payload(failure, ResponseBody::SessionTermination)
}

fn failed_without_payload(failure: Failure, body: ResponseBody) -> Response {
    let code = classify(&failure).code;
    let headers = match failure {
        Failure::Rejected { head, .. } => head.headers,
        Failure::Broken { .. } | Failure::Lifecycle { .. } => HeaderList::new(),
    };
    Response { body, code, headers }
}

/// Source, kind and code of a failure.
pub(super) fn classify(failure: &Failure) -> Classified {
    match *failure {
        Failure::Rejected { ref head, kind } => {
            let upstream_status = Some(head.status).filter(|status| (400..=599).contains(status));
            let source = if upstream_status.is_some() { Source::TargetHttp } else { Source::Protocol };
            Classified { code: head.status, source, kind, upstream_status }
        }
        Failure::Broken { source, kind, .. } => {
            let code = if kind == FailureKind::Ttl { GATEWAY_TIMEOUT } else { BAD_GATEWAY };
            Classified { code, source, kind, upstream_status: None }
        }
        Failure::Lifecycle { status, source, kind, .. } => {
            Classified { code: status, source, kind, upstream_status: None }
        }
    }
}

/// The JSON-RPC error that stands for a failure. Holds nothing of the cause but its class.
fn error_json(id: Option<&Id>, classified: Classified, note: Option<&LifecycleNote>) -> String {
    let Classified { code, source, kind, upstream_status } = classified;
    let mut data = format!(r#"{{"tunnel_failure":{{"version":1,"source":"{}""#, source.label());
    if kind != FailureKind::Canceled {
        data.push_str(&format!(r#","transport_error_kind":"{}""#, kind.label()));
    }
    data.push_str(&format!(r#","upstream_response_received":{}"#, upstream_status.is_some()));
    if let Some(status) = upstream_status {
        data.push_str(&format!(r#","upstream_status":{status}"#));
    }
    data.push('}');
    if let Some(note) = note {
        data.push_str(&format!(r#","tunnel_bridge":{}"#, note.to_json()));
    }
    data.push('}');
    error_response(id, INTERNAL_ERROR, reason_phrase(code).unwrap_or(NO_PHRASE), Some(&data))
}

/// Keeps an event-stream content type as it is; anything else becomes JSON.
fn json_unless_stream(mut headers: HeaderList) -> HeaderList {
    if !headers.get(CONTENT_TYPE).is_some_and(is_stream) {
        headers.set(CONTENT_TYPE, JSON);
    }
    headers
}

fn is_stream(content_type: &str) -> bool {
    let start = content_type.trim().get(..EVENT_STREAM.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM))
}

fn default_content_type(headers: &mut HeaderList, default: &str) {
    if headers.get(CONTENT_TYPE).is_none_or(str::is_empty) {
        headers.set(CONTENT_TYPE, default);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, content_type: Option<&str>) -> Head {
        Head { status, headers: content_type.map(|value| (CONTENT_TYPE, value)).into_iter().collect() }
    }

    fn id() -> Id {
        Id::from_json("\"c1\"").unwrap()
    }

    #[test]
    fn the_content_type_of_an_answer_is_json_unless_it_was_a_stream() {
        for (received, posted) in [
            (None, JSON),
            (Some("application/json; charset=utf-8"), JSON),
            (Some("text/plain"), JSON),
            (Some("Text/Event-Stream; a=b"), "Text/Event-Stream; a=b"),
        ] {
            let answer = Answer { head: head(200, received), json: "{}".into() };
            assert_eq!(answered(answer).headers.get(CONTENT_TYPE), Some(posted), "{received:?}");
        }
    }

    #[test]
    fn a_rejection_keeps_its_status_and_content_type_and_names_the_target() {
        let failure =
            Failure::Rejected { head: head(503, Some("text/plain")), kind: FailureKind::MalformedJson };
        let response = failed_call(Some(&id()), failure);
        assert_eq!(response.code, 503);
        assert_eq!(response.headers.get(CONTENT_TYPE), Some("text/plain"));
        assert_eq!(
            response.body,
            ResponseBody::JsonRpc(
                concat!(
                    r#"{"jsonrpc":"2.0","id":"c1","error":{"code":-32603,"message":"Service Unavailable","#,
                    r#""data":{"tunnel_failure":{"version":1,"source":"target_http","#,
                    r#""transport_error_kind":"malformed_json","upstream_response_received":true,"#,
                    r#""upstream_status":503}}}}"#
                )
                .to_owned()
            )
        );
    }

    #[test]
    fn a_reply_outside_400_to_599_is_a_protocol_failure_under_its_status() {
        for (status, message) in [(302, "Found"), (304, "Not Modified"), (600, NO_PHRASE)] {
            let failure =
                Failure::Rejected { head: head(status, None), kind: FailureKind::ResponseBodyMissing };
            assert_eq!(classify(&failure).source, Source::Protocol);
            let response = failed_call(Some(&id()), failure);
            assert_eq!(response.code, status);
            let ResponseBody::JsonRpc(json) = response.body else { panic!("not a JSON-RPC response") };
            assert!(json.contains(message) && !json.contains("upstream_status"), "{json}");
        }
    }

    #[test]
    fn a_break_is_answered_with_502_and_a_ttl_with_504() {
        let broken = Failure::broken(Source::TransportClosed, FailureKind::Eof);
        assert_eq!(failed_call(Some(&id()), broken).code, 502);
        let ttl = Failure::broken(Source::Timeout, FailureKind::Ttl);
        let response = failed_call(Some(&id()), ttl);
        assert_eq!(response.code, 504);
        let ResponseBody::JsonRpc(json) = response.body else { panic!("not a JSON-RPC response") };
        assert!(
            json.contains(r#""message":"Gateway Timeout""#)
                && json.contains(r#""transport_error_kind":"ttl""#)
        );
    }

    #[test]
    fn a_child_that_does_not_run_is_told_with_the_time_of_its_next_start() {
        let note =
            LifecycleNote { reason: "child_restarting", server_error_code: None, retry_after_ms: Some(8000) };
        let kind = FailureKind::ChildUnavailable;
        let failure = Failure::Lifecycle { status: 503, source: Source::TransportClosed, kind, note };
        let response = failed_call(Some(&id()), failure);
        assert_eq!((response.code, response.headers.get(CONTENT_TYPE)), (503, Some(JSON)));
        assert_eq!(
            response.body,
            ResponseBody::JsonRpc(
                concat!(
                    r#"{"jsonrpc":"2.0","id":"c1","error":{"code":-32603,"message":"Service Unavailable","#,
                    r#""data":{"tunnel_failure":{"version":1,"source":"transport_closed","#,
                    r#""transport_error_kind":"child_unavailable","upstream_response_received":false},"#,
                    r#""tunnel_bridge":{"reason":"child_restarting","retry_after_ms":8000}}}}"#
                )
                .to_owned()
            )
        );
    }

    #[test]
    fn a_cancelled_call_is_answered_without_a_kind() {
        let response = failed_call(None, Failure::broken(Source::ClientInternal, FailureKind::Canceled));
        let ResponseBody::JsonRpc(json) = response.body else { panic!("not a JSON-RPC response") };
        assert!(!json.contains("transport_error_kind") && json.contains("client_internal"), "{json}");
    }

    #[test]
    fn failed_notifications_are_acknowledged_under_the_real_status_without_payload() {
        let response = failed_notification(Failure::Rejected {
            head: head(500, None),
            kind: FailureKind::InvalidMcpError,
        });
        assert_eq!((response.code, response.body), (500, ResponseBody::NotifyAck));
        let response = failed_notification(Failure::broken(Source::Connect, FailureKind::ConnectionRefused));
        assert_eq!((response.code, response.headers), (502, HeaderList::new()));
    }

    #[test]
    fn a_streamed_notification_is_labelled_as_stream_unless_the_reply_said_otherwise() {
        assert_eq!(event_headers(&Head::bare(200)).get(CONTENT_TYPE), Some(EVENT_STREAM));
        assert_eq!(event_headers(&head(200, Some("a/b"))).get(CONTENT_TYPE), Some("a/b"));
    }
}
