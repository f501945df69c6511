//! URLs and headers of the requests.

use crate::common::control_plane::{ControlPlane, Seen, call, nothing};
use crate::common::http;
use crate::common::mcp_server::McpServer;
use crate::common::process::{Client, stdio_fixture};
use crate::common::{TUNNEL_ID, eventually};
use crate::rig::{VERBOSE, rig_of, start};

/// One request of each kind: metadata, polls, a response.
fn all_kinds(plane: &ControlPlane) -> Vec<Seen> {
    plane.send(&[call("r", "echo", "")]);
    plane.wait_responses(1);
    plane.wait_polls(2);
    eventually("the metadata is asked for", || !plane.metadata_requests().is_empty());
    plane.seen()
}

#[test]
fn a_path_of_the_base_url_is_dropped_and_the_url_path_stands_before_the_route() {
    for (path, expected) in [
        ("/a/b", "/a/b"),
        ("/x/../a/./b//", "/a/b"),
        ("/a%2Fb/", "/a/b"),
        (" /ws/dev/us/ ", "/ws/dev/us"),
        ("/", ""),
        ("", ""),
        ("/team%20one", "/team%20one"),
    ] {
        let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
        let base = format!("{}/some/path?x=1#y", plane.base_url());
        let url = mcp.url();
        let mut arguments = vec!["--mcp.server-url", url.as_str()];
        if !path.is_empty() {
            arguments.extend(["--control-plane.url-path", path]);
        }
        let _client = Client::start(&base, &arguments);
        for seen in all_kinds(&plane) {
            let rest = seen.route().strip_prefix(expected).unwrap_or_else(|| panic!("{path}: {}", seen.path));
            let route = rest.strip_prefix(&format!("/v1/tunnels/{TUNNEL_ID}"));
            assert!(matches!(route, Some("" | "/poll" | "/response")), "{path}: {}", seen.path);
            assert_eq!(seen.header("Host"), Some(plane.address().to_string().as_str()));
        }
    }
}

#[test]
fn all_requests_of_a_process_carry_one_instance_id_and_another_process_has_another() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    plane.expect_clients(2);
    let mut first = start(&plane, &mcp, &[], &[]);
    let seen = all_kinds(&plane);
    let id = seen[0].instance().to_owned();
    assert!(seen.iter().all(|seen| seen.instance() == id));
    assert!(first.output().contains(&format!("\"client_instance_id\":\"{id}\"")));
    assert_eq!(first.terminate().code(), Some(0));
    let known = plane.seen().len();
    let _second = start(&plane, &mcp, &[], &[]);
    eventually("the second process polls", || plane.seen().len() > known + 1);
    assert!(plane.seen()[known..].iter().all(|seen| seen.instance() != id));
}

#[test]
fn extra_headers_go_with_every_request_and_a_configured_organization_wins() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    for name in ["X-Corp", "X-Listed", "OpenAI-Organization"] {
        plane.allow_header(name);
    }
    let arguments = [
        "--control-plane.extra-headers",
        "X-Corp: 1",
        "--control-plane.extra-headers",
        "x-listed: a,b;c",
        "--control-plane.extra-headers",
        "X-Listed: a,b;c",
        "--control-plane.extra-headers",
        "openai-organization: other",
        "--control-plane.organization-id",
        " org_1 ",
    ];
    let _client = start(&plane, &mcp, &arguments, &[]);
    for seen in all_kinds(&plane) {
        assert_eq!(seen.header("X-Corp"), Some("1"));
        assert_eq!(seen.header("X-Listed"), Some("a,b;c"));
        assert_eq!(seen.header("OpenAI-Organization"), Some("org_1"));
    }
}

#[test]
fn an_organization_among_the_extra_headers_counts_when_none_is_configured() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    for name in ["OpenAI-Organization", "X-A", "X-B"] {
        plane.allow_header(name);
    }
    let variables = [("CONTROL_PLANE_EXTRA_HEADERS", "openai-organization: other, X-A: 1; X-B: 2")];
    let _client = start(&plane, &mcp, &[], &variables);
    for seen in all_kinds(&plane) {
        let got = ["OpenAI-Organization", "X-A", "X-B"].map(|name| seen.header(name));
        assert_eq!(got, [Some("other"), Some("1"), Some("2")]);
    }
}

