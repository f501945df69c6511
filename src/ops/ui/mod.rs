//! The web UI: one page of static files, part of the binary, which shows what the admin API tells.
//!
//! Invariant: the page asks this listener only, and holds neither inline script nor inline style, so that
//! the strictest content security policy fits it.

use std::borrow::Cow;

use super::listener::{Content, Module, Request, Response};

const SHELL: &str = include_str!("assets/index.html");
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// Names below `/assets/`, types and contents.
const ASSETS: &[(&str, &str, &str)] = &[
    ("styles.css", "text/css; charset=utf-8", include_str!("assets/styles.css")),
    ("app.js", JAVASCRIPT, include_str!("assets/app.js")),
    ("dom.js", JAVASCRIPT, include_str!("assets/dom.js")),
    ("metrics.js", JAVASCRIPT, include_str!("assets/metrics.js")),
    ("overview.js", JAVASCRIPT, include_str!("assets/overview.js")),
    ("panels.js", JAVASCRIPT, include_str!("assets/panels.js")),
    ("logs.js", JAVASCRIPT, include_str!("assets/logs.js")),
];

/// The page and its files. Access is for [`super::listener::Guarded`] to decide.
pub struct UiRoutes;

impl Module for UiRoutes {
    fn answer(&self, request: &mut Request<'_>) -> Option<Response> {
        let (media_type, text) = match request.path.as_str() {
            "/" | "/ui" | "/ui/" => ("text/html; charset=utf-8", SHELL),
            "/favicon.ico" => ("", ""),
            path => {
                let name = path.strip_prefix("/assets/")?;
                let (_, media_type, text) = ASSETS.iter().find(|(known, ..)| *known == name)?;
                (*media_type, *text)
            }
        };
        if !request.is_read() {
            return Some(Response::method_not_allowed("GET, HEAD"));
        }
        if media_type.is_empty() {
            let content = Content::Bytes(Cow::Borrowed(b""));
            return Some(Response { status: 204, headers: Vec::new(), content });
        }
        let mut response = Response::text(200, text);
        response.headers = vec![("Content-Type", media_type.into())];
        // A page of another version must not meet the scripts of this one.
        Some(
            response
                .with("Cache-Control", "no-store, max-age=0")
                .with("Pragma", "no-cache")
                .with("Expires", "0"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_no_other_host_and_holds_nothing_inline() {
        for (name, _, text) in ASSETS.iter().chain(&[("index.html", "", SHELL)]) {
            for wrong in ["http://", "https://", "<style", " style=", "innerHTML", "eval(", "onclick="] {
                assert!(!text.contains(wrong), "{name} holds {wrong}");
            }
        }
        assert_eq!(SHELL.matches("<script").count(), 1);
        assert!(SHELL.contains("<script type=\"module\" src=\"/assets/app.js\"></script>"));
    }

    #[test]
    fn every_file_that_a_script_imports_is_there_and_all_are_small() {
        for (name, _, text) in ASSETS {
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let file = line.rsplit('"').nth(1).unwrap().trim_start_matches("./");
                assert!(ASSETS.iter().any(|(known, ..)| *known == file), "{name}: {line}");
            }
        }
        let bytes: usize = ASSETS.iter().map(|(_, _, text)| text.len()).sum();
        assert!(bytes + SHELL.len() < 60 * 1024, "{bytes}");
    }
}
