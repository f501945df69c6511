//! A client under test, its control plane, and what it held before anything failed.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use super::PATIENCE;
use super::matrix_lane::{Census, Lane, Wants, audit, wait_gone};
use super::matrix_plane::Plane;
use super::matrix_rows::Row;
use super::matrix_server::FaultServer;
use super::process::Client;

/// Longest exchange, longest message of a server, calls at once.
const FIXED: [&str; 6] = [
    "--mcp.connection-max-ttl",
    "1500ms",
    "--mcp.max-message-bytes",
    "65536",
    "--mcp.max-concurrent-requests",
    "48",
];

/// A client under test, its control plane, and how it looked before anything failed.
pub struct Subject {
    pub plane: Plane,
    pub client: Client,
    pub tag: String,
    scratch: tempfile::TempDir,
    baseline: Option<Census>,
    /// What calls may come to for a while after a fault.
    pub recovering: &'static [&'static str],
}

impl Subject {
    pub fn start(arguments: &[String]) -> Subject {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let tag = format!("MATRIX_TAG={}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let scratch = tempfile::tempdir().expect("a directory");
        let plane = Plane::start();
        let arguments: Vec<&str> = FIXED.into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let variables =
            [tag.split_once('=').expect("a pair"), ("TMPDIR", scratch.path().to_str().expect("a path"))];
        let client = Client::start_with(&plane.base_url(), &arguments, &variables);
        plane.wait_polled();
        client.wait_ready();
        Subject { plane, client, tag, scratch, baseline: None, recovering: &[] }
    }

    /// One undisturbed call after another, until each pool holds one connection that works.
    pub fn settle(&self, channels: &[&str], server: Option<&FaultServer>) {
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

    /// Calls on a channel of their own, which nothing may disturb.
    fn bystander(&self, running: &AtomicBool) -> Vec<String> {
        let mut wrong = Vec::new();
        let lane = Lane { recovering: &[], ..self.lane("main", "none", WORKS) };
        while running.load(Ordering::SeqCst) && wrong.is_empty() {
            lane.check_alive("beside the others", &mut wrong);
            std::thread::sleep(Duration::from_millis(20));
        }
        wrong
    }

    /// Remembers what the client holds.
    pub fn take_baseline(&mut self) {
        self.baseline = Some(Census::settled(self.client.pid(), &self.tag));
    }

    /// What the client holds beyond what it held before anything failed.
    pub fn left_behind(&self) -> Option<String> {
        let before = self.baseline.as_ref().expect("a baseline");
        let end = Instant::now() + PATIENCE / 3;
        loop {
            let difference = Census::of(self.client.pid(), &self.tag).surplus(before)?;
            if Instant::now() > end {
                return Some(difference);
            }
            std::thread::sleep(Duration::from_millis(20));
            self.settle(&[], None);
        }
    }

    pub fn lane<'a>(&'a self, channel: &'a str, fault: &'a str, wants: Wants) -> Lane<'a> {
        Lane { plane: &self.plane, channel, fault, wants, recovering: self.recovering }
    }

    /// Runs the rows at the same time, each on the channel with its name, and compares before and after.
    pub fn run(&mut self, rows: &[Row], server: Option<&FaultServer>) {
        let channels: Vec<&str> = rows.iter().map(|(name, _)| *name).chain(["main"]).collect();
        self.settle(&channels, server);
        self.take_baseline();
        let running = AtomicBool::new(true);
        let mut wrong: Vec<String> = std::thread::scope(|scope| {
            let bystander = scope.spawn(|| self.bystander(&running));
            let lanes: Vec<_> = rows
                .iter()
                .map(|(name, wants)| {
                    let lane = self.lane(name, name, *wants);
                    scope.spawn(move || lane.run())
                })
                .collect();
            let results: Vec<_> = lanes.into_iter().map(ScopedJoinHandle::join).collect();
            running.store(false, Ordering::SeqCst);
            let wrong = results.into_iter().chain([bystander.join()]);
            wrong.flat_map(|wrong| wrong.expect("a lane")).collect()
        });
        assert!(self.client.is_running(), "the client lives");
        self.settle(&channels, server);
        wrong.extend(self.left_behind());
        wrong.extend(self.finish());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// The same for servers that never work: nothing but the answers can be checked.
    pub fn run_dead(&mut self, rows: &[Row], server: &FaultServer) {
        self.settle(&["main"], Some(server));
        self.take_baseline();
        let mut wrong: Vec<String> = std::thread::scope(|scope| {
            let lanes: Vec<_> = rows
                .iter()
                .map(|(name, wants)| {
                    let lane = self.lane(name, name, *wants);
                    scope.spawn(move || lane.run_dead())
                })
                .collect();
            lanes.into_iter().flat_map(|lane| lane.join().expect("a lane")).collect()
        });
        self.settle(&["main"], Some(server));
        wrong.extend(self.left_behind());
        wrong.extend(self.finish());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Ends the client; what was wrong with all it said.
    pub fn finish(&mut self) -> Vec<String> {
        assert_eq!(self.client.terminate().code(), Some(0), "{}", self.client.output());
        wait_gone(&self.tag);
        let left: Vec<_> = Path::read_dir(self.scratch.path()).expect("a directory").collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let output = self.client.output();
        for secret in ["private details", "token-", super::API_KEY, "panicked"] {
            assert!(!output.contains(secret), "{secret} in the log: {output}");
        }
        let mut wrong = audit(&self.plane);
        wrong.extend(self.plane.strays().iter().map(|path| format!("a request for {path}")));
        wrong
    }
}

pub const WORKS: Wants = Wants { call: "200", hasty: "200", notification: "202", termination: "202" };

/// A channel for each row, all with the same server.
pub fn http_channels(rows: &[Row], url: &str) -> Vec<String> {
    let mut arguments = vec!["--mcp.server-url".to_owned(), url.to_owned()];
    for (name, _) in rows {
        arguments.extend(["--mcp.server-url".to_owned(), format!("channel={name},url={url}")]);
    }
    arguments
}
