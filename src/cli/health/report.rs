//! What was found, as text and as JSON.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use serde::{Serialize, Serializer};

use crate::config::format_duration;

use super::locate::{Locator, read};

/// Longest PID file that is read, in bytes.
const PID_FILE_BYTES: u64 = 4096;

/// The whole report.
#[derive(Serialize)]
pub(super) struct Report {
    locator: Located,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<ProcessCheck>,
    #[serde(skip_serializing_if = "String::is_empty")]
    base_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ui_url: String,
    pub(super) healthz: Endpoint,
    pub(super) readyz: Endpoint,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) control_plane_poll: Option<Poll>,
    result: &'static str,
}

/// What the operator gave, and what came of it.
#[derive(Default, Serialize)]
struct Located {
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url_file: String,
    #[serde(skip_serializing_if = "is_zero")]
    port: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    resolved_base_url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// One of /healthz and /readyz.
#[derive(Default, Serialize)]
pub(super) struct Endpoint {
    pub(super) ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) url: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) status: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) body: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) error: String,
}

/// The last successful poll.
#[derive(Default, Serialize)]
pub(super) struct Poll {
    pub(super) ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) url: String,
    /// Unix seconds; 0 for none.
    #[serde(skip_serializing_if = "is_unset", serialize_with = "number")]
    pub(super) value: f64,
    #[serde(rename = "age_seconds", skip_serializing_if = "Option::is_none", serialize_with = "seconds")]
    pub(super) age: Option<Duration>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) error: String,
}

/// The process that must be running.
pub(super) enum Process {
    Pid(i32),
    File(PathBuf),
}

/// What became of it.
#[derive(Default, Serialize)]
pub(super) struct ProcessCheck {
    #[serde(skip_serializing_if = "is_none")]
    pid: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pid_file: String,
    running: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

impl Report {
    /// With nothing probed yet.
    pub(super) fn new(locator: Locator) -> Report {
        let base = locator.base_url();
        let mut located = match locator {
            Locator::Url(url) => Located { kind: "url", url, ..Located::default() },
            Locator::UrlFile(path) => {
                Located { kind: "url_file", url_file: path.display().to_string(), ..Located::default() }
            }
            Locator::Port(port) => Located { kind: "port", port, ..Located::default() },
        };
        let base_url = match base {
            Ok(base) => base,
            Err(error) => {
                located.error = error;
                String::new()
            }
        };
        located.resolved_base_url.clone_from(&base_url);
        Report {
            locator: located,
            process: None,
            ui_url: if base_url.is_empty() { String::new() } else { format!("{base_url}/ui") },
            base_url,
            healthz: Endpoint::default(),
            readyz: Endpoint::default(),
            control_plane_poll: None,
            result: "fail",
        }
    }

    /// The listener's base URL, if it could be found out.
    pub(super) fn base_url(&self) -> Option<&str> {
        (!self.base_url.is_empty()).then_some(self.base_url.as_str())
    }

    /// Whether everything that was asked for is fine.
    pub(super) fn is_ok(&self) -> bool {
        self.locator.error.is_empty()
            && self.healthz.ok
            && self.readyz.ok
            && self.process.as_ref().is_none_or(|process| process.running && process.error.is_empty())
            && self.control_plane_poll.as_ref().is_none_or(|poll| poll.ok)
    }

