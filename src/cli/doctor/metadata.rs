//! Asking an MCP server for its protected-resource metadata (RFC 9728 §3).

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::mcp::http::{DiscoveryRequest, DiscoveryScope, HttpBinding, resource_metadata_urls};
use crate::net::{Cause, Deadline, Error, HeaderList, Method};
use crate::redact;

use super::challenge::resource_metadata;

/// Time for both requests for a challenge.
const CHALLENGE_TIME: Duration = Duration::from_secs(1);
/// Time for each document.
const DOCUMENT_TIME: Duration = Duration::from_secs(2);
/// Time for everything.
const OVERALL_TIME: Duration = Duration::from_secs(5);
/// Longest document, in bytes.
const DOCUMENT_BYTES: usize = 1024 * 1024;

/// Why there is no usable document.
pub(super) struct Trouble {
    pub(super) summary: String,
    pub(super) evidence: Vec<String>,
}

/// What one place answered.
enum Found {
    /// A valid document.
    Document(u16),
    /// A status that sends on to the next place.
    Absent(u16),
    /// Something else than a document: no place further on is asked.
    Malformed(u16, String),
    /// No reply.
    Silent(Error),
}

/// Looks for the document; `Ok` says where it was, or that there is none anywhere.
pub(super) fn discover(binding: &HttpBinding) -> Result<String, Trouble> {
    let overall = Deadline::after(OVERALL_TIME);
    let advertised = advertised(binding, overall);
    let mut places: Vec<Url> = advertised.iter().cloned().collect();
    for place in resource_metadata_urls(binding.url()) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    let (mut outcome, only_timeouts) = ask(binding, &places, overall);
    if only_timeouts && !overall.is_past() {
        outcome = ask(binding, &places, overall).0;
    }
    match outcome {
        Asked::Document(summary) => Ok(summary),
        Asked::Nothing if advertised.is_none() => {
            Ok("OAuth metadata not advertised; all candidates returned HTTP 404".to_owned())
        }
        Asked::Nothing => Err(Trouble {
            summary: "the server advertises OAuth metadata, but all candidates returned HTTP 404".to_owned(),
            evidence: places.iter().map(|place| format!("GET {}: HTTP 404", shown(place))).collect(),
        }),
        Asked::Trouble(trouble) => Err(trouble),
    }
}

/// What all places together came to.
enum Asked {
    Document(String),
    /// 404 everywhere.
    Nothing,
    Trouble(Trouble),
}

/// Asks one place after the other; also whether nothing but time-outs came of it.
fn ask(binding: &HttpBinding, places: &[Url], overall: Deadline) -> (Asked, bool) {
    let mut evidence = Vec::new();
    let (mut only_404, mut only_timeouts) = (true, true);
    let mut last = String::new();
    for place in places {
        let place_shown = shown(place);
        let found = document(binding, place, Deadline::after(DOCUMENT_TIME).earliest(overall));
        only_timeouts &= matches!(&found, Found::Silent(error) if error.cause == Cause::Timeout);
        only_404 &= matches!(found, Found::Absent(404));
        last = match found {
            Found::Document(status) => {
                return (Asked::Document(format!("HTTP {status} from {place_shown}")), false);
            }
            Found::Absent(status) => format!("HTTP {status} from {place_shown}"),
            Found::Silent(error) => format!("{place_shown}: {error}"),
            Found::Malformed(status, reason) => {
                let summary = format!("HTTP {status} from {place_shown}: {reason}");
                evidence.push(format!("GET {summary}"));
                return (Asked::Trouble(Trouble { summary, evidence }), false);
            }
        };
        evidence.push(format!("GET {last}"));
    }
    let asked = if only_404 { Asked::Nothing } else { Asked::Trouble(Trouble { summary: last, evidence }) };
    (asked, only_timeouts)
}

