//! `WWW-Authenticate` challenges (RFC 9110 §11.6.1), as far as `resource_metadata` (RFC 9728 §5.1)
//! needs them.

/// The `resource_metadata` parameter of the first Bearer challenge that has one. Empty counts as
/// missing.
pub(super) fn resource_metadata<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<String> {
    lines.into_iter().find_map(in_line)
}

fn in_line(line: &str) -> Option<String> {
    let mut bearer = false;
    for piece in pieces(line) {
        let mut parameter = piece;
        let first = piece.split(|c: char| c.is_whitespace() || c == '=').next().unwrap_or_default();
        let after = piece[first.len()..].trim_start();
        // `name =` is a parameter; `scheme name=` and a lone `scheme` begin a challenge.
        if !first.is_empty() && !after.starts_with('=') {
            bearer = first.eq_ignore_ascii_case("bearer");
            parameter = after;
        }
        if !bearer {
            continue;
        }
        let Some((name, value)) = parameter.split_once('=') else { continue };
        if name.trim().eq_ignore_ascii_case("resource_metadata") {
            let value = unquoted(value.trim());
            if !value.is_empty() {
                return Some(value);
            }
        }
    }
    None
}

/// Splits at commas outside quotes.
fn pieces(line: &str) -> Vec<&str> {
    let (mut pieces, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                pieces.push(line[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    pieces.push(line[start..].trim());
    pieces
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"') else {
        return value.split_whitespace().next().unwrap_or_default().to_owned();
    };
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => text.extend(chars.next()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_challenge_names_the_metadata() {
        for (line, url) in [
            (r#"Bearer realm="d", resource_metadata="https://h/pr""#, Some("https://h/pr")),
            ("Bearer resource_metadata=https://h/pr", Some("https://h/pr")),
            (r#"Basic realm="l", Bearer realm="d", resource_metadata="https://h/pr""#, Some("https://h/pr")),
            (r#"bearer realm = "a,b", Resource_Metadata = "https://h/\"x""#, Some("https://h/\"x")),
            (r#"Negotiate, Bearer resource_metadata="https://h/pr""#, Some("https://h/pr")),
            (r#"Basic realm="l", resource_metadata="https://h/pr""#, None),
            (r#"Bearer realm="resource_metadata=https://h/pr""#, None),
            (r#"Bearer x_resource_metadata="https://h/pr""#, None),
            (r#"Bearer resource_metadata="""#, None),
            (r#"Bearer realm="d""#, None),
            ("", None),
        ] {
            assert_eq!(resource_metadata([line]).as_deref(), url, "{line}");
        }
        assert_eq!(resource_metadata(["Basic x", "Bearer resource_metadata=u"]).as_deref(), Some("u"));
    }
}
