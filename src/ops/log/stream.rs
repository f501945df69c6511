//! The sink that writes lines to standard output, standard error or a file.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use simplelog::{Config, SharedLogger};
use time::{OffsetDateTime, UtcOffset};

use super::admission::{Admission, admit};
use super::format::{Fields, Shape, push_line};
use crate::redact::KnownSecrets;

/// How long a line waits for a destination that does not take it; then lines are dropped.
pub const STALL_LIMIT: Duration = Duration::from_millis(200);
/// What a pipe that polls as writable takes without blocking (`PIPE_BUF` on Linux).
const CHUNK_BYTES: usize = 4096;
/// A line buffer that grew beyond this is not kept.
const KEPT_BUFFER_BYTES: usize = 16 * 1024;

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Where lines go.
pub(super) enum Destination {
    Stdout,
    Stderr,
    /// Another file may take its place at any time.
    File(Arc<Mutex<File>>),
}

impl Destination {
    /// A file of its own.
    #[cfg(test)]
    fn of(file: File) -> Destination {
        Destination::File(Arc::new(Mutex::new(file)))
    }

    fn with_fd<T>(&self, use_it: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        match self {
            Destination::Stdout => use_it(io::stdout().as_fd()),
            Destination::Stderr => use_it(io::stderr().as_fd()),
            Destination::File(file) => use_it(file.lock().unwrap_or_else(PoisonError::into_inner).as_fd()),
        }
    }

    /// Whether systemd's journal reads it: `JOURNAL_STREAM` holds device and inode of what a service was
    /// started with, which a redirection replaces.
    fn is_journal(&self) -> bool {
        let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
        let found = self.with_fd(|fd| fstat(fd));
        found.is_ok_and(|found| named == format!("{}:{}", found.st_dev, found.st_ino))
    }
}

/// The level as `sd-daemon(3)` has it before a line; the journal takes it off again.
fn journal_prefix(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

/// Formats events and writes them, one line each.
pub(super) struct StreamSink {
    shape: Shape,
    fields: Fields,
    destination: Destination,
    /// Events below it are for other sinks, whatever the live level.
    least: LevelFilter,
    /// Pipes, sockets and terminals: their reader may stall.
    can_stall: bool,
    /// Whether lines begin with their level for the journal.
    journal: bool,
    /// Hidden in every line.
    secrets: KnownSecrets,
    /// Orders the lines. Held across one write, which a stalled reader delays by [`STALL_LIMIT`] once.
    flow: Mutex<Flow>,
}

#[derive(Default)]
struct Flow {
    stalled: bool,
    dropped: u64,
    /// The last line lost its end: a new line must come first.
    cut: bool,
}

impl StreamSink {
    pub(super) fn new(shape: Shape, fields: Fields, destination: Destination) -> StreamSink {
        let can_stall = destination.with_fd(|fd| {
            fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile)
        });
        let journal = destination.is_journal();
        StreamSink {
            shape,
            fields,
            destination,
            least: LevelFilter::Trace,
            can_stall,
            journal,
            secrets: KnownSecrets::default(),
            flow: Mutex::default(),
        }
    }

    /// With nothing below `level`.
    pub(super) fn at_least(self, level: LevelFilter) -> StreamSink {
        StreamSink { least: level, ..self }
    }

    /// Hides `secrets` in every line.
    pub(super) fn without(self, secrets: KnownSecrets) -> StreamSink {
        StreamSink { secrets, ..self }
    }

    fn write(&self, record: &Record<'_>, component: Option<&str>) {
        // Taken, not borrowed: the `Display` of a value may log an event of its own.
        let mut line = LINE.take();
        line.clear();
        self.push(&mut line, record, component);
        self.write_line(&self.secrets.hide(&line));
        if line.capacity() <= KEPT_BUFFER_BYTES {
            LINE.set(line);
        }
    }

    fn push(&self, line: &mut String, record: &Record<'_>, component: Option<&str>) {
        if self.journal {
            line.push_str(journal_prefix(record.level()));
        }
        push_line(line, self.shape, now(), record, component, &self.fields);
    }

    fn write_line(&self, line: &str) {
        let mut flow = self.flow.lock().unwrap_or_else(PoisonError::into_inner);
        self.destination.with_fd(|fd| {
            if self.can_stall {
                let patience = if flow.stalled { Duration::ZERO } else { STALL_LIMIT };
                if !takes_more(fd, patience) {
                    flow.stalled = true;
                    flow.dropped += 1;
                    return;
                }
                flow.stalled = false;
                let mut report = String::new();
                if std::mem::take(&mut flow.cut) {
                    report.push('\n');
                }
                if flow.dropped > 0 {
                    report += &self.drop_report(std::mem::take(&mut flow.dropped));
                }
                flow.cut = !self.write_all(fd, report.as_bytes());
            }
            if !flow.cut {
                flow.cut = !self.write_all(fd, line.as_bytes());
            }
            flow.stalled = flow.cut;
            flow.dropped += u64::from(flow.cut);
        });
    }

    fn drop_report(&self, dropped: u64) -> String {
        let mut line = String::new();
        let fields = [("dropped_events", dropped)];
        self.push(
            &mut line,
            &Record::builder()
                .level(Level::Warn)
                .args(format_args!("log destination stalled; events were dropped"))
                .key_values(&fields)
                .build(),
            None,
        );
        line
    }

    /// False when the destination stalled in the middle of it. Any other failure (closed stream, full
    /// disk) loses the line: there is nowhere to report it.
    fn write_all(&self, fd: BorrowedFd<'_>, mut bytes: &[u8]) -> bool {
        let mut first = true;
        while !bytes.is_empty() {
            let chunk = if self.can_stall { &bytes[..bytes.len().min(CHUNK_BYTES)] } else { bytes };
            if self.can_stall && !first && !takes_more(fd, STALL_LIMIT) {
                return false;
            }
            first = false;
            match rustix::io::write(fd, chunk) {
                Ok(written) => bytes = &bytes[written..],
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => return true,
            }
        }
        true
    }
}

