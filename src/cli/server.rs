//! `tunnel-server`: the control plane for sites that have no hosted one.
//!
//! Either a configuration document (`--config`), or a few flags for the tunnels of one key.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use log::LevelFilter;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::ids::TunnelId;
use crate::net::service_manager::Notifier;
use crate::ops::listener::OwnFile;
use crate::ops::log::install_plain;
use crate::server::{ServerConfig, SimpleOptions, Standalone, parse_duration, parse_listen};

use super::suggest;

/// How long delivered commands may still be answered while stopping.
const GRACE: Duration = Duration::from_secs(10);
/// Descriptors of one connection: its socket and what wakes its thread.
const DESCRIPTORS_PER_CONNECTION: u64 = 2;
/// Descriptors for everything else.
const OTHER_DESCRIPTORS: u64 = 64;

/// Name of the program.
pub(super) const PROGRAM: &str = "tunnel-server";

/// Also what man page and completions know of the flags: see [`flags`].
const HELP: &str = "\
Serves MCP tunnels: connectors post to /v1/mcp/<tunnel id>, tunnel clients poll and answer.

Usage: tunnel-server --config FILE [--url-file FILE]
       tunnel-server --listen ADDR --tunnel-id ID --api-key REF [flags]

A REF is env:NAME, file:/path or sha256:<digest>. Flags take their value after a space or '=';
dots and dashes in their names are interchangeable.

  --config FILE                   read everything from a YAML document; SIGHUP reads it again
  --listen ADDR                   host:port or unix:/path (default 127.0.0.1:8080)
  --tunnel-id ID                  a tunnel to serve; repeatable
  --api-key REF                   key that tunnel clients present
  --admin-key REF                 key that manages tunnels; with it they need not be named here
  --store FILE                    keep the tunnels that are managed so in this file
  --connector-key REF             key that connectors present in X-Tunnel-Connector-Key
  --allow-open-ingress            let other hosts call without a connector key
  --tls-cert FILE                 certificate chain, PEM
  --tls-key FILE                  its private key, PEM
  --public-base-url URL           the URL under which callers reach this server
  --path-prefix PATH              serve everything below this path
  --response-timeout D            how long a call is held (default 120s)
  --client-last-seen-timeout D    how long a silent client counts as connected (default 20s)
  --queue-max N                   calls that may wait per tunnel (default 1000)
  --connections N                 connections at a time (default 2048)
  --url-file FILE                 write the base URL of the first listener here once serving
  --log-level LEVEL               error, warn, info, debug or trace (default info)
  --help                          show this
  --version                       show the version
";

/// A flag as the help tells it.
pub(super) struct ToldFlag {
    pub(super) name: &'static str,
    /// What stands for its value; empty for a switch.
    pub(super) value: &'static str,
    pub(super) help: &'static str,
}

/// The flags, in the order of the help.
pub(super) fn flags() -> impl Iterator<Item = ToldFlag> {
    HELP.lines().filter_map(|line| {
        let (flag, help) = line.strip_prefix("  --")?.split_once("  ")?;
        let (name, value) = flag.split_once(' ').unwrap_or((flag, ""));
        Some(ToldFlag { name, value, help: help.trim_start() })
    })
}

/// Runs `tunnel-server` with the process's arguments.
pub fn server_main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let flags = match Flags::parse(arguments)? {
        Invocation::Serve(flags) => flags,
        Invocation::Help => {
            print!("{HELP}");
            return Ok(());
        }
        Invocation::Version => {
            println!("tunnel-server {}", crate::VERSION);
            return Ok(());
        }
    };
    let config = flags.config()?;
    // Another logger, set up by whoever embeds this, stays.
    let _ = install_plain(flags.log_level);
    raise_descriptor_limit(&config);
    let signals = SignalThread::start().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let server = Standalone::start(config).map_err(|error| error.to_string())?;
    for listening in server.listening() {
        log::info!(target: "server", url = listening.url().as_str(); "listening");
    }
    let url_file = match (&flags.url_file, server.listening().first()) {
        (Some(path), Some(first)) => {
            let text = format!("{}\n", first.url());
            let written = OwnFile::write_with_parents(path, text, 0o644, false);
            Some(written.map_err(|error| format!("cannot write the url file {error}"))?)
        }
        _ => None,
    };
    let systemd = Notifier::start(Box::new(server.status()));
    let outcome = serve(&server, &signals.asked, &flags);
    if let Some(Err(error)) = url_file.map(|file| file.remove()) {
        log::warn!(target: "server", error:% = error; "the url file cannot be removed");
    }
    if let Some(systemd) = &systemd {
        systemd.stopping("stopping: calls that a client has taken are being answered");
    }
    server.stop(GRACE);
    outcome
}

