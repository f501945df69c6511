//! Targets out of discovered OAuth metadata: their labels and tags.
//!
//! Whether a URL is to be trusted at all is decided by whoever found it. Invariant: the same URL in the
//! same role over the same socket is registered once, however often it is discovered.

use crate::order;
use std::path::PathBuf;
use std::sync::Arc;

use super::registry::{NewTarget, Registry, Rejected, Target};
use super::url::TargetUrl;
use crate::config::MAX_LABEL_CHARS;

/// Category and source of every discovered target.
pub const OAUTH: &str = "oauth";
/// Largest number appended to a label that is taken.
const MAX_SUFFIX: usize = 9_999;

/// A URL that a discovery found and that may be called.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    /// Exactly as spelled in the metadata.
    pub url: String,
    /// `token-endpoint`, `prmd-resource`, …; empty for none.
    pub role: String,
    /// The number in the label: the entry's index, or its place if there is no role.
    pub index: usize,
    /// Entries that belong together, as `auth-server:ID:INDEX`; empty for none.
    pub group: String,
    /// For humans.
    pub description: String,
    /// Why it may be called.
    pub inclusion_reason: String,
    /// Dialled instead of the URL's host.
    pub unix_socket: Option<PathBuf>,
}

/// What became of a discovered URL.
#[derive(Clone, Debug)]
pub enum Registration {
    /// It is a new target.
    New(Arc<Target>),
    /// It had been registered before.
    Known(Arc<Target>),
}

impl Registry {
    /// Registers a discovered URL, unless it is known, under `oauth-ROLE-INDEX` or the first free label
    /// made of that; logs what it does.
    ///
    /// # Errors
    /// [`Rejected`], logged as a warning.
    pub fn register_discovered(&self, found: Discovered) -> Result<Registration, Rejected> {
        let known = TargetUrl::parse(found.url.trim()).ok().and_then(|url| {
            let role = role_tag(&found.role);
            self.by_url(&url).into_iter().find(|target| {
                target.category == OAUTH
                    && target.unix_socket == found.unix_socket
                    && target.tags == tags(&found.role, &found.group, role)
            })
        });
        if let Some(target) = known {
            return Ok(Registration::Known(target));
        }
        let origin = TargetUrl::parse(found.url.trim()).map(|url| url.origin()).unwrap_or_default();
        match self.register_with_free_label(&found) {
            Ok(target) => {
                log::info!(target: "harpoon", label = target.label.as_str(), url = origin.as_str(),
                    source = OAUTH, role = found.role.as_str(), group = found.group.as_str(),
                    inclusion_reason = found.inclusion_reason.as_str(); "harpoon target auto-registered");
                Ok(Registration::New(target))
            }
            Err(error) => {
                log::warn!(target: "harpoon", label = base_label(&found).as_str(), url = origin.as_str(),
                    source = OAUTH, role = found.role.as_str(), group = found.group.as_str(), error:%;
                    "harpoon target not registered");
                Err(error)
            }
        }
    }

    fn register_with_free_label(&self, found: &Discovered) -> Result<Arc<Target>, Rejected> {
        let base = base_label(found);
        let role = role_tag(&found.role);
        let mut label = base.clone();
        for collisions in 1..=MAX_SUFFIX + 1 {
            let new = NewTarget {
                label: label.clone(),
                url: found.url.clone(),
                description: found.description.clone(),
                category: OAUTH.to_owned(),
                source: OAUTH.to_owned(),
                tags: tags(&found.role, &found.group, role),
                inclusion_reason: found.inclusion_reason.clone(),
                unix_socket: found.unix_socket.clone(),
            };
            match self.register(new) {
                Err(Rejected::DuplicateLabel(_)) if collisions <= MAX_SUFFIX => {
                    let suffix = format!("-{collisions}");
                    let room = MAX_LABEL_CHARS - suffix.len();
                    let short = base.get(..room).unwrap_or(&base).trim_end_matches(['-', '_']);
                    label = format!("{short}{suffix}");
                }
                registered => {
                    if registered.is_ok() && collisions > 1 {
                        log::info!(target: "harpoon", base_label = base.as_str(), label = label.as_str(),
                            collision_count = collisions - 1; "label collision resolved");
                    }
                    return registered;
                }
            }
        }
        Err(Rejected::DuplicateLabel(base))
    }
}

fn base_label(found: &Discovered) -> String {
    label_of(&found.role, found.index)
}