/// What the endpoint's challenge points to: of a POST, or else of a GET.
fn advertised(binding: &HttpBinding, overall: Deadline) -> Option<Url> {
    let deadline = Deadline::after(CHALLENGE_TIME).earliest(overall);
    [(Method::POST, Some(&b""[..])), (Method::GET, None)].into_iter().find_map(|(method, body)| {
        let reply = request(binding, method, binding.url(), body, deadline).ok()?;
        if reply.head.status != 401 {
            return None;
        }
        let url = Url::parse(&resource_metadata(reply.head.headers.get_all("WWW-Authenticate"))?).ok()?;
        (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
    })
}

fn document(binding: &HttpBinding, place: &Url, deadline: Deadline) -> Found {
    let mut reply = match request(binding, Method::GET, place, None, deadline) {
        Ok(reply) => reply,
        Err(error) => return Found::Silent(error),
    };
    let status = reply.head.status;
    if status == 404 || status >= 500 {
        return Found::Absent(status);
    }
    let body = match reply.body.read_to_limit(DOCUMENT_BYTES) {
        Ok(body) => body,
        Err(error) => return Found::Malformed(status, format!("reading the document failed: {error}")),
    };
    match validate(&body) {
        Ok(()) => Found::Document(status),
        // Some servers protect the specific place and serve the document at the root.
        Err(_) if matches!(status, 401 | 403 | 405) => Found::Absent(status),
        Err(reason) => Found::Malformed(status, reason),
    }
}

fn request(
    binding: &HttpBinding,
    method: Method,
    url: &Url,
    body: Option<&[u8]>,
    deadline: Deadline,
) -> Result<crate::mcp::http::DiscoveryReply, Error> {
    let mut headers = HeaderList::new();
    headers.add("Accept", "application/json");
    binding.discovery_request(&DiscoveryRequest {
        method,
        url,
        headers: &headers,
        body,
        scope: DiscoveryScope::Resource,
        deadline,
    })
}

fn shown(url: &Url) -> String {
    redact::snapshot(url.as_str())
}

/// The members whose types are known (RFC 9728 §2).
#[derive(Deserialize)]
#[expect(dead_code, reason = "only the types count")]
struct Document {
    resource: Option<String>,
    authorization_servers: Option<Vec<String>>,
    scopes_supported: Option<Vec<String>>,
    bearer_methods_supported: Option<Vec<String>>,
    resource_signing_alg_values_supported: Option<Vec<String>>,
    authorization_details_types_supported: Option<Vec<String>>,
    dpop_signing_alg_values_supported: Option<Vec<String>>,
    jwks_uri: Option<String>,
    resource_name: Option<String>,
    resource_documentation: Option<String>,
    resource_policy_uri: Option<String>,
    resource_tos_uri: Option<String>,
    tls_client_certificate_bound_access_tokens: Option<bool>,
    dpop_bound_access_tokens_required: Option<bool>,
}

fn validate(body: &[u8]) -> Result<(), String> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Err("the document is empty".to_owned());
    }
    if body.first() != Some(&b'{') {
        return Err("the document is no JSON object".to_owned());
    }
    let document: Document = serde_json::from_slice(body)
        .map_err(|error| format!("the document is no protected-resource metadata: {error}"))?;
    if document.resource.is_none_or(|resource| resource.is_empty()) {
        return Err("the document names no resource".to_owned());
    }
    match document.authorization_servers.unwrap_or_default().first() {
        Some(server) if Url::parse(server).is_err() => {
            Err("authorization_servers[0] of the document is no URL".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_a_resource_and_the_right_types() {
        for good in [
            r#"{"resource":"https://h/mcp"}"#,
            r#" {"resource":"r","authorization_servers":["https://as"],"other":{"x":1},"jwks_uri":null} "#,
        ] {
            assert_eq!(validate(good.as_bytes()), Ok(()), "{good}");
        }
        for wrong in [
            "",
            " ",
            "<html>",
            "[]",
            "{}",
            r#"{"resource":""}"#,
            r#"{"resource":1}"#,
            r#"{"resource":"r","authorization_servers":"https://as"}"#,
            r#"{"resource":"r","authorization_servers":["::"]}"#,
            r#"{"resource":"r","scopes_supported":[1]}"#,
        ] {
            assert!(validate(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
