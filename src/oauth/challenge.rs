//! `WWW-Authenticate` challenges (RFC 9110 §11.6.1), as far as `resource_metadata` (RFC 9728 §5.1)
//! needs them.

/// White space within a field value.
const BLANK: [char; 2] = [' ', '\t'];

/// The `resource_metadata` parameter of the first Bearer challenge that has one. Empty counts as
/// missing. What is no challenge is skipped.
pub(super) fn resource_metadata<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<String> {
    lines.into_iter().find_map(in_line)
}

fn in_line(line: &str) -> Option<String> {
    let mut rest = line;
    let mut bearer = false;
    loop {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        if rest.is_empty() {
            return None;
        }
        let word = token(rest);
        let after = rest[word.len()..].trim_start_matches(BLANK);
        if word.is_empty() {
            rest = beyond_element(rest);
        } else if let Some(value) = after.strip_prefix('=') {
            let (value, left) = parameter_value(value.trim_start_matches(BLANK));
            if bearer && word.eq_ignore_ascii_case("resource_metadata") && !value.is_empty() {
                return Some(value);
            }
            rest = left;
        } else {
            bearer = word.eq_ignore_ascii_case("bearer");
            rest = after.strip_prefix(token68(after)).unwrap_or(after);
        }
    }
}

/// The token (RFC 9110 §5.6.2) that `text` begins with; may be empty.
fn token(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)));
    &text[..end.unwrap_or(text.len())]
}

/// Credentials without a name (RFC 9110 §11.2) that `text` begins with; empty if it begins with a
/// parameter.
fn token68(text: &str) -> &str {
    let letters = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-._~+/".contains(c)));
    let letters = letters.unwrap_or(text.len());
    let padding = text[letters..].len() - text[letters..].trim_start_matches('=').len();
    let end = letters + padding;
    let ended = text[end..].trim_start_matches(BLANK);
    if letters > 0 && (ended.is_empty() || ended.starts_with(',')) { &text[..end] } else { "" }
}

/// The value that `text` begins with, and what follows it. Without quotes it ends at a comma or a blank:
/// URLs are sent like that, although they are no tokens.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    // Without its closing quote nothing is known of where it ends.
    (String::new(), "")
}

/// What follows the next comma outside quotes.
fn beyond_element(text: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return &text[at + 1..],
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_challenge_says_where_the_metadata_are() {
        const URL: &str = "https://h/pr";
        for (line, found) in [
            (r#"Bearer realm="d", resource_metadata="https://h/pr""#, Some(URL)),
            (r#"Bearer resource_metadata=https://h/pr"#, Some(URL)),
            (r#"Bearer resource_metadata=https://h/pr, realm=x"#, Some(URL)),
            (r#"Basic realm="l", Bearer realm="d", resource_metadata="https://h/pr""#, Some(URL)),
            (r#"bearer RESOURCE_METADATA = "https://h/pr""#, Some(URL)),
            (r#"Bearer realm = "d" , resource_metadata	=	https://h/pr"#, Some(URL)),
            (r#"Bearer realm="a, b", resource_metadata="https://h/pr""#, Some(URL)),
            (r#"Bearer realm="a \", resource_metadata=\"x\"", resource_metadata="https://h/pr""#, Some(URL)),
            (r#"Bearer realm="d" resource_metadata="https://h/pr""#, Some(URL)),
            (r#"Negotiate, Bearer resource_metadata="https://h/pr""#, Some(URL)),
            (r#"Negotiate abc==, Bearer resource_metadata="https://h/pr""#, Some(URL)),
            (r#"Bearer resource_metadata="https:\/\/h/pr""#, Some(URL)),
            (r#"Bearer, Bearer resource_metadata="https://h/pr""#, Some(URL)),
            (r#", ,Bearer resource_metadata="https://h/pr","#, Some(URL)),
            (r#"Bearer resource_metadata="", resource_metadata="https://h/pr""#, Some(URL)),
            (r#"@junk "a,b" , Bearer resource_metadata="https://h/pr""#, Some(URL)),
            (r#"Basic realm="l", resource_metadata="https://h/pr""#, None),
            (r#"Bearer realm="d", Basic resource_metadata="https://h/pr""#, None),
            (r#"Bearer realm="d""#, None),
            (r#"Bearer x_resource_metadata="https://h/pr""#, None),
            (r#"Bearer resource_metadata_uri="https://h/pr""#, None),
            (r#"Bearer realm="resource_metadata=https://h/pr""#, None),
            (r#"Bearer resource_metadata="""#, None),
            (r#"Bearer resource_metadata="#, None),
            (r#"Bearer resource_metadata"#, None),
            (r#"Bearer resource_metadata="https://h/pr"#, None),
            ("resource_metadata=https://h/pr", None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(resource_metadata([line]).as_deref(), found, "{line}");
        }
    }

    #[test]
    fn every_line_is_read() {
        let lines = ["Basic realm=\"x\"", "Bearer scope=\"a\"", "Bearer resource_metadata=\"https://h/1\""];
        assert_eq!(resource_metadata(lines).as_deref(), Some("https://h/1"));
        // What a line began does not go on in the next one.
        assert_eq!(resource_metadata(["Bearer", "resource_metadata=https://h/2"]), None);
    }
}
