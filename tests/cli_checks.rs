//! `doctor` and `health` against scripted servers and a real client.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use common::command::{Home, Run};
use common::http::{Request, reply};
use common::mcp_server::{McpServer, Next};
use common::process::Client;
use common::{API_KEY, TUNNEL_ID, engine};

const URL_CHECKS: [&str; 4] = [
    "tunnels_management_url",
    "runtime_api_keys_url",
    "admin_api_keys_url",
    "chatgpt_connector_settings_url",
];
const METADATA: &str = r#"{"resource":"r","authorization_servers":["https://as.example"]}"#;
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// What the servers here say to every POST: they speak the era with a handshake.
const INITIALIZED: &str =
    r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","capabilities":{}}}"#;

/// A home whose doctor needs nothing but an MCP target.
fn home() -> Home {
    Home::new()
        .with("CONTROL_PLANE_API_KEY", API_KEY)
        .with("CONTROL_PLANE_TUNNEL_ID", TUNNEL_ID)
        .with("CONTROL_PLANE_BASE_URL", "http://127.0.0.1:1")
        .with("HEALTH_LISTEN_ADDR", "127.0.0.1:0")
}

/// A server that answers by method and path.
fn serving(answer: impl Fn(&str, &str) -> (u16, &'static str) + Send + Sync + 'static) -> McpServer {
    McpServer::scripted(move |request: &Request, stream| {
        let (status, body) = match request.method.as_str() {
            "POST" => (200, INITIALIZED),
            "DELETE" => (204, ""),
            method => answer(method, &request.path),
        };
        let _ = stream.write_all(&reply(status, &[("Content-Type", "application/json")], body));
        Next::KeepAlive
    })
}

fn with_metadata() -> McpServer {
    serving(
        |_, path| {
            if path == "/.well-known/oauth-protected-resource/mcp" { (200, METADATA) } else { (404, "") }
        },
    )
}

/// Id and status of each line.
fn checks(run: &Run) -> Vec<(String, String)> {
    let lines = run.stdout.lines().take_while(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut words = line.strip_prefix("CHECK ").unwrap().split_whitespace();
            (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
        })
        .collect()
}

fn ids(run: &Run) -> Vec<String> {
    checks(run).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn doctor_checks_an_http_server_in_order_and_leaves_the_control_plane_alone() {
    let (server, plane) = (with_metadata(), serving(|_, _| (200, "{}")));
    let base = plane.url().trim_end_matches("/mcp").to_owned();
    let home = home().with("CONTROL_PLANE_BASE_URL", &base);
    let run = home.run(&["doctor", "--mcp.server-url", &server.url()]);
    run.ok(&["\nRESULT ok\nNEXT   tunnel-client run\n", "CHECK tunnel_id                PASS tunnel_0123"]);
    let mut expected = vec!["config_source", "profile_load", "tunnel_id", "control_plane_api_key"];
    expected.extend(URL_CHECKS);
    expected.extend([
        "mcp_target",
        "mcp_server_reachable",
        "mcp_protocol_era",
        "oauth_metadata",
        "health_listener",
        "ui",
        "codex_plugin",
    ]);
    assert_eq!(ids(&run), expected);
    run.says(&[
        "CHECK config_source            PASS flags/environment only",
        "CHECK control_plane_api_key    PASS env:CONTROL_PLANE_API_KEY",
        "CHECK tunnels_management_url   PASS https://platform.openai.com/settings/organization/tunnels",
        &format!("CHECK mcp_target               PASS {}", server.url()),
        &format!("CHECK mcp_server_reachable     PASS HTTP 404 from {}", server.url()),
        "ephemeral bind ok on http://127.0.0.1:0",
        "CHECK codex_plugin             SKIP Codex not detected locally",
    ]);
    assert!(plane.seen().is_empty());
    assert!(!run.stdout.contains(API_KEY));
}

#[test]
fn doctor_names_the_document_and_the_command_to_go_on_with() {
    let server = with_metadata();
    let home = home();
    let profile = home.file(
        ".config/tunnel-client/lab.yaml",
        &format!(
            "control_plane:\n  api_key: env:LAB_KEY\nmcp:\n  server_urls:\n    - url: {}\n",
            server.url()
        ),
    );
    // The profile's own key counts, not a variable that is set as well.
    let mut command = home.command(&["doctor", "--profile", "lab", "--json"]);
    let output = command
        .env("LAB_KEY", "k")
        .env("OPENAI_API_KEY", "other")
        .env_remove("CONTROL_PLANE_API_KEY")
        .output();
    let json: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    let summary = |id: &str| {
        let checks = json["checks"].as_array().unwrap();
        checks.iter().find(|check| check["id"] == id).unwrap()["summary"].as_str().unwrap().to_owned()
    };
    assert_eq!(json["result"], "ok", "{json:#}");
    assert_eq!(json["next"], "tunnel-client run --profile lab");
    assert!(json.get("failed_checks").is_none());
    assert_eq!(
        (summary("config_source").as_str(), summary("profile_load")),
        ("profile: lab", profile.clone())
    );
    assert_eq!(summary("control_plane_api_key"), "env:LAB_KEY");
    let home = home.with("LAB_KEY", "k");
    home.run(&["doctor", "--profile-file", &profile]).ok(&[
        &format!("profile file: {profile}"),
        &format!("NEXT   tunnel-client run --profile-file {profile}\n"),
    ]);
    home.run(&["doctor", "--config", &profile])
        .ok(&[&format!("NEXT   tunnel-client run --config {profile}\n")]);
}

#[test]
fn doctor_ends_early_when_the_document_cannot_be_chosen_or_read() {
    let home = home();
    let contradiction = home.line("doctor --config a --profile b");
    contradiction.reports(&["FAILED_CHECKS config_source\n", "mutually exclusive"]);
    let mut expected = vec!["config_source"];
    expected.extend(URL_CHECKS);
    assert_eq!(ids(&contradiction), expected);
    let unreadable = home.line("doctor --profile nope");
    unreadable.reports(&["FAILED_CHECKS profile_load\n", "nope.yaml"]);
    expected.insert(1, "profile_load");
    assert_eq!(ids(&unreadable), expected);
}

#[test]
fn doctor_selects_the_document_as_run_does() {
    let long = "x".repeat(129);
    for (variables, line, summary) in [
        (&[][..], "--config a.yaml --profile b", "mutually exclusive"),
        (
            &[("TUNNEL_CLIENT_PROFILE", "b")],
            "--config a.yaml",
            "CHECK profile_load             FAIL read config file a.yaml",
        ),
        (
            &[("TUNNEL_CLIENT_CONFIG", "a"), ("TUNNEL_CLIENT_PROFILE_FILE", "b")],
            "",
            "TUNNEL_CLIENT_PROFILE_FILE are mutually exclusive",
        ),
        (&[], "--profile-file p.yml", "must end with .yaml"),
        (&[], "--profile-file ~/p.yaml", "HOME/p.yaml"),
        (&[("XDG_CONFIG_HOME", "/x")], "--profile lab", "/x/tunnel-client/lab.yaml"),
        (&[("XDG_CONFIG_HOME", "/x"), ("TUNNEL_CLIENT_PROFILE_DIR", "/p")], "--profile lab", " /p/lab.yaml"),
        (&[("TUNNEL_CLIENT_PROFILE_DIR", "/p")], "--profile lab --profile-dir /q", " /q/lab.yaml"),
        (&[], "--profile ../x", "path separators"),
        (&[], "--profile a/b", "path separators"),
        (&[], "--profile .hidden", "CHECK config_source            FAIL"),
        (&[], &*format!("--profile {long}"), "CHECK config_source            FAIL"),
    ] {
        let mut home = Home::new();
        for (name, value) in variables {
            home = home.with(name, value);
        }
        let run = home.line(&format!("doctor {line}"));
        run.reports(&[&summary.replace("HOME", home.text("").trim_end_matches('/'))]);
    }
}

#[test]
fn doctor_explains_a_missing_key_and_what_to_do() {
    let home = Home::new().with("CONTROL_PLANE_TUNNEL_ID", TUNNEL_ID);
    let run = home.line("doctor --explain --mcp.server-url http://127.0.0.1:1/mcp");
    run.reports(&[
        "\nRESULT fail\nFAILED_CHECKS control_plane_api_key\nEXIT_CODE 2\n",
        "\nCHECK control_plane_api_key   FAIL\nWhy this matters:\n",
        "Evidence:\n  - ",
        "What to do next:\n  1. ",
        "https://platform.openai.com/settings/organization/api-keys",
        "https://platform.openai.com/settings/organization/admin-keys",
        "export CONTROL_PLANE_API_KEY=",
        "tunnel-client run",
        "\nCHECK codex_plugin   SKIP\n",
    ]);
    let mut expected = vec!["config_source", "profile_load", "control_plane_api_key"];
    expected.extend(URL_CHECKS);
    expected.push("codex_plugin");
    assert_eq!(ids(&run), expected);
}

#[test]
fn doctor_maps_a_configuration_error_to_its_check() {
    let home = home();
    let broken = home.file("mcp.command.yaml", "mcp:\n  bogus: 1\n  worse: 2\n");
    for (arguments, id, parts) in [
        (
            &["--control-plane.tunnel-id", "nope", "--mcp.command", "sh"][..],
            "tunnel_id",
            &[
                "invalid tunnel ID",
                "admin tunnels get <tunnel_id>",
                "help quickstart",
                "Keep the daemon up for connector discovery and every MCP call from ChatGPT.",
            ][..],
        ),
        (&[], "mcp_target", &["main channel is required", "channel=main"]),
        (&["--mcp.command", "sh", "--mcp.server-url", "http://h/mcp"], "mcp_target", &["duplicate channel"]),
        (&["--mcp.command", "sh 'open"], "mcp_target", &["CHECK mcp_target"]),
        (
            &["--control-plane.base-url", "nope", "--mcp.command", "sh"],
            "control_plane_base_url",
            &["CONTROL_PLANE_BASE_URL"],
        ),
        (
            &["--control-plane.poll-timeout", "0s", "--mcp.command", "sh"],
            "config_validation",
            &["poll-timeout"],
        ),
        (
            &["--ca-bundle", "/no/such/bundle", "--mcp.command", "sh"],
            "config_validation",
            &["invalid ca-bundle"],
        ),
        (&["--config", &broken], "profile_load", &["field bogus not found", "field worse not found"]),
    ] {
        let mut line = vec!["doctor", "--explain"];
        line.extend(arguments);
        let run = home.run(&line);
        run.reports(&[&format!("FAILED_CHECKS {id}\n")]).reports(parts);
        let fails = run.stdout.lines().filter(|line| line.starts_with("CHECK ") && line.contains(" FAIL "));
        assert_eq!(fails.count(), 1, "{run:?}");
    }
}

#[test]
fn doctor_tells_a_taken_address_and_blocks_what_depends_on_it() {
    let server = with_metadata();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = home().run(&["doctor", "--mcp.server-url", &server.url(), "--health.listen-addr", &address]);
    run.reports(&[
        "FAILED_CHECKS health_listener\n",
        "address already in use",
        "SKIP blocked by health listener check",
    ]);
    drop(taken);
    let run = home().run(&[
        "doctor",
        "--json",
        "--mcp.server-url",
        &server.url(),
        "--health.listen-addr",
        &address,
    ]);
    assert!(run.ok(&[]).stdout.contains(&format!("http://{address}/ui")), "{run:?}");
}

#[test]
fn doctor_leaves_no_traces_of_a_health_socket() {
    let server = with_metadata();
    let home = home();
    let dead = home.path("dead.sock");
    drop(UnixListener::bind(&dead).unwrap());
    let alive = home.path("alive.sock");
    let _alive = UnixListener::bind(&alive).unwrap();
    let file = home.file("file", "");
    let before = home.files();
    let url = server.url();
    let doctor =
        |socket: &str| home.run(&["doctor", "--mcp.server-url", &url, "--health.unix-socket", socket]);
    let missing = home.text("not/there/h.sock");
    for socket in [&dead.display().to_string(), &missing] {
        doctor(socket).ok(&[&format!("PASS will bind unix socket {socket}")]);
    }
    for (socket, part) in [
        (alive.display().to_string(), "already accepting connections"),
        (file.clone(), "is not a unix socket"),
        (format!("{file}/h.sock"), "not a directory"),
        (format!("/{}", "x".repeat(200)), "health_listener"),
    ] {
        doctor(&socket).reports(&["FAILED_CHECKS health_listener\n", part]);
    }
    assert_eq!(home.files(), before);
}

#[test]
fn doctor_judges_oauth_metadata_as_discovery_does() {
    let nothing = serving(|_, _| (404, ""));
    home()
        .run(&["doctor", "--mcp.server-url", &nothing.url()])
        .ok(&["OAuth metadata not advertised; all candidates returned HTTP 404"]);
    let asked: Vec<_> = nothing.seen().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    assert_eq!(
        asked,
        [
            "GET /mcp",
            "POST /mcp",
            "POST /mcp",
            "DELETE /mcp",
            "POST /mcp",
            "POST /mcp",
            "GET /mcp",
            &*format!("GET {WELL_KNOWN}/mcp"),
            &*format!("GET {WELL_KNOWN}")
        ]
    );
    assert!(
        nothing.seen().iter().skip(5).all(|request| request.header("Accept") == Some("application/json"))
    );

    let at_root = serving(|_, path| if path == WELL_KNOWN { (200, METADATA) } else { (503, "") });
    home()
        .run(&["doctor", "--mcp.server-url", &at_root.url()])
        .ok(&[&format!("HTTP 200 from {}{WELL_KNOWN}", at_root.url().trim_end_matches("/mcp"))]);

    let malformed = serving(|_, path| if path.starts_with(WELL_KNOWN) { (200, "<html>") } else { (404, "") });
    home()
        .run(&["doctor", "--mcp.server-url", &malformed.url()])
        .reports(&["FAILED_CHECKS oauth_metadata\n"]);
    assert_eq!(malformed.seen().iter().filter(|r| r.path.starts_with(WELL_KNOWN)).count(), 2);

    let only_at_root = serving(|_, path| match path {
        WELL_KNOWN => (200, METADATA),
        path if path.starts_with(WELL_KNOWN) => (401, "<html>"),
        _ => (404, ""),
    });
    home().run(&["doctor", "--mcp.server-url", &only_at_root.url()]).ok(&["HTTP 200 from"]);

    let broken = serving(|_, _| (500, ""));
    home()
        .run(&["doctor", "--explain", "--mcp.server-url", &broken.url()])
        .reports(&["FAILED_CHECKS oauth_metadata\n", "HTTP 500 from"]);
}

#[test]
fn doctor_asks_the_advertised_metadata_first_and_insists_on_it() {
    let challenging = |found: bool| {
        McpServer::scripted(move |request, stream| {
            let host = request.header("Host").unwrap();
            let challenge = format!("Bearer realm=\"x\", resource_metadata=\"http://{host}/advertised\"");
            let bytes = match request.path.as_str() {
                "/mcp" => reply(401, &[("WWW-Authenticate", &challenge)], ""),
                "/advertised" if found => reply(200, &[], METADATA),
                _ => reply(404, &[], ""),
            };
            let _ = stream.write_all(&bytes);
            Next::KeepAlive
        })
    };
    let server = challenging(true);
    home().run(&["doctor", "--mcp.server-url", &server.url()]).ok(&["HTTP 401 from", "/advertised"]);
    let server = challenging(false);
    home().run(&["doctor", "--mcp.server-url", &server.url()]).reports(&["FAILED_CHECKS oauth_metadata\n"]);
    let asked: Vec<_> = server.seen().iter().map(|request| request.path.clone()).collect();
    assert_eq!(
        asked,
        ["/mcp", "/mcp", "/mcp", "/mcp", "/advertised", &*format!("{WELL_KNOWN}/mcp"), WELL_KNOWN]
    );
}

#[test]
fn doctor_blames_a_proxy_that_is_down_and_not_the_server_behind_it() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let server = ["--mcp.server-url", "http://mcp.invalid/mcp", "--mcp.http-proxy", &proxy];
    let run = home().run(&[&["doctor", "--explain"][..], &server].concat());
    run.reports(&["FAILED_CHECKS mcp_server_reachable\n", "The proxy cannot be reached"]);
    assert!(!run.stdout.contains("Nothing listens there"), "{run:?}");
}

#[test]
fn doctor_blames_an_unreachable_server_once() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:pass-word@{}/mcp?key=hidden", free.local_addr().unwrap());
    drop(free);
    let run = home().run(&["doctor", "--explain", "--mcp.server-url", &url]);
    run.reports(&["FAILED_CHECKS mcp_server_reachable\n", "refused"]);
    assert!(checks(&run).contains(&("oauth_metadata".into(), "SKIP".into())));
    assert!(!run.stdout.contains("pass-word") && !run.stdout.contains("hidden"), "{run:?}");
    // A server that takes the connection and drops a GET is one that can be reached.
    let dropping = McpServer::scripted(|request, stream| {
        if request.path == "/mcp" {
            return Next::Close;
        }
        let _ = stream.write_all(&reply(404, &[], ""));
        Next::KeepAlive
    });
    let run = home().run(&["doctor", "--mcp.server-url", &dropping.url()]);
    run.says(&["PASS TCP connect succeeded to 127.0.0.1:"]);
}

