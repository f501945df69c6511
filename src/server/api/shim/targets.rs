//! What a client's embedded HTTP caller may call for OAuth, as its `list_targets` tells it.
//!
//! Targets are recognised by their tags, never by their labels; URLs are withheld.

use serde_json::Value;

const GROUP: &str = "group=";
/// Beginning of the groups of targets that belong to one authorization server.
const AUTH_SERVER: &str = "auth-server:";
/// Longest identifier of such a group.
const HASH_DIGITS: usize = 64;
const METADATA: &str = "auth-server-metadata";

/// Endpoints that may be served here instead of by the authorization server itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server::api) enum Endpoint {
    Register,
    Token,
    Revoke,
}

impl Endpoint {
    pub(super) const ALL: [Endpoint; 3] = [Endpoint::Register, Endpoint::Token, Endpoint::Revoke];

    /// The member of the metadata document (RFC 8414 §2).
    pub(super) fn member(self) -> &'static str {
        match self {
            Endpoint::Register => "registration_endpoint",
            Endpoint::Token => "token_endpoint",
            Endpoint::Revoke => "revocation_endpoint",
        }
    }

    /// The last segment of its path here.
    pub(in crate::server::api) fn segment(self) -> &'static str {
        match self {
            Endpoint::Register => "register",
            Endpoint::Token => "token",
            Endpoint::Revoke => "revoke",
        }
    }

    /// The endpoint of that segment.
    pub(in crate::server::api) fn of_segment(segment: &str) -> Option<Endpoint> {
        Endpoint::ALL.into_iter().find(|endpoint| endpoint.segment() == segment)
    }

    fn tag(self) -> &'static str {
        match self {
            Endpoint::Register => "registration-endpoint",
            Endpoint::Token => "token-endpoint",
            Endpoint::Revoke => "revocation-endpoint",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Target {
    label: String,
    /// `auth-server:<hash>:<index>`, or empty.
    group: String,
    /// Without the group's.
    tags: Vec<String>,
}

/// The targets of category `oauth`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Targets(Vec<Target>);

impl Targets {
    /// Reads the result of `list_targets`; `None` if it is none.
    pub(super) fn read(result: &Value) -> Option<Targets> {
        let read = |target: &Value| {
            let label = target.get("label")?.as_str()?.to_owned();
            let tags = target.get("tags").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let tags: Vec<&str> = tags.iter().filter_map(Value::as_str).collect();
            let group = tags.iter().find_map(|tag| tag.strip_prefix(GROUP)).unwrap_or_default().to_owned();
            let tags =
                tags.iter().filter(|tag| !tag.starts_with(GROUP)).map(|tag| (*tag).to_owned()).collect();
            Some(Target { label, group, tags })
        };
        let targets = result.get("targets")?.as_array()?;
        Some(Targets(targets.iter().filter_map(read).collect()))
    }

    /// The hash of the group that has both the authorization server and its metadata document; of several
    /// the one that was discovered last.
    pub(super) fn authorization_server(&self) -> Option<&str> {
        let whole = |target: &&Target| {
            let has_server = |other: &Target| {
                other.group == target.group && other.tags.iter().any(|tag| tag == "authorization-server")
            };
            target.is_document() && self.0.iter().any(has_server)
        };
        self.0.iter().rev().filter(whole).find_map(|target| hash(&target.group))
    }

    /// The label of the metadata document of the group with that hash, and the group.
    pub(super) fn document(&self, server: &str) -> Option<(&str, &str)> {
        let document = self.0.iter().find(|t| t.is_document() && hash(&t.group) == Some(server))?;
        Some((&document.label, &document.group))
    }

    /// Whether the label is that endpoint in that group.
    pub(super) fn is_endpoint(&self, label: &str, group: &str, endpoint: Endpoint) -> bool {
        let is = |target: &Target| {
            target.label == label
                && target.group == group
                && [METADATA, endpoint.tag()].iter().all(|tag| target.tags.iter().any(|have| have == tag))
        };
        self.0.iter().any(is)
    }

    /// Whether there is such a label.
    pub(super) fn knows(&self, label: &str) -> bool {
        self.0.iter().any(|target| target.label == label)
    }
}

impl Target {
    /// Whether it is a metadata document: that tag, and no other.
    fn is_document(&self) -> bool {
        self.tags == [METADATA]
    }
}

fn hash(group: &str) -> Option<&str> {
    let hash = group.strip_prefix(AUTH_SERVER)?.split(':').next()?;
    is_hash(hash).then_some(hash)
}

/// Whether it can name an authorization server in a path.
pub(super) fn is_hash(text: &str) -> bool {
    (1..=HASH_DIGITS).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// `^[a-z0-9][a-z0-9_-]{0,63}$`
pub(super) fn is_label(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= 64
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || b == b'_' || b == b'-')
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn listed() -> Targets {
        let target = |label: &str, tags: &[&str]| json!({"label": label, "tags": tags, "category": "oauth"});
        let group = "group=auth-server:a1b2c3:0";
        Targets::read(&json!({"targets": [
            target("oauth-prmd-auth-server-0", &["authorization-server", group, "protected-resource-metadata"]),
            target("meta", &["auth-server-metadata", group]),
            target("reg", &["auth-server-metadata", group, "registration-endpoint"]),
            target("issuer", &["auth-server-metadata", group, "issuer"]),
            target("other-token", &["auth-server-metadata", "group=auth-server:ffff:0", "token-endpoint"]),
            target("other-meta", &["auth-server-metadata", "group=auth-server:ffff:0"]),
            json!({"label": "plain"}),
        ]}))
        .unwrap()
    }

    #[test]
    fn targets_are_found_by_tags_within_their_group() {
        let targets = listed();
        assert_eq!(targets.authorization_server(), Some("a1b2c3"));
        assert_eq!(targets.document("a1b2c3"), Some(("meta", "auth-server:a1b2c3:0")));
        assert_eq!(targets.document("00"), None);
        let is = |label, endpoint| targets.is_endpoint(label, "auth-server:a1b2c3:0", endpoint);
        assert!(is("reg", Endpoint::Register));
        assert!(!is("reg", Endpoint::Token) && !is("other-token", Endpoint::Token));
        assert!(targets.knows("plain") && !targets.knows("none"));
        assert_eq!(Targets::read(&json!({})), None);
    }

    #[test]
    fn names_in_paths_and_labels_are_checked() {
        assert!(is_hash("a1b2") && !is_hash("") && !is_hash("A1") && !is_hash(&"a".repeat(65)));
        assert!(is_label("a-b_1") && !is_label("") && !is_label("-a") && !is_label("a/b"));
    }
}
