//! Installing the sinks, once per process, and the live level.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use log::LevelFilter;
use simplelog::{CombinedLogger, SharedLogger};

use super::format::{Fields, Shape};
use super::ring::{Ring, RingSink};
use super::stream::{Destination, StreamSink};
use crate::config::{Log, LogFormat, LogLevel};
use crate::ops::reason;

/// Why logging could not be set up.
#[derive(Debug)]
pub enum LogError {
    /// The log file could not be opened.
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something else in this process has installed a logger.
    Installed,
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Open { path, error } => {
                write!(f, "open log file: open {}: {}", path.display(), reason(error))
            }
            LogError::Installed => write!(f, "open log output: a logger is installed already"),
        }
    }
}

impl std::error::Error for LogError {}

/// The installed log: its level, its ring and its file.
#[derive(Clone)]
pub struct LogHandle {
    ring: Option<Arc<Ring>>,
    file: Option<LogFile>,
}

#[derive(Clone)]
struct LogFile {
    path: PathBuf,
    open: Arc<Mutex<File>>,
}

impl fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogHandle").field("ring", &self.ring.is_some()).finish()
    }
}

/// Installs the log, for good. Every event carries `fields`; `ring`, when given, gets the events
/// that pass the level.
///
/// Without a format and a file, plain lines go to standard error; with a format, to standard output;
/// with a file, to that file alone (as `struct-text` unless a format is set).
///
/// # Errors
/// [`LogError::Open`] when the file cannot be opened, [`LogError::Installed`] on a second call.
pub fn install(settings: &Log, fields: Fields, ring: Option<Arc<Ring>>) -> Result<LogHandle, LogError> {
    let shape = shape(settings);
    install_to(
        settings,
        fields,
        ring,
        if shape == Shape::Plain { Destination::Stderr } else { Destination::Stdout },
        LevelFilter::Trace,
    )
}

/// Like [`install`], but only errors are written, as plain lines on standard error: for a terminal that tells
/// the rest in words of its own. `ring` still gets everything.
///
/// # Errors
/// As [`install`].
pub fn install_beside_status(
    settings: &Log,
    fields: Fields,
    ring: Option<Arc<Ring>>,
) -> Result<LogHandle, LogError> {
    let plain = Log { format: None, file: None, ..settings.clone() };
    install_to(&plain, fields, ring, Destination::Stderr, LevelFilter::Error)
}

/// Like [`install`], but for commands whose standard output belongs to their results: lines go to
/// standard error in every format, unless a file is set.
///
/// # Errors
/// As [`install`].
pub fn install_on_stderr(
    settings: &Log,
    fields: Fields,
    ring: Option<Arc<Ring>>,
) -> Result<LogHandle, LogError> {
    install_to(settings, fields, ring, Destination::Stderr, LevelFilter::Trace)
}

/// Installs plain lines on standard error from `level` on, for a process that is no client and has no
/// fields of its own.
///
/// # Errors
/// [`LogError::Installed`] when there is a log already; it is left as it is.
pub fn install_plain(level: LevelFilter) -> Result<(), LogError> {
    let sink = StreamSink::new(Shape::Plain, Fields::default(), Destination::Stderr);
    log::set_boxed_logger(Box::new(sink)).map_err(|_| LogError::Installed)?;
    log::set_max_level(level);
    Ok(())
}

