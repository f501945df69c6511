//! What is known about discovery, for the operator.
//!
//! Invariant: no user info of a URL, no credential header and no long body is shown.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::{Map, Value};
use url::Url;

use super::bundle::Registration;
use super::places::{Source, of_resource};
use super::report::{Report, Server, ServerAttempt};
use crate::net::HeaderList;
use crate::redact;

/// Longest document that is kept, in bytes.
const KEPT_BYTES: usize = 64 * 1024;

const MODE: &str = "authorization_servers[0] only (source of truth)";

/// What is known about discovery; shared by whoever discovers and whoever shows it.
pub struct Status {
    /// The places that are known without asking.
    places: Vec<String>,
    known: Mutex<Known>,
}

#[derive(Clone)]
enum Known {
    Pending,
    /// The main channel is not polled.
    Unused,
    /// There is nothing to discover, and why.
    Disabled(String),
    Done(Arc<(Report, Registration)>),
}

/// What a discovery came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conclusion {
    /// There is a document, or none is needed.
    Found,
    /// The server advertises nothing, and how that shows.
    NotAdvertised(String),
    /// Nobody knows, and why.
    Failed(String),
}

impl Conclusion {
    pub(super) fn of(report: &Report) -> Conclusion {
        match report.error() {
            None => Conclusion::Found,
            Some(error) if report.is_not_advertised() => Conclusion::NotAdvertised(error),
            Some(error) => Conclusion::Failed(error),
        }
    }
}

impl Status {
    /// A discovery of the server at `endpoint` that has not finished.
    pub fn pending(endpoint: &Url) -> Status {
        let places = of_resource(endpoint, None).iter().map(|place| shown(&place.url)).collect();
        Status { places, known: Mutex::new(Known::Pending) }
    }

    /// No discovery, since no commands of the main channel are polled.
    pub fn unused() -> Status {
        Status { places: Vec::new(), known: Mutex::new(Known::Unused) }
    }

    /// No discovery, since a server over `transport` has no metadata.
    pub fn disabled(transport: &str) -> Status {
        let error = format!("oauth discovery disabled for transport \"{transport}\"");
        Status { places: Vec::new(), known: Mutex::new(Known::Disabled(error)) }
    }

    pub(super) fn set(&self, mut report: Report, registration: Registration) {
        if let Some(found) = report.found.as_mut().filter(|found| found.json.len() > KEPT_BYTES) {
            found.json = String::new();
        }
        *self.lock() = Known::Done(Arc::new((report, registration)));
    }

    /// What discovery came to; `None` while it runs for the first time.
    pub fn conclusion(&self) -> Option<Conclusion> {
        match self.known() {
            Known::Pending => None,
            Known::Unused => Some(Conclusion::Found),
            Known::Disabled(error) => Some(Conclusion::NotAdvertised(error)),
            Known::Done(done) => Some(Conclusion::of(&done.0)),
        }
    }

    /// Everything, as the local API shows it. `time` spells a moment.
    pub fn to_json(&self, time: &dyn Fn(SystemTime) -> String) -> Value {
        let known = self.known();
        let mut view = Map::new();
        view.insert("auth_server_metadata_mode".into(), MODE.into());
        let mut servers = 0;
        let mut places = self.places.clone();
        match &known {
            Known::Pending => {
                view.insert("pending".into(), true.into());
            }
            Known::Unused => {}
            Known::Disabled(_) => {
                view.insert("metadata_source".into(), "not_advertised".into());
            }
            Known::Done(done) => {
                let (report, registration) = &**done;
                places = report.attempts.iter().map(|attempt| shown(&attempt.url)).collect();
                view.insert("metadata".into(), metadata(report, time));
                view.insert("www_authenticate_probe".into(), probe(report));
                match Conclusion::of(report) {
                    Conclusion::Found => {
                        let by_challenge =
                            report.selected().is_some_and(|selected| selected.source == Source::Challenge);
                        let source = if by_challenge { "www_authenticate" } else { "well_known" };
                        view.insert("metadata_source".into(), source.into());
                        view.insert("registration".into(), registered(registration));
                    }
                    Conclusion::NotAdvertised(_) => {
                        view.insert("metadata_source".into(), "not_advertised".into());
                    }
                    Conclusion::Failed(error) => {
                        view.insert("error".into(), error.into());
                    }
                }
                if let Some(found) = &report.found {
                    servers = found.metadata.authorization_servers.len();
                    if let Some(first) = found.metadata.authorization_servers.first() {
                        view.insert("selected_authorization_server".into(), masked(first).into());
                    }
                }
            }
        }
        view.insert("authorization_server_count".into(), servers.into());
        if !places.is_empty() {
            view.insert("discovery_urls".into(), places.into());
        }
        view.into()
    }

