//! Ways around the allow-list, each refused with its own error and without a single connection to
//! where it wanted to go.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::rig::{Reply, Site, base, failure_of, target};
use crate::common::process::{client_binary, run_to_its_end};

/// What a redirect to `location` comes to.
#[derive(Clone, Copy)]
enum Refused {
    Blocked,
    Scheme,
    Malformed,
}
use Refused::{Blocked, Malformed, Scheme};

/// `P` is the port of the allowed `http://127.0.0.1:P/allowed`, `Q` that of a server which is not.
const REDIRECTS: &[(&str, Refused)] = &[
    // Other servers, plainly.
    ("http://127.0.0.1:Q/secret", Blocked),
    ("http://127.0.0.1:Q/allowed", Blocked),
    ("//127.0.0.1:Q/allowed", Blocked),
    ("///127.0.0.1:Q/allowed", Blocked),
    ("HTTP://127.0.0.1:Q/allowed", Blocked),
    // Other spellings of the host.
    ("http://localhost:P/allowed", Blocked),
    ("http://LOCALHOST:Q/secret", Blocked),
    ("http://127.0.0.1.:P/allowed", Blocked),
    ("http://127.1:P/allowed", Blocked),
    ("http://2130706433:P/allowed", Blocked),
    ("http://0x7f000001:P/allowed", Blocked),
    ("http://0x7f.0.0.1:P/allowed", Blocked),
    ("http://0177.0.0.1:P/allowed", Blocked),
    ("http://127.0.0.1.evil.example:P/allowed", Blocked),
    ("http://0.0.0.0:P/allowed", Blocked),
    ("http://0:P/allowed", Blocked),
    ("http://[::1]:P/allowed", Blocked),
    ("http://[::]:P/allowed", Blocked),
    ("http://[::ffff:127.0.0.1]:P/allowed", Blocked),
    ("http://[::ffff:7f00:1]:P/allowed", Blocked),
    ("http://[0:0:0:0:0:ffff:127.0.0.1]:P/allowed", Blocked),
    ("http://127。0。0。1:Q/secret", Blocked),
    ("http://①②⑦.0.0.1:Q/secret", Blocked),
    ("http://127.0.0.1%00.evil.example:P/allowed", Malformed),
    ("http://%31%32%37.0.0.1:P/allowed", Malformed),
    ("http://[127.0.0.1]:P/allowed", Malformed),
    ("http://[::1%25lo]:P/allowed", Malformed),
    ("http://127.0.0.1 .evil.example/", Malformed),
    // User info.
    ("http://user@127.0.0.1:P/allowed", Blocked),
    ("http://:@127.0.0.1:P/allowed", Blocked),
    ("http://127.0.0.1:P@127.0.0.1:Q/allowed", Blocked),
    ("http://127.0.0.1:P%2Fallowed@127.0.0.1:Q/", Blocked),
    ("http://127.0.0.1:P@evil@127.0.0.1:Q/allowed", Blocked),
    ("http://127.0.0.1:P#@127.0.0.1:Q/allowed", Blocked),
    ("http://127.0.0.1:P?@127.0.0.1:Q/allowed", Blocked),
    ("http://127.0.0.1:P\\@127.0.0.1:Q/allowed", Malformed),
    // Backslashes.
    ("http:\\\\127.0.0.1:Q\\secret", Blocked),
    ("/\\127.0.0.1:Q/secret", Blocked),
    ("\\\\127.0.0.1:Q\\secret", Malformed),
    ("/allowed\\..\\secret", Blocked),
    // Paths.
    ("/secret", Blocked),
    ("secret", Blocked),
    ("/allowed/", Blocked),
    ("/ALLOWED", Blocked),
    ("/%61llowed", Blocked),
    ("//allowed", Blocked),
    ("/allowed;a=b", Blocked),
    ("/allowed%20", Blocked),
    ("/allowed%00", Blocked),
    ("/allowed%0d%0aX-Evil:%201", Blocked),
    ("/allowed/../secret", Blocked),
    ("/allowed/%2e%2e/secret", Blocked),
    ("/allowed%2f..%2fsecret", Blocked),
    ("/%2e%2e/allowed", Blocked),
    ("/%2e/allowed", Blocked),
    ("/.%2e/allowed", Blocked),
    ("/x%2f..%2fallowed", Blocked),
    ("/x%5c..%5callowed", Blocked),
    ("/allowed%252f..", Blocked),
    ("/%zz/allowed", Malformed),
    ("/allowed%", Malformed),
    // Query and fragment.
    ("/allowed?", Blocked),
    ("/allowed?x=1", Blocked),
    ("/allowed#", Blocked),
    ("/allowed#x", Blocked),
    ("/search?q=a%20b", Blocked),
    ("/search?q=A+b", Blocked),
    ("/search?q=a+b&", Blocked),
    // Ports.
    ("http://127.0.0.1/allowed", Blocked),
    ("http://127.0.0.1:/allowed", Blocked),
    ("http://127.0.0.1:0P/allowed", Blocked),
    ("http://127.0.0.1:99999/allowed", Blocked),
    ("http://127.0.0.1:P:80/allowed", Malformed),
    ("http://127.0.0.1:P /allowed", Malformed),
    ("http://127.0.0.1:+P/allowed", Malformed),
    // Schemes.
    ("https://127.0.0.1:P/allowed", Scheme),
    ("https://127.0.0.1:P/allowed/", Scheme),
    ("ftp://127.0.0.1:P/allowed", Blocked),
    ("file:///etc/passwd", Blocked),
    ("gopher://127.0.0.1:Q/_GET%20/secret", Blocked),
    ("dict://127.0.0.1:Q/x", Blocked),
    ("unix:/run/docker.sock", Blocked),
    ("data:text/plain,x", Blocked),
    ("javascript:alert(1)", Blocked),
    ("http+unix://%2Frun%2Fdocker.sock/x", Malformed),
    ("view-source:http://127.0.0.1:Q/secret", Blocked),
    ("://127.0.0.1:Q/secret", Malformed),
    // What is near every host.
    ("http://169.254.169.254/latest/meta-data/", Blocked),
    ("http://2852039166/latest/meta-data/", Blocked),
    ("http://0xa9fea9fe/latest/meta-data/", Blocked),
    ("http://[::ffff:169.254.169.254]/latest/meta-data/", Blocked),
    ("http://[fd00:ec2::254]/latest/meta-data/", Blocked),
    ("http://metadata.google.internal/computeMetadata/v1/", Blocked),
    ("http://[fe80::1]/", Blocked),
    ("http://[::1", Malformed),
    ("http://", Blocked),
];

