//! Every way a peer can fail, against every kind of command: one terminal answer for each (none only
//! when its deadline has passed), later calls work, and nothing is left behind.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use common::http::reply;
use common::matrix_lane::{Census, HASTE_MS, Kind, Lane, Wants, audit, wait_gone};
use common::matrix_plane::{Plane, Ruling};
use common::matrix_server::{self, FaultServer, Row};
use common::process::Client;
use common::{PATIENCE, address, eventually};

/// Longest exchange, longest message of a server, calls at once.
const FIXED: [&str; 6] = [
    "--mcp.connection-max-ttl",
    "1500ms",
    "--mcp.max-message-bytes",
    "65536",
    "--mcp.max-concurrent-requests",
    "48",
];

/// A client under test, its control plane, and how it looked before anything failed.
struct Subject {
    plane: Plane,
    client: Client,
    tag: String,
    scratch: tempfile::TempDir,
    baseline: Option<Census>,
    recovering: &'static [&'static str],
}

impl Subject {
    fn start(arguments: &[String]) -> Subject {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let tag = format!("MATRIX_TAG={}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let scratch = tempfile::tempdir().expect("a directory");
        let plane = Plane::start();
        let arguments: Vec<&str> = FIXED.into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let variables =
            [tag.split_once('=').expect("a pair"), ("TMPDIR", scratch.path().to_str().expect("a path"))];
        let client = Client::start_with(&plane.base_url(), &arguments, &variables);
        plane.wait_polled();
        client.wait_ready();
        Subject { plane, client, tag, scratch, baseline: None, recovering: &[] }
    }

    /// One undisturbed call after another, until each pool holds one connection that works.
    fn settle(&self, channels: &[&str], server: Option<&FaultServer>) {
        self.plane.close_posting();
        if let Some(server) = server {
            server.close_all();
        }
        let mut wrong = Vec::new();
        for channel in channels {
            self.lane(channel, "none", WORKS).check_alive("settling", &mut wrong);
        }
        // Two answers in a row may have met on two connections.
        self.plane.close_posting();
        self.lane("main", "none", WORKS).check_alive("settling", &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Calls on a channel of their own, which nothing may disturb.
    fn bystander(&self, running: &AtomicBool) -> Vec<String> {
        let mut wrong = Vec::new();
        let lane = Lane { recovering: &[], ..self.lane("main", "none", WORKS) };
        while running.load(Ordering::SeqCst) && wrong.is_empty() {
            lane.check_alive("beside the others", &mut wrong);
            std::thread::sleep(Duration::from_millis(20));
        }
        wrong
    }

    /// What the client holds beyond what it held before anything failed.
    fn left_behind(&self) -> Option<String> {
        let before = self.baseline.as_ref().expect("a baseline");
        let end = Instant::now() + PATIENCE / 3;
        loop {
            let difference = Census::of(self.client.pid(), &self.tag).surplus(before)?;
            if Instant::now() > end {
                return Some(difference);
            }
            std::thread::sleep(Duration::from_millis(20));
            self.settle(&[], None);
        }
    }

    fn lane<'a>(&'a self, channel: &'a str, fault: &'a str, wants: Wants) -> Lane<'a> {
        Lane { plane: &self.plane, channel, fault, wants, recovering: self.recovering }
    }

    /// Runs the rows at the same time, each on the channel with its name, and compares before and after.
    fn run(&mut self, rows: &[Row], server: Option<&FaultServer>) {
        let channels: Vec<&str> = rows.iter().map(|(name, _)| *name).chain(["main"]).collect();
        self.settle(&channels, server);
        self.baseline = Some(Census::settled(self.client.pid(), &self.tag));
        let running = AtomicBool::new(true);
        let mut wrong: Vec<String> = std::thread::scope(|scope| {
            let bystander = scope.spawn(|| self.bystander(&running));
            let lanes: Vec<_> = rows
                .iter()
                .map(|(name, wants)| {
                    let lane = self.lane(name, name, *wants);
                    scope.spawn(move || lane.run())
                })
                .collect();
            let results: Vec<_> = lanes.into_iter().map(ScopedJoinHandle::join).collect();
            running.store(false, Ordering::SeqCst);
            let wrong = results.into_iter().chain([bystander.join()]);
            wrong.flat_map(|wrong| wrong.expect("a lane")).collect()
        });
        assert!(self.client.is_running(), "the client lives");
        self.settle(&channels, server);
        wrong.extend(self.left_behind());
        wrong.extend(self.finish());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// The same for servers that never work: nothing but the answers can be checked.
    fn run_dead(&mut self, rows: &[Row], server: &FaultServer) {
        self.settle(&["main"], Some(server));
        self.baseline = Some(Census::settled(self.client.pid(), &self.tag));
        let mut wrong: Vec<String> = std::thread::scope(|scope| {
            let lanes: Vec<_> = rows
                .iter()
                .map(|(name, wants)| {
                    let lane = self.lane(name, name, *wants);
                    scope.spawn(move || lane.run_dead())
                })
                .collect();
            lanes.into_iter().flat_map(|lane| lane.join().expect("a lane")).collect()
        });
        self.settle(&["main"], Some(server));
        wrong.extend(self.left_behind());
        wrong.extend(self.finish());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Ends the client; what was wrong with all it said.
    fn finish(&mut self) -> Vec<String> {
        assert_eq!(self.client.terminate().code(), Some(0), "{}", self.client.output());
        wait_gone(&self.tag);
        let left: Vec<_> = Path::read_dir(self.scratch.path()).expect("a directory").collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        let output = self.client.output();
        for secret in ["private details", "token-", common::API_KEY, "panicked"] {
            assert!(!output.contains(secret), "{secret} in the log: {output}");
        }
        let mut wrong = audit(&self.plane);
        wrong.extend(self.plane.strays().iter().map(|path| format!("a request for {path}")));
        wrong
    }
}

const WORKS: Wants = Wants { call: "200", hasty: "200", notification: "202", termination: "202" };

/// A channel for each row, all with the same server.
fn http_channels(rows: &[Row], url: &str) -> Vec<String> {
    let mut arguments = vec!["--mcp.server-url".to_owned(), url.to_owned()];
    for (name, _) in rows {
        arguments.extend(["--mcp.server-url".to_owned(), format!("channel={name},url={url}")]);
    }
    arguments
}

fn over_http(rows: &[Row]) {
    let server = FaultServer::start();
    Subject::start(&http_channels(rows, &server.url())).run(rows, Some(&server));
}

#[test]
fn broken_connections_and_framing_cost_only_their_own_call() {
    over_http(matrix_server::FRAMING);
}

#[test]
fn replies_that_are_no_answer_cost_only_their_own_call() {
    over_http(matrix_server::REPLIES);
}

#[test]
fn broken_event_streams_cost_only_their_own_call() {
    over_http(matrix_server::STREAMS);
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

const HANGS: Wants = Wants { call: TTL, hasty: "silence", notification: "504", termination: "504" };

/// What a proxy may say to `CONNECT`, and whether it then closes; nothing stands for silence.
const PROXIES: &[(&str, Wants, Option<&[u8]>, bool)] = &[
    ("asks-for-credentials", fails("502 connect/dial", "502"), Some(b"HTTP/1.1 407 Who Are You\r\nProxy-Authenticate: Basic\r\nContent-Length: 15\r\n\r\nprivate details"), false),
    ("forbids", fails("502 connect/dial", "502"), Some(b"HTTP/1.1 403 No\r\n\r\n"), true),
    ("fails", fails("502 connect/dial", "502"), Some(b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n"), false),
    ("says-nothing", HANGS, None, false),
    ("half-a-head", HANGS, Some(b"HTTP/1.1 200 OK\r\nVia: "), false),
    ("garbage", fails("502 connect/dial|502 protocol/invalid_protocol_response", "502"), Some(b"220 mail.example ESMTP\r\n\r\n"), true),
    ("closes", fails("502 connect/dial|502 transport_closed/eof|502 transport_closed/unexpected_eof", "502"), Some(b""), true),
    ("connects-and-closes", fails("502 tls/tls", "502"), Some(b"HTTP/1.1 200 OK\r\n\r\n"), true),
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
    rows.push(("no-tls", fails("502 tls/tls", "502")));
    Subject::start(&arguments).run_dead(&rows, &server);
}

#[test]
fn a_plain_target_behind_a_proxy_that_fails_costs_only_its_own_call() {
    let through =
        ["close", "reset", "stall", "garbage", "endless-head", "head-then-stall", "chunk-cut", "close-each"];
    let mut rows: Vec<Row> =
        matrix_server::FRAMING.iter().filter(|(name, _)| through.contains(name)).copied().collect();
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

/// What the response endpoint may do: to the first POST or to all of them.
struct Endpoint {
    name: &'static str,
    ruling: fn() -> Ruling,
    always: bool,
    posts: usize,
}

const fn once(name: &'static str, posts: usize, ruling: fn() -> Ruling) -> Endpoint {
    Endpoint { name, ruling, always: false, posts }
}

const fn always(name: &'static str, posts: usize, ruling: fn() -> Ruling) -> Endpoint {
    Endpoint { name, ruling, always: true, posts }
}

fn status<const STATUS: u16>() -> Ruling {
    Ruling::Refuse(reply(STATUS, &[("Location", "/elsewhere"), ("Retry-After", "0")], "{}"), false)
}

fn later() -> Ruling {
    Ruling::Refuse(reply(429, &[("Retry-After", "1")], r#"{"error":{"message":"slowly"}}"#), false)
}

fn close() -> Ruling {
    Ruling::Refuse(Vec::new(), true)
}

fn babble() -> Ruling {
    Ruling::Refuse(b"220 mail.example ESMTP\r\n\r\n".to_vec(), true)
}

fn half() -> Ruling {
    Ruling::Refuse(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(), true)
}

/// Delivered: what follows the status does not matter.
fn cut_body() -> Ruling {
    Ruling::AcceptWith(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 50\r\n\r\n{".to_vec())
}

fn bad_body() -> Ruling {
    Ruling::AcceptWith(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec())
}

const ENDPOINTS: &[Endpoint] = &[
    once("500-once", 2, status::<500>),
    always("500-always", 2, status::<500>),
    once("502-once", 2, status::<502>),
    always("502-always", 3, status::<502>),
    once("503-once", 2, status::<503>),
    always("503-always", 3, status::<503>),
    once("504-once", 2, status::<504>),
    once("408-once", 2, status::<408>),
    once("429-once", 2, later),
    always("429-always", 3, status::<429>),
    always("404", 1, status::<404>),
    always("400", 1, status::<400>),
    always("401", 1, status::<401>),
    always("413", 1, status::<413>),
    always("202", 1, status::<202>),
    always("302", 1, status::<302>),
    always("307", 1, status::<307>),
    once("close-once", 2, close),
    always("close-always", 3, close),
    once("reset-once", 2, || Ruling::Reset),
    always("reset-always", 3, || Ruling::Reset),
    once("garbage-once", 2, babble),
    always("garbage-always", 3, babble),
    once("half-once", 2, half),
    once("cut-body", 1, cut_body),
    once("bad-body", 1, bad_body),
];

#[test]
fn a_response_endpoint_that_fails_is_tried_again_where_that_helps_and_the_call_is_never_repeated() {
    let server = FaultServer::start();
    let mut subject = Subject::start(&http_channels(&[], &server.url()));
    subject.plane.set_rule(|post, place| {
        let endpoint = ENDPOINTS.iter().find(|e| post.request_id.contains(&format!("~{}/", e.name)));
        endpoint.filter(|e| e.always || place == 1).map_or(Ruling::Accept, |e| (e.ruling)())
    });
    subject.settle(&["main"], Some(&server));
    subject.baseline = Some(Census::settled(subject.client.pid(), &subject.tag));
    let kinds = [Kind::Call, Kind::Notification, Kind::Termination, Kind::Malformed];
    let mut issued = Vec::new();
    for endpoint in ENDPOINTS {
        for kind in kinds {
            let fault = format!("none~{}", endpoint.name);
            issued.push((subject.lane("main", "none", WORKS).issue(kind, &fault), endpoint));
        }
    }
    for (id, endpoint) in &issued {
        eventually(&format!("{id} was posted"), || subject.plane.posts_of(id).len() >= endpoint.posts);
    }
    let mut wrong = Vec::new();
    subject.lane("main", "none", WORKS).check_alive("afterwards", &mut wrong);
    subject.settle(&["main"], Some(&server));
    wrong.extend(subject.left_behind());
    wrong.extend(subject.finish());
    for (id, endpoint) in &issued {
        let posts = subject.plane.posts_of(id);
        if posts.len() != endpoint.posts || posts.iter().any(|post| post.text != posts[0].text) {
            wrong.push(format!("{id}: {} POSTs, expected {} equal ones", posts.len(), endpoint.posts));
        }
    }
    for endpoint in ENDPOINTS {
        let calls = server.calls(&format!("none~{}", endpoint.name));
        if calls != 1 {
            wrong.push(format!("{}: the call was executed {calls} times", endpoint.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn notifications_that_are_not_taken_are_given_up_and_the_answer_still_comes() {
    let server = FaultServer::start();
    let mut subject = Subject::start(&http_channels(&[], &server.url()));
    // Name, what the first notification meets, POSTs of notifications.
    type Row = (&'static str, fn() -> Ruling, usize);
    let rows: [Row; 6] = [
        ("n400", status::<400>, 1),
        ("n503", status::<503>, 1),
        ("n429", status::<429>, 4),
        ("nclose", close, 1),
        ("nreset", || Ruling::Reset, 1),
        ("nfine", || Ruling::Accept, 3),
    ];
    subject.plane.set_rule(move |post, place| {
        let row = rows.iter().find(|(name, ..)| post.request_id.contains(&format!("~{name}/")));
        row.filter(|_| place == 1 && !post.is_terminal()).map_or(Ruling::Accept, |(_, ruling, _)| ruling())
    });
    let mut wrong = Vec::new();
    for (name, _, notifications) in rows {
        let id = subject.lane("main", "none", WORKS).issue(Kind::Call, &format!("sse-three~{name}"));
        match subject.plane.answer(&id, PATIENCE) {
            Some(post) if post.verdict() == "200" => {}
            other => wrong.push(format!("{id}: {other:?}")),
        }
        let posts = subject.plane.posts_of(&id).len();
        if posts != notifications + 1 {
            wrong.push(format!("{id}: {posts} POSTs, expected {notifications} and the answer"));
        }
    }
    wrong.extend(subject.finish());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_response_endpoint_that_never_replies_holds_a_command_no_longer_than_its_deadline() {
    let server = FaultServer::start();
    let mut subject = Subject::start(&http_channels(&[], &server.url()));
    subject.plane.set_rule(
        |post, _| if post.request_id.contains("~stalls/") { Ruling::Stall } else { Ruling::Accept },
    );
    subject.settle(&["main"], Some(&server));
    subject.baseline = Some(Census::settled(subject.client.pid(), &subject.tag));
    let lane = subject.lane("main", "none", WORKS);
    // More than there are workers: each must be free again.
    let issued: Vec<_> = (0..60).map(|_| lane.issue(Kind::HastyCall, "none~stalls")).collect();
    let mut wrong = Vec::new();
    lane.check_alive("afterwards", &mut wrong);
    for id in &issued {
        assert!(subject.plane.answer(id, Duration::from_millis(HASTE_MS)).is_none());
    }
    subject.client.wait_output("reached while its response was being posted");
    subject.settle(&["main"], Some(&server));
    wrong.extend(subject.left_behind());
    wrong.extend(subject.finish());
    for id in &issued {
        let posts = subject.plane.posts_of(id).len();
        if posts > 1 {
            wrong.push(format!("{id}: {posts} POSTs"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
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
