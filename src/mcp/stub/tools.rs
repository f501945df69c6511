//! The stub's tools and what it says about itself.

use serde_json::{Value, json};

const PROMPTS: [&str; 3] = [
    "Ask the demo server who it is and which tools it has.",
    "Echo the sentence: the tunnel works.",
    "Turn the words hello tunnel into upper case.",
];
/// Steps of a countdown, at least one, at most …
const MAX_STEPS: u64 = 10;
/// … and unless told otherwise.
const DEFAULT_STEPS: u64 = 3;

/// The tools of one stub.
pub(super) struct Tools {
    pub(super) name: String,
    pub(super) version: String,
    /// Offer `countdown` too.
    pub(super) countdown: bool,
}

/// What a call of a tool comes to.
pub(super) enum Called {
    /// The result.
    Result(Value),
    /// That many steps to be reported before the result.
    Countdown(u64),
}

/// The arguments do not fit, or there is no such tool.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidParams(pub(super) String);

impl Tools {
    /// Name and version.
    pub(super) fn server_info(&self) -> Value {
        json!({"name": self.name, "version": self.version})
    }

    /// The result of `tools/list`.
    pub(super) fn list(&self) -> Value {
        let mut tools = vec![
            json!({
                "name": "server_info",
                "description": "Describes this demo server and its tools.",
                "inputSchema": {"type": "object"},
                "outputSchema": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "version": {"type": "string"},
                        "available_tools": {"type": "array", "items": {"type": "string"}},
                        "sample_prompts": {"type": "array", "items": {"type": "string"}},
                    },
                    "required": ["name", "version", "available_tools", "sample_prompts"],
                    "additionalProperties": false,
                },
            }),
            text_tool("echo", "Returns the input as it is.", "echoed"),
            text_tool("uppercase", "Returns the input in upper case.", "uppercase"),
        ];
        if self.countdown {
            tools.push(json!({
                "name": "countdown",
                "description": "Counts down and reports the progress of every step.",
                "inputSchema": {
                    "type": "object",
                    "properties": {"steps": {"type": "integer", "minimum": 1, "maximum": MAX_STEPS}},
                    "additionalProperties": false,
                },
                "outputSchema": {
                    "type": "object",
                    "properties": {"steps": {"type": "integer"}},
                    "required": ["steps"],
                    "additionalProperties": false,
                },
            }));
        }
        json!({"tools": tools})
    }

    /// Calls the tool that `params` of `tools/call` name.
    pub(super) fn call(&self, params: &Value) -> Result<Called, InvalidParams> {
        let name = params["name"].as_str().unwrap_or_default();
        let arguments = &params["arguments"];
        match name {
            "server_info" => self.describe(arguments).map(Called::Result),
            "echo" => {
                let input = text_input(arguments)?;
                Ok(Called::Result(tool_result(input, json!({"echoed": input}))))
            }
            "uppercase" => {
                let upper = text_input(arguments)?.to_uppercase();
                Ok(Called::Result(tool_result(&upper, json!({"uppercase": upper}))))
            }
            "countdown" if self.countdown => steps(arguments).map(Called::Countdown),
            _ => Err(InvalidParams(format!("unknown tool {name:?}"))),
        }
    }

    fn describe(&self, arguments: &Value) -> Result<Value, InvalidParams> {
        if !arguments.is_object() && !arguments.is_null() {
            return Err(InvalidParams("arguments must be an object".to_owned()));
        }
        let tools = ["server_info", "echo", "uppercase"];
        let (name, version) = (&self.name, &self.version);
        let text = format!("{name} {version} demo tools: {}", tools.join(", "));
        let content =
            json!({"name": name, "version": version, "available_tools": tools, "sample_prompts": PROMPTS});
        Ok(tool_result(&text, content))
    }
}

/// The result of a countdown.
pub(super) fn countdown_result(steps: u64) -> Value {
    tool_result(&format!("Lift-off after {steps} steps."), json!({"steps": steps}))
}

fn text_tool(name: &str, description: &str, output: &str) -> Value {
    let schema = |member: &str| {
        json!({
            "type": "object",
            "properties": {member: {"type": "string"}},
            "required": [member],
            "additionalProperties": false,
        })
    };
    json!({
        "name": name,
        "description": description,
        "inputSchema": schema("input"),
        "outputSchema": schema(output),
    })
}

fn tool_result(text: &str, structured: Value) -> Value {
    json!({"content": [{"type": "text", "text": text}], "structuredContent": structured})
}

fn text_input(arguments: &Value) -> Result<&str, InvalidParams> {
    let object = arguments.as_object();
    match object.map(|object| (object.len(), object.get("input").and_then(Value::as_str))) {
        Some((1, Some(input))) => Ok(input),
        _ => Err(InvalidParams("arguments must be an object with one string, \"input\"".to_owned())),
    }
}

fn steps(arguments: &Value) -> Result<u64, InvalidParams> {
    let invalid = || InvalidParams(format!("\"steps\" must be an integer from 1 to {MAX_STEPS}"));
    match arguments {
        Value::Null => Ok(DEFAULT_STEPS),
        Value::Object(object) if object.is_empty() => Ok(DEFAULT_STEPS),
        Value::Object(object) if object.len() == 1 => {
            let steps = object.get("steps").and_then(Value::as_u64).ok_or_else(invalid)?;
            if (1..=MAX_STEPS).contains(&steps) { Ok(steps) } else { Err(invalid()) }
        }
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_checked_against_the_schema() {
        let tools = Tools { name: "n".to_owned(), version: "v".to_owned(), countdown: true };
        for (params, accepted) in [
            (json!({"name": "echo", "arguments": {"input": ""}}), true),
            (json!({"name": "echo", "arguments": {"input": 1}}), false),
            (json!({"name": "echo", "arguments": {}}), false),
            (json!({"name": "echo"}), false),
            (json!({"name": "uppercase", "arguments": {"input": "a", "more": 1}}), false),
            (json!({"name": "server_info"}), true),
            (json!({"name": "server_info", "arguments": {"any": "thing"}}), true),
            (json!({"name": "server_info", "arguments": []}), false),
            (json!({"name": "countdown", "arguments": {"steps": 10}}), true),
            (json!({"name": "countdown", "arguments": {"steps": 11}}), false),
            (json!({"name": "countdown", "arguments": {"steps": 1.5}}), false),
            (json!({"name": "countdown", "arguments": {}}), true),
            (json!({"name": "other"}), false),
            (json!({}), false),
        ] {
            assert_eq!(tools.call(&params).is_ok(), accepted, "{params}");
        }
        let plain = Tools { countdown: false, ..tools };
        assert!(plain.call(&json!({"name": "countdown"})).is_err());
        assert_eq!(plain.list()["tools"].as_array().unwrap().len(), 3);
    }
}
