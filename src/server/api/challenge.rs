//! `WWW-Authenticate`: the private server's metadata URL is replaced by one that callers can reach.

/// The parameter of RFC 9728 §5.1.
const PARAMETER: &str = "resource_metadata";

/// `challenges` with the value of every `resource_metadata` parameter replaced by `url`; everything else,
/// the quoting included, stays as it is.
pub(super) fn rewrite(challenges: &str, url: &str) -> String {
    let mut out = String::with_capacity(challenges.len() + url.len());
    let mut rest = challenges;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let (quoted, after) = rest.split_at(quoted_end(rest));
            out.push_str(quoted);
            rest = after;
            continue;
        }
        if !is_token(first) {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (token, after) = rest.split_at(rest.find(|c| !is_token(c)).unwrap_or(rest.len()));
        out.push_str(token);
        rest = after;
        let value = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        if let Some(value) = value.filter(|_| token.eq_ignore_ascii_case(PARAMETER)) {
            let value = value.trim_start_matches([' ', '\t']);
            out.push_str(&after[..after.len() - value.len()]);
            if value.starts_with('"') {
                out.push('"');
                out.push_str(url);
                out.push('"');
                rest = &value[quoted_end(value)..];
            } else {
                out.push_str(url);
                rest = value.find([',', ' ']).map_or("", |end| &value[end..]);
            }
        }
    }
    out
}

/// The length of the quoted string at the start of `text`, escapes considered.
fn quoted_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_metadata_url_changes() {
        for (given, expected) in [
            (
                r#"Bearer realm="x", resource_metadata="https://a/b", scope="s""#,
                r#"Bearer realm="x", resource_metadata="U", scope="s""#,
            ),
            (r#"Bearer resource_metadata=https://a/b, scope=s"#, r#"Bearer resource_metadata=U, scope=s"#),
            (r#"Bearer resource_metadata=https://a/b scope=s"#, r#"Bearer resource_metadata=U scope=s"#),
            (r#"bearer Resource_Metadata = "https://a""#, r#"bearer Resource_Metadata = "U""#),
            (
                r#"Bearer resource_metadata="a", Bearer resource_metadata="b""#,
                r#"Bearer resource_metadata="U", Bearer resource_metadata="U""#,
            ),
            (
                r#"Bearer error_description="resource_metadata=\"x\", y""#,
                r#"Bearer error_description="resource_metadata=\"x\", y""#,
            ),
            (r#"Bearer xresource_metadata="a""#, r#"Bearer xresource_metadata="a""#),
            (r#"Basic realm="é""#, r#"Basic realm="é""#),
            (
                r#"Bearer resource_metadata="a\"b, resource_metadata=c", scope="s""#,
                r#"Bearer resource_metadata="U", scope="s""#,
            ),
            (r#"Bearer resource_metadata="cut"#, r#"Bearer resource_metadata="U""#),
            ("Bearer resource_metadata=", "Bearer resource_metadata=U"),
            ("", ""),
        ] {
            assert_eq!(rewrite(given, "U"), expected, "{given}");
        }
    }
}
