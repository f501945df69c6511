//! Redirects: which are followed, with what, over what.

use std::io::Write;
use std::os::unix::net::UnixListener;

use serde_json::json;

use super::rig::{Reply, Site, base, target, text_of};
use crate::common::http;
use crate::common::mcp_server::McpServer;

fn site(server: &McpServer, labels: &[&str], arguments: &[&str]) -> Site {
    let urls: Vec<String> = labels.iter().map(|label| format!("{}/{label}", base(server))).collect();
    let targets: Vec<(&str, &str)> = labels.iter().zip(&urls).map(|(l, u)| (*l, u.as_str())).collect();
    Site::start(&targets, arguments)
}

#[test]
fn redirects_to_targets_are_followed_as_their_status_says() {
    let server = target(|request| match request.path.as_str() {
        "/a301" => Reply::moved(301, "/end"),
        "/a303" => Reply::moved(303, "x/../end"),
        "/a307" => Reply::moved(307, "/end"),
        "/a308" => Reply::moved(308, "/end"),
        "/a300" => Reply::moved(300, "/end"),
        "/a304" => Reply { status: 304, ..Reply::ok("") },
        "/empty" => Reply::moved(302, ""),
        _ => Reply::ok(format!("{} {}", request.method, request.text())),
    });
    let site = site(&server, &["a301", "a303", "a307", "a308", "a300", "a304", "empty", "end"], &[]);
    let headers = json!({"Content-Type": "text/plain", "Authorization": "Bearer s", "X-A": "1"});
    let call =
        |label: &str| site.call(json!({"label": label, "method": "POST", "body": "b", "headers": headers}));
    for (label, end) in [("a301", "GET "), ("a303", "GET "), ("a307", "POST b"), ("a308", "POST b")] {
        let result = call(label);
        assert_eq!((result["status_code"].as_u64(), text_of(&result).as_str()), (Some(200), end), "{label}");
        let seen = server.seen();
        let last = seen.last().unwrap();
        assert_eq!(last.header("Content-Type").is_some(), end.starts_with("POST"), "{label}");
        assert_eq!((last.header("Authorization"), last.header("X-A")), (Some("Bearer s"), Some("1")));
        assert_eq!(last.header("Referer"), None);
    }
    for (label, status) in [("a300", 300), ("a304", 304), ("empty", 302)] {
        assert_eq!(call(label)["status_code"], status, "{label}");
    }
}

#[test]
fn the_number_of_redirects_is_limited_and_following_can_be_switched_off() {
    let server = target(|_| Reply::moved(302, "/loop"));
    let site = site(&server, &["loop"], &["--harpoon.max-redirects", "3"]);
    let limit = "label loop: redirect limit exceeded";
    for (most, requests) in [(json!(1), 2), (json!(0), 1), (json!(3), 4)] {
        let before = server.seen().len();
        assert_eq!(site.failure(json!({"label": "loop", "method": "GET", "max_redirects": most})), limit);
        assert_eq!(server.seen().len() - before, requests, "{most}");
    }
    let raw = site.call(json!({"label": "loop", "method": "GET", "follow_redirects": false}));
    assert_eq!(raw["status_code"], 302);
    let absolute =
        target(|request| Reply::moved(302, format!("http://{}/start", request.header("Host").unwrap())));
    let site =
        Site::start(&[("start", &format!("{}/start", base(&absolute)))], &["--harpoon.max-redirects", "0"]);
    let raw = site.call(json!({"label": "start", "method": "GET", "follow_redirects": false}));
    assert_eq!(raw["headers"]["Location"], json!(["harpoon://start"]));
    assert_eq!(
        site.failure(json!({"label": "start", "method": "GET"})),
        "label start: redirect limit exceeded",
        "none is followed where none may be"
    );
}

