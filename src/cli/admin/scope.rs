//! Lists of organizations and workspaces on the command line.

use crate::cli::Failure;

/// The elements of a list flag: each occurrence may hold several, separated by commas (RFC 4180
/// quoting). Blank ones are dropped.
pub(super) fn elements(flag: &str, values: &[String]) -> Result<Vec<String>, Failure> {
    let mut elements: Vec<String> = Vec::new();
    let mut duplicates: Vec<String> = Vec::new();
    for value in values {
        let fields = fields(value).ok_or_else(|| {
            Failure::new(format!("invalid argument {value:?} for \"--{flag}\" flag: a quote is not closed"))
        })?;
        for field in fields {
            let field = field.trim();
            if field.is_empty() {
                continue;
            }
            if elements.iter().any(|element| element == field) {
                if !duplicates.iter().any(|duplicate| duplicate == field) {
                    duplicates.push(field.to_owned());
                }
            } else {
                elements.push(field.to_owned());
            }
        }
    }
    if duplicates.is_empty() {
        Ok(elements)
    } else {
        Err(Failure::new(format!("duplicate {flag} values: {}", duplicates.join(", "))))
    }
}

/// The fields of one line; `None` if a quote is not closed or stands inside a field.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let field = &rest[..end];
                if field.contains('"') {
                    return None;
                }
                (field.to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return after.is_empty().then_some(fields),
        }
    }
}

/// The field up to its closing quote, and what follows.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[&str]) -> Result<Vec<String>, String> {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        elements("organization-id", &values).map_err(|failure| failure.to_string())
    }

    #[test]
    fn occurrences_and_commas_add_up() {
        assert_eq!(list(&["a, b", "c", "", " , "]).unwrap(), ["a", "b", "c"]);
        assert_eq!(list(&["\"a,b\",c", "\"say \"\"x\"\"\""]).unwrap(), ["a,b", "c", "say \"x\""]);
        assert!(list(&[]).unwrap().is_empty());
        assert!(list(&[""]).unwrap().is_empty());
    }

    #[test]
    fn duplicates_and_open_quotes_are_refused() {
        assert_eq!(list(&["org-1,org-1", "x"]).unwrap_err(), "duplicate organization-id values: org-1");
        assert_eq!(list(&["a,b,a", "b"]).unwrap_err(), "duplicate organization-id values: a, b");
        for wrong in ["\"a", "a\"b", "\"a\"b"] {
            assert!(list(&[wrong]).unwrap_err().contains("--organization-id"), "{wrong}");
        }
    }
}
