//! The `tunnel-client` binary: hands the command line to the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tunnel_client::cli::client_main()
}