#[test]
fn no_redirect_leads_anywhere_but_to_the_exact_url_of_a_target() {
    let secret = target(|_| Reply::ok("secret"));
    let location = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&location);
    let server = target(move |request| match request.path.as_str() {
        "/start" => Reply::moved(302, told.lock().unwrap().clone()),
        path => Reply::ok(format!("reached {path}")),
    });
    let (allowed, start) = (format!("{}/allowed", base(&server)), format!("{}/start", base(&server)));
    let search = format!("{}/search?q=a+b", base(&server));
    let site = Site::start(&[("allowed", &allowed), ("start", &start), ("search", &search)], &[]);
    let port = |server| base(server).rsplit(':').next().unwrap().to_owned();
    let (p, q) = (port(&server), port(&secret));
    assert!(REDIRECTS.len() >= 60);
    for (wanted, refused) in REDIRECTS {
        let wanted = wanted.replace(":P", &format!(":{p}")).replace(":0P", &format!(":0{p}"));
        let wanted = wanted.replace(":+P", &format!(":+{p}")).replace(":Q", &format!(":{q}"));
        *location.lock().unwrap() = wanted.clone();
        let text = site.failure(json!({"label": "start", "method": "GET"}));
        let expected = match refused {
            Blocked => "label start: redirect blocked",
            Scheme => {
                "label start: redirect blocked: scheme mismatch (allowlisted http, redirected to https)"
            }
            Malformed => "label start: request failed",
        };
        assert_eq!(text, expected, "{wanted}");
    }
    assert_eq!(secret.connections(), 0, "nobody got there");
    let paths: Vec<_> = server.seen().iter().map(|request| request.path.clone()).collect();
    assert!(paths.iter().all(|path| path == "/start"), "{paths:?}");
    let output = site.client.output();
    for part in ["meta-data", "/secret", "computeMetadata"] {
        assert!(!output.contains(part), "{part} of a blocked URL is in the log");
    }

    *location.lock().unwrap() = format!("http://127.0.0.1:{p}/x/../allowed");
    let followed = site.call(json!({"label": "start", "method": "GET"}));
    assert_eq!(super::rig::text_of(&followed), "reached /allowed", "the table can fail");
}

