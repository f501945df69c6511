//! Where metadata documents may be.

use url::Url;

use crate::mcp::http::{resource_metadata_urls, same_origin};

/// Authorization servers publish the one (RFC 8414 §3), the other (OpenID Connect Discovery §4), or both.
const DOCUMENTS: [&str; 2] = ["oauth-authorization-server", "openid-configuration"];

/// A place of the resource's document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResourcePlace {
    pub(super) url: Url,
    pub(super) source: Source,
}

/// Why a place is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The server's challenge names it.
    Challenge,
    /// The well-known place for the endpoint's path.
    WellKnownPath,
    /// The well-known place for the whole origin.
    WellKnownRoot,
}

impl Source {
    /// Its name in the status.
    pub fn label(self) -> &'static str {
        match self {
            Source::Challenge => "www_authenticate",
            Source::WellKnownPath => "well_known_path",
            Source::WellKnownRoot => "well_known_root",
        }
    }
}

/// The places of the resource's document in the order in which they are asked, each once.
pub(super) fn of_resource(endpoint: &Url, advertised: Option<&Url>) -> Vec<ResourcePlace> {
    let mut known = resource_metadata_urls(endpoint);
    let root = known.pop();
    let tagged = |source| move |url| ResourcePlace { url, source };
    let mut places: Vec<ResourcePlace> = Vec::with_capacity(3);
    let all = advertised
        .cloned()
        .map(tagged(Source::Challenge))
        .into_iter()
        .chain(known.into_iter().map(tagged(Source::WellKnownPath)))
        .chain(root.map(tagged(Source::WellKnownRoot)));
    for place in all {
        if places.iter().all(|have| have.url != place.url) {
            places.push(place);
        }
    }
    places
}

/// A place of an authorization server's document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerPlace {
    /// As it is built: the issuer's spelling is kept.
    pub(super) text: String,
    pub(super) url: Url,
    pub(super) document: &'static str,
    /// `prepend` or `append`.
    pub(super) path_style: &'static str,
}

/// An issuer, cut where well-known paths are inserted.
#[derive(Clone, Debug)]
pub(super) struct Issuer {
    url: Url,
    /// Scheme and authority.
    start: String,
    path: String,
    /// Query and fragment.
    end: String,
}

impl Issuer {
    /// `None` unless `text` is an absolute `http` or `https` URL with a host.
    pub(super) fn of(text: &str) -> Option<Issuer> {
        let url = Url::parse(text).ok().filter(is_callable)?;
        let authority = text.find("://")? + 3;
        let path = text[authority..].find(['/', '?', '#']).map_or(text.len(), |at| authority + at);
        let end = text[path..].find(['?', '#']).map_or(text.len(), |at| path + at);
        Some(Issuer {
            url,
            start: text[..path].to_owned(),
            path: text[path..end].to_owned(),
            end: text[end..].to_owned(),
        })
    }

    /// Its URL.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The places of its document in the order in which they are asked, each once.
    pub(super) fn places(&self) -> Vec<ServerPlace> {
        let append_first = !self.path.trim_matches('/').is_empty();
        let styles = if append_first { ["append", "prepend"] } else { ["prepend", "append"] };
        let mut places: Vec<ServerPlace> = Vec::with_capacity(4);
        for document in DOCUMENTS {
            for path_style in styles {
                let path = match path_style {
                    "prepend" => format!("/.well-known/{document}{}", self.path),
                    _ => format!("{}/.well-known/{document}", self.path.trim_end_matches('/')),
                };
                let text = format!("{}{path}{}", self.start, self.end);
                let known = places.iter().any(|have| have.text == text);
                if let (false, Ok(url)) = (known, Url::parse(&text)) {
                    places.push(ServerPlace { text, url, document, path_style });
                }
            }
        }
        places
    }

    /// Whether `url` is on its origin and at or below its path, or a place of its document.
    pub(super) fn covers(&self, url: &Url) -> bool {
        let (path, own) = (url.path(), self.url.path().trim_end_matches('/'));
        let below = path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let is_place = || self.places().iter().any(|place| place.url.path() == path);
        same_origin(&self.url, url) && (below || is_place())
    }
}

