//! `GET /metrics`: counters and gauges in the Prometheus text format.

use crate::order;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::route::LABELS;
use crate::net::front::Response;
use crate::server::engine::{BUCKETS, Engine, Histogram, Kind, Load, Origin, Outcome};

/// With more tunnels than this, gauges are sums without a label for the tunnel.
const LABELLED_TUNNELS: usize = 200;

/// HTTP requests by route and status.
pub(super) struct Requests {
    counts: Vec<AtomicU64>,
}

/// Statuses that are counted apart: 100 to 599.
const STATUSES: std::ops::Range<u16> = 100..600;

impl Requests {
    pub(super) fn new() -> Requests {
        let places = LABELS.len() * STATUSES.len();
        Requests { counts: std::iter::repeat_with(AtomicU64::default).take(places).collect() }
    }

    /// Counts one; `route` is its place in [`LABELS`].
    pub(super) fn count(&self, route: usize, status: u16) {
        let place = route * STATUSES.len() + usize::from(status.saturating_sub(STATUSES.start));
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        let places = LABELS.into_iter().flat_map(|label| STATUSES.map(move |status| (label, status)));
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        places
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|((label, status), count)| (label, status, count))
    }
}

pub(super) fn page(engine: &Engine, requests: &Requests) -> Response {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = render(engine, requests, &mut out);
    Response::new(200).header("Content-Type", "text/plain; version=0.0.4").with_body(out.into_bytes())
}

fn render(engine: &Engine, requests: &Requests, out: &mut String) -> std::fmt::Result {
    gauges(engine, out)?;
    let counters = engine.counters();
    head(out, "tunnel_server_commands_total", "counter", "Held requests that ended.")?;
    for (origin, kind) in Origin::ALL.into_iter().flat_map(|origin| Kind::ALL.map(|kind| (origin, kind))) {
        for outcome in Outcome::ALL {
            let count = counters.commands(origin, kind, outcome);
            let (origin, kind, outcome) = (origin.as_str(), kind.as_str(), outcome.as_str());
            if count > 0 {
                let labels = format!("type=\"{kind}\",origin=\"{origin}\",outcome=\"{outcome}\"");
                writeln!(out, "tunnel_server_commands_total{{{labels}}} {count}")?;
            }
        }
    }
    let name = "tunnel_server_command_queue_seconds";
    head(out, name, "histogram", "Time from arrival to delivery.")?;
    for kind in Kind::ALL {
        buckets(out, name, kind.as_str(), counters.queue_seconds(kind))?;
    }
    let name = "tunnel_server_command_total_seconds";
    head(out, name, "histogram", "Time from arrival to the end.")?;
    for kind in Kind::ALL {
        buckets(out, name, kind.as_str(), counters.total_seconds(kind))?;
    }
    head(out, "tunnel_server_responses_total", "counter", "Response POSTs.")?;
    for (kind, result, count) in counters.posts().filter(|(_, _, count)| *count > 0) {
        let result = result.as_str();
        writeln!(out, "tunnel_server_responses_total{{resp_type=\"{kind}\",result=\"{result}\"}} {count}")?;
    }
    let dropped = counters.notifications_dropped_total();
    head(
        out,
        "tunnel_server_notifications_dropped_total",
        "counter",
        "Notifications dropped for lack of room.",
    )?;
    writeln!(out, "tunnel_server_notifications_dropped_total {dropped}")?;
    head(out, "tunnel_server_requeued_total", "counter", "Commands put back into the queue.")?;
    writeln!(
        out,
        "tunnel_server_requeued_total{{reason=\"poll_write_failed\"}} {}",
        counters.requeued_total()
    )?;
    head(out, "tunnel_server_http_requests_total", "counter", "HTTP requests answered.")?;
    for (route, status, count) in requests.iter() {
        writeln!(out, "tunnel_server_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}")?;
    }
    Ok(())
}

fn gauges(engine: &Engine, out: &mut String) -> std::fmt::Result {
    let tunnels = engine.tunnels();
    let mut loads: Vec<_> = tunnels.iter().map(|tunnel| (tunnel.id().to_string(), tunnel.load())).collect();
    order::sort_by(&mut loads, |(a, _), (b, _)| a.cmp(b));
    let by_tunnel = loads.len() <= LABELLED_TUNNELS;
    head(out, "tunnel_server_queue_depth", "gauge", "Commands waiting for a client.")?;
    if by_tunnel {
        for (id, load) in &loads {
            for (channel, count) in &load.queued {
                writeln!(
                    out,
                    "tunnel_server_queue_depth{{tunnel_id=\"{id}\",channel=\"{channel}\"}} {count}"
                )?;
            }
        }
    } else {
        let sum: usize = loads.iter().flat_map(|(_, load)| &load.queued).map(|(_, count)| count).sum();
        writeln!(out, "tunnel_server_queue_depth {sum}")?;
    }
    for (name, help, value) in [
        (
            "tunnel_server_held_requests",
            "Connector requests waiting for their answer.",
            (|load| load.held) as fn(&Load) -> usize,
        ),
        ("tunnel_server_parked_polls", "Polls waiting for a command.", |load| load.parked),
    ] {
        head(out, name, "gauge", help)?;
        if by_tunnel {
            for (id, load) in &loads {
                writeln!(out, "{name}{{tunnel_id=\"{id}\"}} {}", value(load))?;
            }
        } else {
            writeln!(out, "{name} {}", loads.iter().map(|(_, load)| value(load)).sum::<usize>())?;
        }
    }
    Ok(())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> std::fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn buckets(out: &mut String, name: &str, kind: &str, histogram: &Histogram) -> std::fmt::Result {
    let counts: Vec<u64> = histogram.counts().collect();
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return Ok(());
    }
    let mut sum = 0;
    for (bound, count) in BUCKETS.iter().zip(&counts) {
        sum += count;
        writeln!(out, "{name}_bucket{{type=\"{kind}\",le=\"{bound}\"}} {sum}")?;
    }
    writeln!(out, "{name}_bucket{{type=\"{kind}\",le=\"+Inf\"}} {all}")?;
    writeln!(out, "{name}_sum{{type=\"{kind}\"}} {}", histogram.sum())?;
    writeln!(out, "{name}_count{{type=\"{kind}\"}} {all}")
}