#[test]
fn the_channels_are_declared_on_every_request() {
    let fixture = stdio_fixture().display().to_string();
    let child = format!("channel=tools,command={fixture}");
    let only_child = format!("channel=main,command={fixture}");
    let mcp = McpServer::by_tool_name();
    let url = mcp.url();
    let reports = format!("channel=reports,url={url}");
    for (arguments, expected) in [
        (vec!["--mcp.server-url", &url], r#"{"name":"main"}"#),
        (vec!["--mcp.command", &only_child], r#"{"name":"main","proc_affinity":true}"#),
        (
            vec!["--mcp.server-url", &reports, "--mcp.server-url", &url, "--mcp.command", &child],
            r#"{"name":"reports"},{"name":"main"},{"name":"tools","proc_affinity":true}"#,
        ),
        (
            vec!["--mcp.server-url", &url, "--mcp.command", &child, "--control-plane.poll-channel", "tools"],
            r#"{"name":"tools","proc_affinity":true}"#,
        ),
    ] {
        let plane = ControlPlane::start();
        let _client = Client::start(&plane.base_url(), &arguments);
        plane.send(&[call("r", "echo", r#","channel":"tools""#)]);
        plane.wait_responses(1);
        plane.wait_polls(2);
        eventually("the metadata is asked for", || !plane.metadata_requests().is_empty());
        let whole = format!(r#"{{"version":1,"channels":[{expected}]}}"#);
        for seen in plane.seen() {
            assert_eq!(seen.header("X-Tunnel-MCP-Server-Info"), Some(whole.as_str()));
        }
    }
}

#[test]
fn thirty_two_channels_can_be_declared() {
    let mcp = McpServer::by_tool_name();
    let plane = ControlPlane::start();
    let names: Vec<String> = (1..32).map(|n| format!("c{n}")).collect();
    let entries: Vec<String> = names.iter().map(|name| format!("channel={name},url={}", mcp.url())).collect();
    // Polled one by one: where `harpoon` may come up as well, there is room for one less.
    let mut arguments = vec!["--control-plane.poll-channel", "main"];
    for (name, entry) in names.iter().zip(&entries) {
        arguments.extend(["--mcp.server-url", entry, "--control-plane.poll-channel", name]);
    }
    let _rig = rig_of(plane, mcp, &arguments);
    let polls = _rig.plane.wait_polls(1);
    let declared = polls[0].header("X-Tunnel-MCP-Server-Info").unwrap();
    assert!(declared.len() <= 4096 && declared.matches("\"name\"").count() == 32, "{declared}");
}

#[test]
fn poll_channels_are_sent_sorted_and_none_are_sent_by_default() {
    let mcp = McpServer::by_tool_name();
    let url = mcp.url();
    let reports = format!("channel=reports,url={url}");
    let both = ["--mcp.server-url", url.as_str(), "--mcp.server-url", &reports];
    let channel = "--control-plane.poll-channel";
    for (arguments, variables, expected) in [
        (vec![], vec![], "limit=20&timeout_ms=30000"),
        (vec![channel, "main"], vec![], "channel=main&limit=20&timeout_ms=30000"),
        (
            vec![channel, "main", channel, "harpoon"],
            vec![],
            "channel=harpoon&channel=main&limit=20&timeout_ms=30000",
        ),
        (
            vec![],
            vec![("CONTROL_PLANE_POLL_CHANNELS", "reports,main")],
            "channel=main&channel=reports&limit=20&timeout_ms=30000",
        ),
    ] {
        let plane = ControlPlane::start();
        plane.poll(nothing());
        let arguments = [&both, &VERBOSE[..], &arguments].concat();
        let _client = Client::start_with(&plane.base_url(), &arguments, &variables);
        for poll in plane.wait_polls(2) {
            assert_eq!(poll.query(), expected);
        }
    }
}

#[test]
fn white_space_around_the_tunnel_id_and_the_key_is_trimmed() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    let id = format!(" {TUNNEL_ID}\n");
    let key = format!(" {}\t\n", crate::common::API_KEY);
    let _client =
        start(&plane, &mcp, &["--control-plane.tunnel-id", &id], &[("CONTROL_PLANE_API_KEY", &key)]);
    for seen in all_kinds(&plane) {
        assert!(seen.path.starts_with(&format!("/v1/tunnels/{TUNNEL_ID}")), "{}", seen.path);
    }
}

#[test]
fn the_local_listener_shows_nothing_of_the_key() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    let client = start(&plane, &mcp, &[], &[]);
    plane.wait_polls(1);
    for path in ["/healthz", "/readyz", "/metrics"] {
        let text = http::get(&format!("{}{path}", client.health_url())).unwrap().text();
        assert!(!text.contains(crate::common::API_KEY), "{path}: {text}");
    }
}
