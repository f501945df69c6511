//! Borrowed views on a poll's reply: its elements, and the members of one element.
//!
//! Written by hand because derived visitors refuse duplicate members, of which the last counts here.

use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::jsonrpc::{Text, for_each_member};

/// The top level: `commands`, everything else skipped.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) commands: Elements<'a>,
}

/// The value of `commands`.
pub(super) enum Elements<'a> {
    List(Vec<&'a RawValue>),
    NoList,
}

/// The members of a command that have a meaning; null counts as absent.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) request_id: Option<&'a RawValue>,
    pub(super) shard_token: Option<&'a RawValue>,
    pub(super) command_type: Option<&'a RawValue>,
    pub(super) channel: Option<&'a RawValue>,
    pub(super) created_at: Option<&'a RawValue>,
    pub(super) response_timeout: Option<&'a RawValue>,
    pub(super) headers: Option<&'a RawValue>,
    pub(super) jsonrpc: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    /// Views the object `json`.
    pub(super) fn of(json: &'a str) -> serde_json::Result<Fields<'a>> {
        let mut fields = Fields::default();
        for_each_member(json, &mut |name, value| {
            let slot = match name {
                "request_id" => &mut fields.request_id,
                "shard_token" => &mut fields.shard_token,
                "command_type" => &mut fields.command_type,
                "channel" => &mut fields.channel,
                "created_at" => &mut fields.created_at,
                "response_timeout" => &mut fields.response_timeout,
                "headers" => &mut fields.headers,
                "jsonrpc" => &mut fields.jsonrpc,
                _ => return,
            };
            *slot = Some(value).filter(|value| value.get() != "null");
        })?;
        Ok(fields)
    }
}

impl Default for Elements<'_> {
    fn default() -> Self {
        Elements::List(Vec::new())
    }
}

struct EnvelopeVisitor;
struct ElementsVisitor;

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Envelope<'de>, D::Error> {
        deserializer.deserialize_any(EnvelopeVisitor)
    }
}

impl<'de> Visitor<'de> for EnvelopeVisitor {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Envelope<'de>, E> {
        Ok(Envelope::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
        let mut envelope = Envelope::default();
        while let Some(Text(name)) = map.next_key()? {
            if name == "commands" {
                envelope.commands = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(envelope)
    }
}

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Elements<'de>, D::Error> {
        deserializer.deserialize_any(ElementsVisitor)
    }
}

impl<'de> Visitor<'de> for ElementsVisitor {
    type Value = Elements<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Elements::List(elements))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Elements<'de>, E> {
        Ok(Elements::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Elements<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Elements::NoList)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Elements<'de>, E> {
        Ok(Elements::NoList)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Elements<'de>, E> {
        Ok(Elements::NoList)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Elements<'de>, E> {
        Ok(Elements::NoList)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Elements<'de>, E> {
        Ok(Elements::NoList)
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<Elements<'de>, E> {
        Ok(Elements::NoList)
    }
}
