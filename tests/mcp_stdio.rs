//! Child processes as they are wired: command lines, environment, answers, deadlines, restarts, ends.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

mod common;
mod mcp_support;

use std::path::Path;
use std::time::Instant;

use common::process::{Client, stdio_fixture};
use common::{API_KEY, PATIENCE, eventually, http};
use mcp_support::plane::{Plane, call, call_with, failure, header, members};
use mcp_support::refused;

fn fixture() -> String {
    stdio_fixture().display().to_string()
}

/// A client whose `main` is `command`.
fn client(plane: &Plane, command: &str, more: &[&str]) -> Client {
    let mut arguments = vec!["--mcp.command", command];
    arguments.extend(more);
    plane.forget_polls();
    Client::start(&plane.base_url(), &arguments)
}

/// The result of a tool of the fixture.
fn result(plane: &Plane, tool: &str, arguments: &str) -> serde_json::Value {
    let response = plane.call_on("main", tool, arguments);
    assert!(response["result"].is_object(), "{tool}: {response}");
    response["result"].clone()
}

fn is_alive(pid: &serde_json::Value) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A zombie has ended; whoever adopts orphans here may not reap them.
    !stat.is_empty() && !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
}

#[test]
fn the_command_line_is_split_and_no_shell_sees_it() {
    let plane = Plane::start();
    let directory = tempfile::tempdir().unwrap();
    let (script, marker) = (directory.path().join("server.sh"), directory.path().join("marker"));
    std::fs::write(&script, format!("exec {} \"$@\"\n", fixture())).unwrap();
    let command = format!(
        r#"  sh {} ; touch {} "a b" c\ d 'e f' --x="y z" "" '$HOME' ~ * "#,
        script.display(),
        marker.display()
    );
    let client = client(&plane, &command, &[]);
    let args = result(&plane, "args", "{}")["args"].clone();
    let expected =
        [";", "touch", &marker.display().to_string(), "a b", "c d", "e f", "--x=y z", "", "$HOME", "~", "*"];
    assert_eq!(args, serde_json::json!(expected));
    assert!(!marker.exists());
    let line =
        client.output().lines().find(|line| line.contains("stdio MCP command started")).unwrap().to_owned();
    assert!(line.contains("transport=stdio") && line.contains("channel=main"), "{line}");
    drop(client);
    for (command, reason) in [
        ("cat 'a", "unterminated quoted string"),
        (r#"cat "a"#, "unterminated quoted string"),
        (r"cat a\", "unterminated escape sequence"),
        (r"cat a\ ", "unterminated escape sequence"),
        ("''", "command is empty"),
    ] {
        let text = refused(&["--mcp.command", command]);
        assert!(text.contains("invalid mcp.command") && text.contains(reason), "{command}: {text}");
    }
}

#[test]
fn a_call_is_one_line_and_nothing_is_written_before_it() {
    let plane = Plane::start();
    let client = client(&plane, &fixture(), &["--mcp.stdio-lifecycle", "off"]);
    client.wait_ready();
    client.wait_output("Skipping MCP probe for transport");
    let message = "{ \"jsonrpc\":\"2.0\",\n \"id\":\"first\", \"method\":\"tools/call\", \"params\":{\"name\":\"seen\",\"arguments\":{}},\"extra\":[ 1.50 ] }";
    let post = plane.exchange(&[("Authorization", "Bearer user"), ("Mcp-Session-Id", "s")], message);
    assert_eq!((&post["resp_code"], header(&post, "Content-Type")), (&200.into(), Some("application/json")));
    assert_eq!(post["resp_headers"].as_object().unwrap().len(), 1, "{post}");
    assert_eq!(post["resp_json"]["id"], "first");
    let lines = &post["resp_json"]["result"]["lines"];
    assert_eq!(lines.as_array().unwrap().len(), 1, "{lines}");
    let line = lines[0].as_str().unwrap();
    assert!(
        !line.contains('\n') && !line.contains("Bearer") && line.contains(r#""extra":[ 1.50 ]"#),
        "{line}"
    );
}

#[test]
fn the_child_inherits_what_it_needs_and_none_of_our_secrets() {
    let plane = Plane::start();
    let command = fixture();
    let client = Client::start_with(
        &plane.base_url(),
        &[
            "--mcp.command",
            &command,
            "--mcp.server-url",
            "channel=web,url=http://127.0.0.1:9/mcp",
            "--mcp.extra-headers",
            "X-Token: env:HEADER_TOKEN",
            "--mcp.http-proxy",
            "env:SECRET_PROXY",
        ],
        &[
            ("HEADER_TOKEN", "h"),
            ("SECRET_PROXY", "http://u:p@127.0.0.1:9"),
            ("OPENAI_API_KEY", "the-servers-own"),
            ("OTHER", "kept"),
        ],
    );
    let value = |name: &str| result(&plane, &format!("env-{name}"), "{}")["value"].clone();
    for hidden in ["CONTROL_PLANE_API_KEY", "HEADER_TOKEN", "SECRET_PROXY"] {
        assert_eq!(value(hidden), serde_json::Value::Null, "{hidden}");
    }
    assert_eq!(value("OTHER"), "kept");
    assert_eq!(value("OPENAI_API_KEY"), "the-servers-own");
    let cwd = std::env::current_dir().unwrap();
    assert_eq!(result(&plane, "cwd", "{}")["cwd"], cwd.display().to_string());
    drop(client);
}

#[test]
fn what_the_child_writes_to_stderr_appears_on_ours() {
    let plane = Plane::start();
    let client = client(&plane, &fixture(), &[]);
    let text = format!(r#"{{"text":"  two\nlines  \n\tkey {API_KEY}\n"}}"#);
    result(&plane, "log", &text);
    client.wait_output("\tkey [redacted]");
    let output = client.output();
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines.contains(&"  two") && lines.contains(&"lines  "), "{output}");
    assert!(!output.contains(API_KEY), "our own key is no text of the child's");
}

#[test]
fn concurrent_calls_with_one_id_get_their_own_answers() {
    let plane = Plane::start();
    let _client = client(&plane, &fixture(), &[]);
    let ids: Vec<String> = (0..8)
        .map(|n| {
            plane.send(
                &[],
                &call_with(if n % 2 == 0 { "slow-50" } else { "echo" }, &format!(r#"{{"n":{n}}}"#)),
            )
        })
        .collect();
    for (n, id) in ids.iter().enumerate() {
        let post = plane.wait(id).pop().unwrap();
        assert_eq!(post["resp_json"]["result"]["n"], n, "{post}");
        assert_eq!(post["resp_json"]["id"], 1);
    }
}

#[test]
fn a_deadline_costs_one_call_and_its_late_answer_is_dropped() {
    let plane = Plane::start();
    let client = client(&plane, &fixture(), &[]);
    let pid = result(&plane, "pid", "{}")["pid"].clone();
    let held =
        plane.command(&format!(r#""response_timeout":"300ms",{}"#, members("main", &[], &call("hold"))));
    client.wait_output("command response deadline reached; dropping without posting a response");
    // The id of the call that was given up may be used again, while its answer is still to come.
    assert_eq!(result(&plane, "echo", r#"{"n":1}"#)["n"], 1);
    assert_eq!(result(&plane, "release", r#"{"n":2}"#)["n"], 2, "the held call's answer comes first");
    assert_eq!(result(&plane, "pid", "{}")["pid"], pid, "the child lives on");
    assert_eq!(plane.posts(&held), Vec::<serde_json::Value>::new());
    let seen = result(&plane, "seen", "{}")["lines"].to_string();
    assert!(seen.contains("notifications/cancelled"), "{seen}");
}

#[test]
fn requests_and_noise_of_the_child_disturb_no_call() {
    let plane = Plane::start();
    let client = client(&plane, &fixture(), &[]);
    let texts = serde_json::json!({ "texts": [
        r#"{"jsonrpc":"2.0","id":"ask","method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":"roots","method":"roots/list"}"#,
        r#"{"jsonrpc":"2.0","id":"stray","result":{}}"#,
        "a log line on stdout",
        "",
        "{\n  \"jsonrpc\": \"2.0\",\n  \"method\": \"notifications/message\"\n}",
    ]});
    let posts = plane.wait(&plane.send(&[], &call_with("raw", &texts.to_string())));
    let post = posts.last().unwrap();
    assert_eq!(
        (&post["resp_code"], &post["resp_json"]["result"]),
        (&200.into(), &serde_json::json!({})),
        "{posts:?}"
    );
    assert_eq!(posts[0]["resp_json"]["method"], "notifications/message");
    assert_eq!(header(&posts[0], "Content-Type"), Some("text/event-stream"));
    eventually("the child has our answers", || {
        let seen = result(&plane, "seen", "{}")["lines"].to_string();
        seen.contains(r#"\"id\":\"ask\""#) && seen.contains("-32601")
    });
    assert_eq!(client.readyz().0, 200);
}

#[test]
fn a_notification_is_acknowledged_at_once_and_a_session_cannot_be_ended() {
    let plane = Plane::start();
    let _client = client(&plane, &fixture(), &[]);
    let post = plane.exchange(&[], r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#);
    assert_eq!((&post["resp_type"], &post["resp_code"]), (&"notify_ack".into(), &200.into()), "{post}");
    let end = plane.command(r#""command_type":"session_termination","headers":{"Mcp-Session-Id":["s"]}"#);
    let posts = plane.wait(&end);
    assert_eq!(
        (&posts[0]["resp_type"], &posts[0]["resp_code"]),
        (&"session_termination_response".into(), &405.into())
    );
    assert_eq!(result(&plane, "echo", r#"{"n":1}"#)["n"], 1);
}

#[test]
fn a_line_beyond_the_limit_fails_its_call_alone() {
    let plane = Plane::start();
    let _client = client(&plane, &fixture(), &["--mcp.max-message-bytes", "4096"]);
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(8000));
    let post = plane.exchange(&[], &call_with("echo", &long));
    assert_eq!(post["resp_code"], 502, "{}", failure(&post));
    assert_eq!(result(&plane, "echo", r#"{"n":1}"#)["n"], 1);
}

#[test]
fn the_ttl_ends_a_call_and_not_the_child() {
    let plane = Plane::start();
    let _client = client(&plane, &fixture(), &["--mcp.connection-max-ttl", "400ms"]);
    let pid = result(&plane, "pid", "{}")["pid"].clone();
    let post = plane.exchange(&[], &call("stall"));
    assert_eq!(failure(&post), "504 timeout/ttl");
    assert_eq!(result(&plane, "pid", "{}")["pid"], pid);
}

#[test]
fn a_command_that_cannot_be_started_fails_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "no program").unwrap();
    for command in ["no-such-program-anywhere", "/no/such/program", &plain.display().to_string()] {
        let text = refused(&["--mcp.command", command]);
        assert!(text.contains("start stdio command") && text.contains(command), "{text}");
        let url = ["--mcp.server-url", "http://127.0.0.1:9/mcp", "--mcp.command"];
        let second = refused(&[url[0], url[1], url[2], &format!("channel=tools,command={command}")]);
        assert!(second.contains("start stdio command"), "{second}");
    }
}

#[test]
fn a_child_that_keeps_dying_shows_in_readiness_and_metrics_and_never_ends_us() {
    let plane = Plane::start();
    let directory = tempfile::tempdir().unwrap();
    let good = directory.path().join("good");
    let script = directory.path().join("server.sh");
    std::fs::write(&script, format!("[ -e {} ] && exec {}\nexit 9\n", good.display(), fixture())).unwrap();
    let mut client = client(&plane, &format!("sh {}", script.display()), &[]);
    eventually("the reason is told", || {
        let (status, body) = client.readyz();
        status == 503 && body.starts_with("stdio MCP child not running: exit; next start in ")
    });
    for part in
        ["stdio MCP command exited", "stdio MCP child ended", "stdio MCP child restarting", "reason=exit"]
    {
        client.wait_output(part);
    }
    let metrics = || http::get(&format!("{}/metrics", client.health_url())).unwrap().text();
    let restarts = |text: &str| {
        let line =
            text.lines().find(|line| line.starts_with("mcp_stdio_child_restarts_total{")).map(str::to_owned);
        line.is_some_and(|line| line.contains(r#"channel="main""#) && line.contains(r#"reason="exit""#))
    };
    eventually("restarts are counted", || restarts(&metrics()));
    std::fs::write(&good, "").unwrap();
    eventually("it serves again", || client.readyz().0 == 200);
    assert_eq!(result(&plane, "echo", r#"{"n":1}"#)["n"], 1);
    let up = |text: String| {
        text.lines().any(|line| line.starts_with("mcp_stdio_child_up{") && line.ends_with(" 1"))
    };
    assert!(up(metrics()), "{}", metrics());
    assert!(client.is_running());
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
}

#[test]
fn a_call_that_the_child_dies_of_is_answered_and_the_next_child_serves() {
    let plane = Plane::start();
    let client = client(&plane, &fixture(), &[]);
    let post = plane.exchange(&[], &call("exit"));
    assert_eq!(failure(&post), "502 transport_closed/eof");
    assert_eq!(result(&plane, "echo", r#"{"n":1}"#)["n"], 1);
    client.wait_output("exit status: 7");
}

#[test]
fn sigterm_closes_the_childs_stdin_and_waits_for_it() {
    let plane = Plane::start();
    let life = tempfile::NamedTempFile::new().unwrap();
    let path = life.path().display().to_string();
    let mut client =
        Client::start_with(&plane.base_url(), &["--mcp.command", &fixture()], &[("FIXTURE_LIFE", &path)]);
    let pid = result(&plane, "pid", "{}")["pid"].clone();
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    assert!(!is_alive(&pid));
    assert!(std::fs::read_to_string(&path).unwrap().contains("end of stdin"));
    assert!(client.output().contains("stdio MCP command exited"), "{}", client.output());
    assert!(!client.output().contains("restarting"), "{}", client.output());
}

#[test]
fn a_child_that_ignores_the_end_of_stdin_gets_sigterm() {
    let plane = Plane::start();
    let directory = tempfile::tempdir().unwrap();
    let (pid_file, ended) = (directory.path().join("pid"), directory.path().join("ended"));
    let script = directory.path().join("server.sh");
    let text = format!(
        "trap 'echo term > {0}; exit 0' TERM\necho $$ > {1}.new; mv {1}.new {1}\nwhile :; do sleep 0.05; done\n",
        ended.display(),
        pid_file.display()
    );
    std::fs::write(&script, text).unwrap();
    let mut client = client(&plane, &format!("sh {}", script.display()), &[]);
    eventually("the child runs", || pid_file.exists());
    let started = Instant::now();
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    assert!(started.elapsed() < PATIENCE / 2);
    assert_eq!(std::fs::read_to_string(&ended).unwrap(), "term\n");
    assert!(!is_alive(&read_pid(&pid_file)));
}

#[test]
fn a_child_that_ignores_everything_is_killed_within_the_budget() {
    let plane = Plane::start();
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let script = directory.path().join("server.sh");
    let text = format!(
        "trap '' TERM\necho $$ > {0}.new; mv {0}.new {0}\nwhile :; do sleep 1; done\n",
        pid_file.display()
    );
    std::fs::write(&script, text).unwrap();
    let mut client = client(&plane, &format!("sh {}", script.display()), &[]);
    eventually("the child runs", || pid_file.exists());
    let pid = read_pid(&pid_file);
    let started = Instant::now();
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    assert!(started.elapsed().as_secs() < 16, "took {:?}", started.elapsed());
    eventually("it is gone", || !is_alive(&pid));
}

#[test]
fn grandchildren_end_with_the_client() {
    let plane = Plane::start();
    let mut client = client(&plane, &fixture(), &[]);
    let pid = result(&plane, "fork", "{}")["pid"].clone();
    assert!(is_alive(&pid));
    assert_eq!(client.terminate().code(), Some(0), "{}", client.output());
    eventually("the grandchild is gone", || !is_alive(&pid));
}

#[test]
fn children_of_channels_that_are_not_polled_run_and_are_not_offered() {
    let plane = Plane::start();
    let (main, tools) =
        (format!("channel=main,command={}", fixture()), format!("channel=tools,command={}", fixture()));
    let client = Client::start(
        &plane.base_url(),
        &["--mcp.command", &main, "--mcp.command", &tools, "--control-plane.poll-channel", "tools"],
    );
    client.wait_ready();
    client.wait_output("Skipping MCP probe: main channel is not configured");
    let started = client.output().lines().filter(|line| line.contains("stdio MCP command started")).count();
    assert_eq!(started, 2, "{}", client.output());
    assert_eq!(plane.call_on("tools", "echo", r#"{"n":1}"#)["result"]["n"], 1);
    let refusal = plane.call_on("main", "echo", "{}");
    assert!(refusal["error"].is_object(), "{refusal}");
    let poll = plane.seen().into_iter().find(|request| request.path.contains("/poll")).unwrap();
    assert!(poll.path.contains("channel=tools") && !poll.path.contains("channel=main"), "{}", poll.path);
    let declared = poll.header("X-Tunnel-MCP-Server-Info");
    assert_eq!(declared, Some(r#"{"version":1,"channels":[{"name":"tools","proc_affinity":true}]}"#));
}

fn read_pid(path: &Path) -> serde_json::Value {
    serde_json::from_str(std::fs::read_to_string(path).unwrap().trim()).unwrap()
}