/// Serves until a signal says stop, or a listener dies.
fn serve(server: &Standalone, asked: &Asked, flags: &Flags) -> Result<(), String> {
    loop {
        select! {
            recv(asked.signals) -> signal => match signal {
                Ok(SIGHUP) => {
                    asked.reloading();
                    reload(server, flags);
                }
                _ => return Ok(()),
            },
            recv(server.failed()) -> error => {
                let error = error.unwrap_or_else(|_| io::Error::other("its threads are gone"));
                return Err(format!("a listener died: {error}"));
            }
        }
    }
}

fn reload(server: &Standalone, flags: &Flags) {
    match server.reload(|| flags.config()) {
        Ok(()) => log::info!(target: "server", "keys, certificates and tunnels were read again"),
        Err(error) => {
            log::error!(target: "server", error = error.as_str(); "reloading failed; everything stays as it was");
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
enum Invocation {
    Serve(Box<Flags>),
    Help,
    Version,
}

/// The flags, as given.
#[derive(Debug)]
struct Flags {
    config: Option<PathBuf>,
    listen: Option<String>,
    tunnels: Vec<String>,
    api_key: Option<String>,
    admin_key: Option<String>,
    store: Option<PathBuf>,
    connector_key: Option<String>,
    allow_open_ingress: bool,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    public_base_url: Option<String>,
    path_prefix: String,
    response_timeout: Option<Duration>,
    client_last_seen_timeout: Option<Duration>,
    queue_max: Option<usize>,
    connections: Option<usize>,
    url_file: Option<PathBuf>,
    log_level: LevelFilter,
    /// A flag that a document replaces.
    simple: Option<String>,
}

impl Flags {
    fn parse(arguments: &[String]) -> Result<Invocation, String> {
        let mut flags = Flags {
            config: None,
            listen: None,
            tunnels: Vec::new(),
            api_key: None,
            admin_key: None,
            store: None,
            connector_key: None,
            allow_open_ingress: false,
            tls_cert: None,
            tls_key: None,
            public_base_url: None,
            path_prefix: String::new(),
            response_timeout: None,
            client_last_seen_timeout: None,
            queue_max: None,
            connections: None,
            url_file: None,
            log_level: LevelFilter::Info,
            simple: None,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--") else {
                return match word.as_str() {
                    "-h" => Ok(Invocation::Help),
                    _ => Err(format!("unexpected argument {word:?}; see tunnel-server --help")),
                };
            };
            let (name, inline) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let name = name.replace(['.', '_'], "-");
            match name.as_str() {
                "help" => return Ok(Invocation::Help),
                "version" => return Ok(Invocation::Version),
                "allow-open-ingress" => {
                    flags.allow_open_ingress = match inline.as_deref() {
                        None | Some("true") => true,
                        Some("false") => false,
                        Some(other) => return Err(format!("--{name} is true or false, not {other:?}")),
                    };
                    continue;
                }
                _ => {}
            }
            let value = match inline.or_else(|| words.next().cloned()) {
                Some(value) => value,
                None => return Err(format!("--{name} needs a value; see tunnel-server --help")),
            };
            flags.set(&name, value)?;
        }
        Ok(Invocation::Serve(Box::new(flags)))
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let duration =
            |text: &str| parse_duration(text).map(Some).map_err(|error| format!("--{name}: {error}"));
        let number = |text: &str| {
            text.parse().map(Some).map_err(|_| format!("--{name} needs a whole number, not {text:?}"))
        };
        match name {
            "config" => self.config = Some(value.into()),
            "url-file" => self.url_file = Some(value.into()),
            "log-level" => {
                self.log_level = value.parse().map_err(|_| {
                    format!("--log-level is error, warn, info, debug or trace, not {value:?}")
                })?;
            }
            "listen" => self.listen = Some(value),
            "listen-unix-socket" => self.listen = Some(format!("unix:{value}")),
            "tunnel-id" => self.tunnels.push(value),
            "api-key" => self.api_key = Some(value),
            "admin-key" => self.admin_key = Some(value),
            "store" => self.store = Some(value.into()),
            "connector-key" => self.connector_key = Some(value),
            "tls-cert" => self.tls_cert = Some(value.into()),
            "tls-key" => self.tls_key = Some(value.into()),
            "public-base-url" => self.public_base_url = Some(value),
            "path-prefix" => self.path_prefix = value,
            "response-timeout" => self.response_timeout = duration(&value)?,
            "client-last-seen-timeout" => self.client_last_seen_timeout = duration(&value)?,
            "queue-max" => self.queue_max = number(&value)?,
            "connections" => self.connections = number(&value)?,
            _ => return Err(suggest::unknown_server_flag(name)),
        }
        if !matches!(name, "config" | "url-file" | "log-level") {
            self.simple = Some(name.to_owned());
        }
        Ok(())
    }

    /// The settings they lead to; read anew each time.
    fn config(&self) -> Result<ServerConfig, String> {
        if let Some(path) = &self.config {
            if let Some(flag) = &self.simple {
                return Err(format!("--config and --{flag} exclude each other; put it into the document"));
            }
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let config = ServerConfig::from_yaml(&text, self.allow_open_ingress);
            return config.map_err(|error| format!("{}: {error}", path.display()));
        }
        let listen = parse_listen(self.listen.as_deref().unwrap_or("127.0.0.1:8080"));
        let tunnels = self.tunnels.iter().map(|id| TunnelId::parse(id.trim())).collect::<Result<Vec<_>, _>>();
        let tls = match (&self.tls_cert, &self.tls_key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (Some(_), None) => return Err("--tls-cert needs --tls-key as well".to_owned()),
            (None, Some(_)) => return Err("--tls-key needs --tls-cert as well".to_owned()),
        };
        let options = SimpleOptions {
            listen: listen.map_err(|error| error.to_string())?,
            tunnels: tunnels.map_err(|error| error.to_string())?,
            api_key: self.api_key.clone().ok_or("--api-key is missing; give it as env:NAME or file:/path")?,
            admin_key: self.admin_key.clone(),
            store: self.store.clone(),
            connector_key: self.connector_key.clone(),
            tls,
            allow_open_ingress: self.allow_open_ingress,
            public_base_url: self.public_base_url.clone(),
            path_prefix: self.path_prefix.clone(),
            response_timeout: self.response_timeout,
            client_last_seen_timeout: self.client_last_seen_timeout,
            queue_max: self.queue_max,
            connections: self.connections,
        };
        ServerConfig::simple(options).map_err(|error| error.to_string())
    }
}

/// Asks for as many descriptors as the connections need, as far as the system lets us.
fn raise_descriptor_limit(config: &ServerConfig) {
    let wanted = config.connections() as u64 * DESCRIPTORS_PER_CONNECTION + OTHER_DESCRIPTORS;
    let limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current else { return };
    if current >= wanted {
        return;
    }
    let reachable = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(reachable), maximum: limit.maximum });
    if raised.is_err() || reachable < wanted {
        let connections = config.connections();
        log::warn!(
            target: "server",
            descriptors = reachable,
            connections = connections;
            "the limit of open files is too low for so many connections"
        );
    }
}

