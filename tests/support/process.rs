//! A `tunnel-server` process.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::site::{KEY, TUNNEL, wait_for};
use super::wire::{PATIENCE, Wire};

/// A running server, killed at the end if it has not exited.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) url_file: PathBuf,
    pub(crate) url: String,
    _directory: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Server {
        Server::start_in(arguments, &[])
    }

    pub(crate) fn start_in(arguments: &[&str], environment: &[(&str, &str)]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let url_file = directory.path().join("run/url");
        let child = Command::new(env!("CARGO_BIN_EXE_tunnel-server"))
            .args(arguments)
            .arg(format!("--url-file={}", url_file.display()))
            .env("TEST_CLIENT_KEY", KEY)
            .env("TEST_OTHER_KEY", "other-key")
            .env("TEST_ADMIN_KEY", "admin-key")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("the url file", || url_file.exists());
        let url = std::fs::read_to_string(&url_file).unwrap().trim().to_owned();
        Server { child, url_file, url, _directory: directory }
    }

    pub(crate) fn one_tunnel(more: &[&str]) -> Server {
        let mut arguments =
            vec!["--listen", "127.0.0.1:0", "--tunnel-id", TUNNEL, "--api-key=env:TEST_CLIENT_KEY"];
        arguments.extend(more);
        Server::start(&arguments)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.url.rsplit('/').next().unwrap().parse().unwrap()
    }

    pub(crate) fn connect(&self) -> Wire {
        Wire::tcp(self.address())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not exit");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn stderr(&mut self) -> String {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
