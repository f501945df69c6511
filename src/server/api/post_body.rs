//! The body of a response POST.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::ids::Channel;
use crate::jsonrpc::for_each_member;
use crate::server::engine::{Answer, AnswerKind, Json};

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadPost {
    /// For humans; never quotes the body.
    Malformed(&'static str),
    /// The channel's name is illegal.
    Channel,
}

/// A checked body.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) request_id: String,
    pub(super) answer: Answer,
    /// A member that means nothing here was present.
    pub(super) has_unknown_member: bool,
}

impl Post {
    /// Checks `body`; the payload stays where it is.
    pub(super) fn parse(body: String) -> Result<Post, BadPost> {
        use BadPost::Malformed;
        let members = Members::of(&body).map_err(|_| Malformed("the body is not a valid JSON object"))?;
        if members.shard_token {
            return Err(Malformed("the shard token belongs in its header, never in the body"));
        }
        let text = |raw: &RawValue| serde_json::from_str::<String>(raw.get()).ok();
        let request_id = present(members.request_id)
            .and_then(text)
            .filter(|id| !id.is_empty())
            .ok_or(Malformed("member \"request_id\" must be a non-empty string"))?;
        let code = present(members.resp_code)
            .and_then(|raw| raw.get().parse().ok())
            .ok_or(Malformed("member \"resp_code\" must be an integer"))?;
        if let Some(channel) = present(members.channel) {
            text(channel).and_then(|name| Channel::parse(&name).ok()).ok_or(BadPost::Channel)?;
        }
        let kind = match present(members.resp_type) {
            None => AnswerKind::JsonRpc,
            Some(raw) => text(raw)
                .and_then(|name| AnswerKind::parse(&name))
                .ok_or(Malformed("member \"resp_type\" is not a known response type"))?,
        };
        let headers = match present(members.resp_headers) {
            None => Vec::new(),
            Some(raw) => {
                serde_json::from_str::<Headers>(raw.get())
                    .map_err(|_| Malformed("member \"resp_headers\" must be an object of string arrays"))?
                    .0
            }
        };
        let place = match (present(members.resp_json), kind) {
            (Some(_), kind) if !kind.carries_json() => {
                return Err(Malformed("member \"resp_json\" must be absent from an acknowledgement"));
            }
            // What a metadata document is worth is decided where it is rendered.
            (None, AnswerKind::JsonRpc | AnswerKind::Notify) => {
                return Err(Malformed("member \"resp_json\" is required for this response type"));
            }
            (Some(raw), AnswerKind::JsonRpc | AnswerKind::Notify) if !raw.get().starts_with('{') => {
                return Err(Malformed("member \"resp_json\" must be an object"));
            }
            (raw, _) => raw.map(|raw| place_of(&body, raw.get())),
        };
        let has_unknown_member = members.unknown;
        let json = place.and_then(|place| Json::within(body, place));
        let answer = Answer { kind, code, headers, json };
        Ok(Post { request_id, answer, has_unknown_member })
    }
}

/// A null member counts as absent.
fn present(member: Option<&RawValue>) -> Option<&RawValue> {
    member.filter(|raw| raw.get() != "null")
}

/// Where `part` stands in `whole`, of which it is a slice.
fn place_of(whole: &str, part: &str) -> std::ops::Range<usize> {
    let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
    start..start + part.len()
}

/// The members as they stand; of duplicates the last one counts.
#[derive(Default)]
struct Members<'a> {
    request_id: Option<&'a RawValue>,
    resp_code: Option<&'a RawValue>,
    channel: Option<&'a RawValue>,
    resp_json: Option<&'a RawValue>,
    resp_headers: Option<&'a RawValue>,
    resp_type: Option<&'a RawValue>,
    shard_token: bool,
    unknown: bool,
}

