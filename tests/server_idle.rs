//! Parked polls and held requests cost nothing while nothing happens. Alone in its process, whose
//! processor time is what it measures.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::time::{Duration, Instant};

use site::{LIST, Site, send_call, send_poll};

/// User and system time of this process in clock ticks of 10 ms.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn fifty_parked_polls_and_fifty_held_requests_use_no_processor() {
    let site = Site::with(|options| options.poll_wait_max = Duration::from_secs(30));
    let mut first = site.client();
    send_poll(&mut first, "channel=main&timeout_ms=1");
    assert_eq!(first.read().status, 204);
    let mut wires = Vec::new();
    for _ in 0..50 {
        let mut poll = site.client();
        send_poll(&mut poll, "channel=other&timeout_ms=30000");
        let mut caller = site.caller();
        send_call(&mut caller, "application/json", LIST);
        wires.extend([poll, caller]);
    }
    site.wait_for("all parked and held", |gauges| (gauges.parked, gauges.held) == (50, 50));
    let (before, began) = (ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(4));
    let (used, took) = (ticks() - before, began.elapsed());
    assert!(used <= 4, "{used} ticks of processor time in {took:?}");
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads <= 110, "{threads} threads for 101 connections");
}