#[test]
fn doctor_checks_a_stdio_command_without_running_it() {
    let home = home();
    let ran = home.text("ran");
    let good = home.script("good", &format!("#!/bin/sh\ntouch {ran}\n"));
    let data = home.file("data", "#!/bin/sh\n");
    let orphan = home.script("orphan", "#!/no/such/interpreter\n");
    let relative = home.script("relative", "#!sh\n");
    let run = home.run(&["doctor", "--mcp.command", &good]);
    run.ok(&[&format!("CHECK mcp_command_executable   PASS {good}\n")]);
    assert!(checks(&run).ends_with(&[
        ("mcp_target".into(), "PASS".into()),
        ("mcp_command_executable".into(), "PASS".into()),
        ("mcp_protocol_era".into(), "SKIP".into()),
        ("mcp_server_reachable".into(), "SKIP".into()),
        ("oauth_metadata".into(), "SKIP".into()),
        ("health_listener".into(), "PASS".into()),
        ("ui".into(), "PASS".into()),
        ("codex_plugin".into(), "SKIP".into()),
    ]));
    assert!(!home.path("ran").exists());
    for (command, parts) in [
        (data.clone(), &["is not executable", &*format!("chmod +x {data}")][..]),
        (orphan.clone(), &["uses an unavailable interpreter", "update the shebang"]),
        (relative, &["update the shebang"]),
        (format!("/bin/sh -c 'exec {orphan} x'"), &["uses an unavailable interpreter"]),
        (format!("/bin/sh {ran}"), &["ran"]),
        ("no-such-program-anywhere".to_owned(), &["was not found"]),
        (format!("env -u X A=b {data}"), &["chmod +x"]),
    ] {
        home.run(&["doctor", "--mcp.command", &command])
            .reports(&["FAILED_CHECKS mcp_command_executable\n"])
            .reports(parts);
    }
    home.run(&["doctor", "--mcp.command", &format!("/bin/sh -c 'A=b exec {good}'")]).ok(&[]);
}

