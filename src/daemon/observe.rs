//! What the rooms report, on its way to readiness and metrics.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use crate::control_plane::{PollObserver, PollOutcome, PollTrouble, TunnelMetadata};
use crate::dispatch::{Delivered, Observer, Queue};
use crate::ids::{Channel, TunnelId};
use crate::mcp::Binding;
use crate::mcp::bridge::Fact;
use crate::mcp::http::HttpObserver;
use crate::net::HttpExchange;
use crate::ops::{Answered, ChildReport, Metadata, Metrics, PollEnd, ProtocolReport, State};

/// Hears the control plane's side and the dispatcher.
pub(super) struct Observers {
    tunnel_id: TunnelId,
    metrics: Arc<Metrics>,
    state: Arc<State>,
    queue: OnceLock<Queue>,
}

impl Observers {
    pub(super) fn new(tunnel_id: TunnelId, workers: usize, state: &Arc<State>) -> Observers {
        let metrics = Metrics::new();
        metrics.set_workers(workers);
        Observers { tunnel_id, metrics: Arc::new(metrics), state: Arc::clone(state), queue: OnceLock::new() }
    }

    pub(super) fn watch_queue(&self, queue: Queue) {
        let _ = self.queue.set(queue.clone());
        self.metrics.watch_queue(queue.capacity(), move || queue.len());
    }

    /// Commands of `channel` that run now; `None` before there is a queue.
    pub(super) fn in_flight(&self, channel: &str) -> Option<usize> {
        let queue = self.queue.get()?;
        Some(queue.running(channel).unwrap_or_else(|| self.metrics.busy_workers()))
    }

    /// Has the metrics tell what is known about the eras of the server of `channel`.
    pub(super) fn watch_protocol(&self, channel: &Channel, binding: &Arc<Binding>) {
        let binding = Arc::downgrade(binding);
        self.metrics.watch_protocol(channel.as_str(), move || {
            let Some(binding) = binding.upgrade() else { return ProtocolReport::default() };
            let known = |fact| match fact {
                Fact::Unknown => None,
                Fact::Yes => Some(true),
                Fact::No => Some(false),
            };
            let protocol = binding.protocol();
            let mut report = ProtocolReport {
                legacy: known(protocol.speaks_legacy),
                modern: known(protocol.speaks_modern),
                sessions: protocol.bridge_sessions,
                ..ProtocolReport::default()
            };
            if let Some(tally) = binding.tally() {
                report.probes = tally.probes();
                report.handshakes = tally.handshakes();
                report.messages = tally.messages();
                report.refused = tally.refused_requests();
            }
            report
        });
    }

    /// Has the metrics tell how the child process of `channel` is doing, if it has one.
    pub(super) fn watch_child(&self, channel: &Channel, binding: &Arc<Binding>) {
        if !matches!(**binding, Binding::Stdio(_)) {
            return;
        }
        let binding = Arc::downgrade(binding);
        self.metrics.watch_child(channel.as_str(), move || match binding.upgrade().as_deref() {
            Some(Binding::Stdio(child)) => {
                let health = child.health();
                let restarts = health.restarts_by_reason.iter().map(|(reason, n)| (reason.label(), *n));
                ChildReport { up: health.running, restarts: restarts.collect() }
            }
            _ => ChildReport::default(),
        });
    }

    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }
}

impl PollObserver for Observers {
    fn poll_started(&self) {
        self.metrics.poll_started();
    }

    fn poll_finished(&self, latency: Duration, outcome: PollOutcome) {
        let end = match outcome {
            PollOutcome::Success => PollEnd::Success,
            PollOutcome::Timeout => PollEnd::TimedOut,
            PollOutcome::Stopped => PollEnd::Stopped,
            PollOutcome::Failed => PollEnd::Failed,
        };
        self.metrics.poll_finished(latency, end);
    }

    fn poll_failed(&self, trouble: &PollTrouble) {
        self.state.poll_failed(trouble.text.as_str());
    }

    fn metadata_settled(&self, outcome: &Result<TunnelMetadata, String>) {
        self.state.set_metadata(outcome.clone().map(|known| Metadata {
            id: known.id,
            name: known.name,
            description: known.description,
        }));
    }

    fn poll_succeeded(&self, _at: SystemTime) {
        self.state.poll_succeeded();
    }

    fn commands_polled(&self, count: usize) {
        self.metrics.commands_received(count, 0);
    }

    fn commands_enqueued(&self, count: usize) {
        self.metrics.commands_received(0, count);
    }

    fn commands_dropped(&self, reason: &'static str, count: usize) {
        self.metrics.commands_dropped(reason, count);
    }

    fn command_refused(&self, reason: &'static str, _answered: bool) {
        self.metrics.command_refused(reason);
    }

    fn command_age(&self, age: Duration) {
        self.metrics.command_age(age);
    }

    fn response_posted(&self, resp_type: &'static str, result: &'static str) {
        self.metrics.response_posted(resp_type, result);
    }

    fn http_request(&self, exchange: &HttpExchange<'_>) {
        self.metrics.http_request(exchange);
    }
}

impl HttpObserver for Observers {
    fn http_sent(&self, sent: &HttpExchange<'_>) {
        self.metrics.http_request(sent);
    }
}

impl Observer for Observers {
    fn worker_busy(&self) {
        self.metrics.worker_started();
    }

    fn worker_idle(&self) {
        self.metrics.worker_finished();
    }

    fn delivered(&self, delivered: &Delivered<'_>) {
        let command = delivered.command;
        self.metrics.command_answered(&Answered {
            kind: delivered.kind,
            method: delivered.method,
            channel: command.channel.as_str(),
            tunnel_id: self.tunnel_id.as_str(),
            status: delivered.code,
            since_created: command.created_at.and_then(|at| SystemTime::now().duration_since(at).ok()),
            since_received: command.received_at.elapsed(),
        });
    }

    fn unsupported_channel(&self, channel: &Channel, command_type: &'static str) {
        self.metrics.unsupported_channel(self.tunnel_id.as_str(), channel.as_str(), command_type);
    }
}
