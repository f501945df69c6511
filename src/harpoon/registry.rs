//! The allow-list: labels and the one URL each stands for.
//!
//! Grows at run time, never shrinks. Invariant: a URL is called only if its exact text is in here, over
//! the one transport it was registered with.

use crate::order;
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::url::{InvalidUrl, TargetUrl};

/// Most targets.
pub const MAX_TARGETS: usize = 10_000;
/// Longest label, in characters.
pub(super) const MAX_LABEL_CHARS: usize = 64;

/// One allow-listed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name: `^[a-z0-9][a-z0-9_-]{0,63}$`.
    pub label: String,
    /// What is called.
    pub url: TargetUrl,
    /// For humans.
    pub description: String,
    /// Lower case, may be empty.
    pub category: String,
    /// Lower case, may be empty.
    pub source: String,
    /// Lower case, sorted, each once.
    pub tags: Vec<String>,
    /// Why a discovered URL was accepted; empty for a configured one.
    pub inclusion_reason: String,
    /// Dialled instead of the URL's host; excludes every proxy.
    pub unix_socket: Option<PathBuf>,
}

/// A target to be.
#[derive(Clone, Debug, Default)]
pub struct NewTarget {
    /// Its name.
    pub label: String,
    /// Its URL, exactly as spelled where it was found.
    pub url: String,
    /// For humans.
    pub description: String,
    /// Of category and source the one that is blank takes the other's value.
    pub category: String,
    /// See there.
    pub source: String,
    /// What it can be found by.
    pub tags: Vec<String>,
    /// Why a discovered URL was accepted.
    pub inclusion_reason: String,
    /// Dialled instead of the URL's host.
    pub unix_socket: Option<PathBuf>,
}

/// Why a target is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// The label is empty or not of its form.
    Label(String),
    /// No URL that could be called.
    Url(String, InvalidUrl),
    /// `http`, where plaintext is not allowed.
    Plaintext(String),
    /// A segment of the path is `.`, `..` or not decodable.
    PathSegments(String),
    /// The label is taken.
    DuplicateLabel(String),
    /// The same URL is registered with another Unix socket; its origin.
    OtherTransport(String),
    /// There are [`MAX_TARGETS`] already.
    Full,
}

/// All targets, shared by all threads.
#[derive(Debug, Default)]
pub struct Registry {
    plaintext: bool,
    /// Whether there is any: asked for each poll and command.
    any: AtomicBool,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In the order of their registration.
    targets: Vec<Arc<Target>>,
    by_label: HashMap<String, usize>,
    /// By normal URL.
    by_url: HashMap<String, Vec<usize>>,
}

impl Registry {
    /// An empty registry; `plaintext` accepts `http`.
    pub fn new(plaintext: bool) -> Registry {
        Registry { plaintext, ..Registry::default() }
    }

    /// Whether `http` targets are accepted.
    pub fn allows_plaintext(&self) -> bool {
        self.plaintext
    }

    /// Whether there is any target; costs a load.
    pub fn is_routable(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Adds a target.
    ///
    /// # Errors
    /// [`Rejected`]; the registry is as before then.
    pub fn register(&self, new: NewTarget) -> Result<Arc<Target>, Rejected> {
        let target = checked(new, self.plaintext)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let index = state.targets.len();
        if state.by_label.contains_key(&target.label) {
            return Err(Rejected::DuplicateLabel(target.label));
        }
        let siblings = state.by_url.get(target.url.normal());
        let other = |index: &usize| state.targets[*index].unix_socket != target.unix_socket;
        if siblings.is_some_and(|siblings| siblings.iter().any(other)) {
            return Err(Rejected::OtherTransport(target.url.origin()));
        }
        if index >= MAX_TARGETS {
            return Err(Rejected::Full);
        }
        let target = Arc::new(target);
        state.by_label.insert(target.label.clone(), index);
        state.by_url.entry(target.url.normal().to_owned()).or_default().push(index);
        state.targets.push(Arc::clone(&target));
        drop(state);
        self.any.store(true, Ordering::Release);
        Ok(target)
    }

    /// The target of that label.
    pub fn by_label(&self, label: &str) -> Option<Arc<Target>> {
        let state = self.read();
        state.by_label.get(label).map(|index| Arc::clone(&state.targets[*index]))
    }

    /// The targets of exactly that URL, in the order of their registration; none where the URL may not
    /// be called at all.
    pub fn by_url(&self, url: &TargetUrl) -> Vec<Arc<Target>> {
        if !(url.is_https() || self.plaintext) || !url.has_plain_path() {
            return Vec::new();
        }
        let state = self.read();
        let indices = state.by_url.get(url.normal()).map(Vec::as_slice).unwrap_or_default();
        indices.iter().map(|index| Arc::clone(&state.targets[*index])).collect()
    }

    /// All targets in the order of their registration.
    pub fn targets(&self) -> Vec<Arc<Target>> {
        self.read().targets.clone()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().targets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        !self.is_routable()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The target that `new` asks for, if it may be one at all.
fn checked(new: NewTarget, plaintext: bool) -> Result<Target, Rejected> {
    if !is_label(&new.label) {
        return Err(Rejected::Label(new.label));
    }
    let url = match TargetUrl::parse(new.url.trim()) {
        Ok(url) => url,
        Err(why) => return Err(Rejected::Url(new.label, why)),
    };
    if !url.is_https() && !plaintext {
        return Err(Rejected::Plaintext(new.label));
    }
    if !url.has_plain_path() {
        return Err(Rejected::PathSegments(new.label));
    }
    if url.uri().is_none() {
        return Err(Rejected::Url(new.label, InvalidUrl::Malformed));
    }
    let plain = |text: &str| text.trim().to_lowercase();
    let (category, source) = match (plain(&new.category), plain(&new.source)) {
        (category, _) if !category.is_empty() => (category.clone(), category),
        (_, source) => (source.clone(), source),
    };
    let mut tags: Vec<String> = new.tags.iter().map(|tag| plain(tag)).filter(|tag| !tag.is_empty()).collect();
    order::sort(&mut tags);
    tags.dedup();
    Ok(Target {
        label: new.label,
        url,
        description: new.description.trim().to_owned(),
        category,
        source,
        tags,
        inclusion_reason: new.inclusion_reason,
        unix_socket: new.unix_socket,
    })
}

/// Whether `text` has the form of a label.
pub fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.len() <= MAX_LABEL_CHARS
        && text.bytes().next().is_some_and(inner)
        && text.bytes().all(|b| inner(b) || b == b'_' || b == b'-')
}

impl Target {
    /// Whether it has the tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|have| have == tag)
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("harpoon: ")?;
        match self {
            Rejected::Label(label) => {
                write!(f, "target label {label:?} must match ^[a-z0-9][a-z0-9_-]{{0,63}}$")
            }
            Rejected::Url(label, why) => write!(f, "target {label:?}: invalid base URL: {why}"),
            Rejected::Plaintext(label) => write!(
                f,
                "target {label:?}: base URL must use https; --harpoon.allow-plaintext-http accepts http"
            ),
            Rejected::PathSegments(label) => {
                write!(f, "target {label:?}: base URL contains invalid path segments")
            }
            Rejected::DuplicateLabel(label) => write!(f, "duplicate target label {label:?}"),
            Rejected::OtherTransport(origin) => {
                write!(f, "duplicate target url {origin:?} uses a different transport")
            }
            Rejected::Full => write!(f, "there are {MAX_TARGETS} targets already"),
        }
    }
}

impl std::error::Error for Rejected {}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(label: &str, url: &str) -> NewTarget {
        NewTarget { label: label.into(), url: url.into(), ..NewTarget::default() }
    }

