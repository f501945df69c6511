//! From the body of a poll to commands.
//!
//! Each element is decoded on its own: whatever is wrong with one leaves the others alone. Payloads
//! are looked at in place and copied once, byte for byte. Of duplicate members the last one counts.

mod work;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use serde_json::value::RawValue;

use self::work::{Parts, Unfit, work};
use super::headers::fold_name;
use super::refusal::{Reason, Refused};
use super::time_text::{parse_timeout, parse_timestamp};
use super::types::{Command, Work};
use super::views::{Elements, Envelope, Fields};
use crate::ids::Channel;
use crate::jsonrpc::Text;
use crate::net::{Deadline, HeaderList, HeaderValue};
use crate::secret::Secret;

/// Most characters of an unknown type that are shown.
const TYPE_CHARS_SHOWN: usize = 64;

/// What a poll brought.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    /// In the order of the reply; those that cannot be executed carry [`Work::Refused`].
    pub(super) commands: Vec<Command>,
    /// Every command that cannot be executed, answerable or not.
    pub(super) refused: Vec<Refused>,
    /// Elements in the reply.
    pub(super) total: usize,
}

/// The body as a whole is not a poll's reply; quotes none of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidBody(String);

/// Decodes a whole body; every command counts its deadline from `received_at`.
pub(super) fn decode(body: &[u8], received_at: Instant) -> Result<Decoded, InvalidBody> {
    // Peers that cut a character in half still mean the rest.
    let text = String::from_utf8_lossy(body);
    let envelope: Envelope<'_> = serde_json::from_str(&text).map_err(|error| InvalidBody(reason(&error)))?;
    let elements = match envelope.commands {
        Elements::List(elements) => elements,
        Elements::NoList => return Err(InvalidBody("\"commands\" is not an array".to_owned())),
    };
    let mut decoded = Decoded { total: elements.len(), ..Decoded::default() };
    for element in elements {
        match element_to_command(element, received_at) {
            Ok((command, refused)) => {
                decoded.refused.extend(refused);
                decoded.commands.push(command);
            }
            Err(refused) => decoded.refused.push(refused),
        }
    }
    Ok(decoded)
}

/// One element; an error if it cannot even be answered.
fn element_to_command(
    element: &RawValue,
    received_at: Instant,
) -> Result<(Command, Option<Refused>), Refused> {
    let nameless = |reason, detail: &str| Refused {
        reason,
        detail: detail.to_owned(),
        request_id: None,
        command_type: None,
        answered: false,
    };
    if element.get() == "null" {
        return Err(nameless(Reason::MissingCommandType, "the element is null"));
    }
    if !element.get().starts_with('{') {
        return Err(nameless(Reason::InvalidPayload, "the element is not an object"));
    }
    let fields = Fields::of(element.get())
        .map_err(|_| nameless(Reason::InvalidPayload, "the element cannot be read"))?;
    let request_id = non_empty(fields.request_id).ok_or_else(|| nameless(Reason::MissingRequestId, ""))?;
    // A token that no header can carry is as good as none.
    let shard_token =
        non_empty(fields.shard_token).filter(|token| HeaderValue::from_bytes(token.as_bytes()).is_ok());
    let shard_token = shard_token.ok_or_else(|| Refused {
        request_id: Some(request_id.clone().into_owned()),
        ..nameless(Reason::MissingShardToken, "")
    })?;
    let (channel, headers) = (channel(fields.channel), headers(fields.headers));
    let (channel_valid, headers_valid) = (channel.is_some(), headers.is_some());
    let mut command = Command {
        request_id: request_id.into_owned(),
        shard_token: Secret::new(shard_token.into_owned()),
        channel: channel.unwrap_or_else(Channel::main),
        received_at,
        created_at: string(fields.created_at).and_then(|text| parse_timestamp(&text)),
        deadline: deadline(fields.response_timeout, received_at),
        headers: headers.unwrap_or_default(),
        work: Work::OauthDiscovery,
    };
    let command_type = non_empty(fields.command_type);
    let name = command_type.as_deref();
    let parts = Parts { name, channel_valid, headers_valid, payload: fields.jsonrpc };
    let Unfit { reason, refusal, detail } = match work(&command, &parts) {
        Ok(work) => {
            command.work = work;
            return Ok((command, None));
        }
        Err(unfit) => unfit,
    };
    let refused = Refused {
        reason,
        detail,
        request_id: Some(command.request_id.clone()),
        command_type: command_type
            .filter(|_| reason == Reason::UnsupportedCommandType)
            .map(|name| name.chars().take(TYPE_CHARS_SHOWN).collect()),
        answered: true,
    };
    command.work = Work::Refused(refusal);
    Ok((command, Some(refused)))
}

fn deadline(timeout: Option<&RawValue>, received_at: Instant) -> Deadline {
    string(timeout)
        .and_then(|text| parse_timeout(&text))
        .and_then(|timeout| received_at.checked_add(timeout))
        .map_or(Deadline::NEVER, Deadline::at)
}

/// `None` when the name is invalid.
fn channel(raw: Option<&RawValue>) -> Option<Channel> {
    match raw {
        None => Some(Channel::main()),
        Some(raw) => Channel::parse(&string(Some(raw))?).ok(),
    }
}

/// `None` when this is no object of arrays of strings. Null reads as nothing at either depth.
fn headers(raw: Option<&RawValue>) -> Option<HeaderList> {
    let mut list = HeaderList::new();
    let Some(raw) = raw else {
        return Some(list);
    };
    // Sorted, so that variants of one name that differ in case merge in a fixed order.
    let map: BTreeMap<String, Option<Vec<Option<String>>>> = serde_json::from_str(raw.get()).ok()?;
    for (mut name, values) in map {
        fold_name(&mut name);
        let mut values = values.unwrap_or_default().into_iter().map(Option::unwrap_or_default);
        // Nearly always the only one: it takes the name along.
        let last = values.next_back();
        values.for_each(|value| list.add(name.as_str(), value));
        if let Some(last) = last {
            list.add(name, last);
        }
    }
    Some(list)
}

/// The content of a JSON string.
fn string<'a>(raw: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    let raw = raw?.get();
    raw.starts_with('"').then(|| serde_json::from_str::<Text<'a>>(raw).ok()).flatten().map(|Text(text)| text)
}

fn non_empty<'a>(raw: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    string(raw).filter(|text| !text.is_empty())
}

/// A parse error without the text it quotes.
fn reason(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Eof => "the JSON ends early",
        Category::Data => "the top level is not an object",
        Category::Syntax | Category::Io => "it is not valid JSON",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

impl fmt::Display for InvalidBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the reply cannot be decoded: {}", self.0)
    }
}

impl std::error::Error for InvalidBody {}

#[cfg(test)]
mod tests;
