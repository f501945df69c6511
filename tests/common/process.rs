//! A `tunnel-client` process.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use super::{API_KEY, PATIENCE, TUNNEL_ID, eventually, http};

/// The release or debug binary that cargo built for this test.
pub fn client_binary() -> &'static str {
    env!("CARGO_BIN_EXE_tunnel-client")
}

/// The stdio MCP server of the tests, built as a cargo example beside the binaries.
pub fn stdio_fixture() -> PathBuf {
    let bin = PathBuf::from(client_binary());
    bin.parent().expect("target directory").join("examples").join("stdio_fixture")
}

/// A running client; killed with its output collected when dropped.
pub struct Client {
    child: Child,
    output: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
    health_url: String,
    _directory: tempfile::TempDir,
}

impl Client {
    /// Starts `tunnel-client run` for the control plane at `base_url` and waits for its listener.
    pub fn start(base_url: &str, arguments: &[&str]) -> Client {
        Client::start_with(base_url, arguments, &[])
    }

    /// The same with further environment variables.
    pub fn start_with(base_url: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Client {
        let arguments = [&["--control-plane.base-url", base_url], arguments].concat();
        Client::start_bare(&arguments, variables)
    }

    /// The same without a base URL.
    pub fn start_bare(arguments: &[&str], variables: &[(&str, &str)]) -> Client {
        Client::start_through(&[client_binary()], arguments, variables)
    }

    /// The same by a command that ends in running what follows it as the client's arguments.
    pub fn start_through(command: &[&str], arguments: &[&str], variables: &[(&str, &str)]) -> Client {
        let (program, first) = command.split_first().expect("a program");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url_file = directory.path().join("health.url");
        let mut command = Command::new(program);
        command
            .args(first)
            .arg("run")
            .args(["--control-plane.tunnel-id", TUNNEL_ID])
            .args(["--health.listen-addr", "127.0.0.1:0", "--health.url-file"])
            .arg(&url_file)
            .args(arguments)
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| !name.to_ascii_lowercase().ends_with("_proxy")))
            .env("CONTROL_PLANE_API_KEY", API_KEY)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("tunnel-client starts");
        let output = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            collect(child.stdout.take().expect("stdout"), Arc::clone(&output)),
            collect(child.stderr.take().expect("stderr"), Arc::clone(&output)),
        ];
        let mut client = Client { child, output, readers, health_url: String::new(), _directory: directory };
        let end = Instant::now() + PATIENCE;
        loop {
            if let Ok(url) = std::fs::read_to_string(&url_file) {
                client.health_url = url;
                return client;
            }
            if let Ok(Some(status)) = client.child.try_wait() {
                panic!("tunnel-client ended with {status}: {}", client.output());
            }
            assert!(Instant::now() < end, "no health URL file: {}", client.output());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Base URL of the local listener.
    pub fn health_url(&self) -> &str {
        &self.health_url
    }

    /// Status and body of `/readyz`.
    pub fn readyz(&self) -> (u16, String) {
        let reply = http::get(&format!("{}/readyz", self.health_url)).expect("the listener answers");
        (reply.status, reply.text())
    }

    pub fn wait_ready(&self) {
        eventually("the client is ready", || self.readyz().0 == 200);
    }

    /// Everything written to stdout and stderr so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("output").join("\n")
    }

    pub fn wait_output(&self, needle: &str) {
        eventually(&format!("output holds {needle:?}"), || self.output().contains(needle));
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the client runs");
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                for reader in self.readers.drain(..) {
                    let _ = reader.join();
                }
                return status;
            }
            assert!(Instant::now() < end, "the client does not end: {}", self.output());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// SIGTERM, then the exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }
}

/// Exit code and everything printed of a `tunnel-client run` that ends by itself; the tests' key and
/// tunnel are given unless `variables` say otherwise.
pub fn run_to_its_end(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(client_binary())
        .arg("run")
        .args(["--health.listen-addr", "127.0.0.1:0"])
        .args(arguments)
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| !name.to_ascii_lowercase().ends_with("_proxy")))
        .env("CONTROL_PLANE_API_KEY", API_KEY)
        .env("CONTROL_PLANE_TUNNEL_ID", TUNNEL_ID)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("tunnel-client runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- output of tunnel-client ---\n{}", self.output());
        }
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, into: Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            into.lock().expect("output").push(line);
        }
    })
}
