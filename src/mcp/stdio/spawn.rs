//! Starting the process: which file, which environment, which process group.
//!
//! Invariant: no shell is involved, and the argument vector is executed as it is.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::StartError;

/// Starts `argv` as the leader of a new process group, with pipes for its three streams and our
/// environment without `hidden_variables`.
pub(super) fn spawn(argv: &[String], hidden_variables: &[String]) -> Result<Child, StartError> {
    let Some(name) = argv.first() else { return Err(StartError::new("", "the command is empty")) };
    let program = find_executable(name, std::env::var_os("PATH").as_deref())
        .map_err(|reason| StartError::new(name, reason))?;
    let mut command = Command::new(program);
    command
        .arg0(name)
        .args(&argv[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: grandchildren are reached with it, and a Ctrl-C meant for us is not
        // delivered to it behind our back.
        .process_group(0);
    for variable in hidden_variables {
        command.env_remove(variable);
    }
    command.spawn().map_err(|error| StartError::new(name, reason_of(&error)))
}

/// The file that `name` stands for: itself if it holds a slash, else the first match on `search_path`.
/// Relative directories of the path are never used: what they hold depends on where we were started.
fn find_executable(name: &str, search_path: Option<&OsStr>) -> Result<PathBuf, &'static str> {
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let mut relative = false;
    for directory in search_path.map(std::env::split_paths).into_iter().flatten() {
        let candidate =
            if directory.as_os_str().is_empty() { Path::new(".").join(name) } else { directory.join(name) };
        if is_executable(&candidate) {
            if candidate.is_absolute() {
                return Ok(candidate);
            }
            relative = true;
        }
    }
    Err(if relative {
        "executable file found only through a relative directory in PATH; give its full path"
    } else {
        "executable file not found in PATH; install it or give its full path"
    })
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn reason_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file, or the interpreter it names is missing".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied; is the file executable?".to_owned(),
        _ => error.to_string(),
    }
}

/// The process group of a child.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group(Pid);

impl Group {
    /// The group that `child` leads.
    pub(super) fn of(child: &Child) -> Group {
        Group(Pid::from_child(child))
    }

    /// The leader.
    pub(super) fn leader(self) -> Pid {
        self.0
    }

    /// Sends a signal to every member; a group without members is left in peace.
    pub(super) fn signal(self, signal: Signal) {
        // The only errors are "no such group", which is what we want, and "not permitted", which a
        // member that changed its user would cause and nothing here could change.
        let _ = kill_process_group(self.0, signal);
    }

    /// Whether anybody is left. Ask only after the leader was reaped: a zombie counts as a member.
    pub(super) fn is_empty(self) -> bool {
        test_kill_process_group(self.0) == Err(Errno::SRCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn executables_come_from_absolute_directories_of_the_path_only() {
        let dir = tempfile::tempdir().unwrap();
        let tool = dir.path().join("tool");
        fs::write(&tool, "").unwrap();
        let path = |text: &str| find_executable("tool", Some(OsStr::new(text)));
        let absolute = dir.path().to_str().unwrap();
        assert!(path(absolute).unwrap_err().contains("not found"), "it has no execute bit yet");
        fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(path(absolute).unwrap(), tool);
        assert_eq!(path(&format!(".:/nowhere:{absolute}")).unwrap(), tool);
        let cwd = std::env::current_dir().unwrap();
        let up: String = cwd.components().skip(1).map(|_| "../").collect();
        let relative = format!("{up}{}", absolute.trim_start_matches('/'));
        assert!(path(&relative).unwrap_err().contains("relative"));
        assert_eq!(find_executable("./x", None).unwrap(), Path::new("./x"));
        assert!(find_executable("tool", None).is_err());
    }
}