#[test]
fn doctor_checks_further_channels_and_names_them() {
    let server = with_metadata();
    let run = home().run(&[
        "doctor",
        "--mcp.server-url",
        &server.url(),
        "--mcp.command",
        "channel=tools,command=no-such-program-anywhere",
    ]);
    run.reports(&["FAILED_CHECKS mcp_command_executable\n", "FAIL channel tools: ", "was not found"]);
    // A channel that is not polled does not matter, nor does `main` then.
    let run = home().run(&[
        "doctor",
        "--mcp.server-url",
        "http://127.0.0.1:1/mcp",
        "--mcp.command",
        "channel=tools,command=sh",
        "--control-plane.poll-channel",
        "tools",
    ]);
    run.ok(&["channel tools: "]);
    assert!(!ids(&run).contains(&"mcp_target".to_owned()));
}

#[test]
fn doctor_reaches_servers_the_way_that_run_does() {
    // Through a proxy, to a host that only the proxy knows; with the headers of run.
    let proxy = with_metadata();
    let proxy_url = proxy.url().trim_end_matches("/mcp").to_owned();
    let run = home().run(&[
        "doctor",
        "--mcp.server-url",
        "http://mcp.invalid/mcp",
        "--mcp.http-proxy",
        &proxy_url,
        "--mcp.extra-headers",
        "X-Static: s",
        "--mcp.discovery-extra-headers",
        "X-Discovery: d",
    ]);
    assert!(run.stdout.contains("HTTP 404 from http://mcp.invalid/mcp"), "{run:?}");
    let seen: Vec<_> = proxy.seen().into_iter().filter(|request| request.method != "CONNECT").collect();
    assert!(!seen.is_empty());
    for request in seen {
        assert_eq!((request.header("X-Static"), request.header("X-Discovery")), (Some("s"), Some("d")));
    }

    // Over a Unix socket, whatever the host's name.
    let home = home();
    let socket = home.path("mcp.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(not_found));
    let entry = format!("url=http://mcp.invalid/mcp,unix-socket={}", socket.display());
    home.run(&["doctor", "--mcp.server-url", &entry])
        .reports(&["HTTP 404 from http://mcp.invalid/mcp", "FAILED_CHECKS mcp_protocol_era\n"]);
}

#[test]
fn doctor_uses_the_ca_bundle_and_the_client_certificate() {
    let home = home();
    let url = tls_server(&home);
    let (ca, cert, key) = (home.text("ca.pem"), home.text("client.pem"), home.text("client.key"));
    let with =
        ["--ca-bundle", ca.as_str(), "--mcp.client-cert", cert.as_str(), "--mcp.client-key", key.as_str()];
    let doctor = |more: &[&str]| {
        let mut line = vec!["doctor", "--mcp.server-url", url.as_str()];
        line.extend(more);
        home.run(&line)
    };
    doctor(&with).reports(&[&format!("HTTP 404 from {url}"), "FAILED_CHECKS mcp_protocol_era\n"]);
    doctor(&[]).reports(&["FAILED_CHECKS mcp_server_reachable\n"]);
    doctor(&with[..2]).reports(&["FAILED_CHECKS mcp_server_reachable\n"]);
}

/// A server on loopback that shows a certificate of a private CA and demands one; its files are in `home`.
fn tls_server(home: &Home) -> String {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = parameters.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(parameters, ca_key);
    let sign = |name: &str| {
        let key = KeyPair::generate().unwrap();
        (CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap(), key)
    };
    home.file("ca.pem", &ca.pem());
    let (client, client_key) = sign("client");
    home.file("client.pem", &client.pem());
    home.file("client.key", &client_key.serialize_pem());
    let (server, server_key) = sign("127.0.0.1");
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
    let key = PrivateKeyDer::try_from(server_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/mcp", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            not_found(StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream));
        }
    });
    url
}

