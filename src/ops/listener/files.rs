//! Files that tell others about this process: the base URL and the process id.
//!
//! Invariant: a reader sees a whole file or none, and only what we wrote is removed.

use std::fmt;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::ids::random_hex;
use crate::ops::reason;

/// What went wrong with a file; shown as `<path>: <reason>`.
#[derive(Debug)]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), reason(&self.error))
    }
}

impl std::error::Error for FileError {}

/// A file of ours, for as long as it holds what we wrote.
#[derive(Clone, Debug)]
pub struct OwnFile {
    path: PathBuf,
    content: String,
}

impl OwnFile {
    /// As [`OwnFile::write`]; missing parents are created with 0755.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    pub fn write_with_parents(
        path: &Path,
        content: String,
        mode: u32,
        exact: bool,
    ) -> Result<OwnFile, FileError> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(parent);
            made.map_err(|error| FileError { path: path.to_owned(), error })?;
        }
        OwnFile::write(path, content, mode, exact)
    }

    /// Writes `content` beside `path` and renames it into place: a link at `path` is replaced, not
    /// followed. `exact` sets the mode whatever the umask is.
    ///
    /// # Errors
    /// [`FileError`] with the path; nothing is left behind.
    pub fn write(path: &Path, content: String, mode: u32, exact: bool) -> Result<OwnFile, FileError> {
        let failed = |error| FileError { path: path.to_owned(), error };
        let name = path.file_name().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
        let random = random_hex().map_err(|error| failed(io::Error::other(error)))?;
        let mut temporary_name = std::ffi::OsString::from(".");
        temporary_name.push(name);
        temporary_name.push(format!(".{random}.tmp"));
        let temporary = path.with_file_name(temporary_name);
        let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).and_then(
            |mut file| {
                if exact {
                    file.set_permissions(Permissions::from_mode(mode))?;
                }
                file.write_all(content.as_bytes())?;
                drop(file);
                std::fs::rename(&temporary, path)
            },
        );
        if let Err(error) = written {
            let _ = std::fs::remove_file(&temporary);
            return Err(failed(error));
        }
        Ok(OwnFile { path: path.to_owned(), content })
    }

    /// Removes it, unless somebody else has written something different since.
    ///
    /// # Errors
    /// [`FileError`] with the path.
    pub fn remove(&self) -> Result<(), FileError> {
        let outcome = match std::fs::read(&self.path) {
            Ok(content) if content == self.content.as_bytes() => std::fs::remove_file(&self.path),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        match outcome {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(FileError { path: self.path.clone(), error })
            }
            _ => Ok(()),
        }
    }
}

/// The file that holds this process's id while it runs.
#[derive(Debug)]
pub struct PidFile(OwnFile);

/// Why the PID file could not be written or removed.
#[derive(Debug)]
pub enum PidFileError {
    /// The file could not be written.
    Write(FileError),
    /// The process that it names is alive; the file was left alone.
    Alive {
        /// The file.
        path: PathBuf,
        /// The process.
        pid: i32,
    },
    /// The file could not be removed.
    Remove(FileError),
}

impl fmt::Display for PidFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PidFileError::Write(error) => write!(f, "write pid file {error}"),
            PidFileError::Alive { path, pid } => write!(
                f,
                "write pid file {}: process {pid}, which it names, is still running; stop it or choose another file",
                path.display()
            ),
            PidFileError::Remove(error) => write!(f, "remove pid file {error}"),
        }
    }
}

impl std::error::Error for PidFileError {}

impl PidFile {
    /// Writes this process's id and a newline, mode 0644 before the umask, and logs it.
    ///
    /// # Errors
    /// [`PidFileError::Alive`] when the file names another process that runs,
    /// [`PidFileError::Write`].
    pub fn write(path: &Path) -> Result<PidFile, PidFileError> {
        let own = std::process::id();
        if let Some(pid) = recorded_pid(path)
            && pid.as_raw_nonzero().get().unsigned_abs() != own
            && is_alive(pid)
        {
            return Err(PidFileError::Alive { path: path.to_owned(), pid: pid.as_raw_nonzero().get() });
        }
        let file = OwnFile::write(path, format!("{own}\n"), 0o644, false).map_err(PidFileError::Write)?;
        log::info!(target: "process", pid = own, path:% = path.display(); "pid file written");
        Ok(PidFile(file))
    }

    /// Removes the file if it is still ours; a missing one is fine.
    ///
    /// # Errors
    /// [`PidFileError::Remove`].
    pub fn remove(self) -> Result<(), PidFileError> {
        self.0.remove().map_err(PidFileError::Remove)
    }
}

fn recorded_pid(path: &Path) -> Option<rustix::process::Pid> {
    let text = std::fs::read_to_string(path).ok()?;
    rustix::process::Pid::from_raw(text.trim().parse().ok().filter(|pid| *pid > 0)?)
}

/// A process that may not be signalled is alive as well.
fn is_alive(pid: rustix::process::Pid) -> bool {
    !matches!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_file_replaces_a_link_instead_of_following_it_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let (target, path) = (dir.path().join("target"), dir.path().join("new/dir/url"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&target, "untouched").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let file = OwnFile::write_with_parents(&path, "http://127.0.0.1:1".into(), 0o600, true).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "untouched");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "http://127.0.0.1:1");
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert!(found.is_file() && found.permissions().mode() & 0o7777 == 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
        file.remove().unwrap();
        assert!(!path.exists());
        file.remove().unwrap();
    }

    #[test]
    fn what_others_wrote_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("url");
        let file = OwnFile::write(&path, "ours".into(), 0o600, true).unwrap();
        std::fs::write(&path, "theirs").unwrap();
        file.remove().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "theirs");
    }

    #[test]
    fn a_pid_file_of_a_living_process_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = PidFile::write(&dir.path().join("deep/pid")).unwrap_err().to_string();
        assert!(nowhere.starts_with("write pid file ") && !dir.path().join("deep").exists(), "{nowhere}");
        let path = dir.path().join("pid");
        let pid = PidFile::write(&path).unwrap();
        let own = std::process::id();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{own}\n"));
        PidFile::write(&path).unwrap();
        pid.remove().unwrap();
        assert!(!path.exists());

        let mut child = Command::new("sh").args(["-c", "read x"]).stdin(Stdio::piped()).spawn().unwrap();
        std::fs::write(&path, format!("{}\n", child.id())).unwrap();
        let refused = PidFile::write(&path).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("process {}, which it names, is still running", child.id())),
            "{refused}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", child.id()));
        drop(child.stdin.take());
        child.wait().unwrap();
        PidFile::write(&path).unwrap().remove().unwrap();
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let path = file.join("pid");
        let error = PidFile::write(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("write pid file {}: ", path.display())), "{error}");
    }
}
