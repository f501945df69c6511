//! The suites that `cargo test` does not run by itself, so that its output names them.
//!
//! `cargo test --test suites -- --ignored` runs them from here.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

use std::process::Command;

fn succeeds(command: &mut Command) {
    let status = command.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("the suite starts");
    assert!(status.success(), "{command:?}: {status}");
}

#[test]
#[ignore = "installs packages, needs node, npm and python3: run tests/interop/run"]
fn public_mcp_clients_and_servers_see_no_difference_through_the_tunnel() {
    succeeds(
        Command::new("tests/interop/run")
            .args(["--client", env!("CARGO_BIN_EXE_tunnel-client")])
            .args(["--server", env!("CARGO_BIN_EXE_tunnel-server")]),
    );
}

#[test]
#[ignore = "needs chromium, prometheus, python3 and openssl: run tests/ui/run"]
fn the_page_works_in_a_browser_and_the_dashboard_in_prometheus() {
    succeeds(
        Command::new("tests/ui/run")
            .args(["--client", env!("CARGO_BIN_EXE_tunnel-client")])
            .args(["--server", env!("CARGO_BIN_EXE_tunnel-server")]),
    );
}

#[test]
#[ignore = "builds with release settings and takes minutes: run cargo bench --bench road -- --churn 15"]
fn every_command_gets_exactly_one_answer_whatever_fails() {
    succeeds(Command::new(env!("CARGO")).args(["bench", "--bench", "road", "--", "--churn", "15"]));
}