/// Answers one request without body with 404 and closes.
fn not_found(stream: impl Read + Write) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
        line.clear();
    }
    let _ = reader
        .get_mut()
        .write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn doctor_online_tells_why_the_control_plane_would_not_serve() {
    let server = with_metadata();
    for (status, body, parts) in [
        (200, r#"{"id":"x","name":"Docs"}"#, &["PASS", "name \"Docs\""][..]),
        (
            401,
            r#"{"error":{"code":"nope","message":"bad key"}}"#,
            &["HTTP 401 Unauthorized", "bad key", "api-keys"],
        ),
        (
            403,
            r#"{"error":{"code":"tunnel_use_forbidden"}}"#,
            &["HTTP 403 Forbidden", "Tunnels Read + Use", "access to this tunnel"],
        ),
        (404, "", &["HTTP 404 Not Found", "does not exist"]),
        (500, "", &["HTTP 500"]),
        (200, "[]", &["control_plane_online"]),
    ] {
        let plane = serving(move |_, _| (status, body));
        let base = plane.url().trim_end_matches("/mcp").to_owned();
        let run = home().run(&[
            "doctor",
            "--online",
            "--explain",
            "--mcp.server-url",
            &server.url(),
            "--control-plane.base-url",
            &base,
        ]);
        run.says(parts);
        let good = parts[0] == "PASS";
        assert_eq!(run.code, if good { 0 } else { 2 }, "{run:?}");
        assert_eq!(run.stdout.contains("FAILED_CHECKS control_plane_online\n"), !good);
        let seen = plane.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].path, format!("/v1/tunnels/{TUNNEL_ID}"));
        assert_eq!(seen[0].header("Authorization"), Some(&*format!("Bearer {API_KEY}")));
    }
    home()
        .run(&["doctor", "--online", "--mcp.server-url", &server.url()])
        .reports(&["FAILED_CHECKS control_plane_online\n", "is unreachable"]);
}