/// Signals that wait to be acted upon, in their order. Requests to reload are one at a time: no number of
/// them takes the room of the request to stop.
struct Asked {
    signals: Receiver<i32>,
    reload_waits: Arc<AtomicBool>,
}

/// The signals' side of [`Asked`].
struct Asking {
    signals: Sender<i32>,
    reload_waits: Arc<AtomicBool>,
}

impl Asked {
    fn new() -> (Asking, Asked) {
        // One to reload, one to stop: a second one to stop is not waited for.
        let (sender, signals) = bounded(2);
        let reload_waits = Arc::<AtomicBool>::default();
        (Asking { signals: sender, reload_waits: Arc::clone(&reload_waits) }, Asked { signals, reload_waits })
    }

    /// Lets the next request to reload in: what changes from now on is no part of the one at hand.
    fn reloading(&self) {
        self.reload_waits.store(false, Ordering::SeqCst);
    }
}

impl Asking {
    fn received(&self, signal: i32) {
        if signal != SIGHUP || !self.reload_waits.swap(true, Ordering::SeqCst) {
            let _ = self.signals.try_send(signal);
        }
    }
}

/// Turns signals into requests; a second one to stop ends the process at once.
struct SignalThread {
    asked: Asked,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalThread {
    fn start() -> io::Result<SignalThread> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        let (asking, asked) = Asked::new();
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut stopping = false;
            for signal in signals.forever() {
                if signal != SIGHUP && stopping {
                    std::process::exit(1);
                }
                stopping |= signal != SIGHUP;
                asking.received(signal);
            }
        })?;
        Ok(SignalThread { asked, handle, thread: Some(thread) })
    }
}

