//! URLs of targets in responses, replaced by `harpoon://LABEL`.
//!
//! What a caller cannot reach it need not see, and what it can reach it must be able to name. Invariant:
//! only whole URLs are replaced, and a body without any comes back byte for byte.

use std::borrow::Cow;

use super::json;
use super::registry::Registry;
use super::url::TargetUrl;

/// What the member that holds a URL says about it.
#[derive(Clone, Copy, Default)]
enum Member {
    #[default]
    Other,
    /// Stays as it is where it identifies the protected resource (RFC 9728 §3.3).
    Resource,
    /// A target with this tag is preferred.
    Tagged(&'static str),
}

/// A JSON body with its URLs replaced; `None` if there is nothing to replace.
pub(super) fn body(body: &[u8], registry: &Registry) -> Option<Vec<u8>> {
    let strings = json::strings(body, member)?;
    let mut rewritten: Option<Vec<u8>> = None;
    let mut done = 0;
    for string in strings {
        let Some(label) = text_of(&body[string.token.clone()])
            .filter(|text| may_be_url(text))
            .and_then(|text| label(&text, string.member, registry))
        else {
            continue;
        };
        let out = rewritten.get_or_insert_with(|| Vec::with_capacity(body.len()));
        out.extend_from_slice(&body[done..string.token.start]);
        out.extend_from_slice(format!("\"harpoon://{label}\"").as_bytes());
        done = string.token.end;
    }
    let mut out = rewritten?;
    out.extend_from_slice(&body[done..]);
    Some(out)
}

/// The values of `Location`, `Link` and `Content-Location` with their URLs replaced.
pub(super) fn headers(headers: &mut [(String, Vec<String>)], registry: &Registry) {
    let named = |name: &str| matches!(name, "Location" | "Link" | "Content-Location");
    for (_, values) in headers.iter_mut().filter(|(name, _)| named(name)) {
        for value in values {
            if let Cow::Owned(rewritten) = header(value, registry) {
                *value = rewritten;
            }
        }
    }
}

fn header<'a>(value: &'a str, registry: &Registry) -> Cow<'a, str> {
    let mut rewritten = String::new();
    let mut done = 0;
    let mut at = 0;
    while let Some(start) = next_url(value, at) {
        let end = value[start..]
            .find(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\''))
            .map_or(value.len(), |length| start + length);
        if let Some(label) = label(&value[start..end], Member::Other, registry) {
            rewritten.push_str(&value[done..start]);
            rewritten.push_str("harpoon://");
            rewritten.push_str(&label);
            done = end;
        }
        at = end;
    }
    if done == 0 {
        return Cow::Borrowed(value);
    }
    rewritten.push_str(&value[done..]);
    Cow::Owned(rewritten)
}

/// Where the next `http://` or `https://` begins.
fn next_url(value: &str, from: usize) -> Option<usize> {
    let starts = value[from..].char_indices().map(|(at, _)| from + at);
    starts.into_iter().find(|start| may_be_url(&value[*start..]))
}

fn may_be_url(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
}

/// The label that stands for a URL.
fn label(url: &str, member: Member, registry: &Registry) -> Option<String> {
    let targets = registry.by_url(&TargetUrl::parse(url).ok()?);
    let first = targets.first()?;
    let chosen = match member {
        Member::Resource => {
            let identifies = ["protected-resource-metadata", "resource"];
            if targets.iter().any(|target| identifies.iter().all(|tag| target.has_tag(tag))) {
                return None;
            }
            first
        }
        Member::Tagged(tag) => targets.iter().find(|target| target.has_tag(tag)).unwrap_or(first),
        Member::Other => first,
    };
    Some(chosen.label.clone())
}

/// What a member name means; `token` has its quotes.
fn member(token: &[u8]) -> Member {
    let Some(name) = text_of(token) else { return Member::Other };
    match &*name {
        "resource" => Member::Resource,
        "authorization_servers" => Member::Tagged("authorization-server"),
        "issuer" => Member::Tagged("issuer"),
        "token_endpoint" => Member::Tagged("token-endpoint"),
        "jwks_uri" => Member::Tagged("jwks-uri"),
        "introspection_endpoint" => Member::Tagged("introspection-endpoint"),
        "registration_endpoint" => Member::Tagged("registration-endpoint"),
        "revocation_endpoint" => Member::Tagged("revocation-endpoint"),
        _ => Member::Other,
    }
}