/// The label of a discovered URL: `oauth-ROLE-INDEX`, as far as a label can spell it.
pub fn label_of(role: &str, index: usize) -> String {
    let wanted = match role.trim() {
        "" => format!("oauth-{index}"),
        role => format!("oauth-{role}-{index}"),
    };
    let mut label = String::new();
    let mut in_run = false;
    for c in wanted.to_lowercase().chars() {
        let fits = c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if fits {
            label.push(c);
        } else if !in_run {
            label.push('-');
        }
        in_run = !fits;
    }
    let mut label = label.trim_matches(['-', '_']).to_owned();
    if !label.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        label.insert(0, 'x');
    }
    label.truncate(MAX_LABEL_CHARS);
    label
}

/// The tags that a role stands for.
fn role_tag(role: &str) -> &'static [&'static str] {
    match role {
        "prmd-resource" => &["protected-resource-metadata", "resource"],
        "prmd-auth-server" => &["authorization-server", "protected-resource-metadata"],
        "prmd-source" => &["protected-resource-metadata", "source-url"],
        "auth-server-metadata" => &["auth-server-metadata"],
        "issuer"
        | "token-endpoint"
        | "jwks-uri"
        | "introspection-endpoint"
        | "registration-endpoint"
        | "revocation-endpoint" => &["auth-server-metadata", ""],
        _ => &[""],
    }
}

/// Sorted; an empty name among `role_tags` is the role itself.
fn tags(role: &str, group: &str, role_tags: &[&str]) -> Vec<String> {
    let named = role_tags.iter().map(|tag| if tag.is_empty() { role } else { tag });
    let mut tags: Vec<String> = named.filter(|tag| !tag.is_empty()).map(str::to_lowercase).collect();
    if !group.is_empty() {
        tags.push(format!("group={}", group.to_lowercase()));
    }
    order::sort(&mut tags);
    tags.dedup();
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(role: &str, url: &str) -> Discovered {
        let group = if role.starts_with("prmd") { "" } else { "auth-server:a1b2c3d4e5f6:0" };
        Discovered { role: role.into(), url: url.into(), group: group.into(), ..Discovered::default() }
    }

    fn label(registry: &Registry, found: Discovered) -> String {
        match registry.register_discovered(found).unwrap() {
            Registration::New(target) => target.label.clone(),
            Registration::Known(target) => format!("known {}", target.label),
        }
    }

    #[test]
    fn labels_and_tags_follow_from_roles() {
        let registry = Registry::new(false);
        assert_eq!(label(&registry, found("token-endpoint", "https://h/t")), "oauth-token-endpoint-0");
        let target = registry.by_label("oauth-token-endpoint-0").unwrap();
        assert_eq!(
            target.tags,
            ["auth-server-metadata", "group=auth-server:a1b2c3d4e5f6:0", "token-endpoint"]
        );
        assert_eq!((target.category.as_str(), target.source.as_str()), ("oauth", "oauth"));
        assert_eq!(label(&registry, found("prmd-resource", "https://h/r")), "oauth-prmd-resource-0");
        let target = registry.by_label("oauth-prmd-resource-0").unwrap();
        assert_eq!(target.tags, ["protected-resource-metadata", "resource"]);
        let odd = Discovered { role: "Big Thing!".into(), ..found("", "https://h/o") };
        assert_eq!(label(&registry, odd), "oauth-big-thing--0");
        let none = Discovered { index: 3, group: String::new(), ..found("", "https://h/n") };
        assert_eq!(label(&registry, none), "oauth-3");
        assert!(registry.by_label("oauth-3").unwrap().tags.is_empty());
    }

    #[test]
    fn a_known_url_is_not_registered_again_and_a_new_one_gets_a_free_label() {
        let registry = Registry::new(false);
        assert_eq!(label(&registry, found("issuer", "https://h/a")), "oauth-issuer-0");
        assert_eq!(label(&registry, found("issuer", "https://H/a")), "known oauth-issuer-0");
        assert_eq!(label(&registry, found("issuer", "https://h/b")), "oauth-issuer-0-1");
        assert_eq!(label(&registry, found("jwks-uri", "https://h/a")), "oauth-jwks-uri-0", "another role");
        let long =
            |path: &str| Discovered { role: "r".repeat(80), ..found("", &format!("https://h/{path}")) };
        assert_eq!(label(&registry, long("1")).len(), 64);
        let second = label(&registry, long("2"));
        assert!(second.len() == 64 && second.ends_with("r-1"), "{second}");
        assert!(matches!(
            registry.register_discovered(found("issuer", "http://h/a")),
            Err(Rejected::Plaintext(_))
        ));
    }
}
