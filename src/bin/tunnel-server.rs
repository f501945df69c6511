//! The `tunnel-server` binary: the control plane for sites that have no hosted one.

use std::process::ExitCode;

fn main() -> ExitCode {
    tunnel_client::cli::server_main()
}
