//! What an operator can do about the control plane's error codes.

/// The hint for `code`, if it is a known one.
pub fn mitigation(code: &str) -> Option<&'static str> {
    HINTS.iter().find(|(known, _)| *known == code).map(|(_, hint)| *hint)
}

const HINTS: [(&str, &str); 26] = [
    (
        "invalid_tunnel_id_format",
        "copy the exact tunnel_… id from the platform settings into --control-plane.tunnel-id, CONTROL_PLANE_TUNNEL_ID or control_plane.tunnel_id",
    ),
    (
        "invalid_channel_format",
        "channel names consist of lowercase letters, digits, hyphens (-) and underscores (_)",
    ),
    (
        "rate_limit_exceeded",
        "lower the concurrency or the volume of requests; the client retries by itself after a backoff",
    ),
    ("request_body_too_large", "send smaller MCP bodies and avoid large inline payloads (data)"),
    ("invalid_json_payload", "the MCP caller or server must send a valid JSON object"),
    (
        "missing_mcp_session_id",
        "session termination (DELETE) needs the active session's Mcp-Session-Id header",
    ),
    ("rfc9728_www_authenticate_unsupported", "use the well-known OAuth discovery endpoints"),
    ("tunnel_missing_principals", "use a runtime key tied to the intended organization or workspace"),
    (
        "tunnel_management_permission_required",
        "use an admin key or account that has Tunnels Read and Manage for that scope",
    ),
    (
        "tunnel_use_forbidden",
        "use credentials with access to this tunnel, or recreate or connect it in the owning scope (organization or workspace)",
    ),
    (
        "tunnel_active_organization_required",
        "set --control-plane.organization-id, CONTROL_PLANE_ORGANIZATION_ID or control_plane.organization_id to the tunnel's organization",
    ),
    (
        "tunnel_active_organization_context_required",
        "select or pass the organization id before listing principals or managing validation overrides",
    ),
    (
        "tunnel_principal_validation_override_management_permission_required",
        "use a credential that is allowed to manage principal validation overrides",
    ),
    (
        "tunnel_principal_validation_override_automatically_derivable",
        "no override is needed; create or update the tunnel directly",
    ),
    (
        "tunnel_principal_association_unverified",
        "use an organization, workspace and tenant combination that can be verified, or ask for a reviewed override",
    ),
    (
        "tunnel_principal_limit_exceeded",
        "shorten tenant_ids, workspace_ids or organization_ids to the documented maximum",
    ),
    (
        "tunnel_request_mismatch",
        "the responding client must use the same tunnel id (control_plane.tunnel_id) that received the command",
    ),
    (
        "pending_request_not_found",
        "a harmless race; if it is frequent, make sure that only healthy clients answer for this tunnel",
    ),
    ("tunnel_queue_full", "lower the MCP concurrency or add client capacity"),
    (
        "tunnel_client_not_seen",
        "start or restart the client with the matching control_plane.tunnel_id and control_plane.api_key",
    ),
    ("tunnel_client_not_connected", "start or restart the client and check its /readyz and its logs"),
    (
        "oauth_shim_invalid_target_uri",
        "use an absolute http or https URI, or harpoon://<label> matching a harpoon.targets[].label",
    ),
    (
        "oauth_shim_unshimmable_endpoint",
        "configure supported OAuth metadata endpoints and grouped harpoon targets (Harpoon targets of one group)",
    ),
    (
        "oauth_shim_target_not_found",
        "add or correct the harpoon.targets[].label entry and restart the client",
    ),
    (
        "oauth_shim_harpoon_call_failed",
        "check the Harpoon target URL (harpoon.targets[].url), the health of the upstream MCP server and the client logs",
    ),
    (
        "oauth_shim_upstream_timeout",
        "the target and the upstream MCP server must answer within the tunnel timeout",
    ),
];
