//! A YAML document as a tree that knows the place of everything in it.
//!
//! Only the first document of a stream is read. Aliases share their target; sizes and depths count
//! what they expand to, so that no document can grow beyond the bounds below by repeating itself.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Tag, options};

/// Nodes of a document with all aliases expanded.
const MAX_NODES: usize = 100_000;
/// Collections inside one another.
const MAX_DEPTH: usize = 64;

/// A place of the document, counting from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) line: usize,
    /// In characters.
    pub(crate) column: usize,
}

impl At {
    /// The first character.
    const START: At = At { line: 1, column: 1 };

    fn of(marker: &Marker) -> At {
        At { line: marker.line(), column: marker.col() + 1 }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// A node and where it starts.
#[derive(Debug)]
pub(crate) struct Spot {
    pub(crate) at: At,
    pub(crate) node: Node,
    size: usize,
    depth: usize,
}

/// What stands at a place of the document.
#[derive(Debug)]
pub(crate) enum Node {
    /// The text and whether it was written without quotes or tag.
    Scalar { text: String, plain: bool },
    /// The elements.
    Sequence(Vec<Rc<Spot>>),
    /// Keys and values as written; merge keys and duplicates are still in it.
    Mapping(Vec<(Rc<Spot>, Rc<Spot>)>),
}

/// A problem and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: At,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn new(at: At, text: impl Into<String>) -> Problem {
        Problem { at, text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

/// The first document of a stream.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) root: Rc<Spot>,
    /// Others follow, which nobody reads.
    pub(crate) more: bool,
}

impl Spot {
    /// Whether this is YAML's null.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.node, Node::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    fn leaf(at: At, text: String, plain: bool) -> Spot {
        Spot { at, node: Node::Scalar { text, plain }, size: 1, depth: 1 }
    }
}

/// A collection that is not finished yet.
struct Open {
    at: At,
    anchor: usize,
    mapping: bool,
    children: Vec<Rc<Spot>>,
}

/// Reads the first document of `text`.
///
/// # Errors
///
/// The first syntax error, an alias without end, or a document that expands beyond the bounds.
pub(crate) fn parse(text: &str) -> Result<Parsed, Problem> {
    let options = {
        let mut options = options! { block_nesting_limit: MAX_DEPTH, flow_nesting_limit: MAX_DEPTH };
        options.set_emit_comments(false);
        options
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Rc<Spot>> = HashMap::new();
    let mut root: Option<Rc<Spot>> = None;
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| Problem::new(At::of(error.marker()), error.info()))?;
        let at = At::of(&span.start);
        let (spot, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = is_plain(style, tag.as_deref(), &text);
                (Spot::leaf(at, text.into_owned(), plain), anchor)
            }
            Event::SequenceStart(_, anchor, _) => {
                open.push(Open { at, anchor, mapping: false, children: Vec::new() });
                continue;
            }
            Event::MappingStart(_, anchor, _) => {
                open.push(Open { at, anchor, mapping: true, children: Vec::new() });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(done) => {
                    let anchor = done.anchor;
                    (closed(done)?, anchor)
                }
                None => continue,
            },
            Event::Alias(target) => {
                let Some(spot) = anchors.get(&target).cloned() else {
                    return Err(Problem::new(at, "an anchor contains itself"));
                };
                place(spot, &mut open, &mut root);
                continue;
            }
            Event::DocumentEnd => break,
            _ => continue,
        };
        let spot = Rc::new(spot);
        if anchor != 0 {
            anchors.insert(anchor, Rc::clone(&spot));
        }
        place(spot, &mut open, &mut root);
    }
    let root = root.ok_or_else(|| Problem::new(At::START, "the document is empty (end of input)"))?;
    let more = matches!(parser.next_event(), Some(Ok((Event::DocumentStart(..), _))));
    Ok(Parsed { root, more })
}

/// Whether a scalar may be anything but text.
fn is_plain(style: ScalarStyle, tag: Option<&Tag>, text: &str) -> bool {
    match tag.and_then(Tag::core_suffix) {
        Some("str") => false,
        Some(_) => true,
        None => style == ScalarStyle::Plain && (tag.is_none() || text.is_empty()),
    }
}

fn place(spot: Rc<Spot>, open: &mut [Open], root: &mut Option<Rc<Spot>>) {
    match open.last_mut() {
        Some(parent) => parent.children.push(spot),
        None => *root = Some(spot),
    }
}