#[test]
fn a_caller_can_name_nothing_but_a_label() {
    let server = target(|_| Reply::ok(""));
    let site = Site::start(&[("abc", &base(&server))], &[]);
    for label in [
        json!(base(&server)),
        json!("http://127.0.0.1/"),
        json!("harpoon://abc"),
        json!("ABC"),
        json!(" abc"),
        json!("abc "),
        json!("abc/../x"),
        json!("abc\u{0}"),
        json!("abc\n"),
        json!("аbc"),
        json!("-abc"),
        json!("_abc"),
        json!(""),
        json!("__unknown__"),
        json!("a".repeat(65)),
        json!(["abc"]),
        json!({"label": "abc"}),
        json!(null),
        json!(0),
    ] {
        for tool in ["call_target", "get_oauth_target_audience"] {
            let arguments = match tool {
                "call_target" => json!({"label": label, "method": "GET"}),
                _ => json!({"label": label}),
            };
            let answer = site.tool(tool, arguments);
            assert_eq!(answer["error"]["code"], -32602, "{tool} {label}");
        }
    }
    for label in ["abd", "abc-1", "oauth-token-endpoint-0"] {
        let text = site.failure(json!({"label": label, "method": "GET"}));
        assert_eq!(text, format!("label {label}: unknown target"));
    }
    for (name, value) in [
        ("url", json!("http://127.0.0.1/")),
        ("path", json!("/x")),
        ("query", json!("a=b")),
        ("host", json!("evil.example")),
        ("proxy", json!("http://127.0.0.1/")),
        ("unix_socket", json!("/run/docker.sock")),
    ] {
        let answer = site.tool("call_target", json!({"label": "abc", "method": "GET", name: value}));
        assert_eq!(answer["error"]["code"], -32602, "{name}");
    }
    assert!(server.seen().is_empty());
    let metrics = site.metrics();
    assert!(metrics.contains(r#"label="__unknown__""#) && !metrics.contains(r#"label="abd""#), "{metrics}");
}

#[test]
fn no_header_can_split_a_request_or_choose_its_host() {
    let server = target(|request| Reply::ok(format!("{:?}", request.header("Host"))));
    let site = Site::start(&[("abc", &base(&server))], &[]);
    let call = |headers: Value| {
        site.tool("call_target", json!({"label": "abc", "method": "POST", "body": "b", "headers": headers}))
    };
    for value in
        ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\r\n\r\nGET /secret HTTP/1.1", "a\u{0}b", "a\u{1b}b", "a\u{7f}"]
    {
        assert_eq!(failure_of(&call(json!({"X-A": value}))), "label abc: request failed", "{value:?}");
    }
    for name in ["X-A\r\nX-Evil", "X A", "X-A:", "X-A\u{0}", "", " X-A", "X-A\t", "Ä", "GET / HTTP/1.1\r\nX"]
    {
        assert_eq!(call(json!({name: "1"}))["error"]["code"], -32602, "{name:?}");
    }
    for value in [json!(1), json!(null), json!(["a"]), json!({})] {
        assert_eq!(call(json!({"X-A": value}))["error"]["code"], -32602, "{value}");
    }
    assert!(server.seen().is_empty());
    for (name, value) in [
        ("Host", "evil.example"),
        ("hOsT", "evil.example"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "1000"),
        ("Content-Length", "0"),
        ("Connection", "close, host, content-length, content-type"),
        ("Proxy-Authorization", "Basic x"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Forwarded-Host", "evil.example"),
        ("Upgrade", "websocket"),
    ] {
        let answer = call(json!({name: value, "Content-Type": "text/plain"}));
        assert_eq!(answer["result"]["structuredContent"]["status_code"], 200, "{name}: {answer}");
        let seen = server.seen();
        let last = seen.last().unwrap();
        assert_eq!(last.header("Host"), Some(crate::common::address(&base(&server))), "{name}");
        assert_eq!((last.header("Content-Length"), last.text().as_str()), (Some("1"), "b"), "{name}");
        assert_eq!(last.header("Transfer-Encoding"), None);
    }
}

#[test]
fn a_name_that_stands_for_the_hosts_own_surroundings_is_not_dialled() {
    let server = target(|_| Reply::ok("reached"));
    let port = base(&server).rsplit(':').next().unwrap().to_owned();
    // To the system these are the unspecified address, which it takes for itself, and link-local ones.
    let site = Site::start(
        &[
            ("zero", &format!("http://0:{port}/")),
            ("hex", &format!("http://0x0:{port}/")),
            ("meta", "http://2852039166/latest/meta-data/"),
        ],
        &[],
    );
    for label in ["zero", "hex", "meta"] {
        let text = site.failure(json!({"label": label, "method": "GET", "timeout_ms": 2000}));
        assert_eq!(text, format!("label {label}: request failed"));
    }
    assert_eq!(server.connections(), 0);
}

/// Runs what follows with the file `$0` in the place of the host's own table of names.
const WITH_HOSTS: &str = r#"mount --bind "$0" /etc/hosts && exec "$@""#;

#[test]
fn a_name_that_moves_to_the_hosts_own_surroundings_is_not_followed_there() {
    let table = tempfile::NamedTempFile::new().unwrap();
    let path = table.path().to_str().unwrap();
    let within = ["unshare", "-Urm", "sh", "-c", WITH_HOSTS, path];
    let tried = std::process::Command::new(within[0]).args(&within[1..]).arg("true").output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        // Not every kernel lets everybody have a table of names of their own.
        return;
    }
    let server = target(|_| Reply::ok("reached"));
    let port = base(&server).rsplit(':').next().unwrap().to_owned();
    let entry = format!("label=abc,url=http://moving.example:{port}/");
    let site = Site::bare_through(
        &[&within[..], &[client_binary()]].concat(),
        &["--harpoon.allow-plaintext-http", "--harpoon.target", &entry],
        &[],
    );
    site.rpc("initialize", json!({"protocolVersion": "2025-06-18"}));
    let call = || {
        let arguments = json!({"label": "abc", "method": "GET", "timeout_ms": 5000});
        let answer = site.tool("call_target", arguments);
        match answer["result"]["isError"].is_null() {
            true => "reached".to_owned(),
            false => failure_of(&answer),
        }
    };
    for (addresses, outcome) in [
        (&["127.0.0.1"][..], "reached"),
        (&["169.254.169.254"], "label abc: request failed"),
        (&["0.0.0.0"], "label abc: request failed"),
        (&["::"], "label abc: request failed"),
        (&["::ffff:169.254.169.254"], "label abc: request failed"),
        (&["fe80::1"], "label abc: request failed"),
        (&["224.0.0.1"], "label abc: request failed"),
        // Of several addresses only those of servers are asked.
        (&["0.0.0.0", "127.0.0.1"], "reached"),
        (&["127.0.0.1"], "reached"),
    ] {
        let before = server.connections();
        let lines: Vec<String> =
            addresses.iter().map(|address| format!("{address} moving.example\n")).collect();
        std::fs::write(path, lines.concat()).unwrap();
        assert_eq!(call(), outcome, "{addresses:?}");
        let reached = usize::from(outcome == "reached");
        assert_eq!(server.connections() - before, reached, "{addresses:?}");
    }
}

#[test]
fn targets_that_could_be_read_in_two_ways_do_not_start() {
    for (url, complaint) in [
        ("https://h/../x", "contains invalid path segments"),
        ("https://h/a/./b", "contains invalid path segments"),
        ("https://h/%2e%2e/x", "contains invalid path segments"),
        ("https://h/a%2F..%2Fb", "contains invalid path segments"),
        ("https://h/a\\..\\b", "contains invalid path segments"),
        ("https://h/%zz", "invalid base URL"),
        ("https://h\\@evil/", "invalid base URL"),
        ("https://%68/", "invalid base URL"),
        ("http://h/", "https is required"),
        ("ftp://h/", "scheme must be http or https"),
        ("https:///x", "must include scheme and host"),
        ("h/x", "must include scheme and host"),
        ("file:///etc/passwd", "must include scheme and host"),
    ] {
        let entry = format!("label=abc,url={url}");
        let (code, text) = run_to_its_end(
            &[
                "--mcp.command",
                "cat",
                "--harpoon.target",
                &entry,
                "--control-plane.base-url",
                "http://127.0.0.1:9",
            ],
            &[],
        );
        assert_eq!(code, Some(1), "{url}: {text}");
        assert!(text.contains(complaint), "{url}: {text}");
    }
    let twice = "label=a,url=https://h/x;label=b,url=https://H/x,unix-socket=/s";
    let (code, text) = run_to_its_end(
        &["--mcp.command", "cat", "--control-plane.base-url", "http://127.0.0.1:9"],
        &[("HARPOON_TARGETS", twice)],
    );
    assert_eq!(code, Some(1));
    assert!(text.contains("duplicate target url") && text.contains("uses a different transport"), "{text}");
}