#[test]
fn credentials_stay_with_the_host_they_were_meant_for() {
    let other = target(|_| Reply::ok("other"));
    let port = base(&other).rsplit(':').next().unwrap().to_owned();
    let elsewhere = format!("http://localhost:{port}/other");
    let to = elsewhere.clone();
    let server = target(move |_| Reply::moved(307, to.clone()));
    let with_user = format!("{}/start", base(&server)).replace("http://", "http://u:p@");
    let site = Site::start(&[("start", &with_user), ("other", &elsewhere)], &[]);
    site.call(json!({"label": "start", "method": "POST", "body": "b", "headers": {
        "Authorization": "Bearer s", "WWW-Authenticate": "x", "X-A": "1", "Content-Type": "text/plain"}}));
    site.call(json!({"label": "start", "method": "GET"}));
    for seen in other.seen() {
        assert_eq!((seen.header("Authorization"), seen.header("WWW-Authenticate")), (None, None));
    }
    let first = &other.seen()[0];
    assert_eq!((first.header("X-A"), first.text().as_str()), (Some("1"), "b"));
    assert_eq!(first.header("Content-Type"), Some("text/plain"));
    assert_eq!(server.seen()[1].header("Authorization"), Some("Basic dTpw"));
}

#[test]
fn a_scheme_that_differs_is_named_and_nothing_else_of_the_destination() {
    let server = target(|request| {
        let host = request.header("Host").unwrap();
        match request.path.as_str() {
            "/start" => Reply::moved(302, format!("http://{host}/m")),
            _ => Reply::moved(302, format!("https://{host}/start/")),
        }
    });
    let base = base(&server);
    let secure = format!("{}/m/", base.replace("http://", "https://"));
    let site = Site::start(
        &[("start", &format!("{base}/start")), ("back", &format!("{base}/back")), ("m", &secure)],
        &[],
    );
    assert_eq!(
        site.failure(json!({"label": "start", "method": "GET"})),
        "label start: redirect blocked: scheme mismatch (allowlisted https, redirected to http)"
    );
    assert_eq!(
        site.failure(json!({"label": "back", "method": "GET"})),
        "label back: redirect blocked: scheme mismatch (allowlisted http, redirected to https)"
    );
    let blocked = &site.events("harpoon redirect blocked")[0];
    assert_eq!(blocked["redirect_mismatch_kind"], "scheme_mismatch_https_to_http");
    assert_eq!(blocked["redirect_reason"], "redirect target not in allow list");
    assert_eq!(
        (&blocked["redirect_expected_scheme"], &blocked["redirect_actual_scheme"]),
        (&json!("https"), &json!("http"))
    );
    assert_eq!(blocked["redirect_url"], base, "no path");
}

#[test]
fn each_hop_takes_the_transport_of_its_own_target() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
            while let Ok(Some(request)) = http::read_request(&mut reader) {
                let host = request.header("Host").unwrap_or_default().to_owned();
                let reply = http::reply(200, &[], &format!("over the socket: {host}{}", request.path));
                if stream.write_all(&reply).is_err() {
                    break;
                }
            }
        }
    });
    let server = target(|_| Reply::moved(302, "http://inner.example/app"));
    let site = Site::start(
        &[
            ("start", &format!("{}/start", base(&server))),
            ("inner", &format!("http://inner.example/app,unix-socket={}", path.display())),
        ],
        &["--harpoon.http-proxy", "http://127.0.0.1:9"],
    );
    let inner = site.call(json!({"label": "inner", "method": "GET"}));
    assert_eq!(text_of(&inner), "over the socket: inner.example/app", "a socket knows no proxy");
    assert_eq!(
        site.failure(json!({"label": "start", "method": "GET"})),
        "label start: request failed",
        "a proxy that is set is the only way"
    );
    assert!(server.seen().is_empty());
    let direct = Site::start(
        &[
            ("start", &format!("{}/start", base(&server))),
            ("inner", &format!("http://inner.example/app,unix-socket={}", path.display())),
        ],
        &[],
    );
    let inner = direct.call(json!({"label": "start", "method": "GET"}));
    assert_eq!(text_of(&inner), "over the socket: inner.example/app");
}