fn closed(open: Open) -> Result<Spot, Problem> {
    let size = open.children.iter().fold(1usize, |sum, child| sum.saturating_add(child.size));
    let depth = 1 + open.children.iter().map(|child| child.depth).max().unwrap_or(0);
    if size > MAX_NODES {
        return Err(Problem::new(open.at, "the document is too large, or its aliases expand excessively"));
    }
    if depth > MAX_DEPTH {
        return Err(Problem::new(open.at, "the document is nested too deeply"));
    }
    let node = if open.mapping {
        let mut pairs = Vec::with_capacity(open.children.len() / 2);
        let mut children = open.children.into_iter();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            pairs.push((key, value));
        }
        Node::Mapping(pairs)
    } else {
        Node::Sequence(open.children)
    };
    Ok(Spot { at: open.at, node, size, depth })
}

/// One key of a mapping after merging.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) key: String,
    pub(crate) at: At,
    pub(crate) value: Rc<Spot>,
}

/// The members of a mapping: its own, then what its merge keys (`<<`) add.
/// Duplicate keys and keys that are no scalars are reported.
pub(crate) fn members(pairs: &[(Rc<Spot>, Rc<Spot>)], problems: &mut Vec<Problem>) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::with_capacity(pairs.len());
    let mut merges: Vec<&Rc<Spot>> = Vec::new();
    for (key, value) in pairs {
        let Node::Scalar { text, plain } = &key.node else {
            problems.push(Problem::new(key.at, "a key must be a scalar"));
            continue;
        };
        if *plain && text == "<<" {
            merges.push(value);
            continue;
        }
        if let Some(first) = members.iter().find(|member| member.key == *text) {
            let text = format!("key {text:?} is already defined at {}", first.at);
            problems.push(Problem::new(key.at, text));
            continue;
        }
        members.push(Member { key: text.clone(), at: key.at, value: Rc::clone(value) });
    }
    for merge in merges {
        match &merge.node {
            Node::Mapping(pairs) => add_merged(pairs, &mut members, problems),
            Node::Sequence(sources) => {
                for source in sources {
                    match &source.node {
                        Node::Mapping(pairs) => add_merged(pairs, &mut members, problems),
                        _ => problems.push(Problem::new(source.at, "a merge key needs mappings")),
                    }
                }
            }
            Node::Scalar { .. } => problems.push(Problem::new(merge.at, "a merge key needs a mapping")),
        }
    }
    members
}

fn add_merged(pairs: &[(Rc<Spot>, Rc<Spot>)], members: &mut Vec<Member>, problems: &mut Vec<Problem>) {
    // Problems of the merged mapping are reported where it stands; here they would only repeat.
    let mut repeated = Vec::new();
    for member in self::members(pairs, &mut repeated) {
        if !members.iter().any(|have| have.key == member.key) {
            members.push(member);
        }
    }
    if let Some(problem) = repeated.into_iter().next()
        && !problems.contains(&problem)
    {
        problems.push(problem);
    }
}

/// The tree as JSON; of duplicate keys the first counts.
pub(crate) fn to_json(spot: &Spot) -> serde_json::Value {
    use serde_json::Value;
    match &spot.node {
        _ if spot.is_null() => Value::Null,
        Node::Scalar { text, plain: true } if boolean(text).is_some() => {
            Value::Bool(boolean(text) == Some(true))
        }
        Node::Scalar { text, plain: true } if integer(text).is_some() => Value::from(integer(text)),
        Node::Scalar { text, .. } => Value::String(text.clone()),
        Node::Sequence(items) => Value::Array(items.iter().map(|item| to_json(item)).collect()),
        Node::Mapping(pairs) => {
            let members = members(pairs, &mut Vec::new()).into_iter();
            Value::Object(members.map(|member| (member.key, to_json(&member.value))).collect())
        }
    }
}

/// A YAML integer: decimal, `0x`, `0o`, legacy leading `0`, `0b`, `_`; also a float without fraction.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    if plain.is_empty() || plain != plain.trim() {
        return None;
    }
    super::flags::parse_integer(&plain).or_else(|| {
        let float_like = plain.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'))
            && plain.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'));
        let value: f64 = if float_like { plain.parse().ok()? } else { return None };
        // 2^53: whole numbers beyond it are not exact.
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        (value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0).then_some(value as i64)
    })
}