/// The content of a string token; `None` if it is no text.
fn text_of(token: &[u8]) -> Option<Cow<'_, str>> {
    if token.contains(&b'\\') {
        return serde_json::from_slice::<String>(token).ok().map(Cow::Owned);
    }
    let inner = token.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::super::registry::NewTarget;
    use super::*;

    fn registry(targets: &[(&str, &str, &[&str])]) -> Registry {
        let registry = Registry::new(false);
        for (label, url, tags) in targets {
            let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let new = NewTarget { label: (*label).into(), url: (*url).into(), tags, ..NewTarget::default() };
            registry.register(new).unwrap();
        }
        registry
    }

    fn rewritten(text: &str, registry: &Registry) -> String {
        body(text.as_bytes(), registry).map_or(text.to_owned(), |bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn whole_urls_are_replaced_and_nothing_else_changes() {
        let registry = registry(&[("reg", "https://h/register", &[]), ("foo", "https://h/foo#next", &[])]);
        for (before, after) in [
            (
                r#"{"n":9007199254740993, "registration_endpoint":"https://H\/register","x":"see https://h/register"}"#,
                r#"{"n":9007199254740993, "registration_endpoint":"harpoon://reg","x":"see https://h/register"}"#,
            ),
            (r#"["https://h/register","<&>\u00e9"]"#, r#"["harpoon://reg","<&>\u00e9"]"#),
            (r#""https://h/register""#, r#""harpoon://reg""#),
            (r#"{"https://h/register":1}"#, r#"{"https://h/register":1}"#),
            (r#"{"a":"https://h/register"} x"#, r#"{"a":"https://h/register"} x"#),
            (r#"{"a":"https://h/register/"}"#, r#"{"a":"https://h/register/"}"#),
            ("https://h/register", "https://h/register"),
        ] {
            assert_eq!(rewritten(before, &registry), after);
        }
        assert!(body(b"{\"a\":1}", &registry).is_none());
        let mut raw = b"{\"a\":\"\xff\",\"b\":\"https://h/register\"}".to_vec();
        raw = body(&raw, &registry).unwrap();
        assert_eq!(raw, b"{\"a\":\"\xff\",\"b\":\"harpoon://reg\"}");
    }

    #[test]
    fn the_member_chooses_among_targets_of_one_url() {
        let issuer = "https://h";
        let registry = registry(&[
            ("any", issuer, &[]),
            ("as", issuer, &["authorization-server"]),
            ("iss", issuer, &["issuer"]),
            ("res", "https://h/r", &["protected-resource-metadata", "resource"]),
        ]);
        let before = r#"{"issuer":"https://h","authorization_servers":["https://h"],"token_endpoint":"https://h","o":{"x":"https://h"},"resource":"https://h","r":{"resource":"https://h/r"},"y":"https://h/r"}"#;
        let after = r#"{"issuer":"harpoon://iss","authorization_servers":["harpoon://as"],"token_endpoint":"harpoon://any","o":{"x":"harpoon://any"},"resource":"harpoon://any","r":{"resource":"https://h/r"},"y":"harpoon://res"}"#;
        assert_eq!(rewritten(before, &registry), after);
    }

    #[test]
    fn urls_in_headers_are_replaced_one_by_one() {
        let registry = registry(&[("foo", "https://h/foo#next", &[]), ("bar", "https://h/bar", &[])]);
        for (before, after) in [
            ("<https://h/foo#next>; rel=\"next\"", "<harpoon://foo>; rel=\"next\""),
            (
                "<https://h/foo#next>, <HTTPS://h/bar>, <https://h/x>",
                "<harpoon://foo>, <harpoon://bar>, <https://h/x>",
            ),
            ("https://h/bar", "harpoon://bar"),
            ("https://h/bar/", "https://h/bar/"),
            ("é https://h/bar é", "é harpoon://bar é"),
        ] {
            let mut list = vec![("Link".to_owned(), vec![before.to_owned()])];
            headers(&mut list, &registry);
            assert_eq!(list[0].1[0], after);
        }
        let mut other = vec![("X-Url".to_owned(), vec!["https://h/bar".to_owned()])];
        headers(&mut other, &registry);
        assert_eq!(other[0].1[0], "https://h/bar");
    }
}
