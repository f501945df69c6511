//! Tool arguments that a server wants repeated in `Mcp-Param-*` headers, as its `tools/list` says.
//!
//! Invariant: a tool whose annotations break the rules is never called by them.

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::jsonrpc::Envelope;
use crate::mcp::peek;

use super::complete::encoded;
use super::edit::Editor;

/// Marks a property whose value belongs into a header.
const ANNOTATION: &str = "x-mcp-header";
/// Prefix of those headers.
pub(in crate::mcp) const PREFIX: &str = "Mcp-Param-";
/// Tools that are remembered.
const MAX_TOOLS: usize = 1000;
/// Objects within objects that are looked into.
const MAX_DEPTH: usize = 16;

/// One annotated property.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameter {
    header: String,
    path: Vec<String>,
}

/// The annotations of the tools of one server.
#[derive(Debug, Default)]
pub(in crate::mcp) struct Tools(HashMap<String, Vec<Parameter>>);

impl Tools {
    /// Learns the tools of a `tools/list` answer. The answer without the tools whose annotations break the
    /// rules, if there are any, with their names.
    pub(in crate::mcp) fn learn(&mut self, json: &str) -> Option<(String, Vec<String>)> {
        if !json.contains(ANNOTATION) {
            return None;
        }
        let envelope = Envelope::parse(json.as_bytes()).ok()?;
        let mut result = Editor::of(envelope.result?.get())?;
        let tools: Vec<&RawValue> = serde_json::from_str(result.get("tools")?.get()).ok()?;
        let (mut kept, mut refused) = (Vec::with_capacity(tools.len()), Vec::new());
        for tool in &tools {
            let name = peek::member(tool, "name").and_then(peek::string).unwrap_or_default();
            let schema = peek::member(tool, "inputSchema").filter(|_| tool.get().contains(ANNOTATION));
            let schema = schema.and_then(|schema| serde_json::from_str::<Value>(schema.get()).ok());
            match schema.as_ref().map_or(Some(Vec::new()), annotations) {
                Some(parameters) => {
                    kept.push(tool.get());
                    if !parameters.is_empty() && (self.0.len() < MAX_TOOLS || self.0.contains_key(&*name)) {
                        self.0.insert(name.into_owned(), parameters);
                    }
                }
                None => refused.push(super::own::clipped(name)),
            }
        }
        if refused.is_empty() {
            return None;
        }
        result.set("tools", format!("[{}]", kept.join(",")));
        let result = result.finish();
        let mut whole = Editor::of(json)?;
        whole.set("result", result);
        Some((whole.finish(), refused))
    }

    /// The headers for a call, a request.
    pub(in crate::mcp) fn headers(&self, json: &str) -> Vec<(String, String)> {
        let Some(params) = Envelope::parse(json.as_bytes()).ok().and_then(|view| view.params) else {
            return Vec::new();
        };
        let [name, arguments] = peek::members(params.get(), ["name", "arguments"]);
        let parameters = name.and_then(peek::string).and_then(|name| self.0.get(&*name));
        let (Some(parameters), Some(arguments)) = (parameters, arguments) else { return Vec::new() };
        let value = |parameter: &Parameter| {
            let mut at = arguments;
            for step in &parameter.path {
                at = peek::member(at, step)?;
            }
            let text = match at.get().as_bytes().first()? {
                b'"' => peek::string(at)?,
                b'{' | b'[' | b'n' => return None,
                _ => at.get().into(),
            };
            Some((format!("{PREFIX}{}", parameter.header), encoded(&text)))
        };
        parameters.iter().filter_map(value).collect()
    }
}

/// The annotated properties of a schema; `None` if they break the rules.
fn annotations(schema: &Value) -> Option<Vec<Parameter>> {
    let mut found = Vec::new();
    let mut reached = 0;
    collect(schema, &mut Vec::new(), &mut found, &mut reached)?;
    // Each annotation of the schema must have been reached through `properties` alone.
    (reached == count(schema)).then_some(found)
}

fn collect(
    schema: &Value,
    path: &mut Vec<String>,
    found: &mut Vec<Parameter>,
    reached: &mut usize,
) -> Option<()> {
    if path.len() > MAX_DEPTH {
        return None;
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Some(()) };
    for (name, property) in properties {
        path.push(name.clone());
        if let Some(header) = property.get(ANNOTATION) {
            let header = header.as_str().filter(|header| is_token(header))?;
            let typed = matches!(
                property.get("type").and_then(Value::as_str),
                Some("string" | "integer" | "boolean")
            );
            if !typed || found.iter().any(|known| known.header.eq_ignore_ascii_case(header)) {
                return None;
            }
            *reached += 1;
            found.push(Parameter { header: header.to_owned(), path: path.clone() });
        }
        collect(property, path, found, reached)?;
        path.pop();
    }
    Some(())
}

/// All annotations of a schema. A property may have the annotation's name: its value is no text.
fn count(schema: &Value) -> usize {
    let of_object = |object: &Map<String, Value>| {
        let own = usize::from(object.get(ANNOTATION).is_some_and(|value| !value.is_object()));
        own + object.values().map(count).sum::<usize>()
    };
    match schema {
        Value::Object(object) => of_object(object),
        Value::Array(list) => list.iter().map(count).sum(),
        _ => 0,
    }
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(tools: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tools}],"n":1.10}}}}"#)
    }

    fn tool(name: &str, properties: &str) -> String {
        format!(r#"{{"name":"{name}","inputSchema":{{"type":"object","properties":{properties}}}}}"#)
    }

    #[test]
    fn annotated_arguments_become_headers() {
        let mut tools = Tools::default();
        let properties = r#"{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"},"o":{"type":"object","properties":{"b":{"type":"boolean","x-mcp-header":"B"}}},"gone":{"type":"string","x-mcp-header":"Gone"}}"#;
        assert!(tools.learn(&list(&tool("t", properties))).is_none());
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{"region":"é","n":7,"o":{"b":true},"gone":null}}}"#;
        let mut headers = tools.headers(call);
        headers.sort();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            headers,
            [
                pair("Mcp-Param-B", "true"),
                pair("Mcp-Param-N", "7"),
                pair("Mcp-Param-Region", "=?base64?w6k=?=")
            ]
        );
        assert!(
            tools
                .headers(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}"#)
                .is_empty()
        );
    }

    #[test]
    fn tools_that_break_the_rules_are_taken_out() {
        for properties in [
            r#"{"a":{"type":"string","x-mcp-header":""}}"#,
            r#"{"a":{"type":"string","x-mcp-header":"a b"}}"#,
            r#"{"a":{"type":"number","x-mcp-header":"A"}}"#,
            r#"{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}"#,
            r#"{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}"#,
        ] {
            let good = tool("good", "{}");
            let (json, refused) =
                Tools::default().learn(&list(&format!("{good},{}", tool("bad", properties)))).unwrap();
            assert_eq!(refused, ["bad"], "{properties}");
            assert_eq!(json, list(&good));
        }
    }
}
