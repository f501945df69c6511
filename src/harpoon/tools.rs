//! The three tools.
//!
//! Invariant: neither a URL nor anything of one but its label or, where that is the purpose, the exact
//! token endpoint reaches a caller; every execution of `call_target` is counted once.

use std::time::{Instant, SystemTime};

use log::kv::Value;

use super::call::{self, Ask, Bounds, Progress, Reply, Trouble, Ways};
use super::history::{Call, History, Payload};
use super::registry::{Registry, Target};
use super::{OAUTH, Observer, UNKNOWN_LABEL, headers, rewrite, schema};
use crate::control_plane::event::List;
use crate::jsonrpc::json_string;
use crate::net::{Cancel, Deadline, base64};

/// A result of `tools/call`, or why there is none.
pub(super) enum Called {
    /// The members of the result, without its braces.
    Result(String),
    /// The arguments do not fit: a protocol error.
    Invalid(String),
    /// The deadline passed.
    Expired,
}

/// What the tools work with.
pub(super) struct Tools {
    pub(super) bounds: Bounds,
    pub(super) ways: Ways,
    pub(super) capture: bool,
    pub(super) registry: std::sync::Arc<Registry>,
    pub(super) history: std::sync::Arc<History>,
    pub(super) observer: std::sync::Arc<dyn Observer>,
}

impl Tools {
    /// Runs the tool `name`; `None` if there is none of that name.
    pub(super) fn call(
        &self,
        name: &str,
        arguments: &serde_json::Value,
        deadline: Deadline,
        cancel: &Cancel,
    ) -> Option<Called> {
        let called = match name {
            "list_targets" => schema::filter(arguments).map(|filter| succeeded(&self.list(&filter))),
            "get_oauth_target_audience" => schema::audience(arguments).map(|label| self.audience(&label)),
            "call_target" => schema::call_target(arguments, &self.bounds)
                .map(|ask| self.call_target(&ask, deadline, cancel)),
            _ => return None,
        };
        Some(called.unwrap_or_else(Called::Invalid))
    }