#[test]
fn doctor_with_json_is_one_document() {
    let home = home();
    let run = home.line("doctor --json --mcp.command no-such-program-anywhere");
    let json = run.reports(&[]).json();
    assert_eq!(
        (&json["result"], &json["failed_checks"][0]),
        (&"fail".into(), &"mcp_command_executable".into())
    );
    assert!(json.get("next").is_none());
    for check in json["checks"].as_array().unwrap() {
        assert!(["PASS", "FAIL", "SKIP"].contains(&check["status"].as_str().unwrap()));
        assert!(check["summary"].is_string() && check["id"].is_string());
    }
    home.line("doctor --bogus").fails(&["unknown flag: --bogus"]);
    home.line("doctor --embedded-mcp-stub").fails(&["unknown flag: --embedded-mcp-stub"]);
}

/// A listener of a client as it might be.
fn listener(ready: u16, metrics: &'static str) -> (McpServer, String) {
    let server = serving(move |_, path| match path {
        "/healthz" => (200, "live\n"),
        "/readyz" => (ready, "oauth discovery pending"),
        "/metrics" if metrics.is_empty() => (503, ""),
        "/metrics" => (200, metrics),
        _ => (404, ""),
    });
    let base = server.url().trim_end_matches("/mcp").to_owned();
    (server, base)
}

