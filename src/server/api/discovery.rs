//! Protected-resource metadata (RFC 9728): fetched by the client inside its network, with the resource
//! named as callers reach it.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::{self, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::accept::Accept;
use super::connector::{Call, Got, ended, next, timed_out};
use super::error::error;
use super::{Api, not_found, relay, tunnel_id};
use crate::ids::Channel;
use crate::jsonrpc::{Splice, splice};
use crate::net::front::{Exchange, Head, Method, Response};
use crate::server::engine::{Answer, End, Kind, Outcome};

/// Longest wait for a document: clients that cannot fetch one may never say so.
const WAIT: Duration = Duration::from_secs(10);

impl Api {
    /// Answers `GET /.well-known/oauth-protected-resource/v1/mcp/{tunnel}`.
    pub(super) fn discovery(&self, head: &Head, exchange: &mut Exchange<'_>, tunnel: &str) {
        if let Some(response) = self.discovery_response(head, exchange, tunnel) {
            let _ = exchange.respond(&response.header("Cache-Control", "no-store"));
        }
    }

    /// `None` when the caller has left.
    fn discovery_response(&self, head: &Head, exchange: &mut Exchange<'_>, tunnel: &str) -> Option<Response> {
        let tunnel = tunnel_id(tunnel).ok().and_then(|id| self.engine.tunnel(&id));
        let Some(tunnel) = tunnel.filter(|_| head.method == Method::Get) else { return Some(not_found()) };
        if let Err(response) = self.check_ingress(head, exchange) {
            return Some(response);
        }
        let started = Instant::now();
        let call = Call {
            tunnel: &tunnel,
            channel: Channel::main(),
            kind: Kind::OauthDiscovery,
            summary: None,
            accept: Accept { sse: false, json: true },
            deadline: started + tunnel.limits().response_timeout.min(WAIT),
        };
        // Nothing of the caller's request goes along: it is not for the private server.
        let hold = match self.hold(&call, started, &[], None, exchange) {
            Ok(hold) => hold,
            Err(response) => return Some(response),
        };
        let (outcome, response) = match next(&hold, &call, exchange) {
            Got::CallerGone => {
                self.end(&call, hold, Outcome::Cancelled, None);
                return None;
            }
            Got::Terminal(answer) => {
                let url = self.options.public_url.mcp(head, exchange, tunnel.id());
                (Outcome::Answered, render(&answer, &url))
            }
            Got::Ended(end) => ended(end),
            Got::Timeout if hold.is_delivered() => timed_out(),
            Got::Timeout | Got::Notification(_) => ended(End::ExpiredQueued),
        };
        self.end(&call, hold, outcome, Some(response.status));
        Some(response)
    }
}

fn render(answer: &Answer, resource: &str) -> Response {
    let status = if answer.code == 0 { 200 } else { relay::status(answer.code) };
    let document = answer.json.as_ref().map_or("{}", |json| json.as_str());
    let document =
        if (200..300).contains(&status) { with_resource(document, resource) } else { Some(document.into()) };
    let Some(document) = document.filter(|document| document.starts_with('{')) else {
        return error(502, None, "the private server's metadata is no JSON object");
    };
    let mut response = Response::new(status);
    for (name, value) in relay::headers(&answer.headers) {
        let own = ["Content-Type", "Cache-Control"].iter().any(|own| own.eq_ignore_ascii_case(name));
        if !own {
            response = response.header(name, value);
        }
    }
    if matches!(status, 204 | 304) {
        return response;
    }
    response.header("Content-Type", "application/json").with_body(document.into_owned().into_bytes())
}

/// `document` with its member `resource` set and every other byte kept; `None` if it is no object.
fn with_resource<'a>(document: &'a str, resource: &str) -> Option<Cow<'a, str>> {
    let Resource(present) = serde_json::from_str(document).ok()?;
    let value = serde_json::Value::from(resource).to_string();
    if let Some(present) = present {
        return Some(Cow::Owned(splice(document, vec![Splice::replace(document, present, value)?])));
    }
    let inside = document.strip_prefix('{')?;
    let comma = if inside.trim_start().starts_with('}') { "" } else { "," };
    Some(Cow::Owned(format!("{{\"resource\":{value}{comma}{inside}")))
}

/// The member `resource` of an object; of duplicates the last.
struct Resource<'a>(Option<&'a RawValue>);

impl<'de> Deserialize<'de> for Resource<'de> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Resource<'de>, D::Error> {
        deserializer.deserialize_map(ResourceVisitor)
    }
}

struct ResourceVisitor;

impl<'de> Visitor<'de> for ResourceVisitor {
    type Value = Resource<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a metadata document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Resource<'de>, A::Error> {
        let mut resource = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == "resource" {
                resource = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Resource(resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_resource_changes() {
        for (given, expected) in [
            (r#"{ "a":1.0, "resource" : "x", "b":[] }"#, Some(r#"{ "a":1.0, "resource" : "U", "b":[] }"#)),
            (r#"{"a":1}"#, Some(r#"{"resource":"U","a":1}"#)),
            ("{ }", Some(r#"{"resource":"U" }"#)),
            ("[]", None),
            ("\"x\"", None),
        ] {
            assert_eq!(with_resource(given, "U").as_deref(), expected, "{given}");
        }
    }
}
