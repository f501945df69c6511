//! The MCP server's protected-resource metadata, found as a running client would find them.

use std::time::Duration;

use crate::mcp::http::HttpBinding;
use crate::net::Deadline;
use crate::oauth::{self, Attempt, Budget, Report};
use crate::redact;

/// Time for each document.
const DOCUMENT_TIME: Duration = Duration::from_secs(2);
/// Time for everything.
const OVERALL_TIME: Duration = Duration::from_secs(5);

/// Why there is no usable document.
pub(super) struct Trouble {
    pub(super) summary: String,
    pub(super) evidence: Vec<String>,
}

/// Looks for the document; `Ok` says where it was, or that there is none anywhere.
pub(super) fn discover(binding: &HttpBinding) -> Result<String, Trouble> {
    let budget = Budget::new(Deadline::after(OVERALL_TIME), DOCUMENT_TIME);
    judge(&oauth::discover(binding, budget, false))
}

fn judge(report: &Report) -> Result<String, Trouble> {
    if let Some(selected) = report.selected() {
        return Ok(format!("HTTP {} from {}", selected.status, place(selected)));
    }
    if report.is_not_advertised() {
        return Ok("OAuth metadata not advertised; all candidates returned HTTP 404".to_owned());
    }
    let told: Vec<String> = report.attempts.iter().map(told).collect();
    let only_404 = report.attempts.iter().all(|attempt| attempt.status == 404);
    let summary = match told.last() {
        Some(last) if !only_404 => last.clone(),
        _ => "the server advertises OAuth metadata, but all candidates returned HTTP 404".to_owned(),
    };
    Err(Trouble { summary, evidence: told.into_iter().map(|line| format!("GET {line}")).collect() })
}

/// What became of an attempt.
fn told(attempt: &Attempt) -> String {
    let (place, error) = (place(attempt), attempt.error.as_deref().unwrap_or("not asked"));
    match attempt.status {
        0 => format!("{place}: {error}"),
        status if error.starts_with("bad status") => format!("HTTP {status} from {place}"),
        status => format!("HTTP {status} from {place}: {error}"),
    }
}

fn place(attempt: &Attempt) -> String {
    redact::snapshot(attempt.url.as_str())
}
