//! All families as text, whatever order they are recorded in.

use std::sync::atomic::Ordering::Relaxed;

use super::text::{Exposition, Meta, Scope};
use super::{Metrics, process};

const HEALTH: Scope = Scope { name: "health", version: "" };
const CONTROL_PLANE: Scope = Scope { name: "controlplane", version: "" };
const DISPATCHER: Scope = Scope { name: "dispatcher", version: "" };
const HARPOON: Scope = Scope { name: "harpoon", version: "" };
const PROXY_HEALTH: Scope = Scope { name: "proxyhealth", version: "" };
const MCP_CLIENT: Scope = Scope { name: "mcpclient", version: "" };
/// Named as existing dashboards know it.
const HTTP_CLIENT: Scope =
    Scope { name: "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", version: "0.63.0" };

impl Metrics {
    pub(super) fn expose(&self, ready: bool) -> String {
        let mut text = Exposition::default();
        process::add_process(&mut text);
        let target: Vec<(&str, &str)> =
            self.target.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        text.gauge(bare("target_info", "What this process is."), &target, 1.0);
        for (code, count) in [("200", self.scrapes.load(Relaxed)), ("500", 0), ("503", 0)] {
            let meta = bare("promhttp_metric_handler_requests_total", "Scrapes by HTTP status code.");
            text.counter(meta, &[("code", code)], count as f64);
        }
        let meta = bare("promhttp_metric_handler_requests_in_flight", "Scrapes being served.");
        text.gauge(meta, &[], self.scraping.load(Relaxed) as f64);

        let meta = |name, help| Meta { scope: Some(HEALTH), name, help };
        text.gauge(meta("liveness", "Always 1 while the process serves."), &[], 1.0);
        text.gauge(meta("readiness", "1 if the client is ready."), &[], f64::from(u8::from(ready)));

        let meta = |name, help| Meta { scope: Some(CONTROL_PLANE), name, help };
        text.counters(meta("commands_polled_total", "Commands received."), &self.polled);
        text.counters(meta("commands_enqueued_total", "Commands put in the local queue."), &self.enqueued);
        text.counters(meta("commands_poll_cycles_total", "Polls started."), &self.poll_cycles);
        text.histograms(meta("commands_poll_latency_seconds", "Duration of polls."), &self.poll_latency);
        text.counters(meta("commands_poll_errors_total", "Failed polls by kind."), &self.poll_errors);
        text.counters(meta("commands_queue_drops_total", "Commands received but not queued."), &self.drops);
        text.histograms(meta("commands_age_seconds", "Age of commands when received."), &self.age);
        let help = "Responses posted, by type and how that ended.";
        text.counters(meta("controlplane_response_posts_total", help), &self.posts);
        let help = "Polled commands that were malformed or unsupported, by reason.";
        text.counters(meta("controlplane_commands_refused_total", help), &self.refused);
        let help = "Unix time of the last successful poll; 0 before the first.";
        let last_poll = self.last_poll.load(Relaxed) as f64;
        text.gauge(meta("commands_poll_last_successful_timestamp_seconds", help), &[], last_poll);
        let (capacity, length) = self.queue.get().map_or((0, 0), |(capacity, length)| (*capacity, length()));
        text.gauge(meta("commands_queue_capacity", "Capacity of the local queue."), &[], capacity as f64);
        text.gauge(meta("commands_queue_length", "Commands waiting in the local queue."), &[], length as f64);

        let meta = |name, help| Meta { scope: Some(DISPATCHER), name, help };
        let workers = self.workers.load(Relaxed) as f64;
        text.gauge(meta("dispatcher_worker_pool_capacity", "Workers."), &[], workers);
        let busy = self.busy.load(Relaxed).max(0) as f64;
        text.gauge(meta("dispatcher_worker_pool_occupancy", "Workers that are busy."), &[], busy);
        let help = "Time from the command to its delivered answer.";
        text.histograms(meta("command_end_to_end_latency_milliseconds", help), &self.end_to_end);
        let help = "Commands rejected for their channel.";
        text.counters(meta("command_unsupported_channel_total", help), &self.unsupported);

        let meta = |name, help| Meta { scope: Some(HARPOON), name, help };
        text.counters(meta("harpoon_call_total", "Calls of targets."), &self.harpoon_calls);
        text.histograms(
            meta("harpoon_call_latency_milliseconds", "Duration of calls."),
            &self.harpoon_latency,
        );
        text.histograms(meta("harpoon_response_size_bytes", "Size of responses."), &self.harpoon_size);

        let meta = |name, help| Meta { scope: Some(PROXY_HEALTH), name, help };
        text.gauges(meta("proxy_health_state", "1 if the proxy is healthy."), &self.proxy_state);
        text.gauges(meta("proxy_last_check_timestamp", "Unix time of the last check."), &self.proxy_checked);
        let help = "Unix time of the last successful check.";
        text.gauges(meta("proxy_last_success_timestamp", help), &self.proxy_succeeded);
        let help = "Duration of the phases of checks.";
        text.histograms(meta("proxy_check_phase_duration_seconds", help), &self.proxy_phases);
        text.counters(meta("proxy_check_failures_total", "Failed checks."), &self.proxy_failures);

        let meta = |name, help| Meta { scope: Some(HTTP_CLIENT), name, help };
        let help = "Duration of outbound HTTP requests.";
        text.histograms_of(meta("http_client_request_duration_seconds", help), &self.http, |series| {
            &series.duration
        });
        let help = "Size of outbound HTTP request bodies.";
        text.histograms_of(meta("http_client_request_body_size_bytes", help), &self.http, |series| {
            &series.size
        });

        let meta = |name, help| Meta { scope: Some(MCP_CLIENT), name, help };
        text.gauges(meta("mcp_stdio_child_up", "1 while the child process runs."), &self.child_up);
        let help = "Restarts of child processes.";
        text.counters(meta("mcp_stdio_child_restarts_total", help), &self.child_restarts);
        text.gauges(meta("mcp_server_era", "1 if the server speaks the era, 0 if not."), &self.server_era);
        let help = "Tests of the era of MCP servers.";
        text.counters(meta("mcp_era_probes_total", help), &self.era_probes);
        let help = "Handshakes with MCP servers on behalf of connectors.";
        text.counters(meta("mcp_handshakes_total", help), &self.handshakes);
        let help = "Messages that met the bridge between protocol eras.";
        text.counters(meta("mcp_bridge_messages_total", help), &self.bridge_messages);
        let help = "Open sessions on behalf of connectors.";
        text.gauges(meta("mcp_bridge_sessions", help), &self.bridge_sessions);
        let help = "Requests of MCP servers that were refused.";
        text.counters(meta("mcp_server_requests_refused_total", help), &self.refused_requests);
        text.finish()
    }
}

fn bare(name: &'static str, help: &'static str) -> Meta {
    Meta { scope: None, name, help }
}
