//! What makes a metadata document valid.
//!
//! Only members whose meaning is known are looked at; their names are compared without regard to case,
//! and the last of several counts. Invariant: no text in here quotes a document.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use url::Url;

/// The types of the known members (RFC 9728 §2).
const RESOURCE_MEMBERS: [(&str, Type); 14] = [
    ("resource", Type::Text),
    ("authorization_servers", Type::Texts),
    ("scopes_supported", Type::Texts),
    ("bearer_methods_supported", Type::Texts),
    ("resource_signing_alg_values_supported", Type::Texts),
    ("authorization_details_types_supported", Type::Texts),
    ("dpop_signing_alg_values_supported", Type::Texts),
    ("jwks_uri", Type::Text),
    ("resource_name", Type::Text),
    ("resource_documentation", Type::Text),
    ("resource_policy_uri", Type::Text),
    ("resource_tos_uri", Type::Text),
    ("tls_client_certificate_bound_access_tokens", Type::Truth),
    ("dpop_bound_access_tokens_required", Type::Truth),
];

#[derive(Clone, Copy)]
enum Type {
    Text,
    Texts,
    Truth,
}

/// A protected resource's metadata (RFC 9728).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResourceMetadata {
    pub(super) resource: String,
    pub(super) authorization_servers: Vec<String>,
}

impl ResourceMetadata {
    /// Reads and checks a document; the error says what is wrong with it.
    pub(super) fn parse(json: &str) -> Result<ResourceMetadata, String> {
        if json.trim_ascii().is_empty() {
            return Err("it is empty".to_owned());
        }
        let mut found = ResourceMetadata::default();
        for (name, value) in members(json)? {
            let Some((known, kind)) =
                RESOURCE_MEMBERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name))
            else {
                continue;
            };
            let wrong = || format!("its member {known} has the wrong type");
            match kind {
                Type::Text => {
                    let text = text(value).ok_or_else(wrong)?;
                    if *known == "resource" {
                        found.resource = text;
                    }
                }
                Type::Texts => {
                    let texts = texts(value).ok_or_else(wrong)?;
                    if *known == "authorization_servers" {
                        found.authorization_servers = texts;
                    }
                }
                Type::Truth => {
                    serde_json::from_str::<Option<bool>>(value.get()).map_err(|_| wrong())?;
                }
            }
        }
        if found.resource.is_empty() {
            return Err("it names no resource".to_owned());
        }
        match found.authorization_servers.first() {
            Some(server) if !is_reference(server) => Err("its authorization_servers[0] is no URL".to_owned()),
            _ => Ok(found),
        }
    }
}

/// The URLs of an authorization server's metadata (RFC 8414 §2) that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Issuer,
    Token,
    Jwks,
    Introspection,
    Registration,
    Revocation,
    /// Browsers go there by themselves: it is never called.
    Authorization,
}

impl Endpoint {
    /// Those that the embedded caller may be allowed to call, in order.
    pub(super) const REGISTERED: [Endpoint; 6] = [
        Endpoint::Issuer,
        Endpoint::Token,
        Endpoint::Jwks,
        Endpoint::Introspection,
        Endpoint::Registration,
        Endpoint::Revocation,
    ];

    const ALL: [Endpoint; 7] = [
        Endpoint::Issuer,
        Endpoint::Token,
        Endpoint::Jwks,
        Endpoint::Introspection,
        Endpoint::Registration,
        Endpoint::Revocation,
        Endpoint::Authorization,
    ];

    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Endpoint::Issuer => ("issuer", "issuer", "Auth server issuer"),
            Endpoint::Token => ("token_endpoint", "token-endpoint", "Auth server token endpoint"),
            Endpoint::Jwks => ("jwks_uri", "jwks-uri", "Auth server JWKS URI"),
            Endpoint::Introspection => {
                ("introspection_endpoint", "introspection-endpoint", "Auth server introspection endpoint")
            }
            Endpoint::Registration => {
                ("registration_endpoint", "registration-endpoint", "Auth server registration endpoint")
            }
            Endpoint::Revocation => {
                ("revocation_endpoint", "revocation-endpoint", "Auth server revocation endpoint")
            }
            Endpoint::Authorization => ("authorization_endpoint", "", ""),
        }
    }

    /// The role of its entry.
    pub(super) fn role(self) -> &'static str {
        self.words().1
    }

    /// For humans.
    pub(super) fn description(self) -> &'static str {
        self.words().2
    }
}

/// An authorization server's metadata, as far as they are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerMetadata(Vec<(Endpoint, String)>);

