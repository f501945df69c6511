//! The document's content, checked against the settings table.
//!
//! The shape of the document is the table's `yaml` column; nothing else describes it. All problems of
//! one document are collected, each with its place.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::settings::{ALL, Field, Kind, Setting};
use super::yaml::{self, At, Node, Problem, Spot};

/// The only version of the format.
const VERSION: &str = "1";

/// Text and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) at: At,
}

/// The value of one setting in the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Also booleans (`true`, `false`) and integers (decimal).
    Text(Text),
    /// A list and where it stands.
    List(At, Vec<Text>),
    /// Names and values, and where they stand.
    Headers(At, Vec<(String, Text)>),
    /// Entries and where they stand.
    Entries(At, Vec<Entry>),
}

/// One entry, by the document's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: At,
    /// Position in the document's list, counting from 0.
    pub(crate) index: usize,
    pub(crate) fields: BTreeMap<&'static str, Text>,
}

/// What the document says, by the settings' `yaml` paths. Absent and null keys are not in it.
pub(crate) type Values = BTreeMap<&'static str, Value>;

/// Reads the first document of a file's bytes. The flag says whether others follow.
///
/// # Errors
///
/// Every problem of the document.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Values, bool), Vec<Problem>> {
    let text = yaml::decode(bytes).map_err(|problem| vec![problem])?;
    let parsed = yaml::parse(&text).map_err(|problem| vec![problem])?;
    let mut reader = Reader::default();
    if !parsed.root.is_null() {
        reader.section("", &parsed.root);
    }
    if let Some(Value::Text(version)) = reader.values.get("config_version")
        && version.text != VERSION
    {
        let text = format!("unsupported config_version {} (only {VERSION} exists)", version.text);
        reader.problems.push(Problem::new(version.at, text));
    }
    if reader.problems.is_empty() { Ok((reader.values, parsed.more)) } else { Err(reader.problems) }
}

#[derive(Default)]
struct Reader {
    values: Values,
    problems: Vec<Problem>,
}

