//! Every way a peer can fail, against every kind of command: one terminal answer for each (none only
//! when its deadline has passed), later calls work, and nothing is left behind.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::matrix_lane::{Census, Lane, Wants, audit, wait_gone};
use common::matrix_plane::Plane;
use common::matrix_server::{self, FaultServer, Row};
use common::PATIENCE;
use common::process::Client;

/// Longest exchange, and longest message of a server.
const LIMITS: [&str; 4] = ["--mcp.connection-max-ttl", "1500ms", "--mcp.max-message-bytes", "65536"];
const WORKERS: [&str; 2] = ["--mcp.max-concurrent-requests", "48"];

/// A client under test, its control plane, and how it looked before anything failed.
struct Subject {
    plane: Plane,
    client: Client,
    tag: String,
    scratch: tempfile::TempDir,
    baseline: Option<Census>,
}

impl Subject {
    fn start(arguments: &[String]) -> Subject {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let tag = format!("MATRIX_TAG={}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let scratch = tempfile::tempdir().expect("a directory");
        let plane = Plane::start();
        let fixed = LIMITS.iter().chain(&WORKERS).copied();
        let arguments: Vec<&str> = fixed.chain(arguments.iter().map(String::as_str)).collect();
        let variables =
            [tag.split_once('=').expect("a pair"), ("TMPDIR", scratch.path().to_str().expect("a path"))];
        let client = Client::start_with(&plane.base_url(), &arguments, &variables);
        plane.wait_polled();
        client.wait_ready();
        Subject { plane, client, tag, scratch, baseline: None }
    }

    /// One undisturbed call after another, until each pool holds one connection that works.
    fn settle(&self, channels: &[&str], server: Option<&FaultServer>) {
        self.plane.close_posting();
        if let Some(server) = server {
            server.close_all();
        }
        let mut wrong = Vec::new();
        for channel in channels {
            self.lane(channel, "none", WORKS).check_alive("settling", &mut wrong);
        }
        // Two answers in a row may have met on two connections.
        self.plane.close_posting();
        self.lane("main", "none", WORKS).check_alive("settling", &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// What the client holds beyond what it held before anything failed.
    fn left_behind(&self) -> Option<String> {
        let before = self.baseline.as_ref().expect("a baseline");
        let end = Instant::now() + PATIENCE / 3;
        loop {
            let difference = Census::of(self.client.pid()).difference(before)?;
            if Instant::now() > end {
                return Some(difference);
            }
            std::thread::sleep(Duration::from_millis(20));
            self.settle(&[], None);
        }
    }

    fn lane<'a>(&'a self, channel: &'a str, fault: &'a str, wants: Wants) -> Lane<'a> {
        Lane { plane: &self.plane, channel, fault, wants }
    }

    /// Runs the rows at the same time, each on the channel with its name, and compares before and after.
    fn run(&mut self, rows: &[Row], server: Option<&FaultServer>) {
        let channels: Vec<&str> = rows.iter().map(|(name, _)| *name).chain(["main"]).collect();
        self.settle(&channels, server);
        self.baseline = Some(Census::of(self.client.pid()));
        let mut wrong: Vec<String> = std::thread::scope(|scope| {
            let lanes: Vec<_> = rows
                .iter()
                .map(|(name, wants)| {
                    let lane = self.lane(name, name, *wants);
                    scope.spawn(move || lane.run())
                })
                .collect();
            lanes.into_iter().flat_map(|lane| lane.join().expect("a lane")).collect()
        });
        assert!(self.client.is_running(), "the client lives");
        self.settle(&channels, server);
        wrong.extend(self.left_behind());
        wrong.extend(self.finish());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Ends the client; what was wrong with all it said.
    fn finish(&mut self) -> Vec<String> {
        assert_eq!(self.client.terminate().code(), Some(0), "{}", self.client.output());
        wait_gone(&self.tag);
        let left: Vec<_> = Path::read_dir(self.scratch.path()).expect("a directory").collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let output = self.client.output();
        for secret in ["private details", "token-", common::API_KEY, "panicked"] {
            assert!(!output.contains(secret), "{secret} in the log: {output}");
        }
        let mut wrong = audit(&self.plane);
        wrong.extend(self.plane.strays().iter().map(|path| format!("a request for {path}")));
        wrong
    }
}

const WORKS: Wants = Wants { call: "200", hasty: "200", notification: "202", termination: "202" };

/// A channel for each row, all with the same server.
fn http_channels(rows: &[Row], url: &str) -> Vec<String> {
    let mut arguments = vec!["--mcp.server-url".to_owned(), url.to_owned()];
    for (name, _) in rows {
        arguments.extend(["--mcp.server-url".to_owned(), format!("channel={name},url={url}")]);
    }
    arguments
}

fn over_http(rows: &[Row]) {
    let server = FaultServer::start();
    Subject::start(&http_channels(rows, &server.url())).run(rows, Some(&server));
}

#[test]
fn broken_connections_and_framing_cost_only_their_own_call() {
    over_http(matrix_server::FRAMING);
}

#[test]
fn replies_that_are_no_answer_cost_only_their_own_call() {
    over_http(matrix_server::REPLIES);
}

#[test]
fn broken_event_streams_cost_only_their_own_call() {
    over_http(matrix_server::STREAMS);
}
