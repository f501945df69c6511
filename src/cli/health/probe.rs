//! Requests to the client's listener.

use std::io::Read as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::format_duration;
use crate::net::{Cancel, Deadline, HeaderMap, HttpClient, Method, Request, Route, Trust, Uri, Via};

use super::locate::unix_socket;
use super::report::{Endpoint, Poll};

/// Time for each of /healthz and /readyz.
const ENDPOINT_TIME: Duration = Duration::from_millis(500);
/// Most bytes of their bodies that are kept.
const ENDPOINT_BYTES: u64 = 4096;
/// Time for /metrics.
const METRICS_TIME: Duration = Duration::from_secs(2);
/// Most bytes of it that are read.
const METRICS_BYTES: u64 = 16 * 1024 * 1024;
/// The gauge that holds when the last poll succeeded, in Unix seconds.
const LAST_POLL: &str = "commands_poll_last_successful_timestamp_seconds";

/// Asks one endpoint.
pub(super) fn endpoint(base: &str, path: &str) -> Endpoint {
    let url = format!("{base}{path}");
    match get(base, path, ENDPOINT_TIME, ENDPOINT_BYTES) {
        Ok((status, body)) => Endpoint {
            ok: (200..300).contains(&status),
            url,
            status,
            body: body.trim().to_owned(),
            error: String::new(),
        },
        Err(error) => Endpoint { url, error, ..Endpoint::default() },
    }
}

/// Reads from the metrics when the control plane was last polled with success.
pub(super) fn poll(base: &str, max_age: Option<Duration>) -> Poll {
    let mut poll = Poll { url: format!("{base}/metrics"), ..Poll::default() };
    match last_poll(base) {
        Err(error) => poll.error = error,
        Ok(value) if value > 0.0 => {
            poll.value = value;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let age = Duration::from_secs_f64((now.as_secs_f64() - value).clamp(0.0, 1e15).round());
            poll.age = Some(age);
            match max_age.filter(|limit| age > *limit) {
                None => poll.ok = true,
                Some(limit) => {
                    poll.error = format!(
                        "the last successful control-plane poll is {} old, more than {}",
                        format_duration(age),
                        format_duration(limit)
                    );
                }
            }
        }
        Ok(_) => poll.error = "no successful control-plane poll observed".to_owned(),
    }
    poll
}

fn last_poll(base: &str) -> Result<f64, String> {
    let (status, body) = get(base, "/metrics", METRICS_TIME, METRICS_BYTES)?;
    if status != 200 {
        return Err(crate::net::status_line(status));
    }
    let line = body
        .lines()
        .find(|line| line.strip_prefix(LAST_POLL).is_some_and(|rest| rest.starts_with([' ', '{'])));
    let line = line.ok_or_else(|| format!("missing {LAST_POLL} metric"))?;
    let value = line.split_whitespace().next_back().unwrap_or_default();
    value
        .parse::<f64>()
        .ok()
        .filter(|value| value.is_finite())
        .ok_or_else(|| format!("{LAST_POLL} is {value:?}, not a number"))
}

fn get(base: &str, path: &str, time: Duration, limit: u64) -> Result<(u16, String), String> {
    // Never through a proxy: this is about a listener on this machine or one that was named.
    let (via, url) = match unix_socket(base) {
        Some(socket) => (Via::Unix(socket?), format!("http://localhost{path}")),
        None => (Via::Direct, format!("{base}{path}")),
    };
    let uri: Uri = url.parse().map_err(|_| format!("{url} is no URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("{url} is neither an http, https nor http+unix URL"));
    }
    let client = HttpClient::new(&Route::new(via, Trust::system()), &Cancel::new());
    let request = Request {
        method: Method::GET,
        uri: &uri,
        headers: HeaderMap::new(),
        body: None,
        deadline: Deadline::after(time),
    };
    let response = client.send(request).map_err(|error| error.to_string())?;
    let mut body = Vec::new();
    response.body.take(limit).read_to_end(&mut body).map_err(|error| error.to_string())?;
    Ok((response.status, String::from_utf8_lossy(&body).into_owned()))
}
