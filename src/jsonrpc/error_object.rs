//! Responses of our own making.

use super::Id;

/// Internal error (JSON-RPC 2.0 §5.1).
pub const INTERNAL_ERROR: i64 = -32603;
/// Method not found (JSON-RPC 2.0 §5.1).
pub const METHOD_NOT_FOUND: i64 = -32601;

/// An error response. `data` must be JSON text; without an id the member is left out.
pub fn error_response(id: Option<&Id>, code: i64, message: &str, data: Option<&str>) -> String {
    let mut json = head(id);
    json.push_str(r#""error":{"code":"#);
    json.push_str(&code.to_string());
    json.push_str(r#","message":"#);
    json.push_str(&json_string(message));
    if let Some(data) = data {
        json.push_str(r#","data":"#);
        json.push_str(data);
    }
    json.push_str("}}");
    json
}

/// A success response; `result` must be JSON text.
pub fn result_response(id: &Id, result: &str) -> String {
    let mut json = head(Some(id));
    json.push_str(r#""result":"#);
    json.push_str(result);
    json.push('}');
    json
}

/// `text` as a JSON string, quotes included.
pub(crate) fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn head(id: Option<&Id>) -> String {
    let mut json = String::from(r#"{"jsonrpc":"2.0","#);
    if let Some(id) = id {
        json.push_str(r#""id":"#);
        json.push_str(id.as_json());
        json.push(',');
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_spelled_as_the_protocol_says() {
        let id = Id::from_json("9007199254740993").unwrap();
        assert_eq!(
            error_response(Some(&id), INTERNAL_ERROR, "a \"b\"", Some("{}")),
            r#"{"jsonrpc":"2.0","id":9007199254740993,"error":{"code":-32603,"message":"a \"b\"","data":{}}}"#
        );
        assert_eq!(
            error_response(None, 1, "m", None),
            r#"{"jsonrpc":"2.0","error":{"code":1,"message":"m"}}"#
        );
        assert_eq!(result_response(&id, "{}"), r#"{"jsonrpc":"2.0","id":9007199254740993,"result":{}}"#);
    }
}
