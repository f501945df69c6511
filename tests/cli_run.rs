//! `run`, `dev mcp-stub` and `dev proxy` as an operator meets them: errors, files, lines, signals.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::Signal;

use common::command::Home;
use common::connector::Connector;
use common::mcp_server::McpServer;
use common::process::Client;
use common::{API_KEY, TUNNEL_ID, address, engine, eventually, http, wait_polled};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;

/// A home whose client needs nothing but an MCP target.
fn home() -> Home {
    Home::new()
        .with("CONTROL_PLANE_API_KEY", API_KEY)
        .with("CONTROL_PLANE_TUNNEL_ID", TUNNEL_ID)
        .with("CONTROL_PLANE_BASE_URL", "http://127.0.0.1:1")
        .with("HEALTH_LISTEN_ADDR", "127.0.0.1:0")
}

#[test]
fn what_is_missing_is_told_with_the_way_to_get_it() {
    let key = Home::new().with("CONTROL_PLANE_API_KEY", API_KEY);
    let nothing = key.line("run");
    nothing.fails(&[
        "configure tunnel-client: tunnel ID is required",
        "tunnel-client admin tunnels create --help",
        "tunnel-client admin tunnels list --help",
        "tunnel-client init",
        "tunnel-client help quickstart",
    ]);
    assert!(nothing.stderr.find("tunnel ID") < nothing.stderr.find("main channel"), "{nothing:?}");
    key.with("CONTROL_PLANE_TUNNEL_ID", TUNNEL_ID).line("run").fails(&[
        "set --mcp.server-url or --mcp.command",
        "tunnel-client run --embedded-mcp-stub --control-plane.tunnel-id tunnel_",
        "--health.listen-addr 127.0.0.1:0 --health.url-file",
        "tunnel-client init",
        "tunnel-client help quickstart",
    ]);
    Home::new().line(&format!("run --control-plane.tunnel-id {TUNNEL_ID} --mcp.command sh")).fails(&[
        "control plane API key is required",
        "tunnel-client help quickstart",
        "tunnel-client init",
    ]);
}

#[test]
fn the_companion_ends_with_one_sentence() {
    home()
        .with("CLOUDFLARED_TUNNEL_TOKEN", "t0ken")
        .line("run --mcp.command sh")
        .fails(&["not part of this client"]);
    home().line("run --mcp.command sh --cloudflared.managed").fails(&["not part of this client"]);
}

#[test]
fn the_embedded_stub_excludes_other_targets() {
    for (flag, named) in [
        ("--mcp.command", "--mcp.command"),
        ("--mcp-command", "--mcp.command"),
        ("--mcp.server-url", "--mcp.server-url"),
        ("--mcp-server-url", "--mcp.server-url"),
    ] {
        let message =
            format!("--embedded-mcp-stub cannot be combined with {named}; use one main MCP target path");
        home().run(&["run", "--embedded-mcp-stub", flag, "x"]).fails(&[&message]);
    }
    // Nothing is started or printed for a configuration that is wrong.
    Home::new().line("run --embedded-mcp-stub").fails(&["tunnel ID is required"]);
    let taken = home().with("MCP_COMMAND", "sh").line("run --embedded-mcp-stub");
    taken.fails(&["duplicate channel", "MCP_COMMAND"]);
    home()
        .line("run --embedded-mcp-stub --embedded-mcp-listen-addr 127.0.0.1:nope")
        .fails(&["start embedded MCP stub: "]);
}