/// A YAML boolean with the spellings of YAML 1.1.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "false" | "False" | "FALSE" | "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// The text of a document's bytes: UTF-8, or UTF-16 with a byte-order mark.
pub(crate) fn decode(bytes: &[u8]) -> Result<String, Problem> {
    let utf16 = |order: fn([u8; 2]) -> u16| {
        let units = bytes[2..].chunks_exact(2).map(|pair| order([pair[0], pair[1]]));
        char::decode_utf16(units)
            .collect::<Result<String, _>>()
            .map_err(|_| Problem::new(At::START, "invalid UTF-16"))
    };
    match bytes {
        [0xFF, 0xFE, ..] => utf16(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => utf16(u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Problem> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let last = good.rsplit('\n').next().unwrap_or_default();
        let at = At { line: 1 + good.matches('\n').count(), column: 1 + last.chars().count() };
        Problem::new(at, "invalid UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> (Vec<String>, Vec<Problem>) {
        let parsed = parse(text).unwrap();
        let Node::Mapping(pairs) = &parsed.root.node else { panic!("{parsed:?}") };
        let mut problems = Vec::new();
        let members = members(pairs, &mut problems);
        (members.into_iter().map(|m| m.key).collect(), problems)
    }

    #[test]
    fn only_the_first_document_counts() {
        let parsed = parse("a: 1\n---\n][\n").unwrap();
        assert!(parsed.more);
        assert!(!parse("a: 1\n").unwrap().more);
        assert!(parse("---\n").unwrap().root.is_null());
        for empty in ["", "# only a comment\n", "\n\n"] {
            assert!(parse(empty).is_err(), "{empty:?}");
        }
    }

    #[test]
    fn merge_keys_add_what_is_missing() {
        let (found, problems) = keys("base: &b {x: 1}\nuse:\n  y: 2\n");
        assert_eq!((found, problems), (vec!["base".to_owned(), "use".to_owned()], vec![]));
        let parsed = parse("a: &b {x: 1, y: 2}\nc:\n  y: 3\n  <<: *b\n").unwrap();
        let Node::Mapping(pairs) = &parsed.root.node else { panic!() };
        let Node::Mapping(inner) = &pairs[1].1.node else { panic!() };
        let merged = members(inner, &mut Vec::new());
        let shown: Vec<_> = merged
            .iter()
            .map(|m| match &m.value.node {
                Node::Scalar { text, .. } => format!("{}={text}", m.key),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, ["y=3", "x=1"]);
    }

    #[test]
    fn duplicate_keys_name_both_lines() {
        let (_, problems) = keys("a: 1\nb: 2\na: 3\n");
        assert_eq!(
            problems,
            [Problem::new(At { line: 3, column: 1 }, "key \"a\" is already defined at line 1 column 1")]
        );
    }

    #[test]
    fn endless_and_exploding_aliases_are_refused() {
        assert!(parse("a: &x [*x]\n").is_err());
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let inner = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
        }
        assert!(parse(&bomb).unwrap_err().text.contains("excessively"));
        assert!(parse(&"[".repeat(1000)).is_err());
    }

    #[test]
    fn numbers_and_booleans_have_the_spellings_of_yaml() {
        for (text, value) in [
            ("40", 40),
            ("0x28", 40),
            ("0o50", 40),
            ("050", 40),
            ("0b11", 3),
            ("1_000", 1000),
            ("40.0", 40),
            ("1e3", 1000),
            ("-4", -4),
        ] {
            assert_eq!(integer(text), Some(value), "{text}");
        }
        for bad in ["40.5", "abc", "", "1d", ".inf", ".nan", "inf", "1e400", "2001-01-01"] {
            assert_eq!(integer(bad), None, "{bad}");
        }
        assert_eq!(boolean("On"), Some(true));
        assert_eq!(boolean("no"), Some(false));
        assert_eq!(boolean("1"), None);
    }

    #[test]
    fn byte_order_marks_are_understood() {
        assert_eq!(decode(b"\xEF\xBB\xBFa: 1").unwrap(), "a: 1");
        assert_eq!(decode(b"\xFF\xFEa\0").unwrap(), "a");
        assert_eq!(decode(b"\xFE\xFF\0a").unwrap(), "a");
        assert_eq!(decode(b"a\nb\xFF").unwrap_err().at, At { line: 2, column: 2 });
    }
}