impl Reader {
    fn problem(&mut self, at: At, text: impl Into<String>) {
        let problem = Problem::new(at, text);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn section(&mut self, path: &str, spot: &Spot) {
        let Node::Mapping(pairs) = &spot.node else {
            let place = if path.is_empty() { "the document" } else { path };
            return self.problem(spot.at, format!("{place} must be a mapping"));
        };
        for member in yaml::members(pairs, &mut self.problems) {
            let full = if path.is_empty() { member.key.clone() } else { format!("{path}.{}", member.key) };
            if let Some(setting) = ALL.iter().find(|s| s.yaml == full) {
                if !member.value.is_null()
                    && let Some(value) = self.value(setting, &member.value)
                {
                    self.values.insert(setting.yaml, value);
                }
            } else if ALL.iter().any(|s| s.yaml.strip_prefix(&full).is_some_and(|rest| rest.starts_with('.')))
            {
                if !member.value.is_null() {
                    self.section(&full, &member.value);
                }
            } else {
                let place = if path.is_empty() { "the document" } else { path };
                self.problem(member.at, format!("field {} not found in {place}", member.key));
            }
        }
    }

    fn value(&mut self, setting: &'static Setting, spot: &Spot) -> Option<Value> {
        let name = setting.yaml;
        match setting.kind {
            Kind::Text | Kind::Duration => self.text(name, spot).map(Value::Text),
            Kind::Integer => {
                let number = self.typed(name, spot, "an integer", |text| {
                    yaml::integer(text).map(|number| number.to_string())
                })?;
                Some(Value::Text(number))
            }
            Kind::Bool => {
                let flag = self.typed(name, spot, "a boolean (true or false)", |text| {
                    yaml::boolean(text).map(|flag| flag.to_string())
                })?;
                Some(Value::Text(flag))
            }
            Kind::List(_) => {
                let items = self.elements(name, spot)?;
                let texts = items.iter().filter_map(|(_, item)| self.text(name, item)).collect();
                Some(Value::List(spot.at, texts))
            }
            Kind::Headers => self.headers(name, spot),
            Kind::Entries(_, fields) => {
                let items = self.elements(name, spot)?;
                let entries =
                    items.iter().filter_map(|(index, item)| self.entry(name, fields, *index, item)).collect();
                Some(Value::Entries(spot.at, entries))
            }
        }
    }

    fn text(&mut self, name: &str, spot: &Spot) -> Option<Text> {
        match &spot.node {
            Node::Scalar { text, .. } => Some(Text { text: text.clone(), at: spot.at }),
            Node::Sequence(_) | Node::Mapping(_) => {
                self.problem(spot.at, format!("{name} must be text"));
                None
            }
        }
    }

    fn typed(
        &mut self,
        name: &str,
        spot: &Spot,
        what: &str,
        parse: impl Fn(&str) -> Option<String>,
    ) -> Option<Text> {
        match &spot.node {
            Node::Scalar { text, plain: true } => {
                if let Some(text) = parse(text) {
                    return Some(Text { text, at: spot.at });
                }
                self.problem(spot.at, format!("{name} must be {what}"));
            }
            Node::Scalar { text, plain: false } if parse(text).is_some() => {
                self.problem(spot.at, format!("{name} must be {what}; remove the quotes"));
            }
            _ => self.problem(spot.at, format!("{name} must be {what}")),
        }
        None
    }

    /// The elements of a list that are not null, with their positions.
    fn elements(&mut self, name: &str, spot: &Spot) -> Option<Vec<(usize, Rc<Spot>)>> {
        let Node::Sequence(items) = &spot.node else {
            self.problem(spot.at, format!("{name} must be a list"));
            return None;
        };
        Some(
            items
                .iter()
                .enumerate()
                .filter(|(_, item)| !item.is_null())
                .map(|(i, item)| (i, Rc::clone(item)))
                .collect(),
        )
    }

    fn headers(&mut self, name: &str, spot: &Spot) -> Option<Value> {
        let Node::Mapping(pairs) = &spot.node else {
            self.problem(spot.at, format!("{name} must be a mapping of header names to values"));
            return None;
        };
        let mut headers = Vec::new();
        for member in yaml::members(pairs, &mut self.problems) {
            let value = if member.value.is_null() {
                Some(Text { text: String::new(), at: member.at })
            } else {
                self.text(name, &member.value)
            };
            headers.extend(value.map(|value| (member.key, value)));
        }
        Some(Value::Headers(spot.at, headers))
    }

    fn entry(&mut self, name: &str, fields: &'static [Field], index: usize, spot: &Spot) -> Option<Entry> {
        let place = format!("{name}[{index}]");
        let Node::Mapping(pairs) = &spot.node else {
            self.problem(spot.at, format!("{place} must be a mapping"));
            return None;
        };
        let mut entry = Entry { at: spot.at, index, fields: BTreeMap::new() };
        for member in yaml::members(pairs, &mut self.problems) {
            let Some(field) = fields.iter().find(|field| field.yaml == member.key) else {
                self.problem(member.at, format!("field {} not found in {place}", member.key));
                continue;
            };
            if !member.value.is_null()
                && let Some(text) = self.text(&format!("{place}.{}", field.yaml), &member.value)
            {
                entry.fields.insert(field.yaml, text);
            }
        }
        for field in fields.iter().filter(|field| field.required && !entry.fields.contains_key(field.yaml)) {
            // A malformed value was reported already; only a missing one is news.
            if !pairs.iter().any(|(key, value)| is_key(key, field.yaml) && !value.is_null()) {
                self.problem(spot.at, format!("{place}.{} is required and cannot be empty", field.yaml));
            }
        }
        Some(entry)
    }
}

fn is_key(spot: &Spot, key: &str) -> bool {
    matches!(&spot.node, Node::Scalar { text, .. } if text == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        match decode(text.as_bytes()) {
            Ok(values) => panic!("accepted: {values:?}"),
            Err(problems) => problems.into_iter().map(|p| p.to_string()).collect(),
        }
    }

    fn text(values: &Values, path: &str) -> Option<String> {
        match values.get(path)? {
            Value::Text(text) => Some(text.text.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn empty_mappings_and_null_sections_say_nothing() {
        for empty in
            ["{}", "---", "mcp:\n", "mcp: ~\nlog: {}\n", "config_version: 1", "mcp:\n  server_urls:\n"]
        {
            let (values, _) = decode(empty.as_bytes()).unwrap();
            assert!(values.keys().all(|key| *key == "config_version"), "{empty}: {values:?}");
        }
    }

    #[test]
    fn unknown_keys_are_named_with_their_line_at_any_depth() {
        assert_eq!(
            problems(
                "config_version: 1\nx-anchors: {}\nlog:\n  level: info\n  colour: red\nmcp:\n  server_urls:\n    - url: http://a\n      tls: x\n"
            ),
            [
                "line 2 column 1: field x-anchors not found in the document",
                "line 5 column 3: field colour not found in log",
                "line 9 column 7: field tls not found in mcp.server_urls[0]",
            ]
        );
    }

    #[test]
    fn all_problems_of_a_document_are_reported_together() {
        let found = problems(
            "config_version: 2\nlog: [a]\ncontrol_plane:\n  tunnel_id: a\n  tunnel_id: b\n  max_inflight_requests: \"4\"\n  poll_channels: main\nadmin_ui:\n  open_browser: \"true\"\n  log_buffer_events: 1.5\n",
        );
        for part in [
            "unsupported config_version 2",
            "line 2 column 6: log must be a mapping",
            "line 5 column 3: key \"tunnel_id\" is already defined at line 4 column 3",
            "line 6 column 26: control_plane.max_inflight_requests must be an integer; remove the quotes",
            "line 7 column 18: control_plane.poll_channels must be a list",
            "line 9 column 17: admin_ui.open_browser must be a boolean (true or false); remove the quotes",
            "line 10 column 22: admin_ui.log_buffer_events must be an integer",
        ] {
            assert!(found.iter().any(|line| line.contains(part)), "{part} in {found:#?}");
        }
        assert_eq!(found.len(), 7);
    }

    #[test]
    fn strings_take_the_source_text() {
        let (values, _) = decode(
            b"control_plane:\n  poll_timeout: 30\n  organization_id: 0x10\n  extra_headers: {X-Debug: 1, X-List: \"one,two;three\", X-Null: ~}\nharpoon:\n  hosts_include_private: off\n  max_redirects: 0b11\n  hosts_include_suffix: [a, ~, 1.50]\n",
        )
        .unwrap();
        assert_eq!(text(&values, "control_plane.poll_timeout").as_deref(), Some("30"));
        assert_eq!(text(&values, "control_plane.organization_id").as_deref(), Some("0x10"));
        assert_eq!(text(&values, "harpoon.hosts_include_private").as_deref(), Some("false"));
        assert_eq!(text(&values, "harpoon.max_redirects").as_deref(), Some("3"));
        let Value::Headers(_, headers) = &values["control_plane.extra_headers"] else { panic!() };
        let shown: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={}", value.text)).collect();
        assert_eq!(shown, ["X-Debug=1", "X-List=one,two;three", "X-Null="]);
        let Value::List(_, suffixes) = &values["harpoon.hosts_include_suffix"] else { panic!() };
        assert_eq!(suffixes.iter().map(|t| t.text.as_str()).collect::<Vec<_>>(), ["a", "1.50"]);
    }

    #[test]
    fn anchors_aliases_and_merge_keys_work() {
        let (values, _) = decode(
            b"mcp:\n  extra_headers: &h {X-A: one}\n  discovery_extra_headers:\n    <<: *h\n    X-B: two\n",
        )
        .unwrap();
        let Value::Headers(_, headers) = &values["mcp.discovery_extra_headers"] else { panic!() };
        assert_eq!(headers.len(), 2);
    }

    #[test]
    fn a_required_key_of_an_entry_must_be_there() {
        assert_eq!(
            problems("mcp:\n  server_urls:\n    - channel: main\n    - ~\n  commands: [{command: ~}]\n"),
            [
                "line 3 column 7: mcp.server_urls[0].url is required and cannot be empty",
                "line 5 column 14: mcp.commands[0].command is required and cannot be empty",
            ]
        );
    }
}