    #[test]
    fn what_may_not_be_called_is_not_registered() {
        let registry = Registry::new(false);
        let register = |label: &str, url: &str| registry.register(target(label, url)).unwrap_err();
        assert!(matches!(register("Auth", "https://h"), Rejected::Label(_)));
        assert!(matches!(register("", "https://h"), Rejected::Label(_)));
        assert!(matches!(register("a", "/x"), Rejected::Url(..)));
        assert!(matches!(register("a", "http://h"), Rejected::Plaintext(_)));
        assert!(matches!(register("a", "https://h/%2e%2e/x"), Rejected::PathSegments(_)));
        assert!(registry.is_empty() && !registry.is_routable());

        assert!(registry.register(target("a", "https://h/x")).is_ok());
        assert!(registry.is_routable());
        assert_eq!(register("a", "https://h/y").to_string(), "harpoon: duplicate target label \"a\"");
        let over_socket = NewTarget { unix_socket: Some("/s".into()), ..target("b", "https://H/x") };
        assert_eq!(
            registry.register(over_socket).unwrap_err().to_string(),
            "harpoon: duplicate target url \"https://h\" uses a different transport"
        );
        assert!(registry.register(target("b", "https://H/x")).is_ok(), "several labels may share a URL");
        assert!(Registry::new(true).register(target("a", "http://h")).is_ok());
        assert!(matches!(Registry::new(true).register(target("a", "ftp://h")), Err(Rejected::Url(..))));
    }

    #[test]
    fn targets_are_found_by_their_exact_url_only() {
        let registry = Registry::new(false);
        registry.register(target("a", "https://H/m")).unwrap();
        registry.register(target("b", "https://h/m")).unwrap();
        let labels = |text: &str| -> Vec<String> {
            let url = TargetUrl::parse(text).unwrap();
            registry.by_url(&url).iter().map(|target| target.label.clone()).collect()
        };
        assert_eq!(labels("HTTPS://h/m"), ["a", "b"]);
        for other in ["http://h/m", "https://h/m/", "https://h:443/m", "https://h/m?", "https://u@h/m"] {
            assert!(labels(other).is_empty(), "{other}");
        }
    }

    #[test]
    fn attributes_are_kept_in_one_form() {
        let registry = Registry::new(false);
        let tags = ["B ", "a", "", "b"].map(str::to_owned).to_vec();
        let new = NewTarget { source: " OAuth ".into(), tags, ..target("a", " https://h/ ") };
        let found = registry.register(new).unwrap();
        assert_eq!((found.category.as_str(), found.source.as_str()), ("oauth", "oauth"));
        assert_eq!(found.tags, ["a", "b"]);
        let both = NewTarget { category: "X".into(), source: "y".into(), ..target("b", "https://h/b") };
        assert_eq!(registry.register(both).unwrap().source, "x", "the category counts for both");
    }

    #[test]
    fn there_are_only_so_many() {
        let registry = Registry::new(false);
        for n in 0..MAX_TARGETS {
            registry.register(target(&format!("t{n}"), "https://h/")).unwrap();
        }
        assert_eq!(registry.register(target("more", "https://h/")).unwrap_err(), Rejected::Full);
        assert_eq!(registry.len(), MAX_TARGETS);
    }
}