#[test]
fn the_embedded_stub_serves_channel_main() {
    let engine = engine();
    let mut client = Client::start(
        &engine.client_base_url(),
        &["--embedded-mcp-stub", "--embedded-mcp-server-name", "mine"],
    );
    client.wait_output("🟢 tunnel-client started");
    wait_polled(&engine);
    let output = client.output();
    let line = |label: &str| {
        let found = output.lines().find_map(|line| line.strip_prefix(label));
        found.unwrap_or_else(|| panic!("no {label:?}: {output}")).to_owned()
    };
    for part in [
        "Embedded MCP stub enabled",
        "These are the embedded demo MCP/OAuth endpoints",
        "server_info, echo, uppercase",
    ] {
        assert!(output.contains(part), "{part}");
    }
    let metadata = http::get(&line("Protected resource metadata: ")).unwrap();
    assert_eq!(metadata.json()["resource"], line("MCP URL: "));
    assert_eq!(http::get(&line("Authorization server metadata: ")).unwrap().status, 200);
    let connector = Connector::new(&engine.mcp_url());
    let opened = connector.post(INITIALIZE, &[]);
    let session = [("Mcp-Session-Id", opened.header("Mcp-Session-Id").expect("a session"))];
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"input":"hello"}}}"#;
    let reply = connector.post(call, &session);
    assert!(reply.text().contains(r#""structuredContent":{"echoed":"hello"}"#), "{}", reply.text());
    assert_eq!(client.terminate().code(), Some(0));
}

#[test]
fn files_hold_the_url_and_the_process_and_go_with_it() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let home = Home::new();
    let (url_file, pid_file) = (home.text("not/yet/there/h.url"), home.text("pid"));
    let mut client = Client::start(
        &engine.client_base_url(),
        &["--mcp.server-url", &server.url(), "--pid.file", &pid_file],
    );
    let pid = client.pid();
    eventually("the process id is written", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|text| text == format!("{pid}\n"))
    });
    let second = home
        .command(&[
            "run",
            "--mcp.server-url",
            &server.url(),
            "--pid.file",
            &pid_file,
            "--health.url-file",
            &url_file,
        ])
        .env("CONTROL_PLANE_API_KEY", API_KEY)
        .args(["--control-plane.tunnel-id", TUNNEL_ID, "--control-plane.base-url", "http://127.0.0.1:1"])
        .args(["--health.listen-addr", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        told.contains("start tunnel-client: write pid file") && told.contains(&pid.to_string()),
        "{told}"
    );
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), format!("{pid}\n"));
    assert!(!std::path::Path::new(&url_file).exists());
    assert_eq!(client.terminate().code(), Some(0));
    assert!(!std::path::Path::new(&pid_file).exists());

    let mut other =
        Running::start(&home, &["--mcp.server-url", &server.url(), "--health.url-file", &url_file]);
    eventually("the URL file is written", || std::path::Path::new(&url_file).exists());
    let text = std::fs::read_to_string(&url_file).unwrap();
    assert!(text.starts_with("http://127.0.0.1:") && !text.ends_with('\n'), "{text:?}");
    assert_eq!(std::fs::metadata(&url_file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(http::get(&format!("{text}/healthz")).unwrap().status, 200);
    assert_eq!(other.terminate(), Some(0));
    assert!(!std::path::Path::new(&url_file).exists());
}

#[test]
fn a_taken_port_fails_the_start_and_leaves_no_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let home = home();
    let address = taken.local_addr().unwrap().to_string();
    let (pid_file, url_file) = (home.text("pid"), home.text("url"));
    let failed = home.run(&[
        "run",
        "--mcp.command",
        "cat",
        "--health.listen-addr",
        &address,
        "--pid.file",
        &pid_file,
        "--health.url-file",
        &url_file,
    ]);
    failed.fails(&["address already in use"]);
    assert!(
        failed.stderr.starts_with("start tunnel-client: ") && failed.stderr.lines().count() == 1,
        "{failed:?}"
    );
    assert!(home.files().is_empty());
}

