//! The tunnel's name and description: nice to have, never in the way.

use crate::common::control_plane::{Answer, ControlPlane, call, error, json};
use crate::common::eventually;
use crate::common::mcp_server::McpServer;
use crate::rig::{Rig, events, rig_of, wait_events};

const FETCHED: &str = "tunnel metadata fetched";
const FAILED: &str = "tunnel metadata could not be fetched";

fn answered_with(answer: Answer) -> Rig {
    let plane = ControlPlane::start();
    plane.on_metadata(move |_| answer.clone());
    plane.send(&[call("r", "echo", "")]);
    let rig = rig_of(plane, McpServer::by_tool_name(), &[]);
    rig.plane.wait_answers(&["r"]);
    rig
}

#[test]
fn id_name_and_description_are_told_in_the_log() {
    let body = r#"{"id":"tunnel_x","name":"Prod","description":"the one","creator":{"a":1}} trailing"#;
    for (status, name, description) in [(200, "Prod", "the one"), (203, "Prod", "the one")] {
        let rig = answered_with(error(status, body));
        let fetched = wait_events(&rig.client, FETCHED, 1);
        assert_eq!(
            (&fetched[0]["level"], &fetched[0]["component"]),
            (&"INFO".into(), &"controlplane".into())
        );
        assert_eq!((&fetched[0]["name"], &fetched[0]["description"]), (&name.into(), &description.into()));
        assert_eq!(fetched[0]["tunnel_id"], crate::common::TUNNEL_ID);
        let started = wait_events(&rig.client, "🟢 tunnel-client started", 1);
        assert_eq!(started[0]["name"], "Prod");
        assert_eq!(rig.plane.metadata_requests().len(), 1);
    }
    let rig = answered_with(json("{}"));
    let fetched = wait_events(&rig.client, FETCHED, 1);
    assert_eq!((&fetched[0]["name"], &fetched[0]["description"]), (&"".into(), &"".into()));
}

#[test]
fn a_failure_is_one_warning_and_leaves_polling_alone() {
    let forbidden = r#"{"error":{"code":"tunnel_use_forbidden","message":"no"}}"#;
    for (answer, status) in [
        (error(403, forbidden), Some(403)),
        (error(404, ""), Some(404)),
        (error(302, ""), Some(302)),
        (json("no json"), None),
        (json("[]"), None),
        (json(r#"{"name":5}"#), None),
    ] {
        let rig = answered_with(answer);
        let failed = wait_events(&rig.client, FAILED, 1);
        assert_eq!((failed.len(), &failed[0]["level"]), (1, &"WARN".into()));
        assert_eq!(failed[0].get("status_code").and_then(|code| code.as_u64()), status);
        if status == Some(403) {
            assert_eq!(failed[0]["error_code"], "tunnel_use_forbidden");
            assert!(failed[0]["mitigation"].is_string());
        }
        assert_eq!(rig.plane.metadata_requests().len(), 1);
        rig.client.wait_ready();
    }
}

#[test]
fn a_blip_is_outlasted() {
    let plane = ControlPlane::start();
    let count = std::sync::atomic::AtomicUsize::new(0);
    plane.on_metadata(move |_| match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => error(500, ""),
        _ => json(r#"{"name":"Prod"}"#),
    });
    let rig = rig_of(plane, McpServer::by_tool_name(), &[]);
    wait_events(&rig.client, FETCHED, 1);
    assert_eq!(rig.plane.metadata_requests().len(), 2);
    assert!(events(&rig.client).iter().all(|event| event["msg"] != FAILED));
}

#[test]
fn a_hang_holds_up_neither_polling_nor_the_end() {
    let mut rig = answered_with(Answer::Hold);
    eventually("the metadata is asked for", || rig.plane.metadata_requests().len() == 1);
    assert_eq!(rig.client.terminate().code(), Some(0));
    assert!(rig.client.output().lines().all(|line| !line.contains(FAILED)), "{}", rig.client.output());
}