    fn list(&self, filter: &schema::Filter) -> String {
        let is_one_of = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
        let targets = self.registry.targets();
        let shown = targets.iter().filter(|target| {
            is_one_of(&filter.categories, &target.category)
                && is_one_of(&filter.sources, &target.source)
                && filter.tags.iter().all(|tag| target.has_tag(tag))
        });
        let shown: Vec<String> = shown
            .map(|target| {
                let mut json = format!(r#"{{"label":{}"#, json_string(&target.label));
                push_attributes(&mut json, target);
                json.push_str(r#","allowed_methods":["GET","POST","PUT"]}"#);
                json
            })
            .collect();
        format!(r#"{{"targets":[{}]}}"#, shown.join(","))
    }

    fn audience(&self, label: &str) -> Called {
        let refused = |why| failed(label, why);
        let Some(target) = self.registry.by_label(label) else { return refused("unknown target") };
        let is_token_endpoint = target.category == OAUTH
            && target.has_tag("auth-server-metadata")
            && target.has_tag("token-endpoint");
        if !is_token_endpoint {
            return refused("target is not an OAuth token endpoint");
        }
        if target.url.has_user_info() || target.url.has_fragment() {
            return refused("target URL cannot be used as an OAuth audience");
        }
        succeeded(&format!(r#"{{"audience":{}}}"#, json_string(target.url.spelled())))
    }

    fn call_target(&self, ask: &Ask, deadline: Deadline, cancel: &Cancel) -> Called {
        let start = Instant::now();
        let checked = match ask.checked(&self.registry, &self.bounds) {
            Ok(checked) => checked,
            Err(text) => {
                let known = self.registry.by_label(ask.label.trim());
                let label = known.as_ref().map_or(UNKNOWN_LABEL, |target| &target.label);
                self.observer.called(label, None, "invalid_input", start.elapsed(), 0);
                return failed(ask.label.trim(), &text);
            }
        };
        let target = &checked.target;
        let mut progress = Progress::of(target);
        let until = deadline.earliest(Deadline::after(checked.timeout));
        let road = (&*self.registry, &self.ways);
        let outcome = call::run(&checked, &ask.headers, road, until, cancel, &mut progress);
        log_dropped(target, &progress);

        let transformed = match &outcome {
            Ok(reply) => rewrite::body(&reply.body, &self.registry),
            Err(_) => None,
        };
        let (status, bytes, word) = match &outcome {
            Ok(reply) => (Some(reply.status), reply.body.len(), "success"),
            Err(trouble) => (trouble.status(), trouble.bytes(), trouble.outcome()),
        };
        let error = outcome.as_ref().err().map(Trouble::record);
        self.observer.called(&target.label, status, word, start.elapsed(), bytes as u64);
        log_end(target, &checked, &progress, (status, bytes, error.as_deref()), start);
        if let Err(Trouble::Blocked(blocked)) = &outcome {
            log_blocked(target, blocked);
        }
        self.history.push(Call {
            at: SystemTime::now(),
            label: target.label.clone(),
            url: super::views::without_credentials(progress.url.spelled()),
            method: checked.method,
            status: status.unwrap_or_default(),
            latency_ms: call::millis_since(start),
            response_content_type: progress.content_type.clone(),
            req_bytes: checked.body.len(),
            resp_bytes: bytes,
            error,
            payload: self.capture.then(|| Payload {
                request: checked.body.to_owned(),
                response: outcome.as_ref().map(|reply| reply.body.clone()).unwrap_or_default(),
                transformed: transformed.clone(),
            }),
        });
        match outcome {
            Ok(reply) => self.replied(reply, transformed),
            Err(trouble) if trouble.is_cut() && deadline.is_past() => Called::Expired,
            Err(trouble) => failed(&target.label, &trouble.text()),
        }
    }

    fn replied(&self, reply: Reply, transformed: Option<Vec<u8>>) -> Called {
        let mut fields = headers::received(&reply.headers);
        rewrite::headers(&mut fields, &self.registry);
        let is_transformed = transformed.is_some();
        let body = transformed.unwrap_or(reply.body);
        // What is returned counts, and what the headers say about it should be true as well.
        for (_, values) in fields.iter_mut().filter(|(name, _)| is_transformed && name == "Content-Length") {
            *values = vec![body.len().to_string()];
        }
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, values)| {
                let values: Vec<String> = values.iter().map(|value| json_string(value)).collect();
                format!("{}:[{}]", json_string(name), values.join(","))
            })
            .collect();
        let (status, fields, encoded) = (reply.status, fields.join(","), base64(&body));
        let (mut brief, size) = (format!(r#"{{"status_code":{status}"#), body.len());
        if !fields.is_empty() {
            brief.push_str(&format!(r#","headers":{{{fields}}}"#));
        }
        if !encoded.is_empty() {
            brief.push_str(&format!(r#","body_base64":"{encoded}""#));
        }
        brief.push_str(&format!(r#","body_size_bytes":{size}}}"#));
        let whole = format!(
            r#"{{"status_code":{status},"headers":{{{fields}}},"body_base64":"{encoded}","body_size_bytes":{size},"truncated":false}}"#
        );
        result(&brief, &whole)
    }
}

/// What a caller may know of a target besides its label.
fn push_attributes(json: &mut String, target: &Target) {
    let texts =
        [("description", &target.description), ("category", &target.category), ("source", &target.source)];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        json.push_str(&format!(r#","{name}":{}"#, json_string(text)));
    }
    if !target.tags.is_empty() {
        let tags: Vec<String> = target.tags.iter().map(|tag| json_string(tag)).collect();
        json.push_str(&format!(r#","tags":[{}]"#, tags.join(",")));
    }
}

fn succeeded(json: &str) -> Called {
    result(json, json)
}

/// A result whose text and structured content say the same.
fn result(text: &str, structured: &str) -> Called {
    let text = json_string(text);
    Called::Result(format!(r#""content":[{{"type":"text","text":{text}}}],"structuredContent":{structured}"#))
}

fn failed(label: &str, why: &str) -> Called {
    let label = if label.is_empty() { "unknown" } else { label };
    let text = json_string(&format!("label {label}: {why}"));
    Called::Result(format!(r#""content":[{{"type":"text","text":{text}}}],"isError":true"#))
}

fn log_dropped(target: &Target, progress: &Progress) {
    let dropped = &progress.dropped;
    if dropped.dropped == 0 {
        return;
    }
    let classes: Vec<&str> = dropped.classes.iter().copied().collect();
    log::info!(target: "harpoon", label = target.label.as_str(), target_label = target.label.as_str(),
        dropped_header_count = dropped.dropped,
        dropped_header_classifications:% = List(&classes); "headers dropped");
}

fn log_end(
    target: &Target,
    ask: &call::Checked<'_>,
    progress: &Progress,
    (status, bytes, error): (Option<u16>, usize, Option<&str>),
    start: Instant,
) {
    if !log::log_enabled!(target: "harpoon", log::Level::Info) {
        return;
    }
    let url = progress.url.origin();
    let mut fields: Vec<(&str, Value<'_>)> = vec![
        ("label", target.label.as_str().into()),
        ("target_label", target.label.as_str().into()),
        ("url", url.as_str().into()),
        ("method", ask.method.into()),
        ("latency_ms", call::millis_since(start).into()),
        ("request_bytes", ask.body.len().into()),
        ("status_code", status.unwrap_or_default().into()),
        ("response_bytes", bytes.into()),
    ];
    let media_type = progress.content_type.as_deref();
    fields.extend(media_type.map(|media_type| ("response_content_type", media_type.into())));
    fields.extend(error.map(|error| ("error", error.into())));
    let message = match error {
        None => "harpoon call completed",
        Some("response exceeds size limit") => "harpoon response too large",
        Some("response read failed") => "harpoon response read failed",
        Some(_) => "harpoon call failed",
    };
    write(&fields, message);
}

fn log_blocked(target: &Target, blocked: &super::redirect::Blocked) {
    let mut fields: Vec<(&str, Value<'_>)> = vec![
        ("label", target.label.as_str().into()),
        ("target_label", target.label.as_str().into()),
        ("redirect_url", blocked.origin.as_str().into()),
        ("redirect_reason", "redirect target not in allow list".into()),
        ("redirect_mismatch_kind", blocked.kind.into()),
    ];
    fields.extend(blocked.expected.as_deref().map(|url| ("redirect_expected_url", url.into())));
    if let Some((expected, actual)) = &blocked.schemes {
        fields.push(("redirect_expected_scheme", expected.as_str().into()));
        fields.push(("redirect_actual_scheme", actual.as_str().into()));
    }
    write(&fields, "harpoon redirect blocked");
}

fn write(fields: &[(&str, Value<'_>)], message: &str) {
    log::logger().log(
        &log::Record::builder()
            .level(log::Level::Info)
            .target("harpoon")
            .args(format_args!("{message}"))
            .key_values(&fields)
            .build(),
    );
}
