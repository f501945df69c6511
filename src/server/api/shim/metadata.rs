//! The metadata document of an authorization server behind the tunnel (RFC 8414), as callers see it.

use serde_json::{Map, Value};

use super::failure::Failure;
use super::targets::{Endpoint, Targets, is_label};

/// How a client spells the URL of one of its targets.
const SCHEME: &str = "harpoon://";
/// Members that would not hold of the issuer served here: browsers talk to the real one, and the
/// signature is over what is changed.
const UNTRUE: [&str; 2] = ["authorization_response_iss_parameter_supported", "signed_metadata"];

/// The document with `issuer` in place of its own, and with the endpoints that only the client can reach
/// below it. What nobody could reach is left out.
pub(super) fn rewrite(
    document: &Map<String, Value>,
    targets: &Targets,
    group: &str,
    issuer: &str,
) -> Result<String, Failure> {
    let mut shown = document.clone();
    for endpoint in Endpoint::ALL {
        let Some(Value::String(uri)) = document.get(endpoint.member()) else { continue };
        match uri.strip_prefix(SCHEME) {
            Some(label) if !is_label(label) => return Err(Failure::InvalidUri),
            Some(label) if targets.is_endpoint(label, group, endpoint) => {
                let here = format!("{issuer}/{}", endpoint.segment());
                shown.insert(endpoint.member().to_owned(), here.into());
            }
            Some(_) => {}
            None if is_http(uri) => {}
            None => return Err(Failure::InvalidUri),
        }
    }
    shown.insert("issuer".to_owned(), issuer.into());
    UNTRUE.iter().for_each(|name| {
        shown.remove(*name);
    });
    let mut shown = Value::Object(shown);
    prune(&mut shown);
    Ok(shown.to_string())
}

/// The label behind an endpoint of the document.
pub(super) fn label<'a>(
    document: &'a Map<String, Value>,
    targets: &Targets,
    group: &str,
    endpoint: Endpoint,
) -> Result<&'a str, Failure> {
    let uri = document.get(endpoint.member()).and_then(Value::as_str).ok_or(Failure::Unshimmable)?;
    match uri.strip_prefix(SCHEME) {
        None if is_http(uri) => Err(Failure::Unshimmable),
        None => Err(Failure::InvalidUri),
        Some(label) if !is_label(label) => Err(Failure::InvalidUri),
        Some(label) if targets.is_endpoint(label, group, endpoint) => Ok(label),
        Some(label) if targets.knows(label) => Err(Failure::Unshimmable),
        Some(_) => Err(Failure::TargetNotFound),
    }
}

/// Removes whatever is still spelled as a client's target, at any depth.
fn prune(value: &mut Value) {
    let unreachable = |value: &Value| value.as_str().is_some_and(|text| text.starts_with(SCHEME));
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !unreachable(member));
            members.values_mut().for_each(prune);
        }
        Value::Array(items) => {
            items.retain(|item| !unreachable(item));
            items.iter_mut().for_each(prune);
        }
        _ => {}
    }
}

fn is_http(uri: &str) -> bool {
    url::Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some())
}

#[cfg(test)]
mod tests {
    use super::super::targets::tests::listed;
    use super::*;
    use serde_json::json;

    const GROUP: &str = "auth-server:a1b2c3:0";
    const ISSUER: &str = "https://t/v1/oauth/x/a1b2c3";

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn only_endpoints_of_the_same_group_are_served_here() {
        let document = object(json!({
            "issuer": "harpoon://issuer",
            "registration_endpoint": "harpoon://reg",
            "token_endpoint": "https://idp.example/token",
            "revocation_endpoint": "harpoon://other-token",
            "authorization_endpoint": "https://idp.example/authorize",
            "jwks_uri": "harpoon://jwks",
            "mtls_endpoint_aliases": {"token_endpoint": "harpoon://reg", "x": 1},
            "signed_metadata": "ey",
            "authorization_response_iss_parameter_supported": true,
            "scopes_supported": ["a", "harpoon://reg"],
        }));
        let shown = rewrite(&document, &listed(), GROUP, ISSUER).ok().unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&shown).unwrap(),
            json!({
                "issuer": ISSUER,
                "registration_endpoint": format!("{ISSUER}/register"),
                "token_endpoint": "https://idp.example/token",
                "authorization_endpoint": "https://idp.example/authorize",
                "mtls_endpoint_aliases": {"x": 1},
                "scopes_supported": ["a"],
            })
        );
    }

    #[test]
    fn an_endpoint_that_cannot_be_served_says_why() {
        let document = object(json!({
            "token_endpoint": "harpoon://other-token",
            "registration_endpoint": "harpoon://gone",
            "revocation_endpoint": "harpoon://Bad Label",
        }));
        let why = |endpoint| label(&document, &listed(), GROUP, endpoint).err().unwrap();
        assert!(matches!(why(Endpoint::Token), Failure::Unshimmable));
        assert!(matches!(why(Endpoint::Register), Failure::TargetNotFound));
        assert!(matches!(why(Endpoint::Revoke), Failure::InvalidUri));
        assert!(matches!(rewrite(&document, &listed(), GROUP, ISSUER), Err(Failure::InvalidUri)));
        let public = object(json!({"token_endpoint": "https://idp/t", "revocation_endpoint": "ftp://x"}));
        let why = |endpoint| label(&public, &listed(), GROUP, endpoint).err().unwrap();
        assert!(matches!(why(Endpoint::Token), Failure::Unshimmable));
        assert!(matches!(why(Endpoint::Register), Failure::Unshimmable));
        assert!(matches!(why(Endpoint::Revoke), Failure::InvalidUri));
    }
}
