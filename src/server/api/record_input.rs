//! What administrators send about tunnels, checked.

use serde_json::{Map, Value};

use super::error::{code, error, invalid};
use super::record::Principals;
use crate::net::front::Response;

/// Characters of a name.
const NAME_CHARS: usize = 256;
/// Characters of a description.
const DESCRIPTION_CHARS: usize = 4096;
/// Ids of one kind.
const IDS: usize = 100;

/// The members that were given. A null one counts as absent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) organizations: Option<Vec<String>>,
    pub(super) workspaces: Option<Vec<String>>,
    pub(super) tenants: Option<Vec<String>>,
}

impl Input {
    /// Checks a body; members of other names mean nothing.
    pub(super) fn parse(body: &[u8]) -> Result<Input, Response> {
        let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
            return Err(error(400, None, "the body must be a JSON object"));
        };
        Ok(Input {
            name: text(&members, "name", NAME_CHARS)?,
            description: text(&members, "description", DESCRIPTION_CHARS)?,
            organizations: ids(&members, "organization_ids")?,
            workspaces: ids(&members, "workspace_ids")?,
            tenants: ids(&members, "tenant_ids")?,
        })
    }

    /// The principals that `old` become.
    pub(super) fn principals(&mut self, old: &Principals) -> Principals {
        let pick =
            |new: &mut Option<Vec<String>>, old: &Vec<String>| new.take().unwrap_or_else(|| old.clone());
        Principals {
            organizations: pick(&mut self.organizations, &old.organizations),
            workspaces: pick(&mut self.workspaces, &old.workspaces),
            tenants: pick(&mut self.tenants, &old.tenants),
        }
    }
}

fn text(members: &Map<String, Value>, name: &str, most: usize) -> Result<Option<String>, Response> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => {
            Err(invalid(name, &format!("{name} must not be blank")))
        }
        Some(Value::String(text)) if text.chars().count() > most => {
            Err(invalid(name, &format!("{name} must have at most {most} characters")))
        }
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(invalid(name, &format!("{name} must be a string"))),
    }
}

fn ids(members: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, Response> {
    let items = match members.get(name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(_) => return Err(invalid(name, &format!("{name} must be a list of strings"))),
    };
    if items.len() > IDS {
        let message = format!("{name} must have at most {IDS} entries; shorten the list");
        return Err(error(400, Some(code::PRINCIPAL_LIMIT), &message));
    }
    let mut ids: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let Some(id) = item.as_str().map(str::trim) else {
            return Err(invalid(name, &format!("{name} must be a list of strings")));
        };
        if id.is_empty() {
            return Err(invalid(name, &format!("{name} must not have blank entries")));
        }
        if ids.iter().any(|have| have == id) {
            return Err(invalid(name, &format!("{name} must not name an id twice")));
        }
        ids.push(id.to_owned());
    }
    Ok(Some(ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_members_replace_and_absent_ones_keep() {
        let input = Input::parse(br#"{"name":"n","workspace_ids":[],"tenant_ids":null,"other":1}"#);
        let mut input = input.ok().unwrap();
        assert_eq!((input.name.as_deref(), input.description.as_deref()), (Some("n"), None));
        let old = Principals {
            organizations: vec!["o".into()],
            workspaces: vec!["w".into()],
            tenants: vec!["t".into()],
        };
        assert_eq!(input.principals(&old), Principals { workspaces: Vec::new(), ..old });
    }

    #[test]
    fn what_no_record_may_hold_is_refused() {
        let long = "x".repeat(NAME_CHARS + 1);
        let many: Vec<String> = (0..=IDS).map(|n| format!("\"o{n}\"")).collect();
        for bad in [
            "",
            "[]",
            r#"{"name":" "}"#,
            r#"{"name":7}"#,
            &format!(r#"{{"name":"{long}"}}"#),
            r#"{"organization_ids":"o"}"#,
            r#"{"organization_ids":["o","o"]}"#,
            r#"{"organization_ids":[" "]}"#,
            r#"{"organization_ids":[1]}"#,
            &format!(r#"{{"tenant_ids":[{}]}}"#, many.join(",")),
        ] {
            assert_eq!(
                Input::parse(bad.as_bytes()).err().map(|response| response.status),
                Some(400),
                "{bad}"
            );
        }
    }
}
