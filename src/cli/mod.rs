//! The command line.

use std::process::ExitCode;

/// Runs `tunnel-client`.
pub fn client_main() -> ExitCode {
    ExitCode::SUCCESS
}

/// Runs `tunnel-server`.
pub fn server_main() -> ExitCode {
    ExitCode::SUCCESS
}