/// A `run` with its streams apart.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(home: &Home, arguments: &[&str]) -> Running {
        let mut command = home.command(&["run"]);
        command
            .args(["--control-plane.base-url", "http://127.0.0.1:1", "--control-plane.tunnel-id", TUNNEL_ID])
            .args(["--health.listen-addr", "127.0.0.1:0", "--log.format", "json"])
            .args(arguments)
            .env("CONTROL_PLANE_API_KEY", API_KEY);
        Running::spawn(command)
    }

    fn spawn(mut command: Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout }
    }

    /// Reads lines until one holds `part`.
    fn line_with(&mut self, part: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "no {part:?} in {all}");
            if line.contains(part) {
                return line;
            }
            all.push_str(&line);
        }
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.end()
    }

    fn end(&mut self) -> Option<i32> {
        // Or the client would wait for room in the pipe.
        let _ = std::io::copy(&mut self.stdout, &mut std::io::sink());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_startup_summary_says_where_everything_is() {
    let home = Home::new();
    let profile = home.file(".config/tunnel-client/lab.yaml", "mcp:\n  commands:\n    - command: cat\n");
    let url_file = home.text("url");
    let words = ["--profile", "lab", "--health.url-file", &url_file, "--log.level", "debug"];
    let mut client = Running::start(&home, &words);
    client.line_with("🩺 HEALTH URL: http://127.0.0.1:");
    client.line_with("health server listening");
    let line = client.line_with("oauth discovery server URL is not configured");
    assert!(line.contains("\"DEBUG\"") && line.contains("disabled for transport"), "{line}");
    let line = client.line_with("tunnel-client startup summary");
    let summary: serde_json::Value = serde_json::from_str(&line).unwrap();
    let base = std::fs::read_to_string(&url_file).unwrap();
    for (field, value) in [
        ("level", "INFO"),
        ("health_url", &base),
        ("health_url_file", &url_file),
        ("metrics_url", &format!("{base}/metrics")),
        ("config_source", "profile:lab"),
        ("profile_name", "lab"),
        ("profile_path", &profile),
        ("tunnel_id", TUNNEL_ID),
        ("mcp_target_kind", "stdio"),
        ("mcp_target_value", "cat"),
        ("first_failing_dependency", ""),
    ] {
        assert_eq!(summary[field], value, "{field}: {line}");
    }
    let started: serde_json::Value =
        serde_json::from_str(&client.line_with("🟢 tunnel-client started")).unwrap();
    assert_eq!(started["tunnel_url"], format!("http://127.0.0.1:1/v1/tunnel/{TUNNEL_ID}"));
    assert_eq!(started["name"], "tunnel meta hasn't fetched");
    assert_eq!(started["oauth_discovery_urls"], serde_json::json!([]));
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(client.terminate(), Some(0));
}

#[test]
fn the_places_of_oauth_metadata_are_told_at_the_start() {
    let server = McpServer::by_tool_name();
    let base = server.url().trim_end_matches("/mcp").to_owned();
    let mut client = Running::start(&Home::new(), &["--mcp.server-url", &server.url()]);
    let summary: serde_json::Value = serde_json::from_str(&client.line_with("startup summary")).unwrap();
    assert_eq!(
        (&summary["mcp_target_kind"], &summary["config_source"]),
        (&"http-streamable".into(), &"flags/environment".into())
    );
    assert_eq!(summary["mcp_target_value"], server.url());
    let started: serde_json::Value =
        serde_json::from_str(&client.line_with("tunnel-client started")).unwrap();
    let places = [
        format!("1:{base}/.well-known/oauth-protected-resource/mcp"),
        format!("2:{base}/.well-known/oauth-protected-resource"),
    ];
    assert_eq!(started["oauth_discovery_urls"], serde_json::json!(places));
}

#[test]
fn a_signal_during_the_start_ends_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = Home::new();
        let fifo = home.path("config.yaml");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let files = (home.text("pid"), home.text("url"));
        let mut client = Running::start(
            &home,
            &["--config", &fifo.display().to_string(), "--pid.file", &files.0, "--health.url-file", &files.1],
        );
        // Opens once the client reads its configuration, so its handlers are in place. It never gets to
        // read a document.
        let _document = std::fs::OpenOptions::new().write(true).open(&fifo).unwrap();
        client.signal(signal);
        assert_eq!(client.end(), Some(0));
        assert_eq!(home.files(), [fifo]);
    }
}

