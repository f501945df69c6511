//! OAuth discovery as a running client does it: what servers are asked, what `/readyz` says, what commands
//! are answered.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;
mod mcp_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::eventually;
use common::http::Request;
use common::process::{Client, stdio_fixture};
use mcp_support::plane::Plane;
use mcp_support::site::{Answer, Site, json, plain, reply};
use serde_json::{Value, json as value};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const AT_PATH: &str = "/.well-known/oauth-protected-resource/mcp";
const SERVER: &str = "/.well-known/oauth-authorization-server";

fn start(plane: &Plane, url: &str, more: &[&str]) -> Client {
    let mut arguments = vec!["--mcp.server-url", url];
    arguments.extend(more);
    Client::start(&plane.base_url(), &arguments)
}

/// The body of `/readyz` once it has this status and start.
fn wait_readyz(client: &Client, status: u16, start: &str) -> String {
    let mut last = (0, String::new());
    eventually(&format!("/readyz is {status} {start}"), || {
        last = client.readyz();
        last.0 == status && last.1.starts_with(start)
    });
    last.1
}

/// An MCP server whose other paths answer as `metadata` says, which is given method and path. Whatever is
/// not answered there is an ordinary MCP server's.
fn site(metadata: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Site {
    Site::tcp(move |request| metadata(request).unwrap_or_else(|| plain(request)))
}

fn base(request: &Request) -> String {
    format!("http://{}", request.header("Host").unwrap())
}

/// The metadata of a resource that is its own authorization server.
fn resource(request: &Request) -> Answer {
    let base = base(request);
    json(200, &value!({"resource": format!("{base}/mcp"), "authorization_servers": [base]}).to_string())
}

/// What a 401 looks like that names a place.
fn challenge(place: &str) -> Answer {
    let value = format!("Basic realm=\"x\", Bearer realm=\"d\", resource_metadata=\"{place}\"");
    reply(401, &[("WWW-Authenticate", &value)], "")
}

/// Methods and paths of the requests for metadata.
fn asked(site: &Site) -> Vec<String> {
    let all = site.seen().into_iter().filter(|r| r.body.is_empty() && r.method != "DELETE");
    all.map(|request| format!("{} {}", request.method, request.path)).collect()
}

fn discover(plane: &Plane) -> Value {
    let mut posts = plane.wait(&plane.command(r#""command_type":"oauth_discovery","headers":{}"#));
    assert_eq!(posts.len(), 1, "{posts:?}");
    posts.remove(0)
}

#[test]
fn a_server_is_asked_for_a_challenge_and_then_for_its_documents() {
    let plane = Plane::start();
    let server = site(|request| match request.path.as_str() {
        "/mcp" if request.body.is_empty() => Some(reply(405, &[], "")),
        WELL_KNOWN => Some(resource(request)),
        SERVER => Some(json(200, &value!({"issuer": base(request)}).to_string())),
        _ => None,
    });
    let client = start(&plane, &server.url(), &[]);
    client.wait_ready();
    let expected = [
        "POST /mcp",
        "GET /mcp",
        &format!("GET {AT_PATH}"),
        &format!("GET {WELL_KNOWN}"),
        &format!("GET {SERVER}"),
    ];
    assert_eq!(asked(&server), expected);
    for request in server.seen().iter().filter(|r| r.body.is_empty() && r.method != "DELETE") {
        assert_eq!(request.header("Accept"), Some("application/json"), "{request:?}");
        assert!(request.header("User-Agent").unwrap().starts_with("tunnel-client-rs/"), "{request:?}");
        assert_eq!(request.header("Content-Type"), None, "{request:?}");
    }
    client.wait_output("OAuth discovery ProtectedResourceMetaData fetched");
    assert!(client.output().contains("role_0=prmd-resource") && client.output().contains("desc_4="));
}

#[test]
fn readiness_tells_a_server_without_metadata_from_one_that_fails() {
    type Status = fn(&str) -> u16;
    let cases: [(&str, Status, u16, &str); 6] = [
        ("404 everywhere", |_| 404, 200, "ready"),
        (
            "500 at the root",
            |path| if path == WELL_KNOWN { 500 } else { 404 },
            503,
            "oauth discovery failed: ",
        ),
        (
            "500 at the path",
            |path| if path == WELL_KNOWN { 404 } else { 500 },
            503,
            "oauth discovery failed: ",
        ),
        ("401 everywhere", |_| 401, 503, "oauth discovery failed: "),
        ("HTML", |_| 200, 503, "oauth discovery failed: "),
        ("403 at the path", |path| if path == WELL_KNOWN { 201 } else { 403 }, 200, "ready"),
    ];
    for (what, status, code, start_of_body) in cases {
        let plane = Plane::start();
        let server = site(move |request| match status(&request.path) {
            _ if !request.path.starts_with(WELL_KNOWN) => None,
            201 => Some(resource(request)),
            status => Some(reply(status, &[("Content-Type", "text/html")], "<html>{\"private\":1}")),
        });
        let client = start(&plane, &server.url(), &[]);
        let body = wait_readyz(&client, code, start_of_body);
        assert!(!body.contains("private") && !body.contains("/.well-known"), "{what}: {body}");
    }
}

#[test]
fn a_challenge_says_where_to_look_first() {
    let plane = Plane::start();
    let elsewhere = Site::tcp(resource);
    let place = format!("http://{}/custom", elsewhere.address);
    let advertised = place.clone();
    let server = site(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/mcp") => Some(challenge(&advertised)),
        _ => None,
    });
    let client = start(&plane, &server.url(), &["--mcp.extra-headers", "X-Static: 1"]);
    client.wait_ready();
    assert_eq!(asked(&server), ["POST /mcp", "GET /mcp"]);
    let seen = elsewhere.seen();
    assert_eq!(seen[0].path, "/custom");
    assert!(seen.iter().all(|request| request.header("X-Static").is_none()), "{seen:?}");
    let post = discover(&plane);
    assert_eq!(post["resp_code"], 200, "{post}");

    // A challenge of another scheme says nothing; one that names nothing good is a failure.
    for (scheme, code, body) in [("Basic", 200, "ready"), ("Bearer", 503, "oauth discovery failed")] {
        let plane = Plane::start();
        let server = site(move |request| {
            let value = format!("{scheme} resource_metadata=\"{}/nothing\"", base(request));
            let asks = request.path == "/mcp" && request.body.is_empty() && request.method != "DELETE";
            asks.then(|| reply(401, &[("WWW-Authenticate", &value)], ""))
                .or_else(|| request.path.starts_with("/nothing").then(|| reply(404, &[], "")))
        });
        let client = start(&plane, &server.url(), &[]);
        wait_readyz(&client, code, body);
        assert_eq!(asked(&server).contains(&"GET /nothing".to_owned()), scheme == "Bearer");
    }
}

#[test]
fn a_redirect_to_another_origin_is_not_followed_and_one_to_its_own_is() {
    let plane = Plane::start();
    let elsewhere = Site::tcp(resource);
    let away = format!("http://{}/", elsewhere.address);
    let server = site(move |request| match request.path.as_str() {
        AT_PATH => Some(reply(302, &[("Location", &away)], "")),
        WELL_KNOWN => Some(reply(302, &[("Location", "/moved")], "")),
        "/moved" => Some(resource(request)),
        _ => None,
    });
    let client = start(&plane, &server.url(), &[]);
    client.wait_ready();
    assert_eq!(discover(&plane)["resp_code"], 200);
    assert!(elsewhere.seen().is_empty());
}

#[test]
fn ten_redirects_are_followed_and_no_more_and_one_to_another_scheme_is_blocked() {
    for (last, status) in [(10, 200), (11, 502)] {
        let plane = Plane::start();
        let server = site(move |request| {
            let step = match request.path.as_str() {
                WELL_KNOWN => 0,
                path => path.strip_prefix("/step/")?.parse::<u32>().ok()?,
            };
            let next = format!("/step/{}", step + 1);
            Some(if step == last { resource(request) } else { reply(302, &[("Location", &next)], "") })
        });
        let _client = start(&plane, &server.url(), &[]);
        assert_eq!(discover(&plane)["resp_code"], status, "{last}");
    }
    let plane = Plane::start();
    let server = site(|request| {
        let away = base(request).replace("http:", "ftp:");
        (request.path == WELL_KNOWN).then(|| reply(302, &[("Location", &away)], ""))
    });
    let client = start(&plane, &server.url(), &[]);
    client.wait_output("redirect blocked");
}

#[test]
fn the_question_for_a_challenge_follows_its_server() {
    for status in [301, 302, 303, 307, 308] {
        let plane = Plane::start();
        let server = Site::tcp(move |request| match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/mcp") if request.body.is_empty() => reply(status, &[("Location", "/login")], ""),
            (_, "/login") => {
                let named = format!("Bearer resource_metadata=\"{}/named\"", base(request));
                reply(401, &[("WWW-Authenticate", &named)], "")
            }
            (_, "/named") => resource(request),
            _ => plain(request),
        });
        let client = start(&plane, &server.url(), &[]);
        client.wait_output("ProtectedResourceMetaData fetched");
        assert!(client.output().contains("source=www_authenticate"), "{status}: {}", client.output());
    }
}

#[test]
fn a_command_gets_the_document_as_it_is_with_its_status_and_headers() {
    let plane = Plane::start();
    let document = "{ \"z\":1e2, \"resource\" : \"https://h/mcp\",\n\"a\":12345678901234567890 }";
    let server = site(move |request| {
        let headers = [
            ("Content-Type", "application/json"),
            ("X-Upstream", "one"),
            ("Set-Cookie", "secret=1"),
            ("Connection", "keep-alive"),
        ];
        (request.path == AT_PATH).then(|| reply(200, &headers, document))
    });
    let client = start(&plane, &server.url(), &[]);
    client.wait_ready();
    let before = server.seen().len();
    let post = discover(&plane);
    assert_eq!(
        (&post["resp_type"], &post["resp_code"], &post["channel"]),
        (&"oauth_discovery_response".into(), &200.into(), &"main".into()),
        "{post}"
    );
    assert_eq!(post["resp_headers"]["X-Upstream"], value!(["one"]));
    assert_eq!(post["resp_headers"]["Content-Type"], value!(["application/json"]));
    for hidden in ["Set-Cookie", "Connection", "Content-Length"] {
        assert!(post["resp_headers"].get(hidden).is_none(), "{post}");
    }
    let raw = plane.seen().into_iter().find(|r| r.text().contains("oauth_discovery_response")).unwrap();
    assert!(raw.text().contains(document), "{}", raw.text());
    assert!(server.seen().len() > before, "nothing is answered from memory");
    client.wait_output("OAuth metadata forwarded");
    let metrics = common::http::get(&format!("{}/metrics", client.health_url())).unwrap().text();
    assert!(metrics.contains(r#"request_kind="oauth_discovery""#), "{metrics}");
}

#[test]
fn a_command_carries_nothing_to_the_servers() {
    let plane = Plane::start();
    let server = site(|request| (request.path == AT_PATH).then(|| resource(request)));
    let _client = start(
        &plane,
        &server.url(),
        &[
            "--mcp.extra-headers",
            "X-S: static",
            "--mcp.extra-headers",
            "X-T: static",
            "--mcp.discovery-extra-headers",
            "X-T: discovery",
        ],
    );
    let command =
        r#""command_type":"oauth_discovery","headers":{"Authorization":["Bearer user"],"X-S":["user"]}"#;
    plane.wait(&plane.command(command));
    for request in server.seen().iter().filter(|r| r.path == AT_PATH || r.path == "/mcp") {
        assert_eq!(request.header("Authorization"), None);
        assert_eq!(
            (request.header("X-S"), request.header("X-T")),
            (Some("static"), Some("discovery")),
            "{request:?}"
        );
    }
    let server_request = server.seen().into_iter().find(|r| r.path == SERVER).unwrap();
    assert_eq!((server_request.header("X-S"), server_request.header("X-T")), (None, None));
}

#[test]
fn a_command_whose_discovery_fails_is_told_so_and_nothing_of_the_network() {
    for (status, body, code, error) in [
        (404, "", 404, "oauth_metadata_not_found"),
        (500, "private detail", 502, "oauth_discovery_failed"),
        (200, "<html>private detail", 502, "oauth_discovery_failed"),
    ] {
        let plane = Plane::start();
        let server =
            site(move |request| request.path.starts_with(WELL_KNOWN).then(|| reply(status, &[], body)));
        let _client = start(&plane, &server.url(), &[]);
        let post = discover(&plane);
        assert_eq!((&post["resp_code"], &post["resp_json"]["error"]["code"]), (&code.into(), &error.into()));
        let text = post.to_string();
        assert!(!text.contains("private") && !text.contains("127.0.0.1"), "{text}");
        assert!(post.get("resp_headers").is_none_or(|headers| headers.as_object().unwrap().is_empty()));
    }
    let plane = Plane::start();
    let fixture = stdio_fixture().display().to_string();
    let client = Client::start(&plane.base_url(), &["--mcp.command", &fixture]);
    assert_eq!(discover(&plane)["resp_code"], 404);
    client.wait_ready();
}

#[test]
fn a_failed_discovery_is_repeated_until_it_succeeds() {
    let plane = Plane::start();
    let healthy = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&healthy);
    let server = site(move |request| match (request.path == AT_PATH, seen.load(Ordering::SeqCst)) {
        (true, true) => Some(resource(request)),
        (true, false) => Some(reply(503, &[], "")),
        (false, _) => request.path.starts_with(WELL_KNOWN).then(|| reply(500, &[], "")),
    });
    let client = start(&plane, &server.url(), &[]);
    wait_readyz(&client, 503, "oauth discovery failed: ");
    healthy.store(true, Ordering::SeqCst);
    wait_readyz(&client, 200, "ready");
}

#[test]
fn a_command_that_succeeds_ends_the_failure_of_the_start() {
    let plane = Plane::start();
    // Good from the second discovery on.
    let asked = AtomicUsize::new(0);
    let server = site(move |request| match request.path.as_str() {
        AT_PATH if asked.fetch_add(1, Ordering::SeqCst) > 0 => Some(resource(request)),
        path => path.starts_with(WELL_KNOWN).then(|| reply(500, &[], "")),
    });
    let client = start(&plane, &server.url(), &[]);
    client.wait_output("OAuth discovery failed");
    assert_eq!(discover(&plane)["resp_code"], 200);
    wait_readyz(&client, 200, "ready");
}

#[test]
fn a_slow_document_is_waited_for_and_a_silent_place_does_not_hide_the_next() {
    let plane = Plane::start();
    let server = site(|request| match request.path.as_str() {
        AT_PATH => Some(Answer::Never),
        WELL_KNOWN => Some(resource(request)),
        _ => None,
    });
    let client = start(&plane, &server.url(), &[]);
    assert_eq!(client.readyz().1, "oauth discovery pending");
    client.wait_ready();
}

#[test]
fn discovery_waits_for_the_probe_when_the_start_waits_for_a_listener() {
    let plane = Plane::start();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/mcp");
    let client = start(&plane, &url, &["--mcp.startup-wait-timeout", "60s"]);
    client.wait_output("waiting for MCP startup probe before OAuth discovery");
    client.wait_output("retrying MCP startup probe");
    assert_eq!(client.readyz(), (503, "oauth discovery pending".to_owned()));
    let mut listener = None;
    eventually("the port is free", || {
        listener = std::net::TcpListener::bind(address).ok();
        listener.is_some()
    });
    let server = Site::tcp_on(listener.unwrap(), plain);
    client.wait_ready();
    let first_document = server.seen().iter().position(|r| r.path.starts_with(WELL_KNOWN)).unwrap();
    assert!(server.seen()[..first_document].iter().any(|r| r.text().contains("initialize")));
}

#[test]
fn a_client_that_does_not_poll_main_asks_nothing() {
    let plane = Plane::start();
    let (main, tools) = (Site::tcp(plain), Site::tcp(plain));
    let entry = format!("channel=tools,url={}", tools.url());
    let client =
        start(&plane, &main.url(), &["--mcp.server-url", &entry, "--control-plane.poll-channel", "tools"]);
    client.wait_ready();
    plane.call_on("tools", "echo", "{}");
    assert!(main.seen().is_empty());
    assert!(tools.seen().iter().all(|request| !request.path.starts_with(WELL_KNOWN)));
}

#[test]
fn what_has_no_url_has_no_metadata_and_the_log_says_so() {
    let plane = Plane::start();
    let arguments = ["--mcp.command", "cat", "--log.format", "json", "--log.level", "debug"];
    let client = Client::start(&plane.base_url(), &arguments);
    client.wait_output("oauth discovery server URL is not configured");
    client.wait_output(r#""error":"oauth discovery disabled for transport \"stdio\"""#);
}

#[test]
fn no_secret_of_a_url_is_told() {
    let plane = Plane::start();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://user:s3cr3t-user@{gone}/s3cr3t-path?key=s3cr3t-query");
    let client = start(&plane, &url, &["--log.format", "struct-text", "--log.level", "debug"]);
    let body = wait_readyz(&client, 503, "oauth discovery failed: ");
    assert!(body.contains(&format!("http://{gone}")) && !body.contains("s3cr3t"), "{body}");
    client.wait_output("OAuth discovery failed");
    let told: Vec<_> =
        client.output().lines().filter(|line| line.contains("component=oauth")).map(str::to_owned).collect();
    assert!(!told.is_empty() && told.iter().all(|line| !line.contains("s3cr3t")), "{told:?}");
}

#[test]
fn other_origins_are_not_behind_the_servers_socket() {
    let plane = Plane::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("mcp.sock");
    let authorization = Site::tcp(|request| json(200, &value!({"issuer": base(request)}).to_string()));
    let issuer = format!("http://{}", authorization.address);
    let document =
        value!({"resource": "http://localhost/mcp", "authorization_servers": [issuer]}).to_string();
    let server = Site::unix(&socket, move |request| match request.path.as_str() {
        AT_PATH => json(200, &document),
        _ => plain(request),
    });
    let entry = format!("url=http://localhost/mcp,unix-socket={}", socket.display());
    let client = start(&plane, &entry, &[]);
    client.wait_ready();
    eventually("the authorization server is asked", || !authorization.seen().is_empty());
    assert!(server.seen().iter().all(|request| request.path != SERVER));
}

#[test]
fn metadata_do_not_lead_to_the_hosts_surroundings() {
    // The proxy sees every request, whatever address it is for.
    let proxy = Site::tcp(|request| match request.path.as_str() {
        "http://mcp.test/mcp" => match request.body.is_empty() && request.method != "DELETE" {
            true => challenge("http://169.254.169.254/latest/meta-data"),
            false => plain(request),
        },
        "http://mcp.test/.well-known/oauth-protected-resource/mcp" => json(
            200,
            r#"{"resource":"http://mcp.test/mcp","authorization_servers":["http://[::ffff:169.254.169.254]/as"]}"#,
        ),
        _ => reply(404, &[], ""),
    });
    let plane = Plane::start();
    let through = format!("http://{}", proxy.address);
    let client = start(&plane, "http://mcp.test/mcp", &["--mcp.http-proxy", &through]);
    client.wait_ready();
    client.wait_output("destination refused");
    assert_eq!(discover(&plane)["resp_code"], 200);
    let seen = proxy.seen();
    assert!(seen.iter().all(|request| request.path.starts_with("http://mcp.test/")), "{seen:?}");
}
