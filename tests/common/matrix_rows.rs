//! The faults of an MCP server over HTTP, and what each must come to.

use super::matrix_lane::Wants;

/// A fault and what it must come to.
pub type Row = (&'static str, Wants);

const fn wants(
    call: &'static str,
    hasty: &'static str,
    notification: &'static str,
    termination: &'static str,
) -> Wants {
    Wants { call, hasty, notification, termination }
}

/// The same end for calls with and without a deadline.
const fn soon(call: &'static str, notification: &'static str, termination: &'static str) -> Wants {
    wants(call, call, notification, termination)
}

const EOF: &str = "502 transport_closed/eof";
const RESET: &str = "502 transport_closed/connection_reset";
const CUT: &str = "502 transport_closed/unexpected_eof";
const PROTOCOL: &str = "502 protocol/invalid_protocol_response";
const TTL: &str = "504 timeout/ttl";

/// What goes wrong with connections, heads and the framing of bodies.
pub const FRAMING: &[Row] = &[
    ("close", soon(EOF, "502", "502")),
    (
        "close-early",
        soon("502 transport_closed/unexpected_eof|502 transport_closed/connection_reset", "502", "502"),
    ),
    ("reset", soon(RESET, "502", "502")),
    ("stall", wants(TTL, "silence", "504", "502")),
    ("garbage", soon(PROTOCOL, "502", "502")),
    ("half-head", soon("502 transport_closed/eof|502 transport_closed/unexpected_eof", "502", "502")),
    ("endless-head", soon(PROTOCOL, "502", "502")),
    (
        "endless-interim",
        wants(
            "504 timeout/ttl|502 protocol/invalid_protocol_response",
            "silence|502 protocol/invalid_protocol_response",
            "504|502",
            "504|502",
        ),
    ),
    ("head-then-stall", wants(TTL, "silence", "200", "200")),
    ("too-long", soon(CUT, "200", "200")),
    ("too-short", soon(PROTOCOL, "200", "200")),
    ("chunk-cut", soon(CUT, "200", "200")),
    ("chunk-invalid", soon(PROTOCOL, "200", "200")),
    (
        "chunk-huge",
        soon("502 protocol/invalid_protocol_response|502 transport_closed/unexpected_eof", "200", "200"),
    ),
    ("trickle", soon("200", "200", "200")),
    ("endless-trickle", wants(TTL, "silence", "200", "200")),
    ("close-each", soon("200", "200", "200")),
    (
        "early-reply",
        soon(
            "413 target_http/response_body_missing|502 transport_closed/connection_reset|502 transport_closed/closed_pipe",
            "413|502",
            "413|502",
        ),
    ),
];

/// What is wrong with whole replies.
pub const REPLIES: &[Row] = &[
    ("bad-utf8", soon(PROTOCOL, "200", "200")),
    ("wrong-id", soon(PROTOCOL, "200", "200")),
    ("batch", soon(PROTOCOL, "200", "200")),
    ("notification", soon(PROTOCOL, "200", "200")),
    ("request", soon(PROTOCOL, "200", "200")),
    ("empty", soon(PROTOCOL, "200", "200")),
    ("text", soon(PROTOCOL, "200", "200")),
    ("accepted", soon(PROTOCOL, "202", "202")),
    ("no-content", soon(PROTOCOL, "204", "204")),
    ("moved-301", soon("301 protocol/response_body_missing", "301", "301")),
    ("moved-303", soon("303 protocol/response_body_missing", "303", "303")),
    ("loop-307", soon("307 protocol/response_body_missing", "307", "307")),
    ("lost-308", soon("308 protocol/response_body_missing", "308", "308")),
    ("unchanged-304", soon("304 protocol/response_body_missing", "304", "304")),
    ("text-404", soon("404 target_http/malformed_json", "404", "404")),
    ("text-503", soon("503 target_http/malformed_json", "503", "503")),
    ("error-400", soon("400", "400", "400")),
    ("other-error-500", soon("500 target_http/invalid_mcp_error", "500", "500")),
    ("long-error-500", soon("500 target_http/response_body_too_large", "500", "500")),
    ("cut-error-500", soon("500 target_http/response_body_unreadable", "500", "500")),
    ("stalled-error-500", wants(TTL, "silence", "500", "500")),
    (
        "strange-999",
        soon(
            "999 protocol/response_body_missing|502 protocol/invalid_protocol_response",
            "999|502",
            "999|502",
        ),
    ),
    ("oversize", soon(PROTOCOL, "200", "200")),
    ("oversize-chunked", soon(PROTOCOL, "200", "200")),
    ("bad-gzip", soon(PROTOCOL, "200", "200")),
    ("gzip-bomb", soon(PROTOCOL, "200", "200")),
];

/// What goes wrong with event streams.
pub const STREAMS: &[Row] = &[
    ("sse-empty", soon(EOF, "200", "200")),
    ("sse-cut", soon(EOF, "200", "200")),
    ("sse-reset", soon("502 transport_closed/eof|502 transport_closed/connection_reset", "200", "200")),
    ("sse-half-event", soon(EOF, "200", "200")),
    ("sse-resumes", soon("200", "200", "200")),
    ("sse-never-resumes", soon(EOF, "200", "200")),
    ("sse-no-progress", soon(EOF, "200", "200")),
    ("sse-resume-stalls", wants(TTL, "silence", "200", "200")),
    ("sse-resume-closes", wants("504 timeout/ttl|502 transport_closed/eof", "silence", "200", "200")),
    ("sse-oversize", soon(PROTOCOL, "200", "200")),
    ("sse-oversize-line", soon(PROTOCOL, "200", "200")),
    ("sse-not-json", soon(PROTOCOL, "200", "200")),
    ("sse-bad-utf8", soon(PROTOCOL, "200", "200")),
    ("sse-wrong-id", soon(PROTOCOL, "200", "200")),
    ("sse-answered-twice", soon("200", "200", "200")),
    ("sse-stays-open", soon("200", "200", "200")),
    ("sse-pings-for-ever", wants(TTL, "silence", "200", "200")),
    ("sse-events-for-ever", wants(TTL, "silence", "200", "200")),
    ("sse-requests", soon("200", "200", "200")),
    ("sse-requests-for-ever", wants(TTL, "silence", "200", "200")),
];