#[test]
fn health_tells_liveness_from_readiness() {
    let (_server, base) = listener(503, "");
    let home = Home::new();
    let run = home.run(&["health", "--url", &base]);
    assert_eq!(
        run.reports(&[]).stdout,
        format!(
            "Locator: url={base}\nBase URL: {base}\nUI URL: {base}/ui\nHealthz: PASS | {base}/healthz | HTTP 200 | live\n\
             Readyz: FAIL | {base}/readyz | HTTP 503 | oauth discovery pending\nResult: FAIL\n"
        )
    );
    let json = home.run(&["health", "--url", &base, "--json"]).reports(&[]).json();
    assert_eq!(json["result"], "fail");
    assert_eq!(
        json["healthz"],
        serde_json::json!({ "ok": true, "url": format!("{base}/healthz"), "status": 200, "body": "live" })
    );
    assert_eq!((&json["readyz"]["ok"], &json["readyz"]["status"]), (&false.into(), &503.into()));
    assert!(json.get("process").is_none() && json.get("control_plane_poll").is_none());
}

#[test]
fn health_finds_the_listener_by_url_file_and_port() {
    let (_server, base) = listener(200, "");
    let home = Home::new();
    let file = home.file("h.url", &format!("  {base}/readyz\n"));
    home.run(&["health", "--url-file", &file])
        .ok(&[&format!("Locator: url_file={file}\nBase URL: {base}\n"), "Result: PASS\n"]);
    let port = base.rsplit(':').next().unwrap();
    home.run(&["health", "--port", port]).ok(&[&format!("Locator: port={port}\n")]);
    for url in [format!("{base}/healthz/"), format!(" {base}/ "), format!("{base}/readyz")] {
        let json = home.run(&["health", "--json", "--url", &url]).ok(&[]).json();
        assert_eq!(json["locator"]["resolved_base_url"], *base, "{url}");
        assert_eq!((&json["base_url"], &json["ui_url"]), (&(*base).into(), &format!("{base}/ui").into()));
    }
    let missing = home.line("health --url-file nowhere.url");
    missing.reports(&[
        "Locator: url_file=nowhere.url\nLocator error: read nowhere.url: ",
        "Healthz: FAIL\n",
        "Result: FAIL\n",
    ]);
    let json = home.line("health --url-file nowhere.url --json").reports(&[]).json();
    assert_eq!(
        (&json["locator"]["kind"], &json["healthz"]),
        (&"url_file".into(), &serde_json::json!({ "ok": false }))
    );
    home.line("health --url nonsense").reports(&["Result: FAIL"]);
}

