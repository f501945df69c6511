//! The MCP servers: reachable over HTTP, startable over stdio.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::{Config, Environment, McpTarget, preflight};
use crate::daemon::Material;
use crate::ids::Channel;
use crate::mcp::Binding;
use crate::mcp::http::HttpBinding;
use crate::net::{Cancel, Cause, Deadline};
use crate::redact;

use super::era;
use super::metadata;
use super::report::{Check, Report};

/// Time for the one request.
const REACH_TIME: Duration = Duration::from_secs(2);

const REACHABLE: &str = "mcp_server_reachable";
const METADATA: &str = "oauth_metadata";
const EXECUTABLE: &str = "mcp_command_executable";

/// Checks the servers of all channels that are polled, `main` first.
pub(super) fn check(report: &mut Report, config: &Config, material: &Material, environment: &Environment) {
    let cut = Cancel::new();
    let mut bindings = material.bindings(config, &cut);
    bindings.sort_by_key(|(channel, _)| !channel.is_main());
    for (channel, binding) in &bindings {
        let target =
            config.mcp.bindings.iter().find(|known| known.channel == *channel).map(|known| &known.target);
        match target {
            Some(McpTarget::Http { url, .. }) => http(report, config, channel, url, binding),
            Some(McpTarget::Stdio { command, .. }) => {
                stdio(report, config, channel, command, environment, binding);
            }
            None => {}
        }
    }
}

fn http(report: &mut Report, config: &Config, channel: &Channel, url: &Url, server: &Arc<Binding>) {
    let Binding::Http(binding) = &**server else { return };
    let shown = redact::snapshot(url.as_str());
    let reachable = reachable(binding, url, &shown);
    if !channel.is_main() {
        let era = (!reachable.is_failed()).then(|| era::check(config, server).of_channel(channel.as_str()));
        report.push(reachable.of_channel(channel.as_str()));
        era.into_iter().for_each(|era| report.push(era));
        return;
    }
    report.push(Check::pass("mcp_target", shown));
    let blocked = reachable.is_failed();
    report.push(reachable);
    report.push(match blocked {
        true => era::unreachable(),
        false => era::check(config, server),
    });
    report.push(if blocked {
        Check::skip(METADATA, "blocked by the MCP server check")
            .why("OAuth metadata is served by the MCP server, which was not reached.")
            .with_next([format!("Fix {REACHABLE} first.")])
    } else {
        match metadata::discover(binding) {
            Ok(summary) => Check::pass(METADATA, summary),
            Err(metadata::Trouble { summary, evidence }) => Check::fail(METADATA, summary)
                .why("A server that announces authorization has to serve its metadata, or connectors cannot log in.")
                .with_evidence(evidence)
                .with_next([
                    "Fix the protected-resource document of the MCP server (RFC 9728).".to_owned(),
                    "Read more: tunnel-client help oauth".to_owned(),
                ]),
        }
    });
}

fn reachable(binding: &HttpBinding, url: &Url, shown: &str) -> Check {
    let error = match binding.reach(Deadline::after(REACH_TIME)) {
        Ok(status) => return Check::pass(REACHABLE, format!("HTTP {status} from {shown}")),
        Err(error) => error,
    };
    // It took the connection, whatever it did with the request: some servers never answer a GET.
    if error.written && error.cause != Cause::Tls {
        let port = url.port_or_known_default().unwrap_or(80);
        let place = format!("{}:{port}", url.host_str().unwrap_or_default());
        return Check::pass(REACHABLE, format!("TCP connect succeeded to {place}"))
            .with_evidence([format!("GET {shown}: {error}")]);
    }
    Check::fail(REACHABLE, format!("{shown}: {error}"))
        .why("Every command is forwarded to this server.")
        .with_evidence([format!("GET {shown}: {error}")])
        .with_next([
            "Start the MCP server, or correct its URL.".to_owned(),
            "If a proxy or a private CA is in between, check mcp.http_proxy, http_proxy and ca_bundle."
                .to_owned(),
        ])
}

fn stdio(
    report: &mut Report,
    config: &Config,
    channel: &Channel,
    command: &str,
    environment: &Environment,
    binding: &Arc<Binding>,
) {
    let executable = executable(command, environment);
    if !channel.is_main() {
        report.push(executable.of_channel(channel.as_str()));
        return;
    }
    report.push(Check::pass("mcp_target", redact::text(command)));
    report.push(executable);
    report.push(era::check(config, binding));
    report.push(Check::skip(REACHABLE, "stdio server: there is nothing to connect to"));
    report.push(Check::skip(METADATA, "stdio server: OAuth metadata applies to HTTP servers only"));
}

fn executable(command: &str, environment: &Environment) -> Check {
    match preflight(command, environment) {
        Ok(path) => Check::pass(EXECUTABLE, path.display().to_string()),
        Err(error) => Check::fail(EXECUTABLE, error.to_string())
            .why("`run` starts this command and speaks MCP with it.")
            .with_evidence([redact::text(command).into_owned()])
            .with_next(["Do what the message says, then run doctor again.".to_owned()]),
    }
}
