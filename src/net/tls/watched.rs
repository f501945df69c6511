//! Values made of files, and made again once a file has been replaced or rewritten.
//!
//! Invariant: files that cannot be used any more change nothing but the log, and no lock is held while
//! a file is looked at.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was made last, and of which state of the files.
pub(super) struct Watched<T>(Mutex<Latest<T>>);

struct Latest<T> {
    value: Arc<T>,
    stamps: Vec<Option<Stamp>>,
}

/// What tells one state of a file from another.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds; whatever writes to a file sets it.
    changed: (i64, i64),
}

impl<T> Watched<T> {
    /// What `read` makes of `files`.
    pub(super) fn load<E>(files: &[&Path], read: impl FnOnce() -> Result<T, E>) -> Result<Watched<T>, E> {
        // Looked at first: what is written while it is read is read again.
        let stamps = stamps_of(files);
        Ok(Watched(Mutex::new(Latest { value: Arc::new(read()?), stamps })))
    }

    /// What was made last, without a look at the files.
    pub(super) fn latest(&self) -> Arc<T> {
        Arc::clone(&self.lock().value)
    }

    /// What `read` makes of `files` as they are now, if that is not what was read last. If it fails,
    /// what was made before stays, until the files change again.
    pub(super) fn current<E: fmt::Display>(
        &self,
        files: &[&Path],
        read: impl FnOnce() -> Result<T, E>,
    ) -> Arc<T> {
        let stamps = stamps_of(files);
        {
            let latest = self.lock();
            if latest.stamps == stamps {
                return Arc::clone(&latest.value);
            }
        }
        let made = read();
        match &made {
            Ok(_) => log::info!(target: "process", files:? = files; "changed TLS files were read again"),
            Err(error) => log::warn!(target: "process", files:? = files, error:%;
                "changed TLS files cannot be used; what was read before stays in use"),
        }
        let mut latest = self.lock();
        latest.stamps = stamps;
        if let Ok(value) = made {
            latest.value = Arc::new(value);
        }
        Arc::clone(&latest.value)
    }

    fn lock(&self) -> MutexGuard<'_, Latest<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `None` for a file that cannot be looked at.
fn stamps_of(files: &[&Path]) -> Vec<Option<Stamp>> {
    let stamp = |file: &&Path| {
        let found = std::fs::metadata(file).ok()?;
        Some(Stamp {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.len(),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    };
    files.iter().map(stamp).collect()
}