#[test]
fn health_refuses_contradicting_flags() {
    let home = Home::new();
    for (line, message) in [
        ("health", "choose exactly one of --url, --url-file, or --port"),
        ("health --port 0", "choose exactly one of --url, --url-file, or --port"),
        ("health --url http://h --port 1", "choose exactly one of --url, --url-file, or --port"),
        ("health --port -1", "--port must be positive"),
        ("health --port 65536", "--port"),
        ("health --port 1 --pid -5", "--pid must be positive"),
        ("health --port 1 --pid 5 --pid-file p", "choose at most one of --pid or --pid-file"),
        ("health --port 1 --max-poll-age 0s", "--max-poll-age must be a positive duration"),
        ("health --port 1 --max-poll-age x", "invalid argument \"x\" for \"--max-poll-age\" flag: "),
    ] {
        home.line(line).fails(&[message]);
        assert!(home.line(&format!("{line} --json")).json_error().contains(message), "{line}");
    }
}

#[test]
fn health_reads_the_last_poll_from_the_metrics() {
    let home = Home::new();
    let poll = |metrics: &'static str, more: &[&str]| {
        let (_server, base) = listener(200, metrics);
        let mut line = vec!["health", "--url", base.as_str()];
        line.extend(more);
        home.run(&line)
    };
    let require = &["--require-control-plane-poll"][..];
    const NONE: &str = "# commands_poll_last_successful_timestamp_seconds 5\ncommands_poll_last_successful_timestamp_seconds 0\n";
    poll(NONE, require)
        .reports(&["Control-plane poll: FAIL | ", "no successful control-plane poll observed"]);
    const ONE: &str = "other 7\ncommands_poll_last_successful_timestamp_seconds_total 9\ncommands_poll_last_successful_timestamp_seconds{a=\"b c\"} 1\n";
    poll(ONE, require).ok(&["Control-plane poll: PASS | ", "/metrics | last_success_unix_seconds=1 | age="]);
    poll("other 7\n", require).reports(&["missing commands_poll_last_successful_timestamp_seconds metric"]);
    poll("", require).reports(&["503 Service Unavailable"]);
    poll(ONE, &["--max-poll-age", "1h"]).reports(&["last_success_unix_seconds=1", "more than 1h0m0s"]);
    poll(ONE, &["--max-poll-age", "2000000h"]).ok(&[]);
    poll(ONE, &[]).ok(&[]);
    let (_server, base) = listener(200, ONE);
    let json = home.run(&["health", "--url", &base, "--require-control-plane-poll", "--json"]).ok(&[]).json();
    let poll = &json["control_plane_poll"];
    assert_eq!((&poll["ok"], &poll["value"]), (&true.into(), &1.into()));
    assert!(poll["age_seconds"].as_u64().unwrap() > 1_000_000_000);
}

