//! The metrics that dashboards read, recorded by typed calls and shown as Prometheus text.
//!
//! Recording takes one short lock of one family and allocates only for a set of labels that was never
//! seen. Counters and histograms appear with their first observation, gauges at once.

mod asked;
mod events;
mod exposition;
mod family;
mod process;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use self::asked::{Child, Server};
use self::family::{Bounds, Family, Histogram, own, remote};

pub use self::asked::{ChildReport, ProtocolReport};
pub use self::events::{Answered, PollEnd, ProxyCheck};

use crate::net::HttpExchange;

/// Milliseconds and bytes.
struct Coarse;
impl Bounds for Coarse {
    const BOUNDS: &'static [f64] = &[
        0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0,
    ];
}

/// Seconds: the coarse bounds, for dashboards that name them, and finer ones that suit the unit.
struct Seconds;
impl Bounds for Seconds {
    const BOUNDS: &'static [f64] = &[
        0.0, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 25.0, 30.0, 50.0,
        60.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0,
    ];
}

/// Seconds of one HTTP request.
struct RequestSeconds;
impl Bounds for RequestSeconds {
    const BOUNDS: &'static [f64] =
        &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
}

type Length = Box<dyn Fn() -> usize + Send + Sync>;

/// All metrics of this process.
pub struct Metrics {
    target: BTreeMap<String, String>,
    scrapes: AtomicU64,
    scraping: AtomicI64,
    polled: Family<u64, 0>,
    enqueued: Family<u64, 0>,
    poll_cycles: Family<u64, 0>,
    poll_latency: Family<Histogram<Seconds>, 1>,
    poll_errors: Family<u64, 1>,
    drops: Family<u64, 1>,
    age: Family<Histogram<Seconds>, 0>,
    posts: Family<u64, 2>,
    refused: Family<u64, 1>,
    last_poll: AtomicU64,
    queue: OnceLock<(usize, Length)>,
    workers: AtomicU64,
    busy: AtomicI64,
    end_to_end: Family<Histogram<Coarse>, 6>,
    unsupported: Family<u64, 3>,
    harpoon_calls: Family<u64, 3>,
    harpoon_latency: Family<Histogram<Coarse>, 3>,
    harpoon_size: Family<Histogram<Coarse>, 3>,
    proxy_state: Family<f64, 1>,
    proxy_checked: Family<f64, 1>,
    proxy_succeeded: Family<f64, 1>,
    proxy_phases: Family<Histogram<Seconds>, 2>,
    proxy_failures: Family<u64, 3>,
    http: Family<HttpSeries, 8>,
    children: Mutex<Vec<Child>>,
    servers: Mutex<Vec<Server>>,
    server_era: Family<f64, 2>,
    era_probes: Family<u64, 3>,
    handshakes: Family<u64, 3>,
    bridge_messages: Family<u64, 3>,
    bridge_sessions: Family<f64, 1>,
    child_up: Family<f64, 1>,
    child_restarts: Family<u64, 2>,
    refused_requests: Family<u64, 2>,
}

/// Two metrics under one look-up: they have the same labels, and each call of a tool makes two requests.
#[derive(Default)]
struct HttpSeries {
    duration: Histogram<RequestSeconds>,
    size: Histogram<Coarse>,
}

const HTTP_LABELS: [family::Label; 8] = [
    remote("http_route"),
    own("http_request_method"),
    remote("server_address"),
    remote("server_port"),
    own("url_scheme"),
    own("network_protocol_name"),
    own("network_protocol_version"),
    own("http_response_status_code"),
];
const HARPOON_LABELS: [family::Label; 3] = [own("label"), own("status_class"), own("outcome")];

