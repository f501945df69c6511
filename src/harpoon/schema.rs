//! The tools as they are described, and arguments checked against that.
//!
//! Invariant: a tool runs only with arguments that its description allows; what does not fit is a
//! protocol error, sends nothing and counts nowhere.

use serde_json::{Map, Value};

use crate::config::is_label;
use crate::net::is_name;

use super::call::{Ask, Bounds, METHODS, TIMEOUT_MS};

const LABEL: &str =
    r#"{"type":"string","minLength":1,"maxLength":64,"pattern":"^[a-z0-9][a-z0-9_-]{0,63}$"}"#;
const HEADER_NAMES: &str = r#"{"type":"string","pattern":"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"}"#;
const OBJECT: &str = r#""type":"object""#;

/// The arguments of `list_targets`: what a target must be, each list empty if it does not matter.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) categories: Vec<String>,
    pub(super) sources: Vec<String>,
    pub(super) tags: Vec<String>,
}

/// The members of the result of `tools/list`.
pub(super) fn tools(bounds: &Bounds) -> String {
    let bytes = bounds.max_response_bytes;
    let redirects = bounds.max_redirects;
    let (min, usual, max) = TIMEOUT_MS;
    let strings = r#"{"type":"array","items":{"type":"string"}}"#;
    let read_only = r#"{"readOnlyHint":true,"idempotentHint":true,"openWorldHint":false}"#;
    format!(
        concat!(
            r#""tools":[{{"name":"call_target","title":"Call Harpoon target","#,
            r#""description":"Sends one HTTP request to the allow-listed target of that label. "#,
            r#"Returns status, headers and body; responses that are too long are errors.","#,
            r#""inputSchema":{{{object},"title":"Call Harpoon target","additionalProperties":false,"#,
            r#""required":["label","method"],"properties":{{"#,
            r#""label":{label},"#,
            r#""method":{{"type":"string","enum":["GET","POST","PUT"]}},"#,
            r#""headers":{{"type":"object","additionalProperties":{{"type":"string"}},"default":{{}},"#,
            r#""propertyNames":{names}}},"#,
            r#""body":{{"type":"string"}},"#,
            r#""timeout_ms":{{"type":"integer","minimum":{min},"maximum":{max},"default":{usual}}},"#,
            r#""max_response_bytes":{{"type":"integer","minimum":1,"maximum":{bytes},"default":{bytes}}},"#,
            r#""follow_redirects":{{"type":"boolean","default":true}},"#,
            r#""max_redirects":{{"type":"integer","minimum":0,"maximum":{redirects},"default":{redirects}}}}}}},"#,
            r#""outputSchema":{{{object},"title":"Harpoon call result","additionalProperties":false,"#,
            r#""required":["status_code","body_size_bytes"],"properties":{{"#,
            r#""status_code":{{"type":"integer","minimum":100,"maximum":599}},"#,
            r#""headers":{{"type":"object","additionalProperties":{strings},"propertyNames":{names}}},"#,
            r#""body_base64":{{"type":"string","contentEncoding":"base64"}},"#,
            r#""body_size_bytes":{{"type":"integer","minimum":0,"maximum":{bytes}}},"#,
            r#""truncated":{{"type":"boolean"}}}}}},"#,
            r#""annotations":{{"openWorldHint":true}}}},"#,
            r#"{{"name":"get_oauth_target_audience","title":"Get OAuth target audience","#,
            r#""description":"Returns the exact URL of a discovered OAuth token endpoint, "#,
            r#"as the audience of client assertions.","#,
            r#""inputSchema":{{{object},"title":"Get OAuth target audience","additionalProperties":false,"#,
            r#""required":["label"],"properties":{{"label":{label}}}}},"#,
            r#""outputSchema":{{{object},"title":"OAuth target audience","additionalProperties":false,"#,
            r#""required":["audience"],"properties":{{"audience":{{"type":"string","format":"uri"}}}}}},"#,
            r#""annotations":{read_only}}},"#,
            r#"{{"name":"list_targets","title":"List Harpoon targets","#,
            r#""description":"Lists the labels of allow-listed targets; their URLs are not shown.","#,
            r#""inputSchema":{{{object},"title":"List Harpoon targets","additionalProperties":false,"#,
            r#""properties":{{"categories":{strings},"sources":{strings},"tags":{strings}}}}},"#,
            r#""outputSchema":{{{object},"title":"Harpoon target list","additionalProperties":false,"#,
            r#""required":["targets"],"properties":{{"targets":{{"type":"array","items":{{"type":"object","#,
            r#""additionalProperties":false,"required":["label","allowed_methods"],"properties":{{"#,
            r#""label":{label},"description":{{"type":"string"}},"category":{{"type":"string"}},"#,
            r#""source":{{"type":"string"}},"tags":{strings},"#,
            r#""allowed_methods":{{"type":"array","items":{{"type":"string","enum":["GET","POST","PUT"]}}}}}}}}}}}}}},"#,
            r#""annotations":{read_only}}}]"#
        ),
        object = OBJECT,
        label = LABEL,
        names = HEADER_NAMES,
        min = min,
        usual = usual,
        max = max,
        bytes = bytes,
        redirects = redirects,
        strings = strings,
        read_only = read_only
    )
}