impl<'a> Members<'a> {
    fn of(json: &'a str) -> serde_json::Result<Members<'a>> {
        let mut members = Members::default();
        for_each_member(json, &mut |name, value| {
            let slot = match name {
                "request_id" => &mut members.request_id,
                "resp_code" => &mut members.resp_code,
                "channel" => &mut members.channel,
                "resp_json" => &mut members.resp_json,
                "resp_headers" => &mut members.resp_headers,
                "resp_type" => &mut members.resp_type,
                other => {
                    members.shard_token |= other == "shard_token";
                    members.unknown = true;
                    return;
                }
            };
            *slot = Some(value);
        })?;
        Ok(members)
    }
}

/// `resp_headers`, flattened in order.
struct Headers(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Headers, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of string arrays")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut headers = Vec::new();
        while let Some((name, values)) = map.next_entry::<String, Vec<String>>()? {
            headers.extend(values.into_iter().map(|value| (name.clone(), value)));
        }
        Ok(Headers(headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Post, BadPost> {
        Post::parse(body.to_owned())
    }

    #[test]
    fn a_response_is_read_and_its_payload_left_alone() {
        let post = parse(
            r#"{"request_id":"r","resp_code":200,"channel":"main","resp_type":"jsonrpc_response",
                "resp_json": { "a":1.0e0 } ,"resp_headers":{"X":["1","2"],"Y":[]},"extra":{}}"#,
        )
        .unwrap();
        assert_eq!((post.request_id.as_str(), post.answer.code), ("r", 200));
        assert_eq!(post.answer.json.unwrap().as_str(), r#"{ "a":1.0e0 }"#);
        assert_eq!(post.answer.headers, [("X".into(), "1".into()), ("X".into(), "2".into())]);
        assert!(post.has_unknown_member);
    }

    #[test]
    fn absent_and_null_members_have_their_defaults() {
        let post = parse(
            r#"{"request_id":"r","resp_code":-7,"resp_type":null,"channel":null,"resp_headers":null,"resp_json":{}}"#,
        )
        .unwrap();
        assert_eq!((post.answer.kind, post.answer.code), (AnswerKind::JsonRpc, -7));
        let ack =
            parse(r#"{"request_id":"r","resp_code":202,"resp_type":"notify_ack","resp_json":null}"#).unwrap();
        assert!(ack.answer.json.is_none());
        let metadata =
            r#"{"request_id":"r","resp_code":404,"resp_type":"oauth_discovery_response","resp_json":[1]}"#;
        assert_eq!(parse(metadata).unwrap().answer.json.unwrap().as_str(), "[1]");
    }

    #[test]
    fn malformed_responses_are_refused() {
        for bad in [
            "",
            "[]",
            "{",
            r#"{"resp_code":200,"resp_json":{}}"#,
            r#"{"request_id":"","resp_code":200,"resp_json":{}}"#,
            r#"{"request_id":7,"resp_code":200,"resp_json":{}}"#,
            r#"{"request_id":"r","resp_json":{}}"#,
            r#"{"request_id":"r","resp_code":"200","resp_json":{}}"#,
            r#"{"request_id":"r","resp_code":200.5,"resp_json":{}}"#,
            r#"{"request_id":"r","resp_code":200}"#,
            r#"{"request_id":"r","resp_code":200,"resp_json":[]}"#,
            r#"{"request_id":"r","resp_code":200,"resp_type":"jsonrpc_notify"}"#,
            r#"{"request_id":"r","resp_code":200,"resp_type":"other","resp_json":{}}"#,
            r#"{"request_id":"r","resp_code":200,"resp_type":"notify_ack","resp_json":{}}"#,
            r#"{"request_id":"r","resp_code":200,"resp_json":{},"resp_headers":{"X":"1"}}"#,
            r#"{"request_id":"r","resp_code":200,"resp_json":{},"resp_headers":[]}"#,
            r#"{"request_id":"r","resp_code":200,"resp_json":{},"shard_token":"s"}"#,
        ] {
            assert!(matches!(parse(bad), Err(BadPost::Malformed(_))), "{bad}");
        }
        for channel in [r#""a b""#, "7"] {
            let body =
                format!(r#"{{"request_id":"r","resp_code":200,"resp_json":{{}},"channel":{channel}}}"#);
            assert_eq!(parse(&body).unwrap_err(), BadPost::Channel);
        }
    }
}