    /// As one JSON document.
    pub(super) fn json(&mut self) -> String {
        self.result = if self.is_ok() { "ok" } else { "fail" };
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// As lines.
    pub(super) fn text(&self) -> String {
        let located = &self.locator;
        let mut text = match located.kind {
            "url" => format!("Locator: url={}\n", located.url),
            "url_file" => format!("Locator: url_file={}\n", located.url_file),
            _ => format!("Locator: port={}\n", located.port),
        };
        let mut line = |label: &str, value: &str| {
            if !value.is_empty() {
                let _ = writeln!(text, "{label}: {value}");
            }
        };
        line("Locator error", &located.error);
        line("Base URL", &self.base_url);
        line("UI URL", &self.ui_url);
        line("Healthz", &self.healthz.text());
        line("Readyz", &self.readyz.text());
        line("Control-plane poll", &self.control_plane_poll.as_ref().map(Poll::text).unwrap_or_default());
        line("Process", &self.process.as_ref().map(ProcessCheck::text).unwrap_or_default());
        line("Result", verdict(self.is_ok()));
        text
    }
}

impl Endpoint {
    fn text(&self) -> String {
        let status = if self.status == 0 { String::new() } else { format!("HTTP {}", self.status) };
        let told = if self.error.is_empty() { &self.body } else { &self.error };
        joined(&[verdict(self.ok), &self.url, &status, &told.replace('\n', " ")])
    }
}

impl Poll {
    fn text(&self) -> String {
        let value = if is_unset(&self.value) {
            String::new()
        } else {
            format!("last_success_unix_seconds={}", self.value)
        };
        let age = self.age.map(|age| format!("age={}", format_duration(age))).unwrap_or_default();
        joined(&[verdict(self.ok), &self.url, &value, &age, &self.error])
    }
}

impl Process {
    /// Whether it runs: it can be signalled, or that is refused for lack of permission.
    pub(super) fn check(self) -> ProcessCheck {
        let mut check = ProcessCheck::default();
        let pid = match self {
            Process::Pid(pid) => Ok(pid),
            Process::File(path) => {
                check.pid_file = path.display().to_string();
                read(&path, PID_FILE_BYTES).and_then(|text| {
                    let pid: Option<i32> = text.trim().parse().ok();
                    pid.filter(|pid| *pid > 0)
                        .ok_or_else(|| format!("{} holds no process id", path.display()))
                })
            }
        };
        match pid {
            Ok(pid) => {
                check.pid = pid;
                let tested = Pid::from_raw(pid).map(test_kill_process);
                check.running = matches!(tested, Some(Ok(()) | Err(rustix::io::Errno::PERM)));
            }
            Err(error) => check.error = error,
        }
        check
    }
}

impl ProcessCheck {
    fn text(&self) -> String {
        let ok = self.running && self.error.is_empty();
        let pid = if self.pid == 0 { String::new() } else { format!("pid={}", self.pid) };
        let file =
            if self.pid_file.is_empty() { String::new() } else { format!("pid_file={}", self.pid_file) };
        let gone = if self.error.is_empty() && !ok { "not running" } else { "" };
        joined(&[verdict(ok), &pid, &file, &self.error, gone])
    }
}

fn verdict(ok: bool) -> &'static str {
    if ok { "PASS" } else { "FAIL" }
}

fn joined(parts: &[&str]) -> String {
    parts.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" | ")
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

fn is_none(pid: &i32) -> bool {
    *pid == 0
}

fn is_unset(value: &f64) -> bool {
    *value <= 0.0
}

/// Whole numbers without a fraction.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && *value < 9e15 {
        serializer.serialize_u64(*value as u64)
    } else {
        serializer.serialize_f64(*value)
    }
}

fn seconds<S: Serializer>(age: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(age.unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_lines_that_apply() {
        let mut report = Report::new(Locator::Port(8080));
        report.healthz = Endpoint {
            ok: true,
            url: "http://127.0.0.1:8080/healthz".into(),
            status: 200,
            body: "live".into(),
            error: String::new(),
        };
        report.readyz = Endpoint {
            url: "http://127.0.0.1:8080/readyz".into(),
            status: 503,
            body: "oauth discovery pending".into(),
            ..Endpoint::default()
        };
        report.process = Some(ProcessCheck {
            pid: 4242,
            pid_file: "/run/tc.pid".into(),
            running: true,
            error: String::new(),
        });
        assert_eq!(
            report.text(),
            "Locator: port=8080\n\
             Base URL: http://127.0.0.1:8080\n\
             UI URL: http://127.0.0.1:8080/ui\n\
             Healthz: PASS | http://127.0.0.1:8080/healthz | HTTP 200 | live\n\
             Readyz: FAIL | http://127.0.0.1:8080/readyz | HTTP 503 | oauth discovery pending\n\
             Process: PASS | pid=4242 | pid_file=/run/tc.pid\n\
             Result: FAIL\n"
        );
        report.readyz.ok = true;
        assert!(report.is_ok());
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!((&json["result"], &json["locator"]["port"]), (&"ok".into(), &8080.into()));
        assert!(json.get("control_plane_poll").is_none() && json["locator"].get("url").is_none());
    }

    #[test]
    fn a_missing_url_file_is_reported() {
        let mut report = Report::new(Locator::UrlFile("/nowhere/h.url".into()));
        assert!(report.base_url().is_none() && !report.is_ok());
        let text = report.text();
        assert!(text.contains("Locator error: read /nowhere/h.url: no such file or directory\n"), "{text}");
        assert!(text.ends_with("Healthz: FAIL\nReadyz: FAIL\nResult: FAIL\n"), "{text}");
        assert!(report.json().contains("\"result\": \"fail\""));
    }

    #[test]
    fn numbers_keep_their_shape() {
        let poll =
            Poll { ok: true, value: 1_750_000_000.0, age: Some(Duration::from_secs(90)), ..Poll::default() };
        assert_eq!(poll.text(), "PASS | last_success_unix_seconds=1750000000 | age=1m30s");
        let json = serde_json::to_string(&poll).unwrap();
        assert_eq!(json, r#"{"ok":true,"value":1750000000,"age_seconds":90}"#);
        assert_eq!(
            serde_json::to_string(&Poll { value: 1.5, ..Poll::default() }).unwrap(),
            r#"{"ok":false,"value":1.5}"#
        );
    }
}
