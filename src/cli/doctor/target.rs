//! The MCP servers: reachable over HTTP, startable over stdio.

use crate::order;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::{Config, Environment, McpTarget, preflight};
use crate::daemon::Material;
use crate::ids::Channel;
use crate::mcp::Binding;
use crate::mcp::http::HttpBinding;
use crate::net::{Cancel, Cause, Deadline, Error};
use crate::redact;

use super::era;
use super::jobs::Job;
use super::metadata;
use super::report::Check;

/// Time for the one request.
const REACH_TIME: Duration = Duration::from_secs(2);

const REACHABLE: &str = "mcp_server_reachable";
const METADATA: &str = "oauth_metadata";
const EXECUTABLE: &str = "mcp_command_executable";

/// What there is to check for the servers of all channels that are polled, `main` first. `cut` ends what is
/// under way.
pub(super) fn jobs<'a>(
    config: &'a Config,
    material: &Material,
    environment: &'a Environment,
    cut: &Cancel,
) -> Vec<Job<'a>> {
    let mut bindings = material.bindings(config, cut);
    order::sort_by_key(&mut bindings, |(channel, _)| !channel.is_main());
    let job = |(channel, binding): (Channel, Arc<Binding>)| {
        let known = config.mcp.bindings.iter().find(|known| known.channel == channel)?;
        let name = format!("channel {channel}");
        Some(match &known.target {
            McpTarget::Http { url, .. } => Job::new(name, move || http(&channel, url, &binding)),
            McpTarget::Stdio { command, .. } => {
                Job::new(name, move || stdio(&channel, command, environment, &binding))
            }
        })
    };
    bindings.into_iter().filter_map(job).collect()
}

fn http(channel: &Channel, url: &Url, server: &Arc<Binding>) -> Vec<Check> {
    let Binding::Http(binding) = &**server else { return Vec::new() };
    let shown = redact::snapshot(url.as_str());
    let reachable = reachable(binding, url, &shown);
    let blocked = reachable.is_failed();
    if !channel.is_main() {
        let era = (!blocked).then(|| era::check(server).of_channel(channel.as_str()));
        return [reachable.of_channel(channel.as_str())].into_iter().chain(era).collect();
    }
    let era = if blocked { era::unreachable() } else { era::check(server) };
    let metadata = if blocked {
        Check::skip(METADATA, "blocked by the MCP server check")
            .why("OAuth metadata is served by the MCP server, which was not reached.")
            .with_next([format!("Fix {REACHABLE} first.")])
    } else {
        metadata(binding)
    };
    vec![Check::pass("mcp_target", shown), reachable, era, metadata]
}

fn metadata(binding: &HttpBinding) -> Check {
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
        .with_next(advice(&error, url))
}

/// What to do about a server that was not reached.
fn advice(error: &Error, url: &Url) -> Vec<String> {
    let host = url.host_str().unwrap_or_default();
    let first = match error.cause {
        // Before a tunnel stands, these are about the way to the proxy, which the message names.
        Cause::Dns | Cause::ConnectionRefused | Cause::NetworkUnreachable | Cause::HostUnreachable
            if error.message.starts_with("proxy ") =>
        {
            "The proxy cannot be reached: correct or remove mcp.http_proxy or http_proxy. If it comes from HTTPS_PROXY or HTTP_PROXY, NO_PROXY exempts a host.".to_owned()
        }
        Cause::Dns => format!("Correct the host name {host:?}, or make this host's resolver know it: getent hosts {host}"),
        Cause::Tls => format!(
            "If {host} has a certificate of a private CA, give its roots with --ca-bundle (CA_BUNDLE, ca_bundle); if it wants a client certificate, set mcp.client_cert and mcp.client_key."
        ),
        Cause::ConnectionRefused => {
            let port = url.port_or_known_default().unwrap_or(80);
            format!("Nothing listens there: start the MCP server, or correct its port (now {port}).")
        }
        Cause::SocketMissing => "Start the MCP server that makes the socket, or correct unix_socket.".to_owned(),
        Cause::ProxyRefused(_) => {
            "Let the proxy allow this host, or set another one with mcp.http_proxy.".to_owned()
        }
        Cause::Timeout | Cause::NetworkUnreachable | Cause::HostUnreachable => {
            "The host does not answer: check its address, the route to it and firewalls; if it is reached only through a proxy, set mcp.http_proxy or http_proxy.".to_owned()
        }
        Cause::Protocol => "What answers there does not speak HTTP: correct scheme (http or https) and port.".to_owned(),
        _ => "Start the MCP server, or correct its URL.".to_owned(),
    };
    vec![
        first,
        format!("Try it by hand: curl -v {}", redact::snapshot(url.as_str())),
        "Run doctor again.".to_owned(),
    ]
}

fn stdio(channel: &Channel, command: &str, environment: &Environment, binding: &Arc<Binding>) -> Vec<Check> {
    let executable = executable(command, environment);
    if !channel.is_main() {
        return vec![executable.of_channel(channel.as_str())];
    }
    vec![
        Check::pass("mcp_target", redact::text(command)),
        executable,
        era::check(binding),
        Check::skip(REACHABLE, "stdio server: there is nothing to connect to"),
        Check::skip(METADATA, "stdio server: OAuth metadata applies to HTTP servers only"),
    ]
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
