//! Replies outside 2xx: an MCP error of the server's own, or nothing that may leave the network.
//!
//! Invariant: a body that is not recognised as the answer to this very call is dropped unseen.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use crate::jsonrpc::Id;
use crate::mcp::FailureKind;
use crate::net::{Cause, Error};

/// Longest body of an error that is kept.
pub(super) const MAX_ERROR_BYTES: usize = 102_400;

/// The body of an MCP error that answers the call `id`, byte for byte, or what is wrong with it.
pub(super) fn mcp_error(id: &Id, body: Result<Vec<u8>, Error>) -> Result<String, FailureKind> {
    let body = body.map_err(|error| match error.cause {
        Cause::TooLarge => FailureKind::ResponseBodyTooLarge,
        _ => FailureKind::ResponseBodyUnreadable,
    })?;
    if body.is_empty() {
        return Err(FailureKind::ResponseBodyMissing);
    }
    let text = String::from_utf8(body).map_err(|_| FailureKind::MalformedJson)?;
    let value: &RawValue = serde_json::from_str(&text).map_err(|_| FailureKind::MalformedJson)?;
    if is_error_for(id, value) { Ok(value.get().to_owned()) } else { Err(FailureKind::InvalidMcpError) }
}

fn is_error_for(id: &Id, value: &RawValue) -> bool {
    let Some(message) = members(value) else { return false };
    let Some(error) = message.get("error").and_then(|error| members(error)) else { return false };
    message.get("jsonrpc").and_then(|raw| string(raw)).as_deref() == Some("2.0")
        && !message.contains_key("method")
        && !message.contains_key("result")
        && error.get("code").is_some_and(|code| code.get().parse::<i64>().is_ok())
        && error.get("message").is_some_and(|text| string(text).is_some())
        && message.get("id").and_then(|raw| Id::from_raw(raw)).as_ref() == Some(id)
}

/// The members of an object; of duplicates the last one counts.
fn members(value: &RawValue) -> Option<HashMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str(value.get()).ok()
}

fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(body: &str) -> Result<String, FailureKind> {
        mcp_error(&Id::from_json("7").unwrap(), Ok(body.as_bytes().to_vec()))
    }

    #[test]
    fn an_error_for_the_call_is_kept_with_every_byte() {
        for body in [
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32003,"message":"m","data":{"n":1.10}},"x":"<\u00e9>"}"#,
            r#"{ "error" : {"message":"","code":0} , "id":7, "jsonrpc":"2.0" }"#,
        ] {
            assert_eq!(judge(body).as_deref(), Ok(body));
            assert_eq!(judge(&format!(" {body}\r\n")).as_deref(), Ok(body));
        }
    }

    #[test]
    fn everything_else_has_its_kind_in_the_order_of_the_checks() {
        use FailureKind::{InvalidMcpError, MalformedJson, ResponseBodyMissing};
        for (body, kind) in [
            ("", ResponseBodyMissing),
            (" ", MalformedJson),
            ("<html>", MalformedJson),
            (r#"{"jsonrpc":"2.0""#, MalformedJson),
            ("{} {}", MalformedJson),
            ("[]", InvalidMcpError),
            ("null", InvalidMcpError),
            (r#"{"jsonrpc":"1.0","id":7,"error":{"code":1,"message":"m"}}"#, InvalidMcpError),
            (r#"{"id":7,"error":{"code":1,"message":"m"}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":8,"error":{"code":1,"message":"m"}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":"7","error":{"code":1,"message":"m"}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":7,"result":null,"error":{"code":1,"message":"m"}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":7,"method":null,"error":{"code":1,"message":"m"}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":1.0,"message":"m"}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":"1","message":"m"}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":1}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":null}}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":7,"error":"e"}"#, InvalidMcpError),
            (r#"{"jsonrpc":"2.0","id":7}"#, InvalidMcpError),
        ] {
            assert_eq!(judge(body), Err(kind), "{body}");
        }
        let id = Id::from_json("7").unwrap();
        let broken = |cause| mcp_error(&id, Err(Error::after_writing(cause, "x")));
        assert_eq!(broken(Cause::TooLarge), Err(FailureKind::ResponseBodyTooLarge));
        assert_eq!(broken(Cause::ConnectionReset), Err(FailureKind::ResponseBodyUnreadable));
        assert_eq!(mcp_error(&id, Ok(b"\"\xff\"".to_vec())), Err(FailureKind::MalformedJson));
    }
}
