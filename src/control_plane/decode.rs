//! From the body of a poll to commands.
//!
//! Each element is decoded on its own: whatever is wrong with one leaves the others alone. Payloads
//! are looked at in place and copied once, byte for byte. Of duplicate members the last one counts.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use serde_json::Value;
use serde_json::value::RawValue;

use super::headers::canonical_name;
use super::refusal::{Reason, Refused};
use super::time_text::{parse_timeout, parse_timestamp};
use super::types::{Command, Refusal, Work};
use super::views::{Elements, Envelope, Fields, Text, for_each_member};
use crate::ids::Channel;
use crate::jsonrpc::{Id, Kind, Message};
use crate::net::{Deadline, HeaderList, HeaderValue};
use crate::secret::Secret;

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
    let headers_valid = headers.is_some();
    let mut command = Command {
        request_id: request_id.into_owned(),
        shard_token: Secret::new(shard_token.into_owned()),
        channel: channel.clone().unwrap_or_else(Channel::main),
        received_at,
        created_at: string(fields.created_at).and_then(|text| parse_timestamp(&text)),
        deadline: deadline(fields.response_timeout, received_at),
        headers: headers.unwrap_or_default(),
        work: Work::OauthDiscovery,
    };
    let command_type = non_empty(fields.command_type);
    let (reason, refusal, detail) =
        match work(command_type.as_deref(), channel, headers_valid, &command, fields.jsonrpc) {
            Ok(work) => {
                command.work = work;
                return Ok((command, None));
            }
            Err(Unfit { reason, refusal, detail }) => (reason, refusal, detail),
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

/// Most characters of an unknown type that are shown.
const TYPE_CHARS_SHOWN: usize = 64;

/// Why an addressable command cannot be executed, and its answer.
struct Unfit {
    reason: Reason,
    refusal: Refusal,
    detail: String,
}

/// What `command` asks for, by its type alone.
fn work(
    command_type: Option<&str>,
    channel: Option<Channel>,
    headers_valid: bool,
    command: &Command,
    payload: Option<&RawValue>,
) -> Result<Work, Unfit> {
    let unfit = |reason: Reason, refusal| Unfit { reason, refusal, detail: String::new() };
    let jsonrpc_error =
        |reason: Reason| unfit(reason, reason.as_jsonrpc(payload.and_then(salvaged_id).as_ref()));
    match command_type {
        None => Err(jsonrpc_error(Reason::MissingCommandType)),
        Some("jsonrpc" | "session_termination" | "oauth_discovery") if channel.is_none() => {
            Err(jsonrpc_error(Reason::InvalidChannel))
        }
        Some("jsonrpc") => {
            if !headers_valid {
                return Err(jsonrpc_error(Reason::InvalidHeaders));
            }
            let invalid = |detail: String| Unfit { detail, ..jsonrpc_error(Reason::InvalidJsonRpc) };
            let payload = payload.ok_or_else(|| invalid("member \"jsonrpc\" is missing".to_owned()))?;
            let message = Message::parse(payload.get()).map_err(|error| invalid(error.to_string()))?;
            match message.kind() {
                Kind::Response => Err(jsonrpc_error(Reason::ResponsePayload)),
                _ if !error_is_well_formed(message.json()) => {
                    Err(invalid("member \"error\" is malformed".to_owned()))
                }
                Kind::Call | Kind::Notification => Ok(Work::JsonRpc(message)),
            }
        }
        Some("session_termination") => {
            let refuse = |reason: Reason| Err(unfit(reason, reason.as_session_termination()));
            match (headers_valid, command.session_id()) {
                (false, _) => refuse(Reason::InvalidHeaders),
                (true, None) => refuse(Reason::MissingSessionId),
                (true, Some(_)) => Ok(Work::SessionTermination),
            }
        }
        Some("oauth_discovery") if headers_valid => Ok(Work::OauthDiscovery),
        Some("oauth_discovery") => {
            Err(unfit(Reason::InvalidHeaders, Reason::InvalidHeaders.as_oauth_discovery()))
        }
        Some(_) => Err(jsonrpc_error(Reason::UnsupportedCommandType)),
    }
}

/// The id of a payload that is otherwise unusable, so that its caller can be told.
fn salvaged_id(payload: &RawValue) -> Option<Id> {
    let mut id = None;
    for_each_member(payload.get(), |name, value| {
        if name == "id" {
            id = Id::from_raw(value);
        }
    })
    .ok()?;
    id
}

/// Whether `error`, should the message have that member, is shaped as JSON-RPC 2.0 §5.1 says.
fn error_is_well_formed(message: &str) -> bool {
    // Requests have no such member: do not look at every payload twice.
    if !message.contains("\"error\"") {
        return true;
    }
    let mut well_formed = true;
    let read = for_each_member(message, |name, value| {
        if name == "error" {
            well_formed = match serde_json::from_str::<Value>(value.get()) {
                Ok(Value::Null) => true,
                Ok(Value::Object(error)) => {
                    error.get("code").is_none_or(|code| code.is_null() || code.is_i64())
                        && error.get("message").is_none_or(|text| text.is_null() || text.is_string())
                }
                _ => false,
            };
        }
    });
    read.is_ok() && well_formed
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
    for (name, values) in map {
        let name = canonical_name(&name);
        for value in values.unwrap_or_default() {
            list.add(name.clone(), value.unwrap_or_default());
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
mod tests {
    use super::*;
    use crate::control_plane::ResponseBody;
    use std::time::{Duration, SystemTime};

    fn decode_text(body: &str) -> Result<Decoded, InvalidBody> {
        decode(body.as_bytes(), Instant::now())
    }

    /// One element of `commands`, with what every command needs besides `members`.
    fn one(members: &str) -> Decoded {
        decode_text(&format!(r#"{{"commands":[{{"request_id":"r","shard_token":"s",{members}}}]}}"#)).unwrap()
    }

    fn call(members: &str) -> Command {
        let payload = r#""command_type":"jsonrpc","jsonrpc":{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#;
        let mut decoded = one(&format!("{payload}{members}"));
        assert_eq!((decoded.commands.len(), &decoded.refused[..]), (1, &[][..]), "{members}");
        decoded.commands.remove(0)
    }

    /// Reason, code and body of the only command, which must have been refused.
    fn refused(members: &str) -> (Reason, u16, ResponseBody) {
        let decoded = one(members);
        let Work::Refused(refusal) = &decoded.commands[0].work else { panic!("{members} was not refused") };
        assert!(decoded.refused[0].answered && decoded.refused[0].request_id.as_deref() == Some("r"));
        (decoded.refused[0].reason, refusal.code, refusal.body.clone())
    }

    #[test]
    fn a_reply_without_commands_is_empty() {
        for body in
            ["{}", "null", " {\"commands\":null} ", r#"{"commands":[]}"#, r#"{"a":[{}],"commands":[]}"#]
        {
            let decoded = decode_text(body).unwrap();
            assert_eq!((decoded.total, decoded.commands.len()), (0, 0), "{body}");
        }
    }

    #[test]
    fn what_is_no_reply_fails_as_a_whole() {
        for body in [
            "",
            "not json",
            "[]",
            "5",
            "\"x\"",
            r#"{"commands":5}"#,
            r#"{"commands":{"a":1}}"#,
            r#"{"commands":"x"}"#,
            r#"{"commands":true}"#,
            r#"{"commands":[]} x"#,
            r#"{"commands":[{]}"#,
            r#"{"commands":[]"#,
        ] {
            assert!(decode_text(body).is_err(), "{body}");
        }
    }

    #[test]
    fn all_kinds_of_commands_are_decoded() {
        let body = r#"{"commands":[
            {"command_type":"jsonrpc","request_id":"r-1","shard_token":"s-1","channel":"tools",
             "created_at":"2026-03-01T09:30:00.250Z","response_timeout":"45s",
             "headers":{"mcp-session-id":["abc","def"],"x-request-id":["conn-77"]},
             "jsonrpc":{"jsonrpc":"2.0", "id":7,"method":"tools/list","params":{"n":1.10},"extra":1}},
            {"command_type":"session_termination","request_id":"r-2","shard_token":"s-1","headers":{"MCP-SESSION-ID":["abc"]}},
            {"command_type":"oauth_discovery","request_id":"r-3","shard_token":"s-2"}]}"#;
        let received_at = Instant::now();
        let commands = decode(body.as_bytes(), received_at).unwrap().commands;
        let [first, second, third] = &commands[..] else { panic!() };
        let Work::JsonRpc(message) = &first.work else { panic!() };
        assert_eq!(
            message.json(),
            r#"{"jsonrpc":"2.0", "id":7,"method":"tools/list","params":{"n":1.10},"extra":1}"#
        );
        assert_eq!((first.request_id.as_str(), first.shard_token.expose().as_str()), ("r-1", "s-1"));
        assert_eq!(first.channel.as_str(), "tools");
        assert_eq!(first.deadline, Deadline::at(received_at + Duration::from_secs(45)));
        assert_eq!(first.created_at, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_772_357_400_250)));
        assert_eq!((first.session_id(), first.connector_request_id()), (Some("abc"), Some("conn-77")));
        assert_eq!(first.headers.get_all("Mcp-Session-Id").count(), 2);
        assert_eq!(first.headers.iter().next(), Some(("Mcp-Session-Id", "abc")));
        assert!(matches!(second.work, Work::SessionTermination) && second.session_id() == Some("abc"));
        assert!(matches!(third.work, Work::OauthDiscovery) && third.channel.is_main());
        assert!(commands.iter().all(|command| command.received_at == received_at));
    }

    #[test]
    fn optional_fields_never_cost_a_command() {
        for (members, channel) in [
            (r#","channel":" MAIN ""#, "main"),
            (r#","channel":null"#, "main"),
            (r#","channel":"  ""#, "main"),
            (r#","created_at":"yesterday""#, "main"),
            (r#","created_at":5,"headers":null"#, "main"),
            (r#","headers":{"A":null,"B":[null]}"#, "main"),
            (r#","unknown":[{}],"more":1e999"#, "main"),
            (r#","channel":"bad channel","channel":"Tools""#, "tools"),
        ] {
            assert_eq!(call(members).channel.as_str(), channel, "{members}");
        }
        for timeout in ["30", "\"30\"", "\"1.5s\"", "true", "{}", "[]", "null", "\"9223372036854775808ns\""] {
            assert_eq!(
                call(&format!(r#","response_timeout":{timeout}"#)).deadline,
                Deadline::NEVER,
                "{timeout}"
            );
        }
        assert!(call(r#","response_timeout":"0s""#).deadline.is_past());
    }

    #[test]
    fn case_variants_of_a_header_merge_and_duplicate_members_do_not() {
        let command = call(r#","headers":{"x-a":["3"],"X-A":["1"],"X-A":["2"]}"#);
        assert_eq!(command.headers.iter().collect::<Vec<_>>(), [("X-A", "2"), ("X-A", "3")]);
    }

    #[test]
    fn ids_keep_their_spelling() {
        for id in ["1.5", "9007199254740993", "\"\"", "\"\\u0061\"", "1e2"] {
            let members =
                format!(r#""command_type":"jsonrpc","jsonrpc":{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#);
            let decoded = one(&members);
            let Work::JsonRpc(message) = &decoded.commands[0].work else { panic!("{id}") };
            assert_eq!(message.id().unwrap().as_json(), id);
        }
    }

    #[test]
    fn elements_that_nobody_can_answer_are_dropped_and_the_others_proceed() {
        let good = r#"{"request_id":"ok","shard_token":"s","command_type":"oauth_discovery"}"#;
        for (bad, reason) in [
            ("5", Reason::InvalidPayload),
            ("[]", Reason::InvalidPayload),
            ("\"x\"", Reason::InvalidPayload),
            ("true", Reason::InvalidPayload),
            ("null", Reason::MissingCommandType),
            ("{}", Reason::MissingRequestId),
            (
                r#"{"request_id":"","shard_token":"s","command_type":"oauth_discovery"}"#,
                Reason::MissingRequestId,
            ),
            (
                r#"{"request_id":4,"shard_token":"s","command_type":"oauth_discovery"}"#,
                Reason::MissingRequestId,
            ),
            (r#"{"request_id":"r","command_type":"oauth_discovery"}"#, Reason::MissingShardToken),
            (
                r#"{"request_id":"r","shard_token":"","command_type":"oauth_discovery"}"#,
                Reason::MissingShardToken,
            ),
            (
                r#"{"request_id":"r","shard_token":"a\nb","command_type":"oauth_discovery"}"#,
                Reason::MissingShardToken,
            ),
        ] {
            let decoded = decode_text(&format!(r#"{{"commands":[{bad},{good}]}}"#)).unwrap();
            assert_eq!(decoded.commands.len(), 1, "{bad}");
            assert_eq!((decoded.commands[0].request_id.as_str(), decoded.total), ("ok", 2));
            assert_eq!((decoded.refused[0].reason, decoded.refused[0].answered), (reason, false), "{bad}");
        }
    }

    #[test]
    fn addressable_commands_that_cannot_be_executed_are_answered() {
        let rpc = |payload: &str| format!(r#""command_type":"jsonrpc","jsonrpc":{payload}"#);
        let valid = r#"{"jsonrpc":"2.0","id":"x","method":"m"}"#;
        for (members, reason, code, id) in [
            (r#""command_type":"jsonrpc""#.to_owned(), Reason::InvalidJsonRpc, 400, None),
            (rpc("null"), Reason::InvalidJsonRpc, 400, None),
            (rpc("[]"), Reason::InvalidJsonRpc, 400, None),
            (rpc("5"), Reason::InvalidJsonRpc, 400, None),
            (
                rpc(r#"{"jsonrpc":"1.0","id":9007199254740993,"method":"m"}"#),
                Reason::InvalidJsonRpc,
                400,
                Some("9007199254740993"),
            ),
            (rpc(r#"{"jsonrpc":"2.0","id":true,"method":"m"}"#), Reason::InvalidJsonRpc, 400, None),
            (rpc(r#"{"jsonrpc":"2.0","id":1,"method":5}"#), Reason::InvalidJsonRpc, 400, Some("1")),
            (rpc(r#"{"jsonrpc":"2.0"}"#), Reason::InvalidJsonRpc, 400, None),
            (
                rpc(r#"{"jsonrpc":"2.0","id":1,"method":"m","error":"no"}"#),
                Reason::InvalidJsonRpc,
                400,
                Some("1"),
            ),
            (rpc(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Reason::ResponsePayload, 400, Some("1")),
            (rpc(&format!(r#"{valid},"channel":"bad channel""#)), Reason::InvalidChannel, 400, Some("\"x\"")),
            (rpc(&format!(r#"{valid},"channel":7"#)), Reason::InvalidChannel, 400, Some("\"x\"")),
            (rpc(&format!(r#"{valid},"headers":{{"A":"b"}}"#)), Reason::InvalidHeaders, 400, Some("\"x\"")),
            (rpc(&format!(r#"{valid},"headers":{{"A":[1]}}"#)), Reason::InvalidHeaders, 400, Some("\"x\"")),
            (rpc(&format!(r#"{valid},"headers":[]"#)), Reason::InvalidHeaders, 400, Some("\"x\"")),
            (
                format!(r#""command_type":"new","jsonrpc":{valid}"#),
                Reason::UnsupportedCommandType,
                501,
                Some("\"x\""),
            ),
            (
                format!(r#""command_type":null,"jsonrpc":{valid}"#),
                Reason::MissingCommandType,
                501,
                Some("\"x\""),
            ),
            (r#""command_type":"""#.to_owned(), Reason::MissingCommandType, 501, None),
            (
                r#""command_type":"oauth_discovery","channel":"a b""#.to_owned(),
                Reason::InvalidChannel,
                400,
                None,
            ),
        ] {
            let (got, status, body) = refused(&members);
            assert_eq!((got, status), (reason, code), "{members}");
            let ResponseBody::JsonRpc(json) = body else { panic!("{members}: {body:?}") };
            let error: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert!(error["error"]["code"].is_i64(), "{json}");
            let expected = id.map_or_else(String::new, |id| format!(r#""id":{id},"#));
            assert!(
                json.starts_with(&format!(r#"{{"jsonrpc":"2.0",{expected}"error""#)),
                "{members}: {json}"
            );
        }
    }

    #[test]
    fn refusals_of_other_types_are_shaped_like_their_answers() {
        let (reason, code, body) = refused(r#""command_type":"session_termination""#);
        assert_eq!((reason, code, body), (Reason::MissingSessionId, 400, ResponseBody::SessionTermination));
        let (_, code, body) =
            refused(r#""command_type":"session_termination","headers":{"Mcp-Session-Id":["","x"]}"#);
        assert_eq!((code, body), (400, ResponseBody::SessionTermination));
        let (_, code, body) = refused(r#""command_type":"oauth_discovery","headers":{"A":"b"}"#);
        let ResponseBody::OauthDiscovery(json) = body else { panic!("{body:?}") };
        assert!(
            code == 400
                && serde_json::from_str::<serde_json::Value>(&json).unwrap()["error"]["code"].is_string()
        );
    }

    #[test]
    fn an_unknown_type_is_named_in_the_log_and_bounded() {
        let decoded = one(&format!(r#""command_type":"{}""#, "x".repeat(500)));
        assert_eq!(decoded.refused[0].command_type.as_ref().unwrap().len(), TYPE_CHARS_SHOWN);
    }

    #[test]
    fn broken_characters_do_not_cost_the_other_commands() {
        let body = [&br#"{"commands":[{"request_id":"r","shard_token":"s","command_type":"oauth_discovery","x":""#[..], b"\xff", b"\"}]}"].concat();
        assert_eq!(decode(&body, Instant::now()).unwrap().commands.len(), 1);
    }
}