/// Whether `fd` can be written to within `patience`; an error counts, for the write to find.
fn takes_more(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
    loop {
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match poll(&mut fds, left.as_ref()) {
            Ok(ready) => return ready > 0,
            // A signal is no stall: whichever thread it meets must not lose its line.
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// The time on the clocks of this host.
pub(super) fn now() -> OffsetDateTime {
    local_time(OffsetDateTime::now_utc())
}

/// The same moment on the clocks of this host.
pub(crate) fn local_time(at: OffsetDateTime) -> OffsetDateTime {
    at.to_offset(UtcOffset::local_offset_at(at).unwrap_or(UtcOffset::UTC))
}

impl Log for StreamSink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level() && metadata.level() <= self.least
    }

    fn log(&self, record: &Record<'_>) {
        let component = match admit(record) {
            Admission::Dropped => return,
            Admission::Plain => None,
            Admission::Component(name) => Some(name),
        };
        if !self.enabled(record.metadata()) {
            return;
        }
        self.write(record, component);
    }

    fn flush(&self) {}
}

impl SharedLogger for StreamSink {
    fn level(&self) -> LevelFilter {
        // The live level decides, not this one.
        LevelFilter::Trace
    }

    fn config(&self) -> Option<&Config> {
        None
    }

    fn as_log(self: Box<Self>) -> Box<dyn Log> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};
    use std::time::Instant;

    fn event(sink: &StreamSink, message: &str) {
        sink.write(&Record::builder().target("health").args(format_args!("{message}")).build(), None);
    }

    #[test]
    fn a_reader_that_stalls_delays_one_event_and_the_loss_is_reported() {
        let (mut reader, writer) = io::pipe().unwrap();
        let destination = Destination::of(File::from(std::os::fd::OwnedFd::from(writer)));
        let sink = StreamSink::new(Shape::Plain, Fields::default(), destination);
        let long = "x".repeat(1000);
        let start = Instant::now();
        (0..200).for_each(|_| event(&sink, &long));
        let spent = start.elapsed();
        assert!(spent >= STALL_LIMIT && spent < STALL_LIMIT * 4, "{spent:?}");
        let mut taken = vec![0; 32 * 1024];
        reader.read_exact(&mut taken).unwrap();
        event(&sink, "after");
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        let lines: Vec<&str> = rest.lines().collect();
        assert!(
            lines[lines.len() - 2].contains("WARN log destination stalled; events were dropped"),
            "{lines:?}"
        );
        assert!(lines[lines.len() - 2].contains("dropped_events="));
        assert!(lines[lines.len() - 1].ends_with(" INFO after"));
    }

    #[test]
    fn a_closed_reader_is_no_reason_to_fail() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let destination = Destination::of(File::from(std::os::fd::OwnedFd::from(writer)));
        let sink = StreamSink::new(Shape::Json, Fields::default(), destination);
        event(&sink, "nobody reads this");
    }

    #[test]
    fn a_long_line_reaches_a_file_in_one_piece() {
        let mut file = tempfile::tempfile().unwrap();
        let sink =
            StreamSink::new(Shape::StructText, Fields::default(), Destination::of(file.try_clone().unwrap()));
        event(&sink, &"y".repeat(100_000));
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("time=") && text.len() > 100_000 && text.ends_with('\n'));
    }
}
