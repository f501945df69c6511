//! The stub's OAuth documents.

use serde::Serialize;

/// Where the metadata of the MCP endpoint is found (RFC 9728 §3.1).
pub(super) const RESOURCE_PATH: &str = "/.well-known/oauth-protected-resource/mcp";
/// Where that of the authorization server is found (RFC 8414 §3).
pub(super) const SERVER_PATH: &str = "/.well-known/oauth-authorization-server";
const RESOURCE_ROOT_PATH: &str = "/.well-known/oauth-protected-resource";
const KEYS_PATH: &str = "/jwks";

#[derive(Serialize)]
struct Resource<'a> {
    resource: String,
    authorization_servers: [&'a str; 1],
    scopes_supported: [&'a str; 2],
}

#[derive(Serialize)]
struct AuthorizationServer<'a> {
    issuer: &'a str,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    registration_endpoint: String,
    response_types_supported: [&'a str; 1],
    grant_types_supported: [&'a str; 2],
    token_endpoint_auth_methods_supported: [&'a str; 2],
    code_challenge_methods_supported: [&'a str; 1],
}

#[derive(Serialize)]
struct Keys {
    keys: [(); 0],
}

/// The document at `path`, indented, for a server that was reached as `host`.
pub(super) fn document(path: &str, host: &str) -> Option<String> {
    let base = format!("http://{host}");
    match path {
        RESOURCE_PATH | RESOURCE_ROOT_PATH => indented(&Resource {
            resource: format!("{base}/mcp"),
            authorization_servers: [&base],
            scopes_supported: ["read", "write"],
        }),
        SERVER_PATH => indented(&AuthorizationServer {
            issuer: &base,
            authorization_endpoint: format!("{base}/authorize"),
            token_endpoint: format!("{base}/token"),
            jwks_uri: format!("{base}{KEYS_PATH}"),
            registration_endpoint: format!("{base}/register"),
            response_types_supported: ["code"],
            grant_types_supported: ["authorization_code", "refresh_token"],
            token_endpoint_auth_methods_supported: ["none", "client_secret_post"],
            code_challenge_methods_supported: ["S256"],
        }),
        KEYS_PATH => indented(&Keys { keys: [] }),
        _ => None,
    }
}

fn indented(document: &impl Serialize) -> Option<String> {
    serde_json::to_string_pretty(document).ok().map(|text| text + "\n")
}