    fn known(&self) -> Known {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn metadata(report: &Report, time: &dyn Fn(SystemTime) -> String) -> Value {
    let mut view = Map::new();
    view.insert("fetched_at".into(), time(report.started).into());
    if let (Some(found), Some(selected)) = (&report.found, report.selected()) {
        view.insert("url".into(), shown(&selected.url).into());
        view.insert("status_code".into(), selected.status.into());
        view.insert("headers".into(), headers(&found.headers));
        add_body(&mut view, &found.json);
    }
    let attempts = report.attempts.iter().map(|attempt| {
        let mut view = Map::new();
        view.insert("url".into(), shown(&attempt.url).into());
        view.insert("source".into(), attempt.source.label().into());
        add_flag(&mut view, "tried", attempt.tried);
        add_flag(&mut view, "selected", attempt.selected);
        add_status(&mut view, attempt.status);
        add_some(&mut view, "error", attempt.error.as_deref());
        Value::from(view)
    });
    view.insert("attempts".into(), attempts.collect());
    if let Some(found) = &report.server {
        view.insert("auth_server_metadata".into(), server(found));
    }
    view.into()
}

fn server(server: &Server) -> Value {
    let mut view = Map::new();
    view.insert("issuer_url".into(), masked(&server.issuer).into());
    let selected = server.metadata.as_ref().map(|(at, _)| *at);
    if let Some(attempt) = selected.and_then(|at| server.attempts.get(at)) {
        view.insert("selected_url".into(), masked(&attempt.place.text).into());
    }
    let attempts = server.attempts.iter().enumerate();
    let attempts =
        attempts.map(|(at, attempt)| server_attempt(attempt, Some(at) == selected, &server.issuer));
    view.insert("attempts".into(), attempts.collect());
    view.into()
}

fn server_attempt(attempt: &ServerAttempt, selected: bool, issuer: &str) -> Value {
    let mut view = Map::new();
    view.insert("url".into(), masked(&attempt.place.text).into());
    view.insert("document".into(), attempt.place.document.into());
    view.insert("path_style".into(), attempt.place.path_style.into());
    view.insert("tried".into(), true.into());
    add_flag(&mut view, "selected", selected);
    add_status(&mut view, attempt.status);
    add_some(&mut view, "error", attempt.error.as_deref());
    if let Some(named) = &attempt.mismatch {
        view.insert("issuer_mismatch".into(), true.into());
        view.insert("warning".into(), "the metadata name another issuer".into());
        view.insert("expected_issuer_url".into(), masked(issuer).into());
        let named = masked(named);
        add_some(&mut view, "metadata_issuer", Some(named.as_str()).filter(|named| !named.is_empty()));
    }
    if attempt.status != 0 {
        view.insert("headers".into(), headers(&attempt.headers));
    }
    if let Some(body) = &attempt.body {
        add_body(&mut view, body);
    }
    view.into()
}

fn probe(report: &Report) -> Value {
    let mut view = Map::new();
    view.insert("attempted".into(), true.into());
    add_some(&mut view, "url", report.challenge.advertised.as_ref().map(shown).as_deref());
    add_some(&mut view, "error", report.challenge.error.as_deref());
    view.into()
}

fn registered(registration: &Registration) -> Value {
    let mut view = Map::new();
    view.insert("admitted".into(), registration.admitted.into());
    if !registration.refusals.is_empty() {
        view.insert("refusals".into(), registration.refusals.clone().into());
    }
    view.into()
}

fn headers(list: &HeaderList) -> Value {
    let mut view: Map<String, Value> = Map::new();
    for (name, value) in list.iter() {
        let hidden = redact::is_sensitive_key(name);
        let value = if hidden { redact::REDACTED.to_owned() } else { redact::text(value).into_owned() };
        let values = view.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(values) = values {
            values.push(value.into());
        }
    }
    view.into()
}

fn add_body(view: &mut Map<String, Value>, body: &str) {
    if body.is_empty() {
        return;
    }
    match serde_json::from_str::<Value>(body) {
        Ok(mut json) => {
            mask_strings(&mut json);
            view.insert("body".into(), json);
        }
        Err(_) => {
            view.insert("body_text".into(), redact::text(body).into());
        }
    }
}

fn add_flag(view: &mut Map<String, Value>, name: &str, set: bool) {
    if set {
        view.insert(name.into(), true.into());
    }
}

fn add_status(view: &mut Map<String, Value>, status: u16) {
    if status != 0 {
        view.insert("status_code".into(), status.into());
    }
}

fn add_some(view: &mut Map<String, Value>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        view.insert(name.into(), text.into());
    }
}

fn shown(url: &Url) -> String {
    masked(url.as_str())
}

/// A URL without its user info; anything else as it is.
fn masked(text: &str) -> String {
    let Some(start) = text.find("://").map(|at| at + 3) else { return text.to_owned() };
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    match text[start..end].rfind('@') {
        Some(at) => format!("{}{}", &text[..start], &text[start + at + 1..]),
        None => text.to_owned(),
    }
}

fn mask_strings(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('@') => *text = masked(text),
        Value::Array(items) => items.iter_mut().for_each(mask_strings),
        Value::Object(members) => members.iter_mut().for_each(|(_, member)| mask_strings(member)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(status: &Status) -> Value {
        status.to_json(&|_| "now".to_owned())
    }

    #[test]
    fn what_never_runs_has_little_to_show() {
        let pending = view(&Status::pending(&Url::parse("https://u:p@h/mcp?q").unwrap()));
        assert_eq!(
            pending,
            serde_json::json!({
                "pending": true,
                "discovery_urls": [
                    "https://h/.well-known/oauth-protected-resource/mcp",
                    "https://h/.well-known/oauth-protected-resource"
                ],
                "auth_server_metadata_mode": MODE,
                "authorization_server_count": 0
            })
        );
        let disabled = Status::disabled("stdio");
        assert_eq!(view(&disabled)["metadata_source"], "not_advertised");
        assert_eq!(view(&disabled)["error"], Value::Null);
        let error = "oauth discovery disabled for transport \"stdio\"".to_owned();
        assert_eq!(disabled.conclusion(), Some(Conclusion::NotAdvertised(error)));
        assert_eq!(view(&Status::unused()).as_object().unwrap().len(), 2);
    }

    #[test]
    fn user_info_is_masked_wherever_it_stands() {
        for (text, shown) in [
            ("https://u:p@h/a@b", "https://h/a@b"),
            ("https://u@x@h", "https://h"),
            ("https://h/a?b", "https://h/a?b"),
            ("mail@example", "mail@example"),
        ] {
            assert_eq!(masked(text), shown);
        }
        let mut body = serde_json::json!({"a": ["https://u:p@h/x"], "b": 1});
        mask_strings(&mut body);
        assert_eq!(body, serde_json::json!({"a": ["https://h/x"], "b": 1}));
    }
}