impl ServerMetadata {
    /// Reads and checks a document; the error says what is wrong with it.
    pub(super) fn parse(json: &str) -> Result<ServerMetadata, String> {
        let mut found = ServerMetadata::default();
        for (name, value) in members(json)? {
            let known = Endpoint::ALL.into_iter().find(|known| known.words().0.eq_ignore_ascii_case(&name));
            if let Some(known) = known {
                let url =
                    text(value).ok_or_else(|| format!("its member {} is no string", known.words().0))?;
                found.0.push((known, url));
            }
        }
        Ok(found)
    }

    /// A member, if it is there.
    pub(super) fn get(&self, endpoint: Endpoint) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| *known == endpoint).map(|(_, url)| url.as_str())
    }
}

/// Whether `text` is a URL, absolute or not (RFC 3986 §4.1).
fn is_reference(text: &str) -> bool {
    match Url::parse(text) {
        Ok(_) => true,
        Err(url::ParseError::RelativeUrlWithoutBase) => {
            !text[..text.find(['/', '?', '#']).unwrap_or(text.len())].contains(':')
        }
        Err(_) => false,
    }
}

/// A string; null counts as empty.
fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str::<Option<String>>(value.get()).ok().map(Option::unwrap_or_default)
}

/// Strings; null counts as none.
fn texts(value: &RawValue) -> Option<Vec<String>> {
    let texts = serde_json::from_str::<Option<Vec<Option<String>>>>(value.get()).ok()?;
    Some(texts.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect())
}

/// The members of a JSON object, in order.
fn members(json: &str) -> Result<Vec<(String, &RawValue)>, String> {
    let mut input = serde_json::Deserializer::from_str(json);
    let found = input.deserialize_map(Members).and_then(|found| input.end().map(|()| found));
    found.map_err(|error| match error.classify() {
        serde_json::error::Category::Data => "it is no JSON object".to_owned(),
        _ => "it is no valid JSON".to_owned(),
    })
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(member) = map.next_entry()? {
            found.push(member);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_document_has_a_resource_and_the_right_types() {
        for good in [
            r#"{"resource":"https://h/mcp"}"#,
            r#" {"resource":"r","authorization_servers":["https://as"],"other":{"x":1},"jwks_uri":null} "#,
            r#"{"Resource":"r","AUTHORIZATION_SERVERS":["https://as",":://bad"]}"#,
            r#"{"resource":"r","authorization_servers":["as.example/path"]}"#,
            r#"{"resource":"r","authorization_servers":null,"dpop_bound_access_tokens_required":true}"#,
            r#"{"resource":"","resource":"r"}"#,
        ] {
            assert!(ResourceMetadata::parse(good).is_ok(), "{good}");
        }
        for (wrong, why) in [
            ("", "empty"),
            (" \n", "empty"),
            ("<html>", "valid JSON"),
            ("{\"resource\":\"r\"", "valid JSON"),
            ("{\"resource\":\"r\"} x", "valid JSON"),
            ("[]", "JSON object"),
            ("\"secret\"", "JSON object"),
            ("null", "JSON object"),
            ("{}", "names no resource"),
            (r#"{"resource":""}"#, "names no resource"),
            (r#"{"resource":null}"#, "names no resource"),
            (r#"{"resource":1}"#, "resource has the wrong type"),
            (r#"{"resource":"r","authorization_servers":"https://as"}"#, "authorization_servers"),
            (r#"{"resource":"r","authorization_servers":[":://bad"]}"#, "authorization_servers[0]"),
            (r#"{"resource":"r","authorization_servers":["http://[x"]}"#, "authorization_servers[0]"),
            (r#"{"resource":"r","scopes_supported":[1]}"#, "scopes_supported"),
            (r#"{"resource":"r","Resource_Name":["x"]}"#, "resource_name"),
            (r#"{"resource":"r","tls_client_certificate_bound_access_tokens":"yes"}"#, "tls_client"),
        ] {
            let found = ResourceMetadata::parse(wrong).unwrap_err();
            assert!(found.contains(why), "{wrong}: {found}");
        }
    }

    #[test]
    fn a_server_document_has_strings_where_urls_belong() {
        let found = ServerMetadata::parse(
            r#"{"issuer":"https://i","token_endpoint":"https://i/T","scopes_supported":7,"jwks_uri":null}"#,
        )
        .unwrap();
        assert_eq!(found.get(Endpoint::Issuer), Some("https://i"));
        assert_eq!(found.get(Endpoint::Token), Some("https://i/T"));
        assert_eq!(found.get(Endpoint::Jwks), Some(""));
        assert_eq!(found.get(Endpoint::Revocation), None);
        for wrong in ["", "[]", r#"{"issuer":1}"#, r#"{"authorization_endpoint":{}}"#, "{} {}"] {
            assert!(ServerMetadata::parse(wrong).is_err(), "{wrong}");
        }
    }
}