/// Whether a URL can be asked at all.
pub(super) fn is_callable(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

/// The URL of `text`, if whoever parses it finds the same scheme, host and port there. Parsers differ on
/// backslashes, missing slashes, white space and hosts that are no plain ASCII.
pub(super) fn unambiguous(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let plain = text.bytes().all(|b| b > b' ' && b != b'\\' && b != 0x7f)
        && authority.is_ascii()
        && !authority.contains('%');
    let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    Url::parse(text).ok().filter(|url| plain && http && !authority.is_empty() && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advertised_place_comes_first_and_no_place_twice() {
        let endpoint = Url::parse("https://h/public/mcp").unwrap();
        let path = "https://h/.well-known/oauth-protected-resource/public/mcp";
        let root = "https://h/.well-known/oauth-protected-resource";
        for (advertised, expected) in [
            (None, &[("well_known_path", path), ("well_known_root", root)][..]),
            (Some(path), &[("www_authenticate", path), ("well_known_root", root)]),
            (Some(root), &[("www_authenticate", root), ("well_known_path", path)]),
            (
                Some("https://other/x?y"),
                &[
                    ("www_authenticate", "https://other/x?y"),
                    ("well_known_path", path),
                    ("well_known_root", root),
                ],
            ),
        ] {
            let advertised = advertised.map(|text| Url::parse(text).unwrap());
            let places = of_resource(&endpoint, advertised.as_ref());
            let found: Vec<_> =
                places.iter().map(|place| (place.source.label(), place.url.as_str())).collect();
            assert_eq!(found, expected, "{advertised:?}");
        }
        let bare = of_resource(&Url::parse("https://h").unwrap(), None);
        assert_eq!(bare.iter().map(|place| place.source).collect::<Vec<_>>(), [Source::WellKnownRoot]);
    }

    #[test]
    fn an_issuers_documents_are_before_and_behind_its_path() {
        let (oauth, openid) = (".well-known/oauth-authorization-server", ".well-known/openid-configuration");
        for (issuer, expected) in [
            ("https://i", vec![format!("prepend https://i/{oauth}"), format!("prepend https://i/{openid}")]),
            (
                "https://i/",
                vec![
                    format!("prepend https://i/{oauth}/"),
                    format!("append https://i/{oauth}"),
                    format!("prepend https://i/{openid}/"),
                    format!("append https://i/{openid}"),
                ],
            ),
            (
                "https://i/t/v2",
                vec![
                    format!("append https://i/t/v2/{oauth}"),
                    format!("prepend https://i/{oauth}/t/v2"),
                    format!("append https://i/t/v2/{openid}"),
                    format!("prepend https://i/{openid}/t/v2"),
                ],
            ),
            (
                "HTTPS://u@I:8/t/?q#f",
                vec![
                    format!("append HTTPS://u@I:8/t/{oauth}?q#f"),
                    format!("prepend HTTPS://u@I:8/{oauth}/t/?q#f"),
                    format!("append HTTPS://u@I:8/t/{openid}?q#f"),
                    format!("prepend HTTPS://u@I:8/{openid}/t/?q#f"),
                ],
            ),
        ] {
            let places = Issuer::of(issuer).unwrap().places();
            let found: Vec<_> =
                places.iter().map(|place| format!("{} {}", place.path_style, place.text)).collect();
            assert_eq!(found, expected, "{issuer}");
        }
        for nothing in ["", "as.example", "/path", "ftp://h/", "urn:x", "https://"] {
            assert!(Issuer::of(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn an_issuer_covers_what_is_at_its_path_and_its_documents() {
        let issuer = Issuer::of("https://i/t").unwrap();
        for (url, covered) in [
            ("https://i/t", true),
            ("https://i/t/token", true),
            ("https://i/.well-known/openid-configuration/t", true),
            ("https://i/other", false),
            ("https://i/tt", false),
            ("http://i/t", false),
            ("https://j/t", false),
        ] {
            assert_eq!(issuer.covers(&Url::parse(url).unwrap()), covered, "{url}");
        }
        assert!(Issuer::of("https://i").unwrap().covers(&Url::parse("https://i/anything").unwrap()));
    }

    #[test]
    fn what_parsers_could_read_differently_is_no_url() {
        for good in ["https://h/a%20b?c=d#e", "HTTP://u:p@H:80", "https://[::1]:8443/x", "http://127.0.0.1/ü"]
        {
            assert!(unambiguous(good).is_some(), "{good}");
        }
        for bad in [
            "https://own\\@evil/",
            "https://own\t.example/",
            "https:own/x",
            "https:///own/x",
            "https://%6fwn/",
            "https://öwn/",
            "ftp://h/",
            "https://",
            " https://h/",
            "",
        ] {
            assert!(unambiguous(bad).is_none(), "{bad}");
        }
    }
}
