//! The paths of the admin API.

use std::sync::Arc;

use serde_json::Value;
use url::form_urlencoded;

use super::document::to_text;
use super::stream::Streams;
use super::{Admin, level, logs};
use crate::harpoon::MAX_CALLS;
use crate::ops::listener::{Module, Request, Response};

/// Content type of every document.
const JSON: &str = "application/json; charset=utf-8";

/// Paths of the assistant bridge of other clients; this one has none.
const ASSISTANT: [&str; 7] =
    ["status", "events", "events/stream", "login/device", "login/cancel", "thread/start", "turn/start"];

/// Answers the admin API. Access is for [`crate::ops::listener::Guarded`] to decide.
pub struct AdminRoutes {
    admin: Arc<Admin>,
    streams: Streams,
}

impl AdminRoutes {
    /// Answers with the documents of `admin`, and with `streams` event streams at most.
    pub fn new(admin: Arc<Admin>, streams: usize) -> AdminRoutes {
        AdminRoutes { admin, streams: Streams::new(streams) }
    }

    fn read(&self, path: &str, request: &Request<'_>) -> Option<Response> {
        let admin = &self.admin;
        let ring = admin.log().and_then(|log| log.ring());
        let document = match path {
            "status" => admin.status(),
            "system" => admin.system(),
            "oauth" => admin.oauth(),
            "harpoon/status" => admin.harpoon_status(),
            "harpoon/targets" => admin.harpoon_targets(),
            "harpoon/calls" => {
                let label = parameter(request, "label");
                let limit = parameter(request, "limit").parse::<i64>().ok().filter(|limit| *limit > 0);
                let limit = limit.map_or(MAX_CALLS, |limit| usize::try_from(limit).unwrap_or(MAX_CALLS));
                admin.harpoon_calls(Some(label.trim()).filter(|label| !label.is_empty()), limit)
            }
            "logs" => {
                let text = logs::document(ring.map(Arc::as_ref), &parameter(request, "limit"));
                return Some(json_text(text));
            }
            "logs/stream" => return Some(self.streams.answer(ring, request.headers.get("Last-Event-ID"))),
            _ => return None,
        };
        Some(json_response(&document))
    }
}

impl Module for AdminRoutes {
    fn answer(&self, request: &mut Request<'_>) -> Option<Response> {
        let path = request.path.clone();
        let path = path.strip_prefix("/api/")?;
        if path == "log-level" {
            return Some(level::answer(request, self.admin.log()));
        }
        if path.strip_prefix("codex/").is_some_and(|path| ASSISTANT.contains(&path)) {
            return Some(Response::error(503, "codex bridge unavailable"));
        }
        let is_read = request.is_read();
        let known = matches!(
            path,
            "status"
                | "system"
                | "oauth"
                | "harpoon/status"
                | "harpoon/targets"
                | "harpoon/calls"
                | "logs"
                | "logs/stream"
        );
        match (known, is_read) {
            (false, _) => None,
            (true, false) => Some(Response::method_not_allowed("GET, HEAD")),
            (true, true) => self.read(path, request),
        }
    }
}

/// A parameter of the query, decoded; empty without one.
fn parameter(request: &Request<'_>, name: &str) -> String {
    let mut parameters = form_urlencoded::parse(request.query.as_bytes());
    parameters.find(|(have, _)| have == name).map_or_else(String::new, |(_, value)| value.into_owned())
}

/// A document as answer.
pub(super) fn json_response(document: &Value) -> Response {
    json_text(to_text(document))
}

fn json_text(text: String) -> Response {
    let mut response = Response::text(200, text);
    response.headers = vec![("Content-Type", JSON.into())];
    response
}
