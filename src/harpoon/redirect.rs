//! Where a redirect leads, and why it must not be followed.
//!
//! Invariant: the decision is made on the resolved URL, before anything is dialled.

use std::sync::Arc;

use super::registry::{Registry, Target};
use super::url::{InvalidUrl, Joined, TargetUrl};

/// A redirect's destination.
pub(super) enum Destination {
    /// The target that stands for it.
    Target(Arc<Target>),
    /// Nothing that may be called.
    Blocked(Blocked),
}

/// Why a destination is blocked; for the log and the operator, but for the first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Blocked {
    /// Scheme of the target that differs by its scheme only, and the scheme redirected to.
    pub(super) schemes: Option<(String, String)>,
    /// A fixed word.
    pub(super) kind: &'static str,
    /// Origin of the destination.
    pub(super) origin: String,
    /// Origin of the target that was meant, if that can be told.
    pub(super) expected: Option<String>,
}

/// Decides about a redirect from `from` to `location`.
///
/// # Errors
/// When `location` is no URL reference.
pub(super) fn decide(
    from: &TargetUrl,
    location: &str,
    registry: &Registry,
) -> Result<Destination, InvalidUrl> {
    let to = match from.join(location)? {
        Joined::Url(url) => url,
        Joined::Foreign => {
            let origin = match crate::redact::origin(location) {
                origin if origin.is_empty() => "another scheme".to_owned(),
                origin => origin,
            };
            let kind = "not_allowlisted_other";
            return Ok(Destination::Blocked(Blocked { schemes: None, kind, origin, expected: None }));
        }
    };
    Ok(match registry.by_url(&to).into_iter().next() {
        Some(target) => Destination::Target(target),
        None => Destination::Blocked(explain(&to, registry)),
    })
}

/// Compares a blocked destination with what is allowed.
fn explain(to: &TargetUrl, registry: &Registry) -> Blocked {
    let targets = registry.targets();
    let bare = |url: &TargetUrl| url.path().strip_suffix('/').unwrap_or(url.path()).to_owned();
    let same_host = |target: &Target| target.url.host() == to.host() && target.url.port() == to.port();
    let same_scheme = |target: &Target| target.url.scheme() == to.scheme();
    let same_path = |target: &Target| bare(&target.url) == bare(to);
    let same_query = |target: &Target| target.url.query() == to.query();
    let find = |fits: &dyn Fn(&Target) -> bool| targets.iter().find(|target| fits(target));

    let blocked = |kind, meant: Option<&Arc<Target>>| Blocked {
        schemes: None,
        kind,
        origin: to.origin(),
        expected: meant.map(|target| target.url.origin()),
    };
    if let Some(meant) = find(&|t| same_host(t) && same_path(t) && same_query(t) && !same_scheme(t)) {
        let kind = match meant.url.is_https() {
            true => "scheme_mismatch_https_to_http",
            false => "scheme_mismatch_http_to_https",
        };
        let schemes = Some((meant.url.scheme().to_owned(), to.scheme().to_owned()));
        return Blocked { schemes, ..blocked(kind, Some(meant)) };
    }
    if let Some(meant) = find(&|t| same_scheme(t) && same_host(t) && same_query(t)) {
        return blocked("path_mismatch", Some(meant));
    }
    if let Some(meant) = find(&|t| same_scheme(t) && same_host(t) && same_path(t)) {
        return blocked("query_mismatch", Some(meant));
    }
    let mut elsewhere =
        targets.iter().filter(|t| same_scheme(t) && t.url.path() == to.path() && same_query(t));
    match (elsewhere.next(), elsewhere.next()) {
        (Some(meant), None) => blocked("host_mismatch", Some(meant)),
        _ => blocked("not_allowlisted_other", None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::registry::NewTarget;
    use super::*;

    #[test]
    fn blocked_destinations_are_explained_by_the_nearest_target() {
        let registry = Registry::new(true);
        for (label, url) in [
            ("m", "https://h/m/"),
            ("q", "https://q/x?a=1"),
            ("p", "http://plain/s"),
            ("self", "https://z/start"),
        ] {
            let new = NewTarget { label: label.into(), url: url.into(), ..NewTarget::default() };
            registry.register(new).unwrap();
        }
        let from = TargetUrl::parse("https://z/start").unwrap();
        let kind = |location: &str| match decide(&from, location, &registry).unwrap() {
            Destination::Target(target) => target.label.clone(),
            Destination::Blocked(blocked) => blocked.kind.to_owned(),
        };
        for (location, expected) in [
            ("https://h/m/", "m"),
            ("https://h/x/../m/", "m"),
            ("http://h/m", "scheme_mismatch_https_to_http"),
            ("http://h:80/m", "scheme_mismatch_https_to_http"),
            ("https://plain/s/", "scheme_mismatch_http_to_https"),
            ("https://h/m", "path_mismatch"),
            ("/other", "path_mismatch"),
            ("https://q/x?a=2", "query_mismatch"),
            ("https://other/m/", "host_mismatch"),
            ("https://h.evil/z", "not_allowlisted_other"),
            ("javascript:alert(1)", "not_allowlisted_other"),
        ] {
            assert_eq!(kind(location), expected, "{location}");
        }
        let Ok(Destination::Blocked(blocked)) = decide(&from, "http://u:p@h/m?", &registry) else { panic!() };
        assert_eq!((blocked.schemes, blocked.origin.as_str()), (None, "http://h"), "another query");
        let Ok(Destination::Blocked(blocked)) = decide(&from, "http://h/m", &registry) else { panic!() };
        assert_eq!(blocked.schemes, Some(("https".into(), "http".into())));
    }
}