/// The arguments of `call_target`.
pub(super) fn call_target(arguments: &Value, bounds: &Bounds) -> Result<Ask, String> {
    let known = [
        "label",
        "method",
        "headers",
        "body",
        "timeout_ms",
        "max_response_bytes",
        "follow_redirects",
        "max_redirects",
    ];
    let given = members(arguments, &known, &["label", "method"])?;
    let method = text(given, "method")?.unwrap_or_default();
    if !METHODS.contains(&method) {
        return Err("method: must be one of GET, POST, PUT".to_owned());
    }
    let most = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
    let (min, usual, max) = TIMEOUT_MS;
    let (bytes, redirects) = (most(bounds.max_response_bytes), most(bounds.max_redirects));
    Ok(Ask {
        label: label(given)?,
        method: method.to_owned(),
        headers: header_fields(given)?,
        body: text(given, "body")?.map(str::to_owned),
        timeout_ms: integer(given, "timeout_ms", min, max)?.unwrap_or(usual),
        max_response_bytes: integer(given, "max_response_bytes", 1, bytes)?.unwrap_or(bytes),
        follow_redirects: match given.get("follow_redirects") {
            None => true,
            Some(Value::Bool(follow)) => *follow,
            Some(_) => return Err("follow_redirects: must be a boolean".to_owned()),
        },
        max_redirects: integer(given, "max_redirects", 0, redirects)?.unwrap_or(redirects),
    })
}

/// The argument of `get_oauth_target_audience`.
pub(super) fn audience(arguments: &Value) -> Result<String, String> {
    label(members(arguments, &["label"], &["label"])?)
}

/// The arguments of `list_targets`, trimmed, in lower case, blank ones left out.
pub(super) fn filter(arguments: &Value) -> Result<Filter, String> {
    let given = members(arguments, &["categories", "sources", "tags"], &[])?;
    let list = |name: &str| -> Result<Vec<String>, String> {
        let wrong = || format!("{name}: must be an array of strings");
        let items = match given.get(name) {
            None => return Ok(Vec::new()),
            Some(value) => value.as_array().ok_or_else(wrong)?,
        };
        let texts = items.iter().map(|item| item.as_str().map(|text| text.trim().to_lowercase()));
        let texts: Vec<String> = texts.collect::<Option<_>>().ok_or_else(wrong)?;
        Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
    };
    Ok(Filter { categories: list("categories")?, sources: list("sources")?, tags: list("tags")? })
}

/// The members of an object that has all of `required` and none but `known`.
fn members<'v>(
    value: &'v Value,
    known: &[&str],
    required: &[&str],
) -> Result<&'v Map<String, Value>, String> {
    let given = value.as_object().ok_or("must be an object")?;
    if let Some(missing) = required.iter().find(|name| !given.contains_key(**name)) {
        return Err(format!("required: missing property {missing:?}"));
    }
    match given.keys().find(|name| !known.contains(&name.as_str())) {
        Some(_) => Err("additionalProperties: there is a property that the tool does not know".to_owned()),
        None => Ok(given),
    }
}

fn text<'v>(given: &'v Map<String, Value>, name: &str) -> Result<Option<&'v str>, String> {
    match given.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name}: must be a string")),
    }
}

fn label(given: &Map<String, Value>) -> Result<String, String> {
    let label = text(given, "label")?.unwrap_or_default();
    match is_label(label) {
        true => Ok(label.to_owned()),
        false => Err("label: must match ^[a-z0-9][a-z0-9_-]{0,63}$".to_owned()),
    }
}

/// An integer, `1000.0` included.
fn integer(given: &Map<String, Value>, name: &str, min: i64, max: i64) -> Result<Option<i64>, String> {
    let Some(value) = given.get(name) else { return Ok(None) };
    let whole = value.as_i64().or_else(|| {
        let float = value.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9e15)?;
        Some(float as i64)
    });
    match whole {
        Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
        Some(_) => Err(format!("{name}: must be from {min} to {max}")),
        None => Err(format!("{name}: must be an integer from {min} to {max}")),
    }
}

