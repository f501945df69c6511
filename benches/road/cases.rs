//! The cases, and how one of them is run for both subjects side by side.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use crate::control_plane::{ControlPlane, Load, Tally, base_url};
use crate::mcp_server::{JSON_PATH, McpServer, SSE_PATH};
use crate::payload::NOTIFICATIONS;
use crate::subject::{ClientOrders, Memory, Subject, own_cpu_ns};
use crate::tls;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Json,
    Sse,
    Stdio,
    Tls,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) outstanding: usize,
    pub(crate) text_bytes: usize,
    pub(crate) transport: Transport,
}

/// The text is a little shorter than its name says, so that the whole message has that size.
pub(crate) const CASES: [Case; 6] = [
    Case { name: "json-1k-1", outstanding: 1, text_bytes: 920, transport: Transport::Json },
    Case { name: "json-1k-64", outstanding: 64, text_bytes: 920, transport: Transport::Json },
    Case { name: "json-64k-16", outstanding: 16, text_bytes: 65_432, transport: Transport::Json },
    Case { name: "sse-1k-32", outstanding: 32, text_bytes: 920, transport: Transport::Sse },
    Case { name: "stdio-1k-32", outstanding: 32, text_bytes: 920, transport: Transport::Stdio },
    Case { name: "tls-1k-64", outstanding: 64, text_bytes: 920, transport: Transport::Tls },
];

/// How long a case is measured: `rounds` windows for each subject, in turns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

/// What was seen of one subject in one case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) calls_per_s: f64,
    pub(crate) p50_us: u32,
    pub(crate) p99_us: u32,
    /// Processor time of the subject a call, its children not counted.
    pub(crate) cpu_us: f64,
    /// Processor time of this rig a call, to judge how far the load itself is the limit.
    pub(crate) rig_us: f64,
    pub(crate) idle_kib: u64,
    pub(crate) peak_kib: u64,
    /// Processor time while no call was under way, as a share of one core.
    pub(crate) idle_cpu: f64,
    pub(crate) first_poll_ms: f64,
    pub(crate) tally: Tally,
    pub(crate) mcp_connections: u64,
    /// Exit status after SIGTERM; `None` when it had to be killed.
    pub(crate) exit_code: Option<i32>,
    /// The first wrong answer, or why there is nothing to see.
    pub(crate) complaint: Option<String>,
}

impl Seen {
    pub(crate) fn is_sound(&self) -> bool {
        self.complaint.is_none() && self.tally.wrong + self.tally.repeated + self.tally.lost == 0
    }
}

/// Everything around one subject.
struct Rig {
    // Dropped in this order: the subject first, so that the peers' threads see their connections end.
    subject: Subject,
    control_plane: ControlPlane,
    mcp: McpServer,
    seen: Seen,
    rates: Vec<f64>,
    cpu: Vec<f64>,
    rig_cpu: Vec<f64>,
    latencies: Vec<u32>,
}

/// Who is measured.
#[derive(Clone, Debug)]
pub(crate) enum Who {
    Floor,
    Client(PathBuf),
}

/// Runs `case` for both and returns what was seen of the floor and of the client.
pub(crate) fn run(case: &Case, effort: Effort, client: &Path) -> io::Result<[Seen; 2]> {
    let scratch = tempfile::tempdir()?;
    let ca_file = (case.transport == Transport::Tls).then(|| scratch.path().join("ca.pem"));
    let config = ca_file.as_deref().map(tls::server_config).transpose()?;
    let subjects = [Who::Floor, Who::Client(client.to_path_buf())];
    let mut rigs = Vec::new();
    for who in &subjects {
        rigs.push(Rig::start(who, case, config.clone(), ca_file.clone(), scratch.path())?);
    }
    for _ in 0..effort.rounds {
        for rig in &mut rigs {
            rig.round(effort);
        }
    }
    let mut seen = rigs.into_iter().map(Rig::finish);
    Ok([seen.next().unwrap_or_default(), seen.next().unwrap_or_default()])
}

