//! `doctor`: would `run` work with this configuration on this host?
//!
//! Loads the configuration as `run` does and probes with the very routes that `run` would use.
//! Invariant: it writes nothing, leaves nothing behind, and contacts the control plane only when
//! `--online` asks for it.

mod era;
mod findings;
mod jobs;
mod metadata;
mod online;
mod report;
mod target;

use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};

use crate::config::{
    Config, ConfigErrors, Document, Environment, ErrorKind, Health, SETUP_URLS, load, preflight,
    selected_document, settings,
};
use crate::daemon::Material;
use crate::net::Cancel;
use crate::ops::listener;

use super::tree::{Call, Node, Shape, Words};
use super::{Failure, help, terminal};

use jobs::Job;
use report::{Check, Report};

/// Check the configuration, the MCP servers and the local listener.
#[derive(ArgsInfo, FromArgs)]
struct Doctor {
    /// say why each check that did not pass matters, what was seen, and what to do
    #[argh(switch)]
    explain: bool,
    /// print JSON, which holds all of that too
    #[argh(switch)]
    json: bool,
    /// also ask the control plane for the tunnel's metadata
    #[argh(switch)]
    online: bool,
}

pub(super) static COMMAND: Node = Node {
    name: "doctor",
    summary: "Check configuration, MCP servers and local listener before a start",
    about: "\
Takes every flag of `run`. Exit code 0 means ok, 2 that a check failed. `tunnel-client help doctor` tells
what is checked.",
    examples: &[
        "tunnel-client doctor --profile lab",
        "tunnel-client doctor --profile lab --explain",
        "tunnel-client doctor --profile lab --online --json",
    ],
    settings: settings::ALL,
    declared: Some(Doctor::get_args_info),
    kind: Shape::Command { words: Words::None, help: None, main },
    ..Node::BLANK
};

fn main(call: &Call) -> Result<(), Failure> {
    let given: Doctor = call.arguments()?;
    let environment = Environment::of_process();
    let report = examine(call, &environment, &given);
    let paint = terminal::takes_colour();
    let text = match (given.json, given.explain) {
        (true, _) => report.json(),
        (false, true) => report.text(paint) + &report.explanations(),
        (false, false) => report.text(paint),
    };
    help::print(&text)?;
    if report.is_ok() { Ok(()) } else { Err(Failure::reported()) }
}

fn examine(call: &Call, environment: &Environment, given: &Doctor) -> Report {
    let document = match selected_document(&call.flags, environment) {
        Ok(document) => document,
        Err(errors) => {
            let mut report = Report::new(run_command(&Document::default(), call));
            report.push(findings::selection(&errors));
            setup_urls(&mut report);
            return report;
        }
    };
    let mut report = Report::new(run_command(&document, call));
    report.push(Check::pass("config_source", config_source(&document)));
    let loaded = load(&call.flags, environment);
    let path = document.path.as_ref().map(|path| path.display().to_string());
    if let Err(errors) = &loaded
        && errors.first().kind == ErrorKind::DocumentUnreadable
    {
        report.push(findings::unreadable(errors));
        setup_urls(&mut report);
        return report;
    }
    let warnings = loaded.as_ref().map(|config| config.warnings.clone()).unwrap_or_default();
    let source = path.unwrap_or_else(|| "flags/environment only".to_owned());
    report.push(Check::pass("profile_load", source).with_evidence(warnings));
    match loaded {
        Ok(config) => match Material::load(&config, None) {
            Ok(material) => examine_config(&mut report, &config, &material, environment, given),
            Err(error) => {
                report.push(findings::material(&error));
                setup_urls(&mut report);
            }
        },
        Err(errors) => mapped(&mut report, &errors),
    }
    report.push(plugin(environment));
    report
}

fn examine_config(
    report: &mut Report,
    config: &Config,
    material: &Material,
    environment: &Environment,
    given: &Doctor,
) {
    let control_plane = &config.control_plane;
    report.push(Check::pass("tunnel_id", control_plane.tunnel_id.to_string()));
    report.push(Check::pass("control_plane_api_key", control_plane.api_key_source.clone()));
    setup_urls(report);
    let cut = Cancel::new();
    let mut jobs = target::jobs(config, material, environment, &cut);
    jobs.push(Job::new("the local listener", || {
        let listener = health_listener(&config.health);
        let ui = ui(&config.health, &listener);
        vec![listener, ui]
    }));
    if given.online {
        jobs.push(Job::new("the control plane", || vec![online::check(config, material)]));
    }
    jobs::run(jobs, !given.json).into_iter().for_each(|check| report.push(check));
}

