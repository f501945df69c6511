//! `GET /metrics`: counters and gauges in the Prometheus text format.

use std::fmt::Write;

use crate::server::engine::{BUCKETS, Engine, Histogram};
use crate::server::front::Response;

/// With more tunnels than this, gauges are sums without a label for the tunnel.
const LABELLED_TUNNELS: usize = 200;

/// Commands come from connectors alone so far.
const ORIGIN: &str = "connector";

pub(super) fn page(engine: &Engine) -> Response {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = render(engine, &mut out);
    Response::new(200).header("Content-Type", "text/plain; version=0.0.4").with_body(out.into_bytes())
}

fn render(engine: &Engine, out: &mut String) -> std::fmt::Result {
    gauges(engine, out)?;
    let counters = engine.counters();
    let labelled = counters.labelled();
    head(out, "tunnel_server_commands_total", "counter", "Held requests that ended.")?;
    for ((kind, outcome), count) in &labelled.commands {
        writeln!(
            out,
            "tunnel_server_commands_total{{type=\"{}\",origin=\"{ORIGIN}\",outcome=\"{}\"}} {count}",
            kind.as_str(),
            outcome.as_str()
        )?;
    }
    for (name, help, histograms) in [
        ("tunnel_server_command_queue_seconds", "Time from arrival to delivery.", &labelled.queue_seconds),
        ("tunnel_server_command_total_seconds", "Time from arrival to the end.", &labelled.total_seconds),
    ] {
        head(out, name, "histogram", help)?;
        for (kind, histogram) in histograms {
            buckets(out, name, kind.as_str(), histogram)?;
        }
    }
    head(out, "tunnel_server_responses_total", "counter", "Response POSTs.")?;
    for ((kind, result), count) in &labelled.responses {
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
    for ((route, status), count) in &labelled.http {
        writeln!(out, "tunnel_server_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}")?;
    }
    Ok(())
}

fn gauges(engine: &Engine, out: &mut String) -> std::fmt::Result {
    let tunnels = engine.tunnels();
    let mut loads: Vec<_> = tunnels.iter().map(|tunnel| (tunnel.id().to_string(), tunnel.load())).collect();
    loads.sort_by(|(a, _), (b, _)| a.cmp(b));
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
            (|load| load.held) as fn(&crate::server::engine::Load) -> usize,
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
    let mut sum = 0;
    for (bound, count) in BUCKETS.iter().zip(&histogram.counts) {
        sum += count;
        writeln!(out, "{name}_bucket{{type=\"{kind}\",le=\"{bound}\"}} {sum}")?;
    }
    let all: u64 = histogram.counts.iter().sum();
    writeln!(out, "{name}_bucket{{type=\"{kind}\",le=\"+Inf\"}} {all}")?;
    writeln!(out, "{name}_sum{{type=\"{kind}\"}} {}", histogram.sum)?;
    writeln!(out, "{name}_count{{type=\"{kind}\"}} {all}")
}