impl Metrics {
    /// Nothing recorded yet.
    pub fn new() -> Metrics {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let executable = std::env::current_exe().ok();
        let executable = executable.as_ref().and_then(|path| path.file_name()).unwrap_or_default();
        Metrics {
            target: process::target_labels(
                &executable.to_string_lossy(),
                &variable("OTEL_RESOURCE_ATTRIBUTES"),
                &variable("OTEL_SERVICE_NAME"),
            ),
            scrapes: AtomicU64::new(0),
            scraping: AtomicI64::new(0),
            polled: Family::new([]),
            enqueued: Family::new([]),
            poll_cycles: Family::new([]),
            poll_latency: Family::new([own("error")]),
            poll_errors: Family::new([own("error_kind")]),
            drops: Family::new([own("drop_reason")]),
            age: Family::new([]),
            posts: Family::new([own("resp_type"), own("result")]),
            refused: Family::new([own("reason")]),
            last_poll: AtomicU64::new(0),
            queue: OnceLock::new(),
            workers: AtomicU64::new(0),
            busy: AtomicI64::new(0),
            end_to_end: Family::new([
                own("latency_type"),
                own("request_kind"),
                remote("request_method"),
                remote("channel"),
                own("tunnel_id"),
                own("tunnel_service_status"),
            ]),
            unsupported: Family::new([own("tunnel_id"), remote("channel"), own("command_type")]),
            harpoon_calls: Family::new(HARPOON_LABELS),
            harpoon_latency: Family::new(HARPOON_LABELS),
            harpoon_size: Family::new(HARPOON_LABELS),
            proxy_state: Family::new([own("proxy_id")]),
            proxy_checked: Family::new([own("proxy_id")]),
            proxy_succeeded: Family::new([own("proxy_id")]),
            proxy_phases: Family::new([own("proxy_id"), own("phase")]),
            proxy_failures: Family::new([own("proxy_id"), own("phase"), own("reason")]),
            http: Family::new(HTTP_LABELS),
            children: Mutex::default(),
            servers: Mutex::default(),
            server_era: Family::new([own("channel"), own("era")]),
            era_probes: Family::new([own("channel"), own("method"), own("result")]),
            handshakes: Family::new([own("channel"), own("trigger"), own("result")]),
            bridge_messages: Family::new([own("channel"), own("direction"), own("outcome")]),
            bridge_sessions: Family::new([own("channel")]),
            child_up: Family::new([own("channel")]),
            child_restarts: Family::new([own("channel"), own("reason")]),
            refused_requests: Family::new([own("channel"), own("method")]),
        }
    }

    /// A poll starts.
    pub fn poll_started(&self) {
        self.poll_cycles.record([], |count| *count += 1);
    }

    /// A poll has ended after `latency`.
    pub fn poll_finished(&self, latency: Duration, end: PollEnd) {
        let error = if end == PollEnd::Success { "false" } else { "true" };
        self.poll_latency.record([error], |histogram| histogram.observe(latency.as_secs_f64()));
        let kind = match end {
            PollEnd::Success => {
                self.last_poll.store(unix_seconds(), Relaxed);
                return;
            }
            PollEnd::Stopped => return,
            PollEnd::TimedOut => "timeout",
            PollEnd::Failed => "other",
        };
        self.poll_errors.record([kind], |count| *count += 1);
    }

    /// What became of one poll's commands.
    pub fn commands_received(&self, polled: usize, enqueued: usize) {
        if polled > 0 {
            self.polled.record([], |count| *count += polled as u64);
        }
        if enqueued > 0 {
            self.enqueued.record([], |count| *count += enqueued as u64);
        }
    }

    /// Commands that were received and not queued: `context_canceled`, `invalid_command_type`, or
    /// another word for why.
    pub fn commands_dropped(&self, reason: &'static str, count: usize) {
        if count > 0 {
            self.drops.record([reason], |drops| *drops += count as u64);
        }
    }

    /// How long a command had waited at the control plane when its poll was answered.
    pub fn command_age(&self, age: Duration) {
        self.age.record([], |histogram| histogram.observe(age.as_secs_f64()));
    }

    /// How the posting of a response of this wire type ended: `delivered`, `gone`, `rejected`,
    /// `exhausted`, `expired` or `cancelled`.
    pub fn response_posted(&self, resp_type: &'static str, result: &'static str) {
        self.posts.record([resp_type, result], |count| *count += 1);
    }

    /// A polled command was malformed or unsupported.
    pub fn command_refused(&self, reason: &'static str) {
        self.refused.record([reason], |count| *count += 1);
    }

    /// Capacity of the command queue and how to ask for its length. Only the first call counts.
    pub fn watch_queue(&self, capacity: usize, length: impl Fn() -> usize + Send + Sync + 'static) {
        let _ = self.queue.set((capacity, Box::new(length)));
    }

    /// Number of workers.
    pub fn set_workers(&self, capacity: usize) {
        self.workers.store(capacity as u64, Relaxed);
    }

    /// A worker has taken a command.
    pub fn worker_started(&self) {
        self.busy.fetch_add(1, Relaxed);
    }

    /// A worker is done with a command.
    pub fn worker_finished(&self) {
        self.busy.fetch_sub(1, Relaxed);
    }

