//! A run full of faults, after which the books must balance and memory must be where it was.

mod ledger;
mod peers;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::control_plane::base_url;
use crate::subject::{ClientOrders, Subject};
use peers::{Peer, Shared};

const WORKERS: usize = 16;
/// Time that the last commands get; longer than any of them may take with all its retries.
const DRAIN_MAX: Duration = Duration::from_secs(40);
const SAMPLE_EVERY: Duration = Duration::from_millis(50);
/// Memory may grow by this much, or by a tenth, between the first and the last part of a run.
const GROWTH_KIB_MAX: u64 = 2048;

/// Runs `client` for `time`; whether every command ended as it should and memory stayed flat.
pub(crate) fn run(client: &Path, time: Duration, seed: u64, json: bool) -> Result<bool, String> {
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let shared = Arc::new(Shared::new(seed));
    let control_plane = Peer::control_plane(&shared).map_err(|error| error.to_string())?;
    let mcp = Peer::mcp_server(&shared).map_err(|error| error.to_string())?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let orders = ClientOrders {
        binary: client.to_path_buf(),
        base_url: base_url(control_plane.addr, None),
        target: vec![
            "--mcp.server-url".to_owned(),
            format!("channel=main,url={}/mcp", base_url(mcp.addr, None)),
            "--mcp.command".to_owned(),
            format!("channel=child,command={} echo-stdio", own.display()),
        ],
        workers: WORKERS,
        ca_file: None,
    };
    let mut subject = Subject::client(&orders, scratch.path()).map_err(|error| error.to_string())?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !shared.polled.load(Relaxed) {
        if subject.exited().is_some() || Instant::now() > deadline {
            return Err(format!("the client never polled; it said: {}", subject.last_words()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }

    shared.loading.store(true, Relaxed);
    let started = Instant::now();
    let mut resident = Vec::new();
    let mut crashed = false;
    while started.elapsed() < time && !crashed {
        shared.ledger.books().sweep();
        shared.top_up();
        std::thread::sleep(SAMPLE_EVERY);
        resident.push(subject.memory().resident);
        crashed = subject.exited().is_some();
    }
    shared.loading.store(false, Relaxed);
    let drained = Instant::now();
    while shared.ledger.books().open > 0 && drained.elapsed() < DRAIN_MAX && !crashed {
        shared.ledger.books().sweep();
        std::thread::sleep(SAMPLE_EVERY);
    }
    let (descriptors, threads) = subject.held();
    let peak = subject.memory().peak;
    let words = subject.last_words();
    let exit_code = subject.stop(Duration::from_secs(20)).and_then(|status| status.code());

    let mut books = shared.ledger.books();
    books.close();
    let mut complaints = books.notes.clone();
    if crashed {
        complaints.push(format!("the client ended by itself; it said: {words}"));
    }
    if exit_code != Some(0) {
        complaints.push(format!("after SIGTERM it exited with {exit_code:?}"));
    }
    let (early, late) = (middle(&resident, 0.25, 0.45), middle(&resident, 0.8, 1.0));
    if late > early + GROWTH_KIB_MAX.max(early / 10) {
        complaints.push(format!("memory grew from {early} to {late} KiB"));
    }
    // One connection up and down a worker, the poll, the child's pipes, the listener and what a runtime holds.
    if descriptors > 2 * WORKERS + 40 {
        complaints.push(format!("{descriptors} descriptors were left open"));
    }
    let sound = complaints.is_empty() && books.violations == 0;
    if json {
        let report = serde_json::json!({
            "churn_seconds": time.as_secs(),
            "seed": seed,
            "commands": books.entries.len(),
            "answered": books.answered,
            "expired": books.expired,
            "faults": shared.faults.load(Relaxed),
            "violations": books.violations,
            "complaints": complaints,
            "rss_early_kib": early,
            "rss_late_kib": late,
            "rss_peak_kib": peak,
            "descriptors": descriptors,
            "threads": threads,
            "exit_code": exit_code,
            "sound": sound,
        });
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        println!(
            "churn {} s, seed {seed}: {} commands, {} answered, {} expired, {} faults of the control plane",
            time.as_secs(),
            books.entries.len(),
            books.answered,
            books.expired,
            shared.faults.load(Relaxed)
        );
        println!(
            "memory {early} -> {late} KiB (peak {peak}), {descriptors} descriptors, {threads} threads, exit {}",
            exit_code.map_or("killed".to_owned(), |code| code.to_string())
        );
        for complaint in &complaints {
            println!("  {complaint}");
        }
        println!("{}", if sound { "sound" } else { "VIOLATED" });
    }
    Ok(sound)
}

/// The median of the part of `samples` between two shares of its length.
fn middle(samples: &[u64], from: f64, to: f64) -> u64 {
    let place = |share: f64| (samples.len() as f64 * share) as usize;
    let mut part = samples[place(from).min(samples.len())..place(to).min(samples.len())].to_vec();
    part.sort_unstable();
    part.get(part.len() / 2).copied().unwrap_or(0)
}
