//! The table for people and the JSON for programs.

use std::fmt::Write;

use crate::cases::{Case, Seen};

/// What a run says about the program as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) cores: usize,
    pub(crate) client_bytes: u64,
    pub(crate) server_bytes: u64,
}

/// One case: the floor, then the client.
pub(crate) type Row = (Case, [Seen; 2]);

pub(crate) fn table_head() -> String {
    format!(
        "{:<12} {:<6} {:>9} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>6} {:>6} {:>9}",
        "case",
        "who",
        "calls/s",
        "p50 µs",
        "p99 µs",
        "CPU µs",
        "rig µs",
        "idle MiB",
        "peak MiB",
        "cp con",
        "mcp con",
        "wrong"
    )
}

pub(crate) fn table_rows((case, [floor, client]): &Row) -> String {
    let mut text = String::new();
    for (who, seen) in [("floor", floor), ("client", client)] {
        let _ = writeln!(
            text,
            "{:<12} {:<6} {:>9.0} {:>9} {:>9} {:>8.1} {:>8.1} {:>8.1} {:>8.1} {:>6} {:>7} {:>9}",
            case.name,
            who,
            seen.calls_per_s,
            seen.p50_us,
            seen.p99_us,
            seen.cpu_us,
            seen.rig_us,
            mib(seen.idle_kib),
            mib(seen.peak_kib),
            seen.tally.connections,
            seen.mcp_connections,
            seen.tally.wrong + seen.tally.repeated + seen.tally.lost,
        );
        if let Some(complaint) = &seen.complaint {
            let _ = writeln!(text, "  {who}: {complaint}");
        }
    }
    if client.is_sound() && floor.is_sound() {
        let _ = writeln!(
            text,
            "  client/floor: CPU {:.2}, throughput {:.2}; first poll after {:.1} ms, idle CPU {:.2} %, exit {}",
            client.cpu_us / floor.cpu_us,
            client.calls_per_s / floor.calls_per_s,
            client.first_poll_ms,
            client.idle_cpu * 100.0,
            client.exit_code.map_or("killed".to_owned(), |code| code.to_string()),
        );
    }
    text
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

pub(crate) fn json(facts: Facts, rows: &[Row]) -> String {
    let cases: Vec<serde_json::Value> = rows
        .iter()
        .map(|(case, [floor, client])| {
            serde_json::json!({
                "name": case.name,
                "outstanding": case.outstanding,
                "text_bytes": case.text_bytes,
                "floor": seen_json(floor),
                "client": seen_json(client),
                "cpu_ratio": client.cpu_us / floor.cpu_us,
                "throughput_ratio": client.calls_per_s / floor.calls_per_s,
            })
        })
        .collect();
    let report = serde_json::json!({
        "cores": facts.cores,
        "tunnel_client_bytes": facts.client_bytes,
        "tunnel_server_bytes": facts.server_bytes,
        "cases": cases,
    });
    serde_json::to_string_pretty(&report).unwrap_or_default()
}

fn seen_json(seen: &Seen) -> serde_json::Value {
    serde_json::json!({
        "calls_per_s": seen.calls_per_s,
        "p50_us": seen.p50_us,
        "p99_us": seen.p99_us,
        "cpu_us_per_call": seen.cpu_us,
        "rig_cpu_us_per_call": seen.rig_us,
        "idle_rss_kib": seen.idle_kib,
        "peak_rss_kib": seen.peak_kib,
        "idle_cpu_share": seen.idle_cpu,
        "first_poll_ms": seen.first_poll_ms,
        "control_plane_connections": seen.tally.connections,
        "mcp_connections": seen.mcp_connections,
        "polls": seen.tally.polls,
        "completed": seen.tally.completed,
        "wrong": seen.tally.wrong,
        "repeated": seen.tally.repeated,
        "lost": seen.tally.lost,
        "exit_code": seen.exit_code,
        "complaint": seen.complaint,
    })
}
