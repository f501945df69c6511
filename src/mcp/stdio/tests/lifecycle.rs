//! Handshakes: whose, when and how often.

use super::*;

const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const PARAMS: &str =
    r#"{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"codex","version":"1.0"}}"#;
const RESULT: &str =
    r#"{"capabilities":{},"protocolVersion":"2025-06-18","serverInfo":{"name":"t","version":"1"}}"#;

fn methods(rig: &Rig) -> Vec<String> {
    rig.record().iter().map(|line| Message::parse(&**line).unwrap().method().to_owned()).collect()
}

#[test]
fn the_connectors_handshake_passes_as_it_comes() {
    let rig = Rig::careful("normal");
    let initialize = call("0", "initialize", PARAMS);
    assert_eq!(rig.send(&initialize).answer(), answer("0", RESULT));
    assert!(rig.send(INITIALIZED).is_accepted());
    let request = call("1", "echo", "{}");
    assert_eq!(rig.send(&request).answer(), answer("1", "{}"));
    assert_eq!(rig.record(), [initialize.as_str(), INITIALIZED, request.as_str()]);
    let protocol = rig.binding.protocol();
    let child = protocol.child.unwrap();
    assert_eq!((child.mode, child.handshake), ("legacy", "done"));
    assert_eq!(protocol.protocol_version.as_deref(), Some("2025-06-18"));
}

