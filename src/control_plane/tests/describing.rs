//! The tunnel's metadata.

use super::*;

fn fetch(answers: Vec<Answer>) -> (Result<TunnelMetadata, String>, usize) {
    let server = Server::replaying(answers);
    let fetch = MetadataFetch::spawn(client(&server)).unwrap();
    let result = fetch.slot().wait(PATIENCE).unwrap();
    fetch.stop();
    let seen = server.rest();
    seen.iter().for_each(assert_identified);
    assert!(seen.iter().all(|seen| seen.method == "GET" && seen.target == format!("/v1/tunnels/{TUNNEL}")));
    (result, seen.len())
}

#[test]
fn any_2xx_object_is_metadata() {
    let (result, requests) =
        fetch(vec![Answer::json(203, r#"{"id":"t","name":"Prod","description":"d","x":1}"#)]);
    assert_eq!(
        result.unwrap(),
        TunnelMetadata { id: "t".into(), name: "Prod".into(), description: "d".into() }
    );
    assert_eq!(requests, 1);
}

#[test]
fn what_another_attempt_cannot_change_is_asked_once() {
    for (answer, text) in [
        (
            Answer::json(403, r#"{"error":{"code":"tunnel_use_forbidden","message":"m"}}"#),
            "tunnel_use_forbidden: m",
        ),
        (Answer::status(404), "unexpected status 404"),
        (Answer::json(200, "[]"), "not the JSON object"),
        (Answer::status(302).with("Location", "/x"), "unexpected status 302"),
    ] {
        let (result, requests) = fetch(vec![answer]);
        let error = result.unwrap_err();
        assert!(error.contains(text), "{error}");
        assert_eq!(requests, 1);
    }
}

#[test]
fn a_short_outage_does_not_leave_the_tunnel_nameless() {
    let (result, requests) = fetch(vec![Answer::status(500), Answer::json(200, r#"{"name":"Prod"}"#)]);
    assert_eq!(result.unwrap().name, "Prod");
    assert_eq!(requests, 2);
}

#[test]
fn stopping_cuts_a_fetch_that_hangs_and_leaves_no_result() {
    let server = Server::replaying([Answer::Hang]);
    let fetch = MetadataFetch::spawn(client(&server)).unwrap();
    let slot = fetch.slot();
    server.next();
    assert!(slot.wait(Duration::from_millis(10)).is_none());
    let started = std::time::Instant::now();
    fetch.stop();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(slot.wait(Duration::ZERO).is_none());
}
