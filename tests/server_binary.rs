//! The `tunnel-server` binary: flags, document, TLS, permissions, signals.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "support/process.rs"]
mod process;
#[path = "support/site.rs"]
mod site;
#[path = "support/wire.rs"]
mod wire;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use process::Server;
use site::{LIST, TUNNEL, post_response, result, send_call};
use wire::{PATIENCE, Stream, Wire};

fn poll_as(wire: &mut Wire, key: &str, tunnel: &str, query: &str) -> wire::Reply {
    send_poll_as(wire, key, tunnel, query);
    wire.read()
}

fn send_poll_as(wire: &mut Wire, key: &str, tunnel: &str, query: &str) {
    let authorization = format!("Bearer {key}");
    let target = format!("/v1/tunnels/{tunnel}/poll?{query}");
    wire.send("GET", &target, &[("Authorization", &authorization)], None);
}

fn take_command(server: &Server) -> Value {
    let reply = poll_as(&mut server.connect(), site::KEY, TUNNEL, "limit=1&timeout_ms=5000");
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()["commands"][0].clone()
}

fn respond(server: &Server, command: &Value) -> u16 {
    let token = command["shard_token"].as_str().unwrap();
    post_response(&mut server.connect(), TUNNEL, token, command, result()).status
}

#[test]
fn a_single_tunnel_is_served_from_flags_and_ends_with_the_signal() {
    let mut server = Server::one_tunnel(&[]);
    assert_eq!(server.connect().call("GET", "/readyz", &[], None).text(), r#"{"status":"ok"}"#);
    assert_eq!(poll_as(&mut server.connect(), site::KEY, TUNNEL, "timeout_ms=1").status, 204);
    let mut caller = server.connect();
    send_call(&mut caller, "application/json", LIST);
    let command = take_command(&server);
    assert_eq!(respond(&server, &command), 200);
    assert_eq!(caller.read().status, 200);
    for line in [
        &format!("tunnel_server_held_requests{{tunnel_id=\"{TUNNEL}\"}} 0"),
        "tunnel_server_commands_total{type=\"jsonrpc\",origin=\"connector\",outcome=\"answered\"} 1",
        "tunnel_server_responses_total{resp_type=\"jsonrpc_response\",result=\"ok\"} 1",
        "tunnel_server_command_total_seconds_count{type=\"jsonrpc\"} 1",
        "tunnel_server_http_requests_total{route=\"poll\",status=\"204\"} 1",
    ] {
        // A request is counted once its response has left: its peer may be faster.
        site::wait_for(line, || {
            let metrics = server.connect().call("GET", "/metrics", &[], None);
            metrics.text().lines().any(|have| have == line)
        });
    }
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(!server.url_file.exists());
    let log = server.stderr();
    let line = |text: &str| log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("{log}"));
    assert!(line(" INFO listening ").ends_with(&format!(" component=server url={}", server.url)), "{log}");
    let ended = line(" INFO command ended ");
    for field in ["command_type=jsonrpc", "outcome=answered", "status=200", "client_instance_id="] {
        assert!(ended.contains(&format!(" {field}")), "{ended}");
    }
    assert!(!log.contains(site::KEY) && !log.contains(command["shard_token"].as_str().unwrap()), "{log}");
}

#[test]
fn stopping_lets_delivered_commands_be_answered_and_ends_the_rest() {
    let mut server = Server::one_tunnel(&[]);
    assert_eq!(poll_as(&mut server.connect(), site::KEY, TUNNEL, "timeout_ms=1").status, 204);
    let mut delivered = server.connect();
    send_call(&mut delivered, "application/json", LIST);
    let command = take_command(&server);
    let mut queued = server.connect();
    queued.send("POST", &format!("/v1/mcp/{TUNNEL}/other"), &[], Some(LIST.as_bytes()));
    let mut parked = server.connect();
    send_poll_as(&mut parked, site::KEY, TUNNEL, "channel=third&timeout_ms=30000");
    site::wait_for("all to be there", || {
        let metrics = server.connect().call("GET", "/metrics", &[], None);
        metrics.text().contains(&format!("tunnel_server_held_requests{{tunnel_id=\"{TUNNEL}\"}} 2"))
            && metrics.text().contains(&format!("tunnel_server_parked_polls{{tunnel_id=\"{TUNNEL}\"}} 1"))
    });
    server.signal(Signal::TERM);
    assert_eq!(parked.read().status, 204);
    let ended = queued.read();
    assert_eq!((ended.status, ended.header("Retry-After")), (503, Some("1")));
    let refused = poll_as(&mut server.connect(), site::KEY, TUNNEL, "timeout_ms=30000");
    assert_eq!((refused.status, refused.code().as_str()), (503, "tunnel_transport_unavailable"));
    assert_eq!(respond(&server, &command), 200);
    assert_eq!(delivered.read().status, 200);
    assert!(server.wait().success());
}

