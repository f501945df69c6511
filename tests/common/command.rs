//! One run of the `tunnel-client` binary to its end, in a home of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::client_binary;

/// A private home directory, and the variables of the runs in it.
pub struct Home {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Home {
    pub fn new() -> Home {
        Home { directory: tempfile::tempdir().expect("a temporary directory"), variables: Vec::new() }
    }

    /// Sets a variable of all later runs.
    pub fn with(mut self, name: &str, value: &str) -> Home {
        self.variables.push((name.into(), value.into()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(&path, content).expect("written");
        path.display().to_string()
    }

    /// An executable file.
    pub fn script(&self, name: &str, content: &str) -> String {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.file(name, content);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        path
    }

    /// Everything below the directory, sorted.
    pub fn files(&self) -> Vec<PathBuf> {
        fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(directory).expect("readable") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    walk(&path, found);
                }
                found.push(path);
            }
        }
        let mut found = Vec::new();
        walk(self.directory.path(), &mut found);
        found.sort();
        found
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(client_binary());
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("HOME", self.directory.path())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().expect("tunnel-client runs");
        Run {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// A run of the words of `line`.
    pub fn line(&self, line: &str) -> Run {
        self.run(&line.split_whitespace().collect::<Vec<_>>())
    }
}

impl Run {
    /// Succeeded, with nothing on stderr; stdout holds every part.
    pub fn ok(&self, parts: &[&str]) -> &Run {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{self:?}");
        self.says(parts)
    }

    /// Stdout holds every part.
    pub fn says(&self, parts: &[&str]) -> &Run {
        for part in parts {
            assert!(self.stdout.contains(part), "no {part:?} on stdout: {self:?}");
        }
        self
    }

    /// Failed with code 1 and nothing on stdout; stderr holds every part.
    pub fn fails(&self, parts: &[&str]) -> &Run {
        assert_eq!((self.code, self.stdout.as_str()), (1, ""), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} on stderr: {self:?}");
        }
        self
    }

    /// Reported something bad on stdout: code 2 and nothing on stderr.
    pub fn reports(&self, parts: &[&str]) -> &Run {
        assert_eq!((self.code, self.stderr.as_str()), (2, ""), "{self:?}");
        self.says(parts)
    }

    /// The one JSON document on stdout.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Failed with code 1 and a JSON error on stdout, whose message is returned.
    pub fn json_error(&self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (1, ""), "{self:?}");
        self.json()["error"]["message"].as_str().unwrap_or_else(|| panic!("no message: {self:?}")).to_owned()
    }
}
