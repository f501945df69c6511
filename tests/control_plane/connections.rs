//! How replies are framed, and what becomes of their connections.

use crate::common::control_plane::{Answer, ControlPlane, Seen, batch, call, error_with, json, nothing};
use crate::common::http::reply;
use crate::common::mcp_server::McpServer;
use crate::rig::{events_of, metric, rig, rig_of, wait_metric};

fn bytes(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Bytes(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn body_of(id: &str) -> String {
    let whole = String::from_utf8(bytes(batch(&[call(id, "echo", "")]))).unwrap();
    whole.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn polls_are_read_however_they_are_framed() {
    let rig = rig(&[]);
    let chunked = |id: &str| {
        let body = body_of(id);
        let (first, rest) = body.split_at(10);
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x};ext=1\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\nTrailer: x\r\n\r\n",
            first.len(),
            rest.len()
        )
    };
    rig.plane.poll(Answer::Bytes(chunked("chunked").into_bytes()));
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    rig.plane.poll(Answer::Bytes([early.as_bytes(), &bytes(batch(&[call("hinted", "echo", "")]))].concat()));
    rig.plane.poll(Answer::Last(format!("HTTP/1.1 200 OK\r\n\r\n{}", body_of("endless")).into_bytes()));
    rig.plane.poll(Answer::Last(format!("HTTP/1.0 200 OK\r\n\r\n{}", body_of("old")).into_bytes()));
    rig.plane.poll(Answer::Bytes(
        format!("HTTP/1.1 200\r\ncontent-length: {}\r\n\r\n{}", body_of("terse").len(), body_of("terse"))
            .into_bytes(),
    ));
    for answer in rig.plane.wait_answers(&["chunked", "hinted", "endless", "old", "terse"]) {
        assert_eq!(answer.json()["resp_code"], 200, "{}", answer.text());
    }
    assert_eq!(metric(&rig.client, "commands_poll_errors_total", &[]), None);
}

#[test]
fn a_reply_that_breaks_off_fails_its_poll() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    let whole = reply(200, &[], &body_of("never"));
    plane.poll(Answer::Last(whole[..whole.len() - 5].to_vec()));
    plane.poll(nothing());
    plane.poll(Answer::Last(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"com".to_vec()));
    plane.poll(nothing());
    plane.poll(Answer::Last(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()));
    plane.send(&[call("after", "echo", "")]);
    let rig = rig_of(plane, mcp, &[]);
    rig.plane.wait_answers(&["after"]);
    assert_eq!(metric(&rig.client, "commands_poll_errors_total", &[r#"error_kind="other""#]), Some(3.0));
    assert_eq!(rig.plane.responses().len(), 1);
}

#[test]
fn a_connection_closed_between_two_requests_costs_nothing() {
    let rig = rig(&["--mcp.max-concurrent-requests", "1"]);
    rig.plane.on_response(|_| Answer::Last(reply(200, &[], "{}")));
    for n in 0..10 {
        rig.plane.poll(Answer::Last(bytes(batch(&[call(&format!("r-{n}"), "echo", "")]))));
        rig.plane.wait_responses(n + 1);
    }
    let delivered = [r#"resp_type="jsonrpc_response""#, r#"result="delivered""#];
    wait_metric(&rig.client, "controlplane_response_posts_total", &delivered, 10.0);
    assert_eq!(rig.plane.responses().len(), 10);
    assert!(events_of(&rig.client, "poll failed; backing off").is_empty());
}

#[test]
fn a_reply_that_announces_the_end_of_its_connection_loses_no_notification() {
    let rig = rig(&[]);
    rig.plane.on_response(|_: &Seen| Answer::Last(bytes(error_with(200, &[("Connection", "close")], "{}"))));
    for n in 0..5 {
        rig.plane.send(&[call(&format!("r-{n}"), "progress", "")]);
    }
    rig.plane.wait_responses(20);
    let delivered = [r#"resp_type="jsonrpc_notify""#, r#"result="delivered""#];
    wait_metric(&rig.client, "controlplane_response_posts_total", &delivered, 15.0);
}

#[test]
fn an_error_body_without_an_end_does_not_stop_polling() {
    let (plane, mcp) = (ControlPlane::start(), McpServer::by_tool_name());
    // 100 MB are announced; 70 kB come.
    let head = "HTTP/1.1 503 Whatever\r\nContent-Length: 100000000\r\n\r\n".to_owned();
    let gate = crate::common::control_plane::Gate::default();
    plane.poll(Answer::Split((head + &"x".repeat(70_000)).into_bytes(), gate.clone(), Vec::new()));
    plane.send(&[call("after", "echo", "")]);
    let rig = rig_of(plane, mcp, &[]);
    rig.plane.wait_answers(&["after"]);
    gate.open();
    rig.plane.on_response(|_| json("{}"));
}