#[test]
fn systemd_hears_that_the_server_has_started_lives_through_a_reload_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).expect("a datagram");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let until = |wanted: &str| while next() != wanted {};
    let arguments = ["--listen=127.0.0.1:0", "--tunnel-id", TUNNEL, "--api-key=env:TEST_CLIENT_KEY"];
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let mut server = Server::start_in(&arguments, &environment);
    assert_eq!(next(), "READY=1\nSTATUS=serving; tunnels: 1, calls held: 0, polls waiting: 0");
    until("WATCHDOG=1");
    let mut parked = server.connect();
    send_poll_as(&mut parked, site::KEY, TUNNEL, "timeout_ms=30000");
    until("STATUS=serving; tunnels: 1, calls held: 0, polls waiting: 1");
    server.signal(Signal::HUP);
    until("WATCHDOG=1");
    server.signal(Signal::TERM);
    until("STOPPING=1\nSTATUS=stopping: calls that a client has taken are being answered");
    assert_eq!(parked.read().status, 204);
    assert!(server.wait().success());
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let mut server = Server::one_tunnel(&[]);
    assert_eq!(poll_as(&mut server.connect(), site::KEY, TUNNEL, "timeout_ms=1").status, 204);
    let mut caller = server.connect();
    send_call(&mut caller, "application/json", LIST);
    let _command = take_command(&server);
    let mut queued = server.connect();
    queued.send("POST", &format!("/v1/mcp/{TUNNEL}"), &[], Some(LIST.as_bytes()));
    server.signal(Signal::INT);
    assert_eq!(queued.read().status, 503, "the first signal was taken");
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn connectors_need_their_key_and_it_goes_no_further() {
    let server = Server::one_tunnel(&["--connector-key", "env:TEST_OTHER_KEY", "--path-prefix=/gw/"]);
    let target = format!("/gw/v1/mcp/{TUNNEL}");
    for key in [None, Some("wrong"), Some(site::KEY)] {
        let headers: Vec<(&str, &str)> = key.iter().map(|key| ("X-Tunnel-Connector-Key", *key)).collect();
        let reply = server.connect().call("POST", &target, &headers, Some(LIST.as_bytes()));
        assert_eq!((reply.status, reply.code().as_str()), (401, ""));
    }
    let poll = format!("/gw/v1/tunnels/{TUNNEL}/poll?timeout_ms=");
    let key = format!("Bearer {}", site::KEY);
    assert_eq!(
        server.connect().call("GET", &format!("{poll}1"), &[("Authorization", &key)], None).status,
        204
    );
    let mut caller = server.connect();
    caller.send("POST", &target, &[("X-Tunnel-Connector-Key", "other-key")], Some(LIST.as_bytes()));
    let polled = server.connect().call("GET", &format!("{poll}5000"), &[("Authorization", &key)], None);
    assert!(!polled.text().contains("other-key"), "{}", polled.text());
    assert_eq!(polled.json()["commands"][0]["command_type"], "jsonrpc");
}

const READ: &str = "api.organization.tunnel.read";
const USE: &str = "api.organization.tunnel.use";
const SECOND: &str = "tunnel_1123456789abcdef0123456789abcdef";

