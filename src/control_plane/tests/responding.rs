//! Posting responses.

use super::*;
use crate::jsonrpc::Message;
use crate::net::Deadline;
use std::time::Instant;

fn command() -> Command {
    Command {
        request_id: "r-1".to_owned(),
        shard_token: Secret::new("s-1".to_owned()),
        channel: Channel::main(),
        received_at: Instant::now(),
        created_at: None,
        deadline: Deadline::NEVER,
        headers: [("X-Request-Id", "conn-77"), ("Mcp-Session-Id", "abc")].into_iter().collect(),
        work: Work::JsonRpc(Message::parse(r#"{"jsonrpc":"2.0","id":7,"method":"m"}"#).unwrap()),
    }
}

fn answer() -> ResponseBody {
    ResponseBody::JsonRpc(
        r#"{"jsonrpc":"2.0","id":7,"result":{"n":1.10, "big":12345678901234567890}}"#.to_owned(),
    )
}

fn notification() -> ResponseBody {
    ResponseBody::Notify(r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#.to_owned())
}

fn post(client: &Client, body: &ResponseBody, deadline: Deadline) -> Delivery {
    let command = command();
    let headers: HeaderList =
        [("Content-Type", "application/json"), ("Mcp-Session-Id", "abc")].into_iter().collect();
    client.post(&Posting { command: &command, body, code: 200, headers: &headers, deadline })
}

fn statuses(list: &[u16]) -> Vec<Answer> {
    list.iter().map(|status| Answer::status(*status)).collect()
}

#[test]
fn a_response_has_exactly_the_members_of_the_wire_and_its_payload_byte_for_byte() {
    let server = Server::replaying([Answer::json(200, r#"{"status":"ok"}"#)]);
    assert_eq!(post(&client(&server), &answer(), Deadline::NEVER), Delivery::Delivered);
    let seen = server.next();
    assert_identified(&seen);
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", &*format!("/v1/tunnels/{TUNNEL}/response"))
    );
    assert_eq!(
        String::from_utf8(seen.body.clone()).unwrap(),
        concat!(
            r#"{"request_id":"r-1","channel":"main","#,
            r#""resp_json":{"jsonrpc":"2.0","id":7,"result":{"n":1.10, "big":12345678901234567890}},"#,
            r#""resp_headers":{"Content-Type":["application/json"],"Mcp-Session-Id":["abc"]},"#,
            r#""resp_code":200,"resp_type":"jsonrpc_response"}"#
        )
    );
    assert_eq!(seen.header("x-tunnel-shard-token"), Some("s-1"));
    assert_eq!(seen.header("x-client-request-id"), Some("conn-77"));
    assert_eq!(seen.header("content-length"), Some(&*seen.body.len().to_string()));
    assert_eq!(
        seen.header("x-tunnel-mcp-server-info"),
        Some(r#"{"version":1,"channels":[{"name":"main"}]}"#)
    );
}

#[test]
fn empty_parts_are_left_out() {
    let server = Server::replaying(statuses(&[200, 200, 200]));
    let client = client(&server);
    let mut command = command();
    command.headers = [("X-Request-Id", "")].into_iter().collect();
    let headers = HeaderList::new();
    for (body, code, expected) in [
        (ResponseBody::NotifyAck, 202, r#""resp_code":202,"resp_type":"notify_ack"}"#),
        (
            ResponseBody::SessionTermination,
            204,
            r#""resp_code":204,"resp_type":"session_termination_response"}"#,
        ),
        (
            ResponseBody::OauthDiscovery("{}".into()),
            200,
            r#""resp_json":{},"resp_code":200,"resp_type":"oauth_discovery_response"}"#,
        ),
    ] {
        let posting =
            Posting { command: &command, body: &body, code, headers: &headers, deadline: Deadline::NEVER };
        assert_eq!(client.post(&posting), Delivery::Delivered);
        let seen = server.next();
        let text = String::from_utf8(seen.body.clone()).unwrap();
        assert_eq!(text, format!(r#"{{"request_id":"r-1","channel":"main",{expected}"#));
        assert_eq!(seen.header("x-client-request-id"), None);
    }
}

#[test]
fn header_values_stay_apart_and_are_escaped() {
    let server = Server::replaying(statuses(&[200]));
    let command = Command { request_id: "r\"\\\u{1}é".to_owned(), ..command() };
    let headers: HeaderList = [("X-A", "1"), ("X-B", "\"q\""), ("x-a", "2")].into_iter().collect();
    let body = ResponseBody::OauthDiscovery("{}".into());
    let posting =
        Posting { command: &command, body: &body, code: 200, headers: &headers, deadline: Deadline::NEVER };
    assert_eq!(client(&server).post(&posting), Delivery::Delivered);
    let json = server.next().json();
    assert_eq!(json["request_id"], "r\"\\\u{1}é");
    assert_eq!(json["resp_headers"], serde_json::json!({"X-A": ["1", "2"], "X-B": ["\"q\""]}));
}

#[test]
fn only_transient_statuses_are_retried_with_identical_requests() {
    for (body, replies, requests, expected) in [
        (answer(), &[502, 502, 200][..], 3, Delivery::Delivered),
        (answer(), &[502, 502, 502, 200], 3, Delivery::Exhausted),
        (answer(), &[408, 504, 200], 3, Delivery::Delivered),
        (answer(), &[429, 503, 200], 3, Delivery::Delivered),
        (answer(), &[500, 200], 2, Delivery::Delivered),
        (answer(), &[500, 500, 200], 2, Delivery::Rejected(500)),
        (answer(), &[500, 404], 2, Delivery::Gone),
        (answer(), &[404, 200], 1, Delivery::Gone),
        (answer(), &[400, 200], 1, Delivery::Rejected(400)),
        (answer(), &[401, 200], 1, Delivery::Rejected(401)),
        (answer(), &[413, 200], 1, Delivery::Rejected(413)),
        (answer(), &[202, 200], 1, Delivery::Rejected(202)),
        (answer(), &[204, 200], 1, Delivery::Rejected(204)),
        (ResponseBody::NotifyAck, &[503, 200], 2, Delivery::Delivered),
        (notification(), &[429, 429, 200], 3, Delivery::Delivered),
        (notification(), &[503, 200], 1, Delivery::Rejected(503)),
        (notification(), &[500, 200], 1, Delivery::Rejected(500)),
        (notification(), &[408, 200], 1, Delivery::Rejected(408)),
    ] {
        let server = Server::replaying(statuses(replies));
        let tally = Arc::<Tally>::default();
        let client = client_with(settings(&server), &tally, &Cancel::new());
        assert_eq!(post(&client, &body, Deadline::NEVER), expected, "{replies:?}");
        let seen = server.rest();
        assert_eq!(seen.len(), requests, "{replies:?} {body:?}");
        assert!(seen.iter().all(|one| (&one.body, &one.headers) == (&seen[0].body, &seen[0].headers)));
        assert_eq!(*tally.posted.lock().unwrap(), [(body.wire_type(), expected.label())]);
        assert_eq!(tally.requests.lock().unwrap().len(), requests);
    }
}

#[test]
fn redirects_are_not_followed() {
    let server = Server::replaying([Answer::status(307).with("Location", "/elsewhere"), Answer::status(200)]);
    assert_eq!(post(&client(&server), &answer(), Deadline::NEVER), Delivery::Rejected(307));
    assert_eq!(server.rest().len(), 1);
}

#[test]
fn after_a_connection_closed_in_its_face_a_terminal_response_is_sent_again_and_a_notification_is_not() {
    let server = Server::replaying([Answer::Close, Answer::status(200)]);
    assert_eq!(post(&client(&server), &answer(), Deadline::NEVER), Delivery::Delivered);
    assert_eq!(server.rest().len(), 2);
    let server = Server::replaying([Answer::Close, Answer::status(200)]);
    assert_eq!(post(&client(&server), &notification(), Deadline::NEVER), Delivery::Exhausted);
    assert_eq!(server.rest().len(), 1);
}

#[test]
fn a_notification_that_never_left_is_sent_again() {
    let refused = Server::replaying([]);
    let settings = settings(&refused);
    let url = settings.base_url.clone();
    drop(refused);
    let tally = Arc::<Tally>::default();
    let client = client_with(Settings { base_url: url, ..settings }, &tally, &Cancel::new());
    assert_eq!(post(&client, &notification(), Deadline::NEVER), Delivery::Exhausted);
    assert_eq!(tally.requests.lock().unwrap().len(), 3);
}

#[test]
fn retry_after_is_a_floor_for_the_next_attempt() {
    let server = Server::replaying([Answer::status(503).with("Retry-After", "1"), Answer::status(200)]);
    assert_eq!(post(&client(&server), &answer(), Deadline::NEVER), Delivery::Delivered);
    let (first, second) = (server.next(), server.next());
    assert!(second.at - first.at >= Duration::from_millis(990), "{:?}", second.at - first.at);
}

#[test]
fn no_attempt_starts_once_the_deadline_is_sure_to_pass_before() {
    let server = Server::replaying([Answer::status(503).with("Retry-After", "30"), Answer::status(200)]);
    let started = Instant::now();
    let deadline = Deadline::after(Duration::from_secs(1));
    assert_eq!(post(&client(&server), &answer(), deadline), Delivery::Expired);
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(server.rest().len(), 1);
}

#[test]
fn nothing_is_sent_after_the_deadline() {
    let server = Server::replaying(statuses(&[200]));
    assert_eq!(post(&client(&server), &answer(), Deadline::after(Duration::ZERO)), Delivery::Expired);
    assert!(server.rest().is_empty());
}

#[test]
fn a_post_in_flight_is_cut_by_its_deadline_and_not_repeated() {
    let server = Server::replaying([Answer::Hang]);
    let started = Instant::now();
    let deadline = Deadline::after(Duration::from_millis(300));
    assert_eq!(post(&client(&server), &answer(), deadline), Delivery::Expired);
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(server.rest().len(), 1);
}

#[test]
fn a_command_without_a_token_is_not_answered_over_the_network() {
    let server = Server::replaying(statuses(&[200]));
    let command = Command { shard_token: Secret::new(String::new()), ..command() };
    let (body, headers) = (answer(), HeaderList::new());
    let posting =
        Posting { command: &command, body: &body, code: 200, headers: &headers, deadline: Deadline::NEVER };
    assert_eq!(client(&server).post(&posting), Delivery::Exhausted);
    assert!(server.rest().is_empty());
}

#[test]
fn cancelling_ends_a_wait_between_attempts() {
    let server = Server::replaying([Answer::status(503).with("Retry-After", "50"), Answer::status(200)]);
    let cancel = Cancel::new();
    let client = client_with(settings(&server), &Arc::default(), &cancel);
    let poster = std::thread::spawn(move || post(&client, &answer(), Deadline::NEVER));
    server.next();
    cancel.cancel();
    assert_eq!(poster.join().unwrap(), Delivery::Cancelled);
}

#[test]
fn cancelling_cuts_an_attempt_in_flight() {
    let server = Server::replaying([Answer::Hang]);
    let cancel = Cancel::new();
    let client = client_with(settings(&server), &Arc::default(), &cancel);
    let poster = std::thread::spawn(move || (post(&client, &answer(), Deadline::NEVER), Instant::now()));
    server.next();
    let cancelled_at = Instant::now();
    cancel.cancel();
    let (delivery, ended_at) = poster.join().unwrap();
    assert_eq!(delivery, Delivery::Cancelled);
    assert!(ended_at - cancelled_at < Duration::from_secs(5));
}

#[test]
fn the_connection_is_kept_whatever_the_reply_carries() {
    let server = Server::replaying([
        Answer::json(200, r#"{"status":"ok"}"#),
        Answer::json(404, r#"{"error":{"code":"pending_request_not_found"}}"#),
        Answer::json(413, "x".repeat(200_000)),
        Answer::status(200),
    ]);
    let client = client(&server);
    for _ in 0..4 {
        post(&client, &answer(), Deadline::NEVER);
    }
    assert!(server.rest().iter().all(|seen| seen.connection == 0));
}

#[test]
fn all_requests_of_a_process_carry_one_instance_id() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "POST" => Answer::status(200),
        _ => Answer::json(200, "{}"),
    });
    let client = client(&server);
    client.fetch_metadata().unwrap();
    client.poll(1).unwrap();
    post(&client, &answer(), Deadline::NEVER);
    let seen = server.rest();
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("x-tunnel-client-instance-id").unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0]));
}
