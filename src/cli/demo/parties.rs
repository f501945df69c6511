//! Control plane, MCP server and client of a demo.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::ids::{TunnelId, random_hex};
use crate::mcp::stub::{DEFAULT_LISTEN_ADDR, DEFAULT_NAME, DEFAULT_VERSION, Stub};
use crate::secret::Secret;
use crate::server::{ClientListener, Local, LocalOptions};

use super::super::Failure;
use super::steps::say;

/// How long the client may take to poll for the first time, and to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Granularity of the watch on the client's process.
const WATCH_STEP: Duration = Duration::from_millis(2);
/// Last lines of the client's log shown after a failure.
const LOG_LINES_SHOWN: usize = 20;
const KEY_VARIABLE: &str = "TUNNEL_DEMO_API_KEY";

/// The MCP server of a demo.
pub(super) enum Target {
    /// The built-in one.
    Stub,
    /// A command line.
    Stdio(Vec<String>),
    /// An HTTP server.
    Url(String),
}

/// Everybody who takes part.
pub(super) struct Parties {
    pub(super) target: Target,
    local: Local,
    stub: Option<Stub>,
    client: Child,
    directory: Directory,
}

/// A private directory that is removed at the end.
struct Directory(PathBuf);

impl Parties {
    /// Starts them and waits until the client polls.
    pub(super) fn start(target: Target) -> Result<Parties, Failure> {
        let started = Instant::now();
        let directory = Directory::create().map_err(|e| failed("create a temporary directory", e))?;
        let key = random_hex().map_err(|e| failed("make a key", e))?;
        let loopback = ClientListener::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let tunnel = demo_tunnel()?;
        let options =
            LocalOptions { client: loopback, ..LocalOptions::new(tunnel, Secret::new(key.clone())) };
        let local = Local::start(options).map_err(|e| failed("start the control plane", e))?;
        let stub = match target {
            Target::Stub => Some(
                Stub::start_demo(DEFAULT_LISTEN_ADDR, DEFAULT_NAME, DEFAULT_VERSION)
                    .map_err(|e| failed("start the demo MCP server", e))?,
            ),
            _ => None,
        };
        let server = match (&target, &stub) {
            (Target::Stdio(words), _) => {
                ["--mcp.command".to_owned(), format!("channel=main,command={}", quote(words))]
            }
            (Target::Url(url), _) => ["--mcp.server-url".to_owned(), url.clone()],
            (Target::Stub, stub) => {
                ["--mcp.server-url".to_owned(), stub.as_ref().map(Stub::url).unwrap_or_default()]
            }
        };
        say("connector → control plane → tunnel-client → MCP server, and back\n");
        say(&format!("  control plane   {}", local.mcp_url()));
        say(&format!("  MCP server      {}", server[1].trim_start_matches("channel=main,command=")));
        let log = directory.log();
        let log_file = File::create(&log).map_err(|e| failed("create the client's log", e))?;
        let also = log_file.try_clone().map_err(|e| failed("create the client's log", e))?;
        let client =
            Command::new(std::env::current_exe().map_err(|e| failed("find this program", e))?)
                .args(["run", "--control-plane.base-url", &local.client_base_url()])
                .args(["--control-plane.tunnel-id", local.tunnel_id().as_str()])
                .args(["--control-plane.api-key", &format!("env:{KEY_VARIABLE}")])
                .args(["--health.listen-addr", "127.0.0.1:0"])
                .args(&server)
                // Settings of the operator's own client must not reach this one.
                .env_clear()
                .envs(std::env::vars_os().filter(|(name, _)| {
                    !crate::config::settings::by_variable(&name.to_string_lossy()).is_some()
                }))
                .env(KEY_VARIABLE, &key)
                .stdin(Stdio::null())
                .stdout(log_file)
                .stderr(also)
                .spawn()
                .map_err(|e| failed("start the client", e))?;
        let mut parties = Parties { target, local, stub, client, directory };
        match parties.wait_for_first_poll() {
            Ok(()) => {
                let time = started.elapsed().as_secs_f64() * 1e3;
                say(&format!(
                    "  client          process {}, polling {time:.0} ms after the start",
                    parties.client.id()
                ));
                Ok(parties)
            }
            Err(failure) => {
                let _ = parties.stop(true);
                Err(failure)
            }
        }
    }

    /// Where a connector posts.
    pub(super) fn mcp_url(&self) -> String {
        self.local.mcp_url()
    }

    fn wait_for_first_poll(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        while self.local.gauges().parked == 0 {
            std::thread::sleep(WATCH_STEP);
            if let Ok(Some(status)) = self.client.try_wait() {
                return Err(Failure::new(format!("demo: the client ended at once ({status})")));
            }
            if Instant::now() >= end {
                return Err(Failure::new(format!("demo: the client did not poll within {PATIENCE:?}")));
            }
        }
        Ok(())
    }

    /// Ends everything; the client must end by itself when it is told to.
    pub(super) fn stop(mut self, show_log: bool) -> Result<(), Failure> {
        let ended = self.end_client();
        if show_log {
            self.show_log();
        }
        drop(self.stub);
        self.local.stop();
        ended
    }

    fn end_client(&mut self) -> Result<(), Failure> {
        let pid = rustix::process::Pid::from_child(&self.client);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let end = Instant::now() + PATIENCE;
        loop {
            match self.client.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(Failure::new(format!("demo: the client ended with {status}")));
                }
                Ok(None) if Instant::now() < end => std::thread::sleep(WATCH_STEP),
                _ => {
                    let _ = self.client.kill();
                    let _ = self.client.wait();
                    return Err(Failure::new(format!("demo: the client did not end within {PATIENCE:?}")));
                }
            }
        }
    }

    fn show_log(&self) {
        let Ok(text) = fs::read_to_string(self.directory.log()) else { return };
        let lines: Vec<&str> = text.lines().collect();
        eprintln!("The client's last log lines:");
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES_SHOWN)) {
            eprintln!("  {line}");
        }
    }
}

impl Directory {
    fn create() -> io::Result<Directory> {
        let name = random_hex().map_err(io::Error::other)?;
        let path = std::env::temp_dir().join(format!("tunnel-client-demo-{name}"));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Directory(path))
    }

    fn log(&self) -> PathBuf {
        self.path().join("client.log")
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A tunnel of this demo alone.
fn demo_tunnel() -> Result<TunnelId, Failure> {
    let name = random_hex().map_err(|e| failed("make a tunnel id", e))?;
    TunnelId::parse(&format!("tunnel_{name}")).map_err(|e| failed("make a tunnel id", e))
}

/// Words as one command line that is split into the same words again.
fn quote(words: &[String]) -> String {
    words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
}

fn failed(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("demo: cannot {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::split_command;

    #[test]
    fn quoted_words_are_split_into_the_same_words() {
        let words = ["sh", "-c", "echo 'a b' \"c\" \\ $HOME", ""].map(String::from).to_vec();
        assert_eq!(split_command(&quote(&words)).unwrap(), words);
    }
}