#[test]
fn a_child_that_nobody_initialised_is_initialised_before_the_first_call() {
    let rig = Rig::careful("normal");
    assert!(rig.send(r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#).is_accepted());
    assert_eq!(rig.send(&call("1", "echo", "{}")).answer(), answer("1", "{}"));
    let record = rig.record();
    assert!(record[0].starts_with(r#"{"jsonrpc":"2.0","id":"tc-init-"#), "{record:?}");
    assert!(record[0].contains(r#""method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"tunnel-client""#));
    assert_eq!(record[1..], [INITIALIZED.to_owned(), call("1", "echo", "{}")]);
    assert!(rig.send(INITIALIZED).is_accepted(), "late ones are accepted");
    assert_eq!(rig.record().len(), 3, "and go no further");
}

#[test]
fn many_first_calls_share_one_handshake() {
    let rig = Rig::careful("normal");
    let threads: Vec<_> = (0..10).map(|n| rig.send_aside(&call(&n.to_string(), "echo", "{}"))).collect();
    for (n, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap().answer(), answer(&n.to_string(), "{}"));
    }
    assert_eq!(methods(&rig).iter().filter(|method| *method == "initialize").count(), 1);
    assert_eq!(methods(&rig)[..2], ["initialize", "notifications/initialized"]);
}

#[test]
fn a_missing_initialized_notification_is_inserted() {
    let rig = Rig::careful("normal");
    rig.send(&call("0", "initialize", PARAMS));
    rig.send(&call("1", "echo", "{}"));
    assert!(rig.send(INITIALIZED).is_accepted());
    assert_eq!(methods(&rig), ["initialize", "notifications/initialized", "echo"]);
}

#[test]
fn a_second_initialize_is_answered_from_the_first() {
    let rig = Rig::careful("once");
    for id in ["1", "0", "\"a\""] {
        let report = rig.send(&call(id, "initialize", PARAMS));
        let json: serde_json::Value = serde_json::from_str(report.answer()).unwrap();
        assert_eq!(json["result"], serde_json::from_str::<serde_json::Value>(RESULT).unwrap());
        assert_eq!(json["id"].to_string(), id);
    }
    assert_eq!(methods(&rig), ["initialize"]);
}

#[test]
fn a_new_child_is_initialised_with_the_parameters_that_the_last_one_accepted() {
    let rig = Rig::careful("normal");
    rig.send(&call("0", "initialize", PARAMS));
    rig.send(INITIALIZED);
    rig.send(&call("1", "exit", "{}"));
    assert_eq!(rig.send(&call("2", "echo", "{}")).answer(), answer("2", "{}"));
    let record = rig.record();
    assert_eq!(methods(&rig)[3..], ["initialize", "notifications/initialized", "echo"]);
    assert!(record[3].ends_with(&format!(r#""method":"initialize","params":{PARAMS}}}"#)), "{}", record[3]);
}

#[test]
fn nothing_is_sent_to_a_new_child_before_a_command_needs_it() {
    let rig = Rig::careful("normal");
    rig.send(&call("0", "initialize", PARAMS));
    rig.send(&call("1", "exit", "{}"));
    wait_until(|| rig.binding.health().generation == 2 && rig.binding.health().running);
    let before = rig.record().len();
    assert!(rig.send(INITIALIZED).is_accepted(), "what refers to nothing is accepted and dropped");
    assert_eq!(rig.send(&call("0", "initialize", PARAMS)).answer(), answer("0", RESULT));
    assert_eq!(rig.record()[before..], [call("0", "initialize", PARAMS)]);
}

#[test]
fn a_refused_handshake_is_told_with_its_code_only() {
    let rig = Rig::careful("refuse");
    let report = rig.send(&call("1", "echo", "{}"));
    assert_eq!(report.failure(), (502, "protocol", "mcp_handshake_failed"));
    let Outcome::Failed(Failure::Lifecycle { note, .. }) = report.outcome else { panic!() };
    assert_eq!(note.to_json(), r#"{"reason":"handshake","server_error_code":-32001}"#);
    assert_eq!(methods(&rig), ["initialize"], "the call never reached the child");
    let report = rig.send(&call("2", "initialize", PARAMS));
    assert!(report.answer().contains("-32001"), "the connector's own attempt gets the server's answer");
}

#[test]
fn a_silent_handshake_is_answered_before_the_deadline() {
    let rig = Rig::careful("ignore");
    let began = Instant::now();
    let report = rig.send_within(&call("1", "echo", "{}"), Duration::from_millis(1500));
    assert_eq!(report.failure(), (504, "timeout", "mcp_handshake_timeout"));
    assert!(began.elapsed() < Duration::from_millis(1500));
    assert_eq!(methods(&rig), ["initialize"]);
}

#[test]
fn a_child_that_ignores_two_handshakes_is_replaced() {
    let rig = Rig::with("ignore", |target| target.handshake_timeout = Duration::from_millis(200));
    for _ in 0..2 {
        assert_eq!(rig.send(&call("1", "echo", "{}")).failure(), (504, "timeout", "mcp_handshake_timeout"));
    }
    wait_until(|| rig.binding.health().generation == 2);
    assert_eq!(rig.binding.health().last_end.unwrap().label(), "handshake_timeout");
}

#[test]
fn a_late_handshake_of_a_connector_still_counts() {
    // Answers the first line only after the second one was read by somebody else: by a signal file.
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let mut target = shell(&format!(
        "read -r a; while ! [ -e '{}' ]; do sleep 0.02; done; echo '{}'; read -r b; read -r c; echo '{}'; read -r d",
        go.display(),
        answer("0", RESULT),
        answer("1", "{}")
    ));
    target.lifecycle_care = true;
    let binding = started(target);
    assert!(
        send(&binding, &call("0", "initialize", PARAMS), Deadline::after(Duration::from_millis(100)))
            .is_expired()
    );
    std::fs::write(&go, "").unwrap();
    assert_eq!(
        send(&binding, &call("1", "echo", "{}"), Deadline::after(PATIENCE)).answer(),
        answer("1", "{}")
    );
    assert_eq!(binding.health().generation, 1);
}

#[test]
fn a_child_that_dies_during_the_handshake_fails_the_call() {
    let mut target = shell("read -r line; exit 1");
    target.lifecycle_care = true;
    let binding = started(target);
    let report = send(&binding, &call("1", "echo", "{}"), Deadline::after(PATIENCE));
    assert_eq!(report.failure(), (502, "transport_closed", "eof"));
}

#[test]
fn modern_messages_need_no_handshake_and_their_answers_tell_the_mode() {
    let rig = Rig::with("normal", |target| target.bridge = false);
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    let first = call("1", "echo", &format!(r#"{{"resultType":"complete",{meta}}}"#));
    assert!(rig.send(&first).answer().contains("complete"));
    assert_eq!(rig.binding.protocol().child.unwrap().mode, "modern");
    let second = call("2", "echo", "{}");
    rig.send(&second);
    assert_eq!(rig.record(), [first, second], "a modern child gets no handshake");
}

#[test]
fn without_care_everything_is_forwarded_and_a_new_child_gets_no_handshake() {
    let rig = Rig::plain();
    for id in ["0", "1"] {
        rig.send(&call(id, "initialize", PARAMS));
        rig.send(INITIALIZED);
    }
    rig.send(&call("2", "exit", "{}"));
    rig.send(&call("3", "echo", "{}"));
    let initialized = "notifications/initialized";
    assert_eq!(methods(&rig), ["initialize", initialized, "initialize", initialized, "exit", "echo"]);
}

#[test]
fn a_child_that_refuses_both_eras_is_asked_again_after_a_while() {
    let rig = Rig::with("neither", |target| target.refusal_kept = Duration::from_secs(2));
    let discover = call("7", "server/discover", "{}");
    let round = ["server/discover", "initialize"];
    rig.send(&discover);
    assert_eq!(methods(&rig), round);
    rig.send(&discover);
    assert_eq!(methods(&rig), round, "believed for a while");
    wait_until(|| {
        rig.send(&discover);
        methods(&rig).len() > 2
    });
    assert_eq!(methods(&rig)[2..], round);
}
