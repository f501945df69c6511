//! Children that end, are replaced by others, or speak what nobody here knows.

use serde_json::json;

use crate::rig::*;

#[test]
fn a_call_that_the_next_child_refuses_unread_comes_again_once_its_era_is_known() {
    let rig = Rig::new("replaced", &[]);
    result(&rig.send(&modern_tool("1", "echo")));
    assert_eq!(rig.send(&modern_tool("2", "crash")).code(), 502);
    rig.client.wait_ready();
    assert_eq!(result(&rig.send(&modern_tool("3", "runs")))["runs"], 1);
    let second: Vec<String> = rig.methods().into_iter().filter(|line| line.starts_with("2 ")).collect();
    assert_eq!(
        second,
        ["2 tools/call", "2 server/discover", "2 initialize", "2 notifications/initialized", "2 tools/call"]
    );
}

#[test]
fn a_child_of_unknown_revisions_answers_for_itself() {
    let rig = Rig::new("future", &[]);
    let refused = rig.send(&initialize("\"i\""));
    assert_eq!(error(&refused), (200, -32022));
    assert_eq!(refused.json["resp_json"]["error"]["data"], json!({"supported": ["2027-01-15"]}));
    let before = rig.seen().len();
    let again = rig.send(&call("9", "tools/list", ""));
    assert_eq!((error(&again), &again.json["resp_json"]["id"]), ((200, -32022), &json!(9)));
    assert_eq!(rig.seen().len(), before);
    let discovered = result(&rig.send(&discover("2")));
    assert_eq!(discovered["supportedVersions"], json!(["2027-01-15"]));
}

#[test]
fn calls_of_a_child_that_crashes_are_answered_at_once_and_never_repeated() {
    let mut rig = Rig::new("legacy", &[]);
    result(&rig.send(&initialize("0")));
    let stalled = ["1", "2"].map(|id| rig.start(&tool(id, "stall"), ""));
    crate::common::eventually("both arrive", || rig.seen().len() == 4);
    let crash = rig.start(&tool("3", "crash"), "");
    for (name, id) in stalled.iter().chain([&crash]).zip([1, 2, 3]) {
        let post = rig.plane.wait_terminal(name);
        assert_eq!((post.code(), post.failure().as_str()), (502, "transport_closed/eof"));
        assert_eq!(post.json["resp_json"]["id"], id);
    }
    rig.client.wait_ready();
    result(&rig.send(&tool("4", "echo")));
    assert_eq!(rig.seen().iter().filter(|line| line.contains("stall")).count(), 2);
    assert!(rig.client.is_running());
}
