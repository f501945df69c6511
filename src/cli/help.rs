//! Help texts.

use std::io::Write;

use crate::config::settings;

use super::{Failure, unknown_command};

/// Help of the group `dev`.
pub(super) const DEV: &str = "\
Tools for trying things out on one machine.

Usage: tunnel-client dev <command>

Available Commands:
  mcp-stub    Serve a small demo MCP server with OAuth metadata
  proxy       Run a local control plane and a client for your MCP server

Run \"tunnel-client dev <command> --help\" for the flags of a command.
";

/// Writes `text` to stdout; a closed stdout is no failure.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let newline = if text.ends_with('\n') { "" } else { "\n" };
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(newline.as_bytes()));
    let _ = stdout.flush();
    Ok(())
}

/// The version line.
pub(super) fn version() -> String {
    crate::VERSION.to_owned()
}

/// `help COMMAND`.
pub(super) fn command(name: &str) -> Result<(), Failure> {
    match name {
        "run" => print(&run()),
        "dev" => print(DEV),

        other => Err(unknown_command(other, "tunnel-client help")),
    }
}

/// Help of the bare program.
pub(super) fn root() -> String {
    "\
tunnel-client connects a local or private MCP server to a control plane over an outbound tunnel.
The daemon serves /healthz and /readyz on a local listener.

Usage: tunnel-client <command> [flags]

Available Commands:
  run     Run the client in the foreground
  demo    Send real calls through a tunnel on this machine and print each step
  dev     A demo MCP server, and a local control plane with a client
  help    Show the help of a command

Flags:
  -h, --help       Show this help
  -v, --version    Show the version

Try first:   tunnel-client demo
Your server: tunnel-client demo --stdio -- COMMAND...
             tunnel-client demo --url http://127.0.0.1:3001/mcp

Run \"tunnel-client <command> --help\" for the flags of a command.
"
    .to_owned()
}

/// Help of `run`, from the settings table.
pub(super) fn run() -> String {
    let mut text = format!(
        "tunnel-client {}\n\nRun the client in the foreground.\n\nUsage: tunnel-client run [flags]\n\nFlags:\n",
        crate::VERSION
    );
    let mut rows: Vec<(String, String)> = settings::ALL
        .iter()
        .filter(|setting| !setting.flag.is_empty())
        .map(|setting| {
            let default = setting.help_default();
            let default = if default.is_empty() { String::new() } else { format!(" (default {default})") };
            (format!("--{} {}", setting.flag, setting.value_name()), format!("{}{default}", setting.help))
        })
        .collect();
    rows.extend(settings::RUN_FLAGS.iter().map(|flag| {
        let default =
            if flag.default.is_empty() { String::new() } else { format!(" (default {})", flag.default) };
        (format!("--{}", flag.name), format!("{}{default}", flag.help))
    }));
    rows.sort();
    for (flag, help) in rows {
        text.push_str(&format!("  {}\n        {help}\n", flag.trim_end()));
    }
    text.push_str(
        "\nValues come from flags, then environment variables, then the document (--config, --profile,\n\
         --profile-file), then defaults. Without a directory of its own a profile is looked up in\n\
         $XDG_CONFIG_HOME/tunnel-client or ~/.config/tunnel-client.\n\nEnvironment:\n",
    );
    for setting in settings::ALL.iter().filter(|setting| !setting.variable.is_empty()) {
        text.push_str(&format!("  {:<42} --{}\n", setting.variable, setting.flag));
    }
    text
}