impl Drop for SignalThread {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: &str = "tunnel_0123456789abcdef0123456789abcdef";
    const DIGEST: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

    fn flags(words: &[&str]) -> Result<Flags, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match Flags::parse(&words)? {
            Invocation::Serve(flags) => Ok(*flags),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_request_to_stop_is_heard_behind_any_number_of_requests_to_reload() {
        let (asking, asked) = Asked::new();
        (0..100).for_each(|_| asking.received(SIGHUP));
        asking.received(SIGTERM);
        assert_eq!(asked.signals.try_iter().collect::<Vec<_>>(), [SIGHUP, SIGTERM]);
        asked.reloading();
        asking.received(SIGHUP);
        assert_eq!(asked.signals.try_recv(), Ok(SIGHUP), "one that comes later is another");
    }

    #[test]
    fn flags_take_values_in_both_forms_and_dots_like_dashes() {
        let spaced =
            flags(&["--tunnel-id", TUNNEL, "--api-key", DIGEST, "--response-timeout", "5s"]).unwrap();
        let joined = flags(&[
            &format!("--tunnel.id={TUNNEL}"),
            &format!("--api.key={DIGEST}"),
            "--response_timeout=5s",
        ])
        .unwrap();
        assert_eq!(
            format!("{spaced:?}").replace("response-timeout", ""),
            format!("{joined:?}").replace("response-timeout", "")
        );
        assert!(spaced.config().is_ok());
    }

    #[test]
    fn every_flag_of_the_help_is_taken() {
        let mut count = 0;
        for flag in super::flags() {
            count += 1;
            assert!(!flag.help.is_empty(), "{}", flag.name);
            let given = format!("--{}", flag.name);
            let words = if flag.value.is_empty() { vec![given] } else { vec![given, "1".to_owned()] };
            let told = Flags::parse(&words).err().unwrap_or_default();
            assert!(!told.contains("unknown flag"), "{told}");
        }
        assert!(count > 15, "{count}");
    }

    #[test]
    fn wrong_invocations_are_explained_in_one_sentence() {
        for (words, reason) in [
            (vec!["serve"], "unexpected argument"),
            (vec!["--listen"], "needs a value"),
            (vec!["--colour", "red"], "unknown flag: --colour"),
            (vec!["--tunel-id", "x"], "did you mean --tunnel-id?"),
            (vec!["--queue-max", "many"], "whole number"),
            (vec!["--response-timeout", "soon"], "duration"),
            (vec!["--log-level", "loud"], "log-level"),
            (vec!["--api-key", DIGEST], "--tunnel-id is missing"),
            (vec!["--tunnel-id", TUNNEL], "--api-key is missing"),
            (vec!["--tunnel-id", "short", "--api-key", DIGEST], "invalid tunnel ID"),
            (vec!["--tunnel-id", TUNNEL, "--api-key", "outright"], "env:NAME"),
            (vec!["--tunnel-id", TUNNEL, "--api-key", DIGEST, "--tls-cert", "x"], "--tls-key"),
            (
                vec!["--tunnel-id", TUNNEL, "--api-key", DIGEST, "--listen", "0.0.0.0:0"],
                "without a credential",
            ),
            (vec!["--config", "/nonexistent/x.yaml"], "cannot read"),
            (vec!["--config", "x.yaml", "--listen", "127.0.0.1:0"], "exclude each other"),
        ] {
            let error = flags(&words).and_then(|flags| flags.config()).unwrap_err();
            assert!(error.contains(reason), "{words:?}: {error}");
            assert!(!error.contains("outright"), "{error}");
        }
    }
}