fn document(second: bool) -> String {
    let second =
        if second { format!("  - {{id: {SECOND}, organization_ids: [org_a]}}\n") } else { String::new() };
    format!(
        "listeners:
  - {{addr: \"127.0.0.1:0\", serve: [client, connector, operator]}}
keys:
  - {{name: a, kind: runtime, secret: \"env:TEST_CLIENT_KEY\", permissions: [{READ}, {USE}], organization_ids: [org_a]}}
  - {{name: b, kind: runtime, secret: \"env:TEST_OTHER_KEY\", organization_ids: [org_a]}}
tunnels:
  - {{id: {TUNNEL}, name: one, description: first, organization_ids: [org_a]}}
{second}"
    )
}

#[test]
fn a_key_without_use_neither_polls_nor_sees_and_a_reload_removes_a_tunnel() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.yaml");
    std::fs::write(&path, document(true)).unwrap();
    let mut server = Server::start(&["--config", path.to_str().unwrap()]);
    let refused = poll_as(&mut server.connect(), "other-key", TUNNEL, "timeout_ms=1");
    assert_eq!((refused.status, refused.code().as_str()), (401, "tunnel_use_forbidden"));
    let metadata = |key: &str| {
        let key = format!("Bearer {key}");
        server.connect().call("GET", &format!("/v1/tunnels/{TUNNEL}"), &[("Authorization", &key)], None)
    };
    let refused = metadata("other-key");
    assert_eq!((refused.status, refused.code().as_str()), (403, "tunnel_use_forbidden"));
    let record = metadata(site::KEY);
    assert_eq!(
        (&record.json()["name"], &record.json()["organization_ids"]),
        (&json!("one"), &json!(["org_a"]))
    );

    let mut parked = server.connect();
    send_poll_as(&mut parked, site::KEY, SECOND, "channel=other&timeout_ms=30000");
    assert_eq!(poll_as(&mut server.connect(), site::KEY, SECOND, "timeout_ms=1").status, 204);
    let mut caller = server.connect();
    caller.send("POST", &format!("/v1/mcp/{SECOND}"), &[], Some(LIST.as_bytes()));
    site::wait_for("the call to be held", || {
        let metrics = server.connect().call("GET", "/metrics", &[], None);
        metrics.text().contains(&format!("tunnel_server_held_requests{{tunnel_id=\"{SECOND}\"}} 1"))
            && metrics.text().contains(&format!("tunnel_server_parked_polls{{tunnel_id=\"{SECOND}\"}} 1"))
    });
    std::fs::write(&path, document(false)).unwrap();
    let began = Instant::now();
    server.signal(Signal::HUP);
    let ended = parked.read();
    assert_eq!((ended.status, ended.code().as_str()), (401, "tunnel_use_forbidden"));
    assert_eq!(caller.read().status, 404);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(metadata(site::KEY).status, 200, "the other tunnel goes on");

    std::fs::write(&path, "listeners: [").unwrap();
    server.signal(Signal::HUP);
    assert_eq!(metadata(site::KEY).status, 200, "a document that cannot be read changes nothing");
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(server.stderr().contains("reloading failed"));
}

/// A TLS client over a blocking socket.
struct Tls {
    inner: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
}

impl std::io::Read for Tls {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.inner.read(buffer)
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl Stream for Tls {
    fn cut(&self) {
        let _ = self.inner.sock.shutdown(std::net::Shutdown::Both);
    }
}

fn certificate(directory: &Path) -> (rustls::pki_types::CertificateDer<'static>, PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (made.cert.der().clone(), cert, key)
}

fn tls(address: SocketAddr, trusted: &rustls::pki_types::CertificateDer<'static>) -> Wire {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connection =
        rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    Wire::over(Box::new(Tls { inner: rustls::StreamOwned::new(connection, socket) }))
}

#[test]
fn over_tls_calls_are_answered_departures_noticed_and_challenges_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let (trusted, cert, key) = certificate(directory.path());
    let server =
        Server::one_tunnel(&["--tls-cert", cert.to_str().unwrap(), "--tls.key", key.to_str().unwrap()]);
    assert!(server.url.starts_with("https://127.0.0.1:"));
    let connect = || tls(server.address(), &trusted);
    let mut client = connect();
    assert_eq!(poll_as(&mut client, site::KEY, TUNNEL, "timeout_ms=50").status, 204);
    send_poll_as(&mut client, site::KEY, TUNNEL, "timeout_ms=10000");
    let mut caller = connect();
    // Larger than a TLS record, in both directions.
    let padded = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":"{}"}}"#, "x".repeat(100_000));
    send_call(&mut caller, "application/json", &padded);
    let polled = client.read().json();
    let command = &polled["commands"][0];
    assert_eq!(command["jsonrpc"]["params"].as_str().unwrap().len(), 100_000);
    let mut answer = result();
    answer["resp_code"] = json!(401);
    answer["resp_headers"] = json!({"WWW-Authenticate": ["Bearer resource_metadata=http://inside/x"]});
    let token = command["shard_token"].as_str().unwrap();
    assert_eq!(post_response(&mut client, TUNNEL, token, command, answer).status, 200);
    let reply = caller.read();
    let challenge = reply.header("WWW-Authenticate").unwrap();
    assert_eq!(
        challenge,
        format!("Bearer resource_metadata=https://test/.well-known/oauth-protected-resource/v1/mcp/{TUNNEL}")
    );
    send_call(&mut caller, "application/json", LIST);
    let held = |count: usize| {
        let metrics = connect().call("GET", "/metrics", &[], None);
        metrics.text().contains(&format!("tunnel_server_held_requests{{tunnel_id=\"{TUNNEL}\"}} {count}"))
    };
    site::wait_for("the call to be held", || held(1));
    drop(caller);
    site::wait_for("the departure to be noticed", || held(0));
    // Plain text on a TLS port gets no answer.
    assert!(server.connect().try_send_raw(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").is_ok());
}

#[test]
fn a_certificate_that_cannot_be_read_again_leaves_those_of_all_listeners_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let place = directory.path().join(name);
        std::fs::create_dir(&place).unwrap();
        place
    };
    let ((first, second), path) = ((place("a"), place("b")), directory.path().join("server.yaml"));
    let (trusted, _, _) = certificate(&first);
    let (_, broken, _) = certificate(&second);
    let listener = |place: &Path| {
        let (cert, key) = (place.join("cert.pem"), place.join("key.pem"));
        format!(
            "  - {{addr: \"127.0.0.1:0\", serve: [connector, operator], tls: {{cert: \"{}\", key: \"{}\"}}}}\n",
            cert.display(),
            key.display()
        )
    };
    let text = format!("listeners:\n{}{}tunnels: [{{id: {TUNNEL}}}]\n", listener(&first), listener(&second));
    std::fs::write(&path, text).unwrap();
    let mut server = Server::start(&["--config", path.to_str().unwrap()]);
    certificate(&first);
    std::fs::write(&broken, "no certificate").unwrap();
    server.signal(Signal::HUP);
    let mut log = BufReader::new(server.child.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("reloading failed")));
    assert_eq!(tls(server.address(), &trusted).call("GET", "/readyz", &[], None).status, 200);
}

#[test]
fn wrong_invocations_end_with_one_sentence_and_exit_code_one() {
    for (arguments, reason) in [
        (vec!["--tunnel-id", TUNNEL, "--api-key", "env:SURELY_NOT_SET_3141"], "SURELY_NOT_SET_3141"),
        (vec!["--tunnel-id", TUNNEL, "--api-key", "outright-secret"], "env:NAME"),
        (vec!["--tunnel-id", TUNNEL, "--api-key", "file:/nonexistent"], "/nonexistent"),
        (vec!["--config", "/nonexistent.yaml"], "/nonexistent.yaml"),
        (vec!["--what"], "--what"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tunnel-server")).args(&arguments).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text.contains(reason) && text.lines().count() == 1, "{text}");
        assert!(!text.contains("outright-secret") && output.stdout.is_empty());
    }
    let help = Command::new(env!("CARGO_BIN_EXE_tunnel-server")).arg("--help").output().unwrap();
    assert!(help.status.success() && help.stderr.is_empty());
    assert!(String::from_utf8(help.stdout).unwrap().contains("--tunnel-id"));
}