fn install_to(
    settings: &Log,
    fields: Fields,
    ring: Option<Arc<Ring>>,
    stream: Destination,
    least: LevelFilter,
) -> Result<LogHandle, LogError> {
    let file = settings.file.as_ref().map(|path| {
        let file = open(path).map_err(|error| LogError::Open { path: path.clone(), error })?;
        Ok(LogFile { path: path.clone(), open: Arc::new(Mutex::new(file)) })
    });
    let file = file.transpose()?;
    let destination = file.as_ref().map_or(stream, |file| Destination::File(Arc::clone(&file.open)));
    let mut sinks: Vec<Box<dyn SharedLogger>> =
        vec![Box::new(StreamSink::new(shape(settings), fields.clone(), destination).at_least(least))];
    if let Some(ring) = &ring {
        sinks.push(Box::new(RingSink::new(Arc::clone(ring), fields)));
    }
    // `CombinedLogger::init` would change the level even when it fails.
    log::set_boxed_logger(CombinedLogger::new(sinks)).map_err(|_| LogError::Installed)?;
    log::set_max_level(filter(settings.level));
    Ok(LogHandle { ring, file })
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn shape(settings: &Log) -> Shape {
    match settings.format {
        Some(LogFormat::Json) => Shape::Json,
        Some(LogFormat::StructText) => Shape::StructText,
        None if settings.file.is_some() => Shape::StructText,
        None => Shape::Plain,
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Warn => LevelFilter::Warn,
        LogLevel::Error => LevelFilter::Error,
    }
}

impl LogHandle {
    /// The live level of every sink.
    pub fn level(&self) -> LogLevel {
        match log::max_level() {
            LevelFilter::Off | LevelFilter::Error => LogLevel::Error,
            LevelFilter::Warn => LogLevel::Warn,
            LevelFilter::Info => LogLevel::Info,
            LevelFilter::Debug | LevelFilter::Trace => LogLevel::Debug,
        }
    }

    /// Changes the live level of every sink at once.
    pub fn set_level(&self, level: LogLevel) {
        log::set_max_level(filter(level));
    }

    /// Whether the log goes to a file, which [`LogHandle::reopen`] can open anew.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Opens the log file anew, for whoever has renamed it away to rotate it. Should that fail, the log goes on
    /// in the old file.
    pub fn reopen(&self) {
        let Some(file) = &self.file else { return };
        let path = file.path.display();
        match open(&file.path) {
            Ok(new) => {
                *file.open.lock().unwrap_or_else(PoisonError::into_inner) = new;
                log::info!(target: "process", path:%; "log file reopened");
            }
            Err(error) => {
                log::warn!(target: "process", path:%, error:% = reason(&error); "log file could not be reopened");
            }
        }
    }

    /// The newest events, when a ring was installed.
    pub fn ring(&self) -> Option<&Arc<Ring>> {
        self.ring.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// The one test of this process that installs a logger.
    #[test]
    fn the_installed_log_appends_to_its_private_file_and_follows_the_live_level() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut settings =
            Log { level: LogLevel::Info, format: None, file: Some(path.clone()), http_raw_unsafe: false };
        settings.file = Some(dir.path().join("missing").join("log"));
        let refused = install(&settings, Fields::default(), None).err().unwrap().to_string();
        assert!(refused.starts_with("open log file: open "), "{refused}");
        assert!(refused.ends_with("/missing/log: no such file or directory"), "{refused}");

        std::fs::write(&path, "before\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        settings.file = Some(path.clone());
        let ring = Arc::new(Ring::new(2, Arc::new(|_, text| text.replace("hidden", "[REDACTED]").into())));
        let fields = Fields { client_instance_id: "abc".into(), tunnel_id: None };
        let log = install(&settings, fields, Some(ring)).unwrap();
        assert!(matches!(install(&settings, Fields::default(), None), Err(LogError::Installed)));
        log::debug!(target: "health", "below the level");
        log::info!(target: "health", addr = "x hidden"; "one");
        log::info!(target: "ureq", "not ours");
        log.set_level(LogLevel::Debug);
        assert_eq!(log.level(), LogLevel::Debug);
        log::debug!(target: "controlplane", "two");
        log.set_level(LogLevel::Info);
        // Other tests of this process may log as well: only our lines count.
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("before\ntime="), "{text}");
        assert!(
            text.contains(" level=INFO msg=one client_instance_id=abc component=health addr=\"x hidden\"\n")
        );
        assert!(text.contains(" level=DEBUG msg=two client_instance_id=abc component=controlplane\n"));
        assert!(!text.contains("below") && !text.contains("not ours"), "{text}");
        assert!(log.ring().is_some() && log.has_file());
        std::fs::rename(&path, dir.path().join("log.1")).unwrap();
        log.reopen();
        log::info!(target: "health", "three");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(" msg=three ") && !text.contains(" msg=two "), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_without_a_format_is_struct_text() {
        let base = Log { level: LogLevel::Info, format: None, file: None, http_raw_unsafe: false };
        assert_eq!(shape(&base), Shape::Plain);
        assert_eq!(shape(&Log { file: Some("f".into()), ..base.clone() }), Shape::StructText);
        assert_eq!(
            shape(&Log { format: Some(LogFormat::Json), file: Some("f".into()), ..base }),
            Shape::Json
        );
    }
}
