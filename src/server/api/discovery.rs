//! Protected-resource metadata (RFC 9728): fetched by the client inside its network, with the resource
//! named as callers reach it.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::accept::Accept;
use super::connector::{Call, Got, ended, next, timed_out};
use super::error::error;
use super::{Api, not_found, relay, tunnel_id};
use crate::ids::Channel;
use crate::jsonrpc::{Splice, splice};
use crate::net::front::{Exchange, Head, Method, Response};
use crate::server::engine::{Answer, End, Json, Kind, Origin, Outcome};

/// The member that lists the authorization servers (RFC 9728 §2).
const SERVERS: &str = "authorization_servers";
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
            origin: Origin::Connector,
            kind: Kind::OauthDiscovery,
            pin: None,
            session: None,
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
                let story = self.end(&call, hold, Outcome::Answered, u16::try_from(answer.code).ok());
                let url = self.options.public_url.mcp(head, exchange, tunnel.id());
                let issuer = names_server(&answer)
                    .then(|| self.shim_issuer(head, exchange, &tunnel, &story.instance, call.deadline));
                if exchange.peer_is_gone() {
                    return None;
                }
                return Some(render(&answer, &url, issuer.flatten().as_deref()));
            }
            Got::Ended(end) => ended(end),
            Got::Timeout if hold.is_delivered() => timed_out(),
            Got::Timeout | Got::Notification(_) => ended(End::ExpiredQueued),
        };
        self.end(&call, hold, outcome, Some(response.status));
        Some(response)
    }
}

fn status_of(answer: &Answer) -> u16 {
    if answer.code == 0 { 200 } else { relay::status(answer.code) }
}

/// Whether it is a document that names an authorization server.
fn names_server(answer: &Answer) -> bool {
    let names = |json: &Json| {
        let Ok(Member(found)) = Member::find(json.as_str(), SERVERS) else { return false };
        found.is_some_and(|raw| raw.get().starts_with('[') && raw.get().contains('"'))
    };
    (200..300).contains(&status_of(answer)) && answer.json.as_ref().is_some_and(names)
}

/// The document for the caller; `issuer` stands for the authorization servers if there is one.
fn render(answer: &Answer, resource: &str, issuer: Option<&str>) -> Response {
    let status = status_of(answer);
    let document = answer.json.as_ref().map_or("{}", |json| json.as_str());
    let document: Option<Cow<'_, str>> = if (200..300).contains(&status) {
        with_member(document, "resource", &quoted(resource)).map(|document| match issuer {
            None => document,
            Some(issuer) => {
                let servers = format!("[{}]", quoted(issuer));
                let changed = with_member(&document, SERVERS, &servers).map(Cow::into_owned);
                changed.map_or(document, Cow::Owned)
            }
        })
    } else {
        Some(document.into())
    };
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

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// `document` with its member `name` set to the JSON text `value` and every other byte kept; `None` if it
/// is no object.
fn with_member<'a>(document: &'a str, name: &str, value: &str) -> Option<Cow<'a, str>> {
    let Member(present) = Member::find(document, name).ok()?;
    if let Some(present) = present {
        let splices = vec![Splice::replace(document, present, value.to_owned())?];
        return Some(Cow::Owned(splice(document, splices)));
    }
    let inside = document.strip_prefix('{')?;
    let comma = if inside.trim_start().starts_with('}') { "" } else { "," };
    Some(Cow::Owned(format!("{{{}:{value}{comma}{inside}", quoted(name))))
}

/// A member of an object; of duplicates the last.
struct Member<'a>(Option<&'a RawValue>);

impl<'a> Member<'a> {
    /// Fails when `document` is no object.
    fn find(document: &'a str, name: &str) -> Result<Member<'a>, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(document);
        let member = deserializer.deserialize_map(MemberVisitor(name))?;
        deserializer.end()?;
        Ok(member)
    }
}

struct MemberVisitor<'n>(&'n str);

impl<'de> Visitor<'de> for MemberVisitor<'_> {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a metadata document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member<'de>, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<String>()? {
            if name == self.0 {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Member(found))
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
            assert_eq!(with_member(given, "resource", "\"U\"").as_deref(), expected, "{given}");
        }
    }
}