#[test]
fn health_checks_the_process() {
    let (_server, base) = listener(200, "");
    let home = Home::new();
    let own = std::process::id().to_string();
    let file = home.file("pid", &format!("{own}\n"));
    let health = |more: &[&str]| {
        let mut line = vec!["health", "--url", base.as_str()];
        line.extend(more);
        home.run(&line)
    };
    health(&["--pid", &own]).ok(&[&format!("Process: PASS | pid={own}\n")]);
    health(&["--pid-file", &file]).ok(&[&format!("Process: PASS | pid={own} | pid_file={file}\n")]);
    health(&["--pid-file", "missing"]).reports(&["Process: FAIL | pid_file=missing | ", "Readyz: PASS"]);
    health(&["--pid-file", &home.file("bad", "zero")]).reports(&["Process: FAIL | pid_file="]);
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let gone = child.id().to_string();
    health(&["--pid", &gone]).reports(&[&format!("Process: FAIL | pid={gone} | not running\n")]);
    let json = health(&["--pid-file", "missing", "--json"]).reports(&[]).json();
    assert_eq!(
        (&json["process"]["running"], &json["process"]["pid_file"]),
        (&false.into(), &"missing".into())
    );
}

#[test]
fn health_passes_against_a_running_client() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let home = Home::new();
    let pid_file = home.text("pid");
    let client = Client::start(
        &engine.client_base_url(),
        &[
            "--mcp.server-url",
            &server.url(),
            "--pid.file",
            &pid_file,
            "--control-plane.poll-timeout",
            "100ms",
        ],
    );
    client.wait_ready();
    common::eventually("a poll has succeeded", || {
        home.run(&["health", "--url", client.health_url(), "--require-control-plane-poll"]).code == 0
    });
    home.run(&["health", "--url", client.health_url(), "--pid-file", &pid_file]).ok(&[
        "Healthz: PASS",
        "Readyz: PASS",
        "Process: PASS",
        "Result: PASS\n",
    ]);
}

#[test]
fn health_passes_over_a_unix_socket() {
    let (engine, server) = (engine(), McpServer::by_tool_name());
    let home = Home::new();
    let socket = home.text("s");
    let client = Client::start(
        &engine.client_base_url(),
        &["--mcp.server-url", &server.url(), "--health.unix-socket", &socket],
    );
    let url = client.health_url().to_owned();
    assert!(url.starts_with("http+unix://") && !url.contains('='), "{url}");
    common::eventually("the client is ready", || home.run(&["health", "--url", &url]).code == 0);
    let file = home.file("h.url", &url);
    home.run(&["health", "--url-file", &file]).ok(&[&format!("UI URL: {url}/ui\n"), "Result: PASS\n"]);
    home.line("health --url http+unix://!").reports(&["base64"]);
}

#[test]
fn doctor_tells_the_era_of_a_server_and_who_is_bridged() {
    const DISCOVERED: &str = r#"{"jsonrpc":"2.0","id":"tc-probe-1","result":{"resultType":"complete","supportedVersions":["2026-07-28"]}}"#;
    const UNSUPPORTED: &str = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"","data":{"supported":["2026-07-28"]}}}"#;
    let server = |legacy: bool, modern: bool| {
        McpServer::scripted(move |request: &Request, stream| {
            let discover = request.text().contains("server/discover");
            let bytes = match (request.method.as_str(), discover) {
                ("POST", true) if modern => reply(200, &[("Content-Type", "application/json")], DISCOVERED),
                ("POST", false) if legacy => reply(200, &[("Content-Type", "application/json")], INITIALIZED),
                ("POST", false) if modern => reply(400, &[("Content-Type", "application/json")], UNSUPPORTED),
                _ => reply(404, &[], ""),
            };
            let _ = stream.write_all(&bytes);
            Next::KeepAlive
        })
    };
    for (legacy, modern, bridge, expected) in [
        (true, false, "auto", "PASS legacy (2025-06-18); modern connectors are bridged"),
        (false, true, "auto", "PASS modern (2026-07-28); legacy connectors are bridged"),
        (true, true, "auto", "PASS dual (2025-06-18 and 2026-07-28)"),
        (
            true,
            false,
            "off",
            "PASS legacy (2025-06-18); modern connectors are NOT bridged (mcp.protocol_bridge=off)",
        ),
    ] {
        let server = server(legacy, modern);
        let line = ["doctor", "--mcp.protocol-bridge", bridge, "--mcp.server-url", &server.url()];
        home().run(&line).ok(&[&format!("CHECK mcp_protocol_era         {expected}\n")]);
    }
    let neither = server(false, false);
    home().run(&["doctor", "--explain", "--mcp.server-url", &neither.url()]).reports(&[
        "FAIL server accepted neither initialize nor server/discover\n",
        "initialize was answered with HTTP status 404",
        "server/discover was answered with HTTP status 404",
        "older two-endpoint SSE transport",
    ]);
    let guarded = McpServer::scripted(|_, stream| {
        let _ = stream.write_all(&reply(401, &[("WWW-Authenticate", "Bearer")], ""));
        Next::KeepAlive
    });
    home()
        .run(&["doctor", "--mcp.server-url", &guarded.url()])
        .says(&["SKIP requires authorization; era not determined"]);
}