#[test]
fn a_second_signal_ends_a_stop_that_waits() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let mut client = Client::start(&engine.client_base_url(), &["--mcp.server-url", &server.url()]);
    wait_polled(&engine);
    let _call = Connector::new(&engine.mcp_url()).call_later(1, "stall", "{}");
    eventually("the call runs", || server.seen().iter().any(|request| request.text().contains("stall")));
    client.signal(Signal::TERM);
    client.wait_output("a second signal ends the process at once");
    assert!(client.is_running());
    let output = client.output();
    let url_file = output.split("(written to ").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
    assert!(std::path::Path::new(url_file).exists());
    client.signal(Signal::INT);
    assert_ne!(client.wait().code(), Some(0));
    assert!(!std::path::Path::new(url_file).exists(), "it leads nowhere");
}

#[test]
fn the_demo_server_answers_until_it_is_told_to_stop() {
    let home = Home::new();
    let mut stub =
        Running::spawn(home.command(&["dev", "mcp-stub", "--listen-addr", "", "--server-name", "mine"]));
    let base = stub.line_with("MCP stub listening on ").trim().rsplit(' ').next().unwrap().to_owned();
    let url = stub.line_with("MCP URL: ").trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(url, format!("{base}/mcp"));
    stub.line_with(&format!("Protected resource metadata: {base}/.well-known/oauth-protected-resource/mcp"));
    stub.line_with(&format!("Authorization server metadata: {base}/.well-known/oauth-authorization-server"));
    stub.line_with("tunnel-client init ");
    stub.line_with("tunnel-client doctor ");
    stub.line_with("tunnel-client run ");
    let address = address(&base).to_owned();
    let accept = [("Accept", "application/json, text/event-stream"), ("Content-Type", "application/json")];
    let reply = http::request(&address, "POST", "/mcp", &accept, INITIALIZE).unwrap();
    assert!(reply.text().contains("mine"), "{}", reply.text());
    assert_eq!(http::get(&format!("{base}/authorize")).unwrap().status, 404);
    assert_eq!(stub.terminate(), Some(0));
    home.run(&["dev", "mcp-stub", "--listen-addr", "127.0.0.1:nope"]).fails(&["listen 127.0.0.1:nope"]);
}

#[test]
fn the_local_proxy_prints_where_it_is_and_ends_by_itself() {
    let (home, server) = (Home::new(), McpServer::by_tool_name());
    let mut proxy =
        Running::spawn(home.command(&["dev", "proxy", "--print-json", "--mcp-server-url", &server.url()]));
    let mut text = String::new();
    while !text.ends_with("}\n") {
        assert!(proxy.stdout.read_line(&mut text).unwrap() > 0, "{text}");
    }
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    for key in [
        "tunnel_id",
        "mcp_url",
        "mcp_transport",
        "control_plane_base_url",
        "control_plane_transport",
        "backend",
    ] {
        assert!(json[key].is_string(), "{key}: {text}");
    }
    let reply = Connector::new(json["mcp_url"].as_str().unwrap()).call(1, "echo", r#"{"a":1}"#);
    assert_eq!(reply.json()["result"]["a"], 1, "{}", reply.text());
    assert_eq!(proxy.terminate(), Some(0));
    let brief = home.run(&["dev", "proxy", "--duration", "10ms", "--mcp-server-url", &server.url()]);
    assert_eq!(brief.code, 0, "{brief:?}");
    brief.says(&["MCP URL: http://127.0.0.1:"]);
    home.line("dev proxy").fails(&["set --mcp-server-url, --mcp-command, --profile, or --profile-file"]);
}
