//! Every way a peer can fail, against every kind of command: one terminal answer for each (none only
//! when its deadline has passed), later calls work, and nothing is left behind.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use common::matrix_lane::{Kind, Lane, Wants, wait_gone};
use common::matrix_plane::Ruling;
use common::matrix_rows::{self, Row};
use common::matrix_server::FaultServer;
use common::matrix_subject::{Subject, WORKS, http_channels};
use common::{PATIENCE, address, eventually};

fn over_http(rows: &[Row]) {
    let server = FaultServer::start();
    Subject::start(&http_channels(rows, &server.url())).run(rows, Some(&server));
}

#[test]
fn broken_connections_and_framing_cost_only_their_own_call() {
    over_http(matrix_rows::FRAMING);
}

#[test]
fn replies_that_are_no_answer_cost_only_their_own_call() {
    over_http(matrix_rows::REPLIES);
}

#[test]
fn broken_event_streams_cost_only_their_own_call() {
    over_http(matrix_rows::STREAMS);
}

const EOF: &str = "502 transport_closed/eof";
const TTL: &str = "504 timeout/ttl";

/// What a child may do; a termination is refused whatever it does.
const fn child(call: &'static str, hasty: &'static str, notification: &'static str) -> Wants {
    Wants { call, hasty, notification, termination: "405" }
}

const CHILDREN: &[Row] = &[
    ("exits", child(EOF, EOF, "200")),
    ("is-killed", child(EOF, EOF, "200")),
    ("closes-stdout", child(EOF, EOF, "200")),
    ("closes-stdin", child(TTL, "silence", "200")),
    ("closes-both-and-ignores-term", child(EOF, EOF, "200")),
    ("writes-garbage", child("200", "200", "200")),
    ("half-a-line", child(CUT, CUT, "200")),
    ("oversized", child(PROTOCOL, PROTOCOL, "200")),
    ("endless-line", child(TTL, "silence", "200")),
    ("deaf-for-a-while", child(TTL, "silence", "200")),
    ("never-answers", child(TTL, "silence", "200")),
    ("answers-twice", child("200", "200", "200")),
    ("answers-unknown", child("200", "200", "200")),
    ("asks-us", child("200", "200", "200")),
    ("asks-for-ever", child(TTL, "silence", "200")),
    ("floods", child("200", "200", "200")),
    ("wrong-answer", child(PROTOCOL, PROTOCOL, "200")),
    ("leaves-a-grandchild", child(EOF, EOF, "200")),
    ("leaves-a-stranger", child(EOF, EOF, "200")),
];
const CUT: &str = "502 transport_closed/unexpected_eof";
const PROTOCOL: &str = "502 protocol/invalid_protocol_response";

/// A child that runs a script of `tests/fixtures`.
fn command(channel: &str, script: &str) -> [String; 2] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(script);
    ["--mcp.command".to_owned(), format!("channel={channel},command=sh '{}'", path.display())]
}

#[test]
fn whatever_a_child_does_costs_only_the_calls_it_was_given() {
    let names = CHILDREN.iter().map(|(name, _)| *name).chain(["main"]);
    let arguments: Vec<String> = names.flat_map(|name| command(name, "matrix_child.sh")).collect();
    let mut subject = Subject::start(&arguments);
    subject.recovering = &[
        EOF,
        CUT,
        TTL,
        "502 transport_closed/closed_pipe",
        "503 transport_closed/child_unavailable",
        "504 timeout/mcp_handshake_timeout",
    ];
    subject.run(CHILDREN, None);
}

