//! The support bundle: one archive with what a supporter needs and nothing secret.
//!
//! Invariant: whatever goes in has been redacted by the rule of its kind, and the known secrets of this
//! process are hidden once more in the finished text of every member.

mod archive;
mod routes;
mod runtime;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use time::{OffsetDateTime, UtcOffset};

use self::archive::Member;
use self::runtime::{list, object};
use super::admin::Admin;
use super::log::{Ring, time_text};
use crate::config::{Config, Environment, format_duration};
use crate::redact;

pub use self::archive::Format;
pub use self::routes::BundleRoutes;

/// The window when none is asked for, and the longest.
const DEFAULT_MINUTES: u64 = 30;
const MAX_MINUTES: u64 = 24 * 60;
/// Text of all log events of a bundle; the newest are kept.
const LOG_BYTES: usize = 16 * 1024 * 1024;
/// Of the thread that makes a bundle.
const STACK_BYTES: usize = 4 * 1024 * 1024;
/// Events taken from the ring at a time.
const BATCH: usize = 256;

const LOGS: &str = "tunnel-client.logs.ndjson";
const METRICS: &str = "tunnel-client.metrics.prom";
const README: &str = "\
Support bundle of tunnel-client.

  manifest.json               what is in here, for which time, and how the client is configured
  tunnel-client.runtime.yaml  command line, environment and configuration
  tunnel-client.logs.ndjson   the newest log events, one JSON object a line
  tunnel-client.metrics.prom  the metrics at the time of the export
  admin/*.json                state, routes, certificates, OAuth and Harpoon as the local API shows them

Credentials are replaced by [REDACTED]: keys, header values, cookies, tokens, user info and queries of
URLs, and every secret of the configuration wherever it stood. With raw HTTP logging or payload capture
on, payloads are in here all the same: look through the files before you hand them on.
";

/// Gives the text of a scrape, if there is one.
pub type Scrape = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Where the parts of a bundle come from.
pub struct Sources {
    /// Log events.
    pub ring: Arc<Ring>,
    /// Metrics.
    pub metrics: Scrape,
    /// Admin snapshots, and the secrets that are hidden everywhere.
    pub admin: Arc<Admin>,
    /// The configuration.
    pub config: Config,
    /// The words behind the program's name.
    pub arguments: Vec<String>,
    /// The environment.
    pub environment: Environment,
}

/// Makes bundles.
pub struct Bundle {
    sources: Sources,
    /// One bundle at a time: each may take tens of megabytes for a moment.
    making: Mutex<()>,
}

/// A finished bundle.
pub struct Archive {
    /// Suggested name.
    pub file_name: String,
    /// Media type.
    pub media_type: &'static str,
    /// Content.
    pub bytes: Vec<u8>,
}

/// Why there is no bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportError {
    /// The metrics could not be captured.
    Metrics,
    /// The archive could not be built.
    Build,
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExportError::Metrics => "capture metrics snapshot",
            ExportError::Build => "build logs archive",
        })
    }
}

impl std::error::Error for ExportError {}

/// The window and format that a query (`minutes=…&format=zip`) asks for; what makes no sense counts as
/// not given.
pub fn asked(query: &str) -> (Duration, Format) {
    let value = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.trim().to_owned())
    };
    let minutes =
        value("minutes").filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let minutes = match minutes.map(|text| text.parse().unwrap_or(MAX_MINUTES)) {
        None | Some(0) => DEFAULT_MINUTES,
        Some(minutes) => minutes.min(MAX_MINUTES),
    };
    let zip = value("format").is_some_and(|format| format.eq_ignore_ascii_case("zip"));
    (Duration::from_secs(minutes * 60), if zip { Format::Zip } else { Format::TarGz })
}

impl Bundle {
    /// Of these sources.
    pub fn new(sources: Sources) -> Bundle {
        Bundle { sources, making: Mutex::new(()) }
    }

    /// A bundle with the log events of the last `window`.
    ///
    /// # Errors
    /// [`ExportError`]; nothing has been made then.
    pub fn export(&self, format: Format, window: Duration) -> Result<Archive, ExportError> {
        // On a stack of its own: those of the listener's threads are small, compression wants more.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("bundle".into()).stack_size(STACK_BYTES);
            let made = thread.spawn_scoped(scope, || self.make(format, window));
            made.map_err(|_| ExportError::Build)?.join().unwrap_or(Err(ExportError::Build))
        })
    }

    fn make(&self, format: Format, window: Duration) -> Result<Archive, ExportError> {
        let _one = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let sources = &self.sources;
        let now = OffsetDateTime::now_utc();
        let metrics = (sources.metrics)().ok_or(ExportError::Metrics)?;
        let events = Events::of(&sources.ring, now - window);
        let runtime = runtime::snapshot(&sources.config, &sources.arguments, &sources.environment);

        let mut members = vec![
            self.member("README.txt", README),
            self.member("tunnel-client.runtime.yaml", &yaml::document(&runtime)),
            self.member(LOGS, &events.text()),
            self.member(METRICS, &metrics),
        ];
        let admin = &sources.admin;
        let harpoon = object([
            ("status", admin.harpoon_status()),
            ("targets", admin.harpoon_targets()["targets"].take()),
            ("calls", admin.harpoon_calls(None, usize::MAX)["calls"].take()),
        ]);
        for (name, mut snapshot) in [
            ("admin/status.json", admin.status()),
            ("admin/system.json", admin.system()),
            ("admin/oauth.json", admin.oauth()),
            ("admin/harpoon.json", harpoon),
        ] {
            // It leaves the host: of URLs less is shown than to whoever asks here.
            redact::admin_json(&mut snapshot);
            members.push(self.member(name, &pretty(&snapshot)?));
        }
        let mut files = vec!["manifest.json".to_owned()];
        files.extend(members.iter().map(|member| member.name.clone()));
        let manifest = object([
            ("generated_at", time_text(now).into()),
            ("window_start", time_text(now - window).into()),
            ("window_end", time_text(now).into()),
            ("window", format_duration(window).into()),
            ("event_count", events.lines.len().into()),
            ("events_left_out", events.left_out.into()),
            ("log_buffer_capacity", sources.ring.capacity().into()),
            ("metrics_bytes", metrics.len().into()),
            ("redacted", true.into()),
            ("files", list(files)),
            ("runtime", runtime),
        ]);
        members.insert(0, self.member("manifest.json", &pretty(&manifest)?));
        let bytes = archive::pack(format, &members, now).map_err(|_| ExportError::Build)?;
        Ok(Archive {
            file_name: format!("tunnel-client-logs-{}.{}", compact(now), format.extension()),
            media_type: format.media_type(),
            bytes,
        })
    }

    fn member(&self, name: &str, text: &str) -> Member {
        Member {
            name: name.to_owned(),
            content: self.sources.admin.secrets().hide(text).into_owned().into_bytes(),
        }
    }
}

/// The newest events of a window, as lines.
#[derive(Default)]
struct Events {
    lines: VecDeque<String>,
    bytes: usize,
    /// Older ones of the window that would have made the bundle too large.
    left_out: usize,
}

impl Events {
    fn of(ring: &Arc<Ring>, since: OffsetDateTime) -> Events {
        let (mut events, mut seen, last) = (Events::default(), 0, ring.last_seq());
        while seen < last {
            let batch = ring.after(seen, BATCH);
            let Some(newest) = batch.last() else { break };
            seen = newest.seq;
            for event in batch.iter().filter(|event| event.seq <= last && event.time >= since) {
                let mut line = String::new();
                event.push_json(&mut line);
                events.push(line + "\n");
            }
        }
        events
    }

    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > LOG_BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
            self.left_out += 1;
        }
    }

    fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect()
    }
}

fn pretty(value: &Value) -> Result<String, ExportError> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|_| ExportError::Build)
}

/// `20260102T030405Z`
fn compact(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second())
}
