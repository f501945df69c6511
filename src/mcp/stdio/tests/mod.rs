//! Exchanges with real children.

mod child;
mod endings;
mod lifecycle;
mod messages;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::jsonrpc::Message;
use crate::mcp::{Exchange, Failure, Outcome};
use crate::net::{Cancel, Deadline, HeaderList};

use super::{StdioBinding, StdioTarget};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// A binding whose child is this test binary.
struct Rig {
    binding: Arc<StdioBinding>,
    cancel: Cancel,
    record: PathBuf,
    _dir: TempDir,
}

/// How an exchange went.
#[derive(Debug)]
struct Report {
    outcome: Outcome,
    events: Vec<String>,
}

impl Rig {
    /// Lifecycle care and bridge off: the child sees what is sent and nothing else.
    fn plain() -> Rig {
        Rig::with("normal", |target| {
            target.lifecycle_care = false;
            target.bridge = false;
        })
    }

    /// With lifecycle care and a child of these manners.
    fn careful(manners: &str) -> Rig {
        Rig::with(manners, |_| {})
    }

    fn with(manners: &str, change: impl FnOnce(&mut StdioTarget)) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let record = dir.path().join("record");
        std::fs::write(&record, "").unwrap();
        let argv = [
            "env".to_owned(),
            format!("{}={}", child::RECORD, record.display()),
            format!("{}={manners}", child::MANNERS),
            std::env::current_exe().unwrap().display().to_string(),
            "--exact".to_owned(),
            "--nocapture".to_owned(),
            child::TEST_NAME.to_owned(),
        ];
        let mut target = StdioTarget::new("main", "test child", argv.to_vec());
        target.restart_min = Duration::from_millis(20);
        change(&mut target);
        let cancel = Cancel::new();
        let binding = StdioBinding::new(target, &cancel);
        binding.start().unwrap();
        Rig { binding: Arc::new(binding), cancel, record, _dir: dir }
    }

    fn send(&self, json: &str) -> Report {
        self.send_within(json, PATIENCE)
    }

    fn send_within(&self, json: &str, time: Duration) -> Report {
        send(&self.binding, json, Deadline::after(time))
    }

    /// Sends from a thread of its own.
    fn send_aside(&self, json: &str) -> std::thread::JoinHandle<Report> {
        let (binding, json) = (Arc::clone(&self.binding), json.to_owned());
        std::thread::spawn(move || send(&binding, &json, Deadline::after(PATIENCE)))
    }

    /// The lines that the child has read so far.
    fn record(&self) -> Vec<String> {
        std::fs::read_to_string(&self.record).unwrap().lines().map(str::to_owned).collect()
    }

    /// Waits until the child has read a line that holds `part`.
    fn wait_for_record(&self, part: &str) {
        wait_until(|| self.record().iter().any(|line| line.contains(part)));
    }

    fn pid(&self) -> u32 {
        self.binding.health().pid.unwrap()
    }
}

fn send(binding: &StdioBinding, json: &str, deadline: Deadline) -> Report {
    let message = Message::parse(json).unwrap();
    let headers = HeaderList::new();
    let mut events = Vec::new();
    let exchange = Exchange { message: &message, headers: &headers, deadline };
    let outcome = binding.exchange(&exchange, &mut |event| {
        assert_eq!(event.head.status, 200);
        events.push(event.json.to_owned());
    });
    Report { outcome, events }
}

impl Report {
    fn answer(&self) -> &str {
        match &self.outcome {
            Outcome::Answered(answer) => {
                assert_eq!(answer.head.status, 200);
                &answer.json
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_accepted(&self) -> bool {
        matches!(&self.outcome, Outcome::Accepted(head) if head.status == 200)
    }

    /// Status, source and kind of a failure.
    fn failure(&self) -> (u16, &'static str, &'static str) {
        match &self.outcome {
            Outcome::Failed(Failure::Broken { source, kind, .. }) => (502, source.label(), kind.label()),
            Outcome::Failed(Failure::Lifecycle { status, source, kind, .. }) => {
                (*status, source.label(), kind.label())
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_expired(&self) -> bool {
        matches!(self.outcome, Outcome::Expired)
    }
}

/// Looks again and again until `condition` holds; for what announces itself to nobody.
fn wait_until(condition: impl Fn() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "waited in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A binding for a shell script.
fn shell(script: &str) -> StdioTarget {
    let mut target =
        StdioTarget::new("main", "sh", vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]);
    target.restart_min = Duration::from_millis(20);
    target.lifecycle_care = false;
    target.bridge = false;
    target
}

fn started(target: StdioTarget) -> StdioBinding {
    let binding = StdioBinding::new(target, &Cancel::new());
    binding.start().unwrap();
    binding
}

fn call(id: &str, method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
}

fn answer(id: &str, result: &str) -> String {
    format!(r#"{{"id":{id},"jsonrpc":"2.0","result":{result}}}"#)
}

/// Whether a process exists, zombies included.
fn is_alive(pid: u32) -> bool {
    rustix::process::test_kill_process(rustix::process::Pid::from_raw(pid as i32).unwrap()).is_ok()
}