#[test]
fn connections_that_the_peer_closed_while_they_idled_cost_no_call() {
    let server = FaultServer::start();
    let mut subject = Subject::start(&http_channels(&[], &server.url()));
    for _ in 0..20 {
        subject.settle(&["main"], Some(&server));
    }
    assert_eq!(server.calls("none"), 40, "no call is sent twice");
    let wrong = subject.finish();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_discovery_that_finds_nothing_is_answered_whatever_main_is() {
    let server = FaultServer::start();
    for arguments in [http_channels(&[], &server.url()), command("main", "matrix_child.sh").to_vec()] {
        let mut subject = Subject::start(&arguments);
        let id = subject.lane("main", "none", WORKS).issue(Kind::Discovery, "none");
        let post = subject.plane.answer(&id, PATIENCE).expect("an answer");
        assert_eq!(post.resp_type, "oauth_discovery_response");
        assert!(post.code >= 400, "{}", post.text);
        let wrong = subject.finish();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

#[test]
fn a_child_that_dies_of_every_message_answers_every_command() {
    let any =
        "502 transport_closed/eof|503 transport_closed/child_unavailable|504 timeout/mcp_handshake_timeout";
    let wants = Wants { call: any, hasty: any, notification: "200|502|503|504", termination: "405" };
    let server = FaultServer::start();
    let mut arguments = http_channels(&[], &server.url());
    arguments.extend(command("crash-loop", "matrix_crash_loop.sh"));
    arguments.extend(command("no-start", "no-such-script.sh"));
    let mut subject = Subject::start(&arguments);
    // While a child is being replaced, more or less is held than before.
    let lanes = ["crash-loop", "no-start"].map(|name| subject.lane(name, "none", wants));
    let mut wrong: Vec<String> = lanes.iter().flat_map(Lane::run_dead).collect();
    subject.settle(&["main"], Some(&server));
    wrong.extend(subject.finish());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The same end for every kind that reaches a server.
const fn fails(call: &'static str, others: &'static str) -> Wants {
    Wants { call, hasty: call, notification: others, termination: others }
}

const HANGS: Wants = Wants { call: TTL, hasty: "silence", notification: "504", termination: "502" };

/// What a proxy may say to `CONNECT`, and whether it then closes; nothing stands for silence.
const PROXIES: &[(&str, Wants, Option<&[u8]>, bool)] = &[
    ("asks-for-credentials", fails("502 connect/dial", "502"), Some(b"HTTP/1.1 407 Who Are You\r\nProxy-Authenticate: Basic\r\nContent-Length: 15\r\n\r\nprivate details"), false),
    ("forbids", fails("502 connect/dial", "502"), Some(b"HTTP/1.1 403 No\r\n\r\n"), true),
    ("fails", fails("502 connect/dial", "502"), Some(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n"), false),
    ("says-nothing", HANGS, None, false),
    ("half-a-head", HANGS, Some(b"HTTP/1.1 200 OK\r\nVia: "), false),
    ("garbage", fails("502 connect/dial|502 protocol/invalid_protocol_response", "502"), Some(b"220 mail.example ESMTP\r\n\r\n"), true),
    ("closes", fails("502 connect/dial|502 transport_closed/eof|502 transport_closed/unexpected_eof", "502"), Some(b""), true),
    ("connects-and-closes", fails("502 transport_closed/eof", "502"), Some(b"HTTP/1.1 200 OK\r\n\r\n"), true),
    ("connects-and-hangs", HANGS, Some(b"HTTP/1.1 200 OK\r\n\r\n"), false),
    ("connects-to-mail", fails("502 connect/dial|502 tls/tls", "502"), Some(b"HTTP/1.1 200 OK\r\n\r\n220 mail.example ESMTP\r\n"), false),
];

/// A proxy that says this to everything, on a port of its own.
fn proxy(say: Option<&'static [u8]>, close: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut seen = [0; 4096];
                let _ = stream.read(&mut seen);
                let _ = stream.write_all(say.unwrap_or_default());
                while !close && stream.read(&mut seen).is_ok_and(|count| count > 0) {}
            });
        }
    });
    address
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address")
}

#[test]
fn proxies_that_fail_and_servers_that_are_not_there_are_named_as_such() {
    let server = FaultServer::start();
    let mut arguments = http_channels(&[], &server.url());
    let mut add = |channel: &str, target: String| {
        arguments.extend(["--mcp.server-url".to_owned(), format!("channel={channel},{target}")]);
    };
    let mut rows: Vec<Row> = Vec::new();
    for (name, wants, say, close) in PROXIES {
        add(name, format!("url=https://mcp.invalid/mcp,http-proxy=http://{}", proxy(*say, *close)));
        rows.push((name, *wants));
    }
    add("no-proxy", format!("url=https://mcp.invalid/mcp,http-proxy=http://{}", nobody()));
    rows.push(("no-proxy", fails("502 connect/connection_refused", "502")));
    add("no-proxy-plain", format!("url=http://mcp.invalid/mcp,http-proxy=http://{}", nobody()));
    rows.push(("no-proxy-plain", fails("502 connect/connection_refused", "502")));
    add("no-server", format!("url=http://{}/mcp", nobody()));
    rows.push(("no-server", fails("502 connect/connection_refused", "502")));
    add("no-socket", "url=http://localhost/mcp,unix-socket=/nonexistent/mcp.sock".to_owned());
    rows.push(("no-socket", fails("502 connect/dial", "502")));
    add("no-tls", format!("url=https://{}/mcp", address(&server.url()).trim_end_matches("/mcp")));
    // It closes when what comes is no HTTP: nothing was said about TLS.
    rows.push(("no-tls", fails("502 transport_closed/eof", "502")));
    Subject::start(&arguments).run_dead(&rows, &server);
}

#[test]
fn a_plain_target_behind_a_proxy_that_fails_costs_only_its_own_call() {
    let through =
        ["close", "reset", "stall", "garbage", "endless-head", "head-then-stall", "chunk-cut", "close-each"];
    let mut rows: Vec<Row> =
        matrix_rows::FRAMING.iter().filter(|(name, _)| through.contains(name)).copied().collect();
    rows.push(("proxy-407", fails("407 target_http/malformed_json", "407")));
    let server = FaultServer::start();
    let proxy = server.url().trim_end_matches("/mcp").to_owned();
    let mut arguments = http_channels(&[], &server.url());
    for (name, _) in &rows {
        let entry = format!("channel={name},url=http://mcp.invalid/mcp,http-proxy={proxy}");
        arguments.extend(["--mcp.server-url".to_owned(), entry]);
    }
    Subject::start(&arguments).run(&rows, Some(&server));
}

#[test]
fn a_call_whose_notifications_nobody_takes_does_not_hold_up_the_others_of_its_child() {
    let arguments: Vec<String> = command("main", "matrix_child.sh")
        .into_iter()
        .chain(["--mcp.connection-max-ttl".to_owned(), "60s".to_owned()])
        .collect();
    let subject = Subject::start(&arguments);
    // Each takes its time: the control plane is slow, not down.
    subject.plane.set_rule(|post, _| {
        if !post.is_terminal() {
            std::thread::sleep(Duration::from_millis(500));
        }
        Ruling::Accept
    });
    let lane = subject.lane("main", "none", WORKS);
    let flooded = lane.issue(Kind::Call, "pours");
    eventually("the flood runs", || !subject.plane.posts_of(&flooded).is_empty());
    let started = Instant::now();
    let mut wrong = Vec::new();
    lane.check_alive("beside a flood", &mut wrong);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(subject.plane.posts_of(&flooded).iter().all(|post| !post.is_terminal()), "it still runs");
    subject.client.signal(rustix::process::Signal::TERM);
    subject.client.signal(rustix::process::Signal::KILL);
    wait_gone(&subject.tag);
}