fn mapped(report: &mut Report, errors: &ConfigErrors) {
    let next = report.run_command().to_owned();
    report.push(findings::configuration(errors, &next));
    setup_urls(report);
}

fn setup_urls(report: &mut Report) {
    for (id, _, url) in SETUP_URLS {
        report.push(Check::pass(id, *url));
    }
}

fn config_source(document: &Document) -> String {
    match (&document.path, &document.profile_name) {
        (Some(path), Some(_)) if document.from_profile_file => format!("profile file: {}", path.display()),
        (_, Some(name)) => format!("profile: {name}"),
        (Some(path), None) => path.display().to_string(),
        (None, None) => "flags/environment only".to_owned(),
    }
}

/// The command to go on with. A profile directory that was given by flag has to be given again.
fn run_command(document: &Document, call: &Call) -> String {
    let mut command = "tunnel-client run".to_owned();
    let mut option = |name: &str, value: &str| {
        command.push_str(&format!(" --{name} {}", crate::config::shell_quoted(value)));
    };
    match (&document.path, &document.profile_name) {
        (Some(path), Some(_)) if document.from_profile_file => {
            option(settings::PROFILE_FILE.flag, &path.display().to_string());
        }
        (_, Some(name)) => {
            option(settings::PROFILE.flag, name);
            if let Some(directory) = call.flags.last(settings::PROFILE_DIR.flag) {
                option(settings::PROFILE_DIR.flag, directory.trim());
            }
        }
        (Some(path), None) => option(settings::CONFIG.flag, &path.display().to_string()),
        (None, None) => {}
    }
    command
}

fn health_listener(health: &Health) -> Check {
    const ID: &str = "health_listener";
    if let Err(error) = listener::check(health) {
        let place = health
            .unix_socket
            .as_ref()
            .map_or_else(|| health.listen_addr.clone(), |path| path.display().to_string());
        return Check::fail(ID, error.to_string())
            .why("`run` serves /healthz, /readyz and /metrics there and does not start without it.")
            .with_evidence([place])
            .with_next([
                "Stop what uses the address (perhaps another tunnel-client).".to_owned(),
                format!("Or choose another one: --{} 127.0.0.1:0", settings::HEALTH_LISTEN_ADDR.flag),
            ]);
    }
    let summary = match &health.unix_socket {
        Some(path) => format!("will bind unix socket {}", path.display()),
        None if is_ephemeral(health) => format!("ephemeral bind ok on {}", listen_url(&health.listen_addr)),
        None => format!("will bind {}", listen_url(&health.listen_addr)),
    };
    Check::pass(ID, summary)
}

fn ui(health: &Health, listener: &Check) -> Check {
    const ID: &str = "ui";
    if listener.is_failed() {
        return Check::skip(ID, "blocked by health listener check")
            .why("The web UI is served by the same listener.")
            .with_next(["Fix health_listener first.".to_owned()]);
    }
    if health.unix_socket.is_some() || is_ephemeral(health) {
        let summary = "its URL is in the startup summary in the log, and its base in HEALTH_URL_FILE";
        return Check::pass(ID, summary);
    }
    Check::pass(ID, format!("{}/ui", listen_url(&health.listen_addr)))
}

fn is_ephemeral(health: &Health) -> bool {
    health.unix_socket.is_none() && health.listen_addr.ends_with(":0")
}

/// The listen address as a URL to go to.
fn listen_url(listen_addr: &str) -> String {
    let (host, port) = listen_addr.rsplit_once(':').unwrap_or(("", "8080"));
    let host = if matches!(host, "" | "0.0.0.0" | "[::]" | "::") { "127.0.0.1" } else { host };
    format!("http://{host}:{port}")
}

/// Kept for those who expect the check; this client has no assistant to plug in.
fn plugin(environment: &Environment) -> Check {
    let in_home = || environment.non_blank("HOME").map(|home| Path::new(home).join(".codex"));
    let home = environment.non_blank("CODEX_HOME").map(PathBuf::from).or_else(in_home);
    let is_detected = home.is_some_and(|home| home.is_dir()) || preflight("codex", environment).is_ok();
    let summary = match is_detected {
        true => "Codex detected; its plugin is not part of this client",
        false => "Codex not detected locally",
    };
    Check::skip("codex_plugin", summary)
        .why("Nothing is missing: the check is kept for scripts that expect it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_address_is_shown_as_a_url_to_go_to() {
        for (address, url) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            (":8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:1", "http://127.0.0.1:1"),
            ("[::]:1", "http://127.0.0.1:1"),
            ("[::1]:1", "http://[::1]:1"),
            ("tunnel.lan:80", "http://tunnel.lan:80"),
        ] {
            assert_eq!(listen_url(address), url);
        }
    }
}
