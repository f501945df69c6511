//! The process under test: started, watched through `/proc`, stopped.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::control_plane::TUNNEL_ID;

/// How the client shall be started.
#[derive(Clone, Debug)]
pub(crate) struct ClientOrders {
    pub(crate) binary: PathBuf,
    pub(crate) base_url: String,
    /// `--mcp.server-url URL`, `--mcp.command LINE`, or both.
    pub(crate) target: Vec<String>,
    pub(crate) workers: usize,
    pub(crate) ca_file: Option<PathBuf>,
}

pub(crate) struct Subject {
    child: Child,
    pub(crate) started: Instant,
    errors: PathBuf,
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

impl Subject {
    /// Starts the client with nothing in its environment but the key; its standard error goes to a file.
    pub(crate) fn client(orders: &ClientOrders, scratch: &Path) -> io::Result<Subject> {
        let mut command = Command::new(&orders.binary);
        command
            .arg("run")
            .args(["--control-plane.base-url", &orders.base_url, "--control-plane.tunnel-id", TUNNEL_ID])
            .args(["--control-plane.api-key", "env:BENCH_KEY"])
            .args(&orders.target)
            .args(["--mcp.max-concurrent-requests", &orders.workers.to_string()])
            .args(["--control-plane.max-inflight", &orders.workers.to_string()])
            .args(["--health.listen-addr", "127.0.0.1:0"])
            .arg("--health.url-file")
            .arg(scratch.join("health-url"));
        if let Some(ca_file) = &orders.ca_file {
            command.arg("--ca-bundle").arg(ca_file);
        }
        command.env_clear().env("BENCH_KEY", "bench-key").env("HOME", scratch).env("PATH", "/usr/bin:/bin");
        Subject::start(command, scratch.join("client-stderr"))
    }

    /// Starts this executable again with `args`.
    pub(crate) fn floor(args: &[String], scratch: &Path) -> io::Result<Subject> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(args);
        Subject::start(command, scratch.join("floor-stderr"))
    }

    fn start(mut command: Command, errors: PathBuf) -> io::Result<Subject> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&errors)?);
        let started = Instant::now();
        let child = command.spawn()?;
        Ok(Subject { child, started, errors })
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of what it wrote to standard error.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.errors).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(600)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }

    /// Processor time used so far, in nanoseconds: of its living threads as the scheduler counts it, or, when
    /// threads have ended meanwhile, of the whole process in clock ticks.
    pub(crate) fn cpu_ns(&self) -> u64 {
        cpu_ns(self.child.id())
    }

    pub(crate) fn memory(&self) -> Memory {
        memory(self.child.id())
    }

    /// Open descriptors and threads.
    pub(crate) fn held(&self) -> (usize, usize) {
        let count =
            |what: &str| fs::read_dir(format!("/proc/{}/{what}", self.child.id())).map_or(0, Iterator::count);
        (count("fd"), count("task"))
    }

    /// Asks it to end, waits for at most `wait`, then kills it. `None` when it had to be killed.
    pub(crate) fn stop(mut self, wait: Duration) -> Option<ExitStatus> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if let Some(status) = self.exited() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of this process, in nanoseconds.
pub(crate) fn own_cpu_ns() -> u64 {
    cpu_ns(std::process::id())
}

fn cpu_ns(pid: u32) -> u64 {
    // Linux reports these times in units of 10 ms on every platform that matters here.
    const TICK_NS: u64 = 10_000_000;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
    let whole = ticks.sum::<u64>() * TICK_NS;
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let living: u64 = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    if whole > living + 3 * TICK_NS { whole } else { living }
}

fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Memory { resident: field("VmRSS:"), peak: field("VmHWM:") }
}
