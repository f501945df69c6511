//! The error envelope: one JSON shape for every error.

use crate::net::front::Response;

/// The published codes that are used here.
pub(super) mod code {
    pub(crate) const INVALID_CHANNEL: &str = "invalid_channel_format";
    pub(crate) const INVALID_JSON: &str = "invalid_json_payload";
    pub(crate) const INVALID_TUNNEL_ID: &str = "invalid_tunnel_id_format";
    pub(crate) const MISSING_SESSION: &str = "missing_mcp_session_id";
    pub(crate) const NOT_PENDING: &str = "pending_request_not_found";
    pub(crate) const TOO_LARGE: &str = "request_body_too_large";
    pub(crate) const ORGANIZATION_REQUIRED: &str = "tunnel_active_organization_required";
    pub(crate) const RATE_LIMIT: &str = "rate_limit_exceeded";
    pub(crate) const MANAGEMENT_REQUIRED: &str = "tunnel_management_permission_required";
    pub(crate) const PRINCIPAL_LIMIT: &str = "tunnel_principal_limit_exceeded";
    pub(crate) const CLIENT_NOT_CONNECTED: &str = "tunnel_client_not_connected";
    pub(crate) const CLIENT_NOT_SEEN: &str = "tunnel_client_not_seen";
    pub(crate) const MISSING_PRINCIPALS: &str = "tunnel_missing_principals";
    pub(crate) const QUEUE_FULL: &str = "tunnel_queue_full";
    pub(crate) const MISMATCH: &str = "tunnel_request_mismatch";
    pub(crate) const UNAVAILABLE: &str = "tunnel_transport_unavailable";
    pub(crate) const SHIM_CALL_FAILED: &str = "oauth_shim_harpoon_call_failed";
    pub(crate) const SHIM_INVALID_URI: &str = "oauth_shim_invalid_target_uri";
    pub(crate) const SHIM_NOT_FOUND: &str = "oauth_shim_target_not_found";
    pub(crate) const SHIM_NO_AUDIENCE: &str = "oauth_shim_audience_unavailable";
    pub(crate) const SHIM_TIMEOUT: &str = "oauth_shim_upstream_timeout";
    pub(crate) const SHIM_UNSHIMMABLE: &str = "oauth_shim_unshimmable_endpoint";
    pub(crate) const USE_FORBIDDEN: &str = "tunnel_use_forbidden";
}

/// An error response of the type that goes with its status.
pub(super) fn error(status: u16, code: Option<&str>, message: &str) -> Response {
    let kind = match status {
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    envelope(status, kind, None, code, message)
}

/// A missing or wrong key.
pub(super) fn unauthenticated(message: &str) -> Response {
    envelope(401, "authentication_error", None, None, message)
}

/// A request whose member or parameter `param` is wrong.
pub(super) fn invalid(param: &str, message: &str) -> Response {
    envelope(400, "invalid_request_error", Some(param), None, message)
}

fn envelope(status: u16, kind: &str, param: Option<&str>, code: Option<&str>, message: &str) -> Response {
    let message = serde_json::Value::from(message);
    let or_null = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), |text| format!("\"{text}\""));
    let (param, code) = (or_null(param), or_null(code));
    let body =
        format!(r#"{{"error":{{"message":{message},"type":"{kind}","param":{param},"code":{code}}}}}"#);
    Response::json(status, body.into_bytes())
}