impl Rig {
    fn start(
        who: &Who,
        case: &Case,
        config: Option<Arc<ServerConfig>>,
        ca_file: Option<PathBuf>,
        scratch: &Path,
    ) -> io::Result<Rig> {
        let notifications = if case.transport == Transport::Sse { NOTIFICATIONS } else { 0 };
        let load = Load { slots: case.outstanding, text_bytes: case.text_bytes, notifications };
        let control_plane = ControlPlane::start(load, config.clone())?;
        let mcp = McpServer::start(config)?;
        let path = if case.transport == Transport::Sse { SSE_PATH } else { JSON_PATH };
        let subject = match who {
            Who::Floor => {
                let target = match case.transport {
                    Transport::Stdio => "stdio".to_owned(),
                    _ => format!("{}{path}", mcp.addr()),
                };
                let mut args = vec![
                    "floor".to_owned(),
                    control_plane.addr().to_string(),
                    target,
                    case.outstanding.to_string(),
                ];
                args.extend(ca_file.map(|path| path.display().to_string()));
                Subject::floor(&args, scratch)?
            }
            Who::Client(binary) => {
                let target = match case.transport {
                    Transport::Stdio => {
                        let own = std::env::current_exe()?;
                        vec!["--mcp.command".to_owned(), format!("{} echo-stdio", own.display())]
                    }
                    _ => vec![
                        "--mcp.server-url".to_owned(),
                        format!("{}{path}", base_url(mcp.addr(), ca_file.as_deref())),
                    ],
                };
                let orders = ClientOrders {
                    binary: binary.clone(),
                    base_url: base_url(control_plane.addr(), ca_file.as_deref()),
                    target,
                    workers: case.outstanding,
                    ca_file,
                };
                Subject::client(&orders, scratch)?
            }
        };
        let seen = Seen::default();
        let mut rig = Rig {
            subject,
            control_plane,
            mcp,
            seen,
            rates: Vec::new(),
            cpu: Vec::new(),
            rig_cpu: Vec::new(),
            latencies: Vec::new(),
        };
        rig.settle();
        Ok(rig)
    }

    /// Waits for the first poll, then looks at the idle process.
    fn settle(&mut self) {
        let until = Instant::now() + Duration::from_secs(10);
        let polled = loop {
            if let Some(at) = self.control_plane.first_poll(Duration::from_millis(20)) {
                break Some(at);
            }
            if self.subject.exited().is_some() || Instant::now() > until {
                break None;
            }
        };
        let Some(polled) = polled else {
            self.seen.complaint = Some(format!("it never polled; it said: {}", self.subject.last_words()));
            return;
        };
        self.seen.first_poll_ms = (polled - self.subject.started).as_secs_f64() * 1e3;
        const START_WORK: Duration = Duration::from_millis(200);
        const IDLE: Duration = Duration::from_millis(300);
        std::thread::sleep(START_WORK);
        let before = self.subject.cpu_ns();
        std::thread::sleep(IDLE);
        let used = self.subject.cpu_ns().saturating_sub(before);
        self.seen.idle_cpu = used as f64 / IDLE.as_nanos() as f64;
        self.seen.idle_kib = self.subject.memory().resident;
    }

    fn round(&mut self, effort: Effort) {
        if self.seen.complaint.is_some() {
            return;
        }
        self.control_plane.start_load();
        std::thread::sleep(effort.warm_up);
        self.control_plane.measure(true);
        let mark = |rig: &Rig| {
            let completed = rig.control_plane.tally().completed;
            (Instant::now(), completed, rig.subject.cpu_ns(), own_cpu_ns())
        };
        let before = mark(self);
        std::thread::sleep(effort.window);
        let after = mark(self);
        self.control_plane.measure(false);
        const DRAIN_MAX: Duration = Duration::from_secs(10);
        self.seen.tally.lost += self.control_plane.stop_load(DRAIN_MAX);
        let calls = (after.1 - before.1) as f64;
        if calls == 0.0 {
            let why = self.control_plane.first_wrong().unwrap_or_else(|| self.subject.last_words());
            self.seen.complaint = Some(format!("no call was answered: {why}"));
            return;
        }
        self.rates.push(calls / (after.0 - before.0).as_secs_f64());
        self.cpu.push(after.2.saturating_sub(before.2) as f64 / 1e3 / calls);
        self.rig_cpu.push(after.3.saturating_sub(before.3) as f64 / 1e3 / calls);
        self.latencies.append(&mut self.control_plane.take_latencies());
    }

    fn finish(mut self) -> Seen {
        let Memory { peak, .. } = self.subject.memory();
        self.seen.peak_kib = peak;
        self.seen.mcp_connections = self.mcp.connections();
        let lost = self.seen.tally.lost;
        self.seen.tally = Tally { lost, ..self.control_plane.tally() };
        if self.seen.complaint.is_none() {
            self.seen.complaint = self.control_plane.first_wrong();
        }
        self.seen.calls_per_s = median(&mut self.rates);
        self.seen.cpu_us = median(&mut self.cpu);
        self.seen.rig_us = median(&mut self.rig_cpu);
        self.latencies.sort_unstable();
        self.seen.p50_us = percentile(&self.latencies, 0.50);
        self.seen.p99_us = percentile(&self.latencies, 0.99);
        const STOP_MAX: Duration = Duration::from_secs(20);
        self.seen.exit_code = self.subject.stop(STOP_MAX).and_then(|status| status.code());
        self.seen
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn percentile(sorted: &[u32], share: f64) -> u32 {
    let place = (sorted.len() as f64 * share) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}
