//! What the proofs of the MCP side share: a scripted control plane, scripted servers over TCP, TLS and
//! Unix sockets, a proxy, and certificates.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod plane;
pub mod proxy;
pub mod site;
pub mod tls;

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::process::client_binary;
use crate::common::{API_KEY, PATIENCE, TUNNEL_ID};

/// Runs `tunnel-client run` for a control plane that nobody serves, until it ends by itself.
pub fn run_to_end(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut child = Command::new(client_binary())
        .arg("run")
        .args(["--control-plane.base-url", "http://127.0.0.1:9", "--control-plane.tunnel-id", TUNNEL_ID])
        .args(["--health.listen-addr", "127.0.0.1:0"])
        .args(arguments)
        .env_clear()
        .envs(std::env::vars().filter(|(name, _)| !name.to_ascii_lowercase().ends_with("_proxy")))
        .env("CONTROL_PLANE_API_KEY", API_KEY)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tunnel-client starts");
    let end = Instant::now() + PATIENCE;
    while child.try_wait().expect("wait").is_none() {
        if Instant::now() > end {
            let _ = child.kill();
            panic!("tunnel-client does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

/// Exit code 1 and both output streams of a start that fails.
pub fn refused(arguments: &[&str]) -> String {
    let output = run_to_end(arguments, &[]);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
    text
}

/// Copies until either side ends.
pub fn splice(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