fn header_fields(given: &Map<String, Value>) -> Result<Vec<(String, String)>, String> {
    let fields = match given.get("headers") {
        None => return Ok(Vec::new()),
        Some(value) => value.as_object().ok_or("headers: must be an object")?,
    };
    let checked = fields.iter().map(|(name, value)| match value.as_str() {
        _ if !is_name(name) => Err("headers: there is a name that is no header name".to_owned()),
        None => Err("headers: every value must be a string".to_owned()),
        Some(value) => Ok((name.clone(), value.to_owned())),
    });
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { max_response_bytes: 1000, max_redirects: 2 };

    fn ask(json: &str) -> Result<Ask, String> {
        call_target(&serde_json::from_str(json).unwrap(), &BOUNDS)
    }

    #[test]
    fn descriptions_are_valid_json_with_the_configured_limits() {
        let tools: Value = serde_json::from_str(&format!("{{{}}}", tools(&BOUNDS))).unwrap();
        let names: Vec<_> =
            tools["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["call_target", "get_oauth_target_audience", "list_targets"]);
        let input = &tools["tools"][0]["inputSchema"];
        assert_eq!(input["properties"]["max_response_bytes"]["default"], 1000);
        assert_eq!(input["properties"]["max_redirects"]["maximum"], 2);
        assert_eq!(input["properties"]["timeout_ms"]["default"], 30_000);
        assert_eq!(input["additionalProperties"], false);
        assert_eq!(tools["tools"][0]["outputSchema"]["properties"]["body_size_bytes"]["maximum"], 1000);
        let items = &tools["tools"][2]["outputSchema"]["properties"]["targets"]["items"];
        assert_eq!(items["required"][1], "allowed_methods");
    }

    #[test]
    fn missing_arguments_take_their_defaults_and_integers_may_be_written_as_floats() {
        let plain = ask(r#"{"label":"a","method":"GET"}"#).unwrap();
        assert_eq!((plain.timeout_ms, plain.max_response_bytes, plain.max_redirects), (30_000, 1000, 2));
        assert!(plain.follow_redirects && plain.body.is_none() && plain.headers.is_empty());
        let full = ask(
            r#"{"label":"a","method":"PUT","headers":{"X-A":"1"},"body":"","timeout_ms":1e3,"max_response_bytes":10.0,"follow_redirects":false,"max_redirects":0}"#,
        );
        let full = full.unwrap();
        assert_eq!((full.timeout_ms, full.max_response_bytes, full.max_redirects), (1000, 10, 0));
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        for bad in [
            "[]",
            "{}",
            r#"{"label":"a"}"#,
            r#"{"method":"GET"}"#,
            r#"{"label":"A","method":"GET"}"#,
            r#"{"label":"","method":"GET"}"#,
            r#"{"label":"https://h/","method":"GET"}"#,
            r#"{"label":" a","method":"GET"}"#,
            r#"{"label":1,"method":"GET"}"#,
            r#"{"label":"a","method":"get"}"#,
            r#"{"label":"a","method":"DELETE"}"#,
            r#"{"label":"a","method":"GET","url":"https://h"}"#,
            r#"{"label":"a","method":"GET","timeout_ms":50}"#,
            r#"{"label":"a","method":"GET","timeout_ms":120001}"#,
            r#"{"label":"a","method":"GET","timeout_ms":"1000"}"#,
            r#"{"label":"a","method":"GET","timeout_ms":1000.5}"#,
            r#"{"label":"a","method":"GET","timeout_ms":1e300}"#,
            r#"{"label":"a","method":"GET","max_response_bytes":1001}"#,
            r#"{"label":"a","method":"GET","max_response_bytes":0}"#,
            r#"{"label":"a","method":"GET","max_redirects":3}"#,
            r#"{"label":"a","method":"GET","max_redirects":-1}"#,
            r#"{"label":"a","method":"GET","follow_redirects":1}"#,
            r#"{"label":"a","method":"GET","body":{}}"#,
            r#"{"label":"a","method":"GET","body":null}"#,
            r#"{"label":"a","method":"GET","headers":[]}"#,
            r#"{"label":"a","method":"GET","headers":{"A":1}}"#,
            r#"{"label":"a","method":"GET","headers":{"A B":"1"}}"#,
            r#"{"label":"a","method":"GET","headers":{"":"1"}}"#,
            r#"{"label":"a","method":"GET","headers":{"A\r\nB":"1"}}"#,
        ] {
            assert!(ask(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_are_trimmed_lower_case_texts() {
        let filter = filter(&serde_json::json!({"tags": [" A ", "", "b"], "sources": []})).unwrap();
        assert_eq!(filter.tags, ["a", "b"]);
        assert!(filter.categories.is_empty() && filter.sources.is_empty());
        for bad in [r#"{"tags":"a"}"#, r#"{"tags":[1]}"#, r#"{"labels":[]}"#, r#"{"tags":null}"#] {
            assert!(super::filter(&serde_json::from_str(bad).unwrap()).is_err(), "{bad}");
        }
    }
}