    /// Workers that are busy now.
    pub fn busy_workers(&self) -> usize {
        usize::try_from(self.busy.load(Relaxed)).unwrap_or(0)
    }

    /// A command's terminal response was delivered.
    pub fn command_answered(&self, answered: &Answered<'_>) {
        let mut digits = [0; 5];
        let status = decimal(answered.status, &mut digits);
        let method = answered.method.unwrap_or_default();
        let record = |latency_type: &str, latency: Duration| {
            let labels = [latency_type, answered.kind, method, answered.channel, answered.tunnel_id, status];
            self.end_to_end.record(labels, |histogram| histogram.observe(latency.as_millis() as f64));
        };
        if let Some(latency) = answered.since_created {
            record("enqueue_to_response", latency);
        }
        record("poll_to_response", answered.since_received);
    }

    /// A command was rejected because its channel is unknown or cannot carry it; `command_type` is
    /// `jsonrpc`, `oauth_discovery`, `session_termination` or `unknown`.
    pub fn unsupported_channel(&self, tunnel_id: &str, channel: &str, command_type: &'static str) {
        self.unsupported.record([tunnel_id, channel, command_type], |count| *count += 1);
    }

    /// An outbound HTTP request got its response's head, or failed.
    pub fn http_request(&self, request: &HttpExchange<'_>) {
        let (mut port_digits, mut status_digits) = ([0; 5], [0; 5]);
        let route = if request.route.is_empty() { "/" } else { request.route };
        let labels = [
            route,
            known_method(request.method),
            request.host,
            request.port.map_or("", |port| decimal(port, &mut port_digits)),
            request.scheme,
            "http",
            "1.1",
            request.status.map_or("", |status| decimal(status, &mut status_digits)),
        ];
        self.http.record(labels, |series| {
            series.duration.observe(request.duration.as_secs_f64());
            series.size.observe(request.body_bytes as f64);
        });
    }

    /// A call of an allow-listed target. `label` must be a registered one or `__unknown__`.
    pub fn harpoon_call(
        &self,
        label: &str,
        status: Option<u16>,
        outcome: &'static str,
        latency: Duration,
        response_bytes: u64,
    ) {
        let class = match status.unwrap_or(0) / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            5 => "5xx",
            _ => "none",
        };
        let labels = [label, class, outcome];
        self.harpoon_calls.record(labels, |count| *count += 1);
        self.harpoon_latency.record(labels, |histogram| histogram.observe(latency.as_secs_f64() * 1000.0));
        self.harpoon_size.record(labels, |histogram| histogram.observe(response_bytes as f64));
    }

    /// Whether a proxy is healthy for all the routes that use it.
    pub fn proxy_state(&self, proxy_id: &str, healthy: bool) {
        self.proxy_state.record([proxy_id], |state| *state = f64::from(u8::from(healthy)));
    }

    /// A proxy was checked.
    pub fn proxy_checked(&self, check: &ProxyCheck<'_>) {
        let now = unix_seconds() as f64;
        self.proxy_checked.record([check.proxy_id], |at| *at = now);
        for (phase, duration) in [("tcp", check.tcp), ("connect", check.connect)] {
            let millis = duration.unwrap_or_default().as_millis();
            if millis > 0 {
                let seconds = millis as f64 / 1000.0;
                self.proxy_phases.record([check.proxy_id, phase], |histogram| histogram.observe(seconds));
            }
        }
        match check.failure {
            None => self.proxy_succeeded.record([check.proxy_id], |at| *at = now),
            Some((phase, reason)) => {
                self.proxy_failures.record([check.proxy_id, phase, reason], |count| *count += 1);
            }
        }
    }

    /// The text for a scraper; `ready` is whether `/readyz` would say 200 now.
    pub fn scrape(&self, ready: bool) -> String {
        self.scraping.fetch_add(1, Relaxed);
        self.ask_children();
        self.ask_servers();
        let text = self.expose(ready);
        self.scraping.fetch_sub(1, Relaxed);
        self.scrapes.fetch_add(1, Relaxed);
        text
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `number` as text, without allocating.
fn decimal(mut number: u16, digits: &mut [u8; 5]) -> &str {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    std::str::from_utf8(&digits[start..]).unwrap_or_default()
}

/// Methods that are labels of their own; the rest is `_OTHER`.
fn known_method(method: &str) -> &str {
    match method {
        "CONNECT" | "DELETE" | "GET" | "HEAD" | "OPTIONS" | "PATCH" | "POST" | "PUT" | "TRACE" => method,
        _ => "_OTHER",
    }
}
