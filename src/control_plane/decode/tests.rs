//! Replies of every shape, and what becomes of their commands.

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
    for body in ["{}", "null", " {\"commands\":null} ", r#"{"commands":[]}"#, r#"{"a":[{}],"commands":[]}"#] {
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
        assert_eq!(call(&format!(r#","response_timeout":{timeout}"#)).deadline, Deadline::NEVER, "{timeout}");
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
        (r#"{"request_id":"","shard_token":"s","command_type":"oauth_discovery"}"#, Reason::MissingRequestId),
        (r#"{"request_id":4,"shard_token":"s","command_type":"oauth_discovery"}"#, Reason::MissingRequestId),
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
        (format!(r#""command_type":null,"jsonrpc":{valid}"#), Reason::MissingCommandType, 501, Some("\"x\"")),
        (r#""command_type":"""#.to_owned(), Reason::MissingCommandType, 501, None),
        (r#""command_type":"oauth_discovery","channel":"a b""#.to_owned(), Reason::InvalidChannel, 400, None),
    ] {
        let (got, status, body) = refused(&members);
        assert_eq!((got, status), (reason, code), "{members}");
        let ResponseBody::JsonRpc(json) = body else { panic!("{members}: {body:?}") };
        let error: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(error["error"]["code"].is_i64(), "{json}");
        let expected = id.map_or_else(String::new, |id| format!(r#""id":{id},"#));
        assert!(json.starts_with(&format!(r#"{{"jsonrpc":"2.0",{expected}"error""#)), "{members}: {json}");
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
        code == 400 && serde_json::from_str::<serde_json::Value>(&json).unwrap()["error"]["code"].is_string()
    );
}

#[test]
fn an_unknown_type_is_named_in_the_log_and_bounded() {
    let decoded = one(&format!(r#""command_type":"{}""#, "x".repeat(500)));
    assert_eq!(decoded.refused[0].command_type.as_ref().unwrap().len(), TYPE_CHARS_SHOWN);
}

#[test]
fn broken_characters_do_not_cost_the_other_commands() {
    let body = [
        &br#"{"commands":[{"request_id":"r","shard_token":"s","command_type":"oauth_discovery","x":""#[..],
        b"\xff",
        b"\"}]}",
    ]
    .concat();
    assert_eq!(decode(&body, Instant::now()).unwrap().commands.len(), 1);
}
