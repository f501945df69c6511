//! The command line.

mod server;

use std::process::ExitCode;

/// Runs `tunnel-client`.
pub fn client_main() -> ExitCode {
    ExitCode::SUCCESS
}

pub use self::server::server_main;
