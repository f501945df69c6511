//! Redaction of JSON inside text, at whatever depth: also of JSON that stands in a string of other JSON.
//!
//! A quotation mark at depth `n` has `2^n - 1` backslashes before it; that number is called `escape` here.

use super::keys;
use super::text::{Rewrite, is_name, skip};

/// A bare number that short as the member `code` is that of an error.
const MAX_ERROR_CODE_BYTES: usize = 6;

/// `"password": "…"`, also with a list or a bare word as value.
pub(super) fn members(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Rewrite::new(text);
    let mut at = 0;
    while let Some(open) = bytes[at..].iter().position(|b| *b == b'"').map(|found| at + found) {
        let name_end = skip(bytes, open + 1, is_name);
        at = open + 1;
        let escape = backslashes(bytes, open);
        let behind = name_end + escape + 1;
        if !(escape + 1).is_power_of_two()
            || !is_quote(bytes, name_end, escape)
            || !keys::is_secret_member(&text[open + 1..name_end])
        {
            continue;
        }
        let colon = skip(bytes, behind, |b| b.is_ascii_whitespace());
        if bytes.get(colon) != Some(&b':') {
            continue;
        }
        let start = skip(bytes, colon + 1, |b| b.is_ascii_whitespace());
        let end = if is_quote(bytes, start, escape) {
            json_string_end(bytes, start + escape, escape).unwrap_or(bytes.len())
        } else if bytes.get(start) == Some(&b'[') {
            json_list_end(bytes, start, escape)
        } else {
            let ends = |b: u8| matches!(b, b',' | b'}' | b']') || (escape > 0 && matches!(b, b'"' | b'\\'));
            skip(bytes, start, |b| !ends(b) && !b.is_ascii_whitespace())
        };
        // An error's code, as in JSON-RPC; an authorization code is a string.
        let is_error_code = text[open + 1..name_end].eq_ignore_ascii_case("code")
            && end - start <= MAX_ERROR_CODE_BYTES
            && text[start..end].parse::<i32>().is_ok();
        if start < end && !is_error_code {
            let escape = "\\".repeat(escape);
            out.replace(start, end, &format!("{escape}\"[REDACTED]{escape}\""));
            at = end;
        }
    }
    out.finish()
}

/// How many backslashes stand right before `at`.
fn backslashes(bytes: &[u8], at: usize) -> usize {
    bytes[..at].iter().rev().take_while(|b| **b == b'\\').count()
}

/// Whether a quotation mark with `escape` backslashes begins at `at`.
fn is_quote(bytes: &[u8], at: usize, escape: usize) -> bool {
    bytes.get(at..=at + escape).is_some_and(|mark| {
        mark.split_last().is_some_and(|(last, before)| *last == b'"' && before.iter().all(|b| *b == b'\\'))
    })
}

/// The position behind the string whose opening mark is at `open`, or before the mark that ends what
/// the string stands in; `None` if neither comes.
pub(super) fn json_string_end(bytes: &[u8], open: usize, escape: usize) -> Option<usize> {
    let mut run = 0;
    for (at, byte) in bytes.iter().enumerate().skip(open + 1) {
        match byte {
            b'\\' => run += 1,
            b'"' => {
                // Literal backslashes are doubled at each depth: only the remainder tells the mark's depth.
                let mark = run % (2 * (escape + 1));
                if mark == escape {
                    return Some(at + 1);
                } else if mark != 2 * escape + 1 {
                    return Some(at - run);
                }
                run = 0;
            }
            _ => run = 0,
        }
    }
    None
}

/// The position behind the list that begins at `start`; the end of the text if it does not end.
fn json_list_end(bytes: &[u8], start: usize, escape: usize) -> usize {
    let (mut at, mut depth) = (start, 0usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                if backslashes(bytes, at) < escape {
                    return at;
                }
                let end = json_string_end(bytes, at, escape).unwrap_or(bytes.len());
                at = end.max(at + 1);
                continue;
            }
            b'[' => depth += 1,
            b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at.min(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn secrets_are_hidden_at_every_depth() {
        let inner = json!({"a": 1, "password": "p\"w\\", "list": {"Cookie": ["s3=cret\\", "]"]}, "token": 12, "z": "kept \\"});
        let mut text = inner.to_string();
        for depth in 0..4 {
            let hidden = members(&text).unwrap();
            for secret in ["p\\", "w\\", "s3=cret", "12"] {
                assert!(!hidden.contains(secret), "depth {depth}: {hidden}");
            }
            let mut read: Value = serde_json::from_str(&hidden).unwrap();
            for _ in 0..depth {
                read = serde_json::from_str(read["text"].as_str().unwrap()).unwrap();
            }
            assert_eq!(read["password"], "[REDACTED]", "{hidden}");
            assert_eq!(read["list"]["Cookie"], "[REDACTED]");
            assert_eq!(read["token"], "[REDACTED]");
            assert_eq!((&read["a"], &read["z"]), (&json!(1), &json!("kept \\")));
            text = json!({"text": text}).to_string();
        }
    }

    #[test]
    fn what_ends_too_early_is_hidden_as_far_as_it_goes() {
        for (text, expected) in [
            (r#"{"t":"{\"password\":\"abc"}"#, r#"{"t":"{\"password\":\"[REDACTED]\""}"#),
            (r#"{"t":"{\"Cookie\":[\"abc"}"#, r#"{"t":"{\"Cookie\":\"[REDACTED]\""}"#),
            (r#"{\"password\":\"abc"#, r#"{\"password\":\"[REDACTED]\""#),
        ] {
            assert_eq!(members(text).as_deref(), Some(expected));
        }
    }
}
