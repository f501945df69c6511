//! What the log says, and what it never says.

use super::*;
use crate::control_plane::event::captured::{self, Captured};
use crate::jsonrpc::Message;
use crate::net::Deadline;
use log::Level;
use std::time::Instant;

/// A queue that takes everything.
struct Bottomless;

impl CommandSink for Bottomless {
    fn free(&self) -> usize {
        20
    }

    fn push(&self, _: Command, _: &Cancel) -> Result<(), Stopped> {
        Ok(())
    }
}

/// Polls on this thread until `answers` are used up; returns what was logged.
fn logged(answers: Vec<Answer>, change: impl FnOnce(&mut Settings)) -> Vec<Captured> {
    let stop = Cancel::new();
    let (last, script) = (stop.clone(), Mutex::new(answers.into_iter()));
    let server = Server::start(move |_| {
        script.lock().unwrap().next().unwrap_or_else(|| {
            last.cancel();
            Answer::Hang
        })
    });
    let mut settings = settings(&server);
    change(&mut settings);
    let poller = Poller {
        client: client_with(settings, &Arc::default(), &Cancel::new()),
        sink: Arc::new(Bottomless),
        observer: Arc::new(()),
        state: Arc::new(PollState::new()),
        gate: None,
    };
    captured::take();
    poller.run(&stop);
    captured::take()
}

fn failures(events: &[Captured]) -> Vec<&Captured> {
    events.iter().filter(|event| event.message.ends_with("backing off")).collect()
}

fn error(code: &str) -> Answer {
    Answer::json(401, format!(r#"{{"error":{{"message":"m","type":"t","code":"{code}"}}}}"#))
}

#[test]
fn an_error_that_needs_the_operator_is_a_warning_once() {
    let answers = vec![
        error("tunnel_active_organization_required").with("X-Request-Id", "cp-1"),
        error("tunnel_active_organization_required"),
        error("tunnel_missing_principals"),
        Answer::status(204),
        error("tunnel_missing_principals"),
    ];
    let events = logged(answers, |_| {});
    let levels: Vec<_> = failures(&events).iter().map(|event| event.level).collect();
    assert_eq!(levels, [Level::Warn, Level::Debug, Level::Warn, Level::Warn]);
    let fields = &failures(&events)[0].fields;
    for (key, value) in [
        ("status_code", "401"),
        ("status", "401 Unauthorized"),
        ("error_code", "tunnel_active_organization_required"),
        ("error_message", "m"),
        ("retry_in_ms", "200"),
        ("tunnel_request_id", "cp-1"),
    ] {
        assert_eq!(fields.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert!(
        fields["error"].contains("unexpected status 401") && fields["mitigation"].contains("ORGANIZATION_ID")
    );
    assert_eq!(failures(&events)[1].fields["tunnel_request_id"], "missing_request_id");
    let recovered = events.iter().filter(|event| event.message.starts_with("poller recovered"));
    assert!(recovered.map(|event| event.level).eq([Level::Info]));
}

#[test]
fn other_errors_are_warnings_each_time_and_a_stop_is_none() {
    let events = logged(vec![Answer::status(503), Answer::status(503), Answer::status(204)], |_| {});
    assert!(failures(&events).iter().all(|event| event.level == Level::Warn));
    assert_eq!(failures(&events).len(), 2);
    assert!(!failures(&events)[0].fields.contains_key("error_code"));
    let of_info: Vec<_> = events.iter().filter(|event| event.level == Level::Info).collect();
    let messages: Vec<_> = of_info.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "starting control-plane poller",
            "poller started",
            "poller recovered; polling operational",
            "poller stopped"
        ]
    );
    assert!(of_info[3].fields.contains_key("reason"));
}

#[test]
fn a_poll_that_reaches_its_deadline_tells_its_times() {
    let events = logged(vec![Answer::Hang], |settings| {
        settings.poll_timeout = Duration::from_millis(100);
        settings.poll_deadline_guardrail = Duration::from_millis(50);
    });
    let failure = failures(&events)[0];
    assert_eq!((failure.level, failure.message.as_str()), (Level::Warn, "poll timed out; backing off"));
    assert_eq!((&*failure.fields["poll_timeout_ms"], &*failure.fields["poll_deadline_ms"]), ("100", "150"));
}

#[test]
fn refused_commands_are_warnings_with_their_ids_and_nothing_of_their_content() {
    let body = r#"{"commands":[
        {"request_id":"r1","shard_token":"token-x","command_type":"mystery","jsonrpc":{"secret":"payload-x"}},
        {"request_id":"r2","command_type":"jsonrpc"},
        {"request_id":"r3","shard_token":"token-x","command_type":"jsonrpc","headers":{"A":["header-x"]},
         "jsonrpc":{"jsonrpc":"1.0","secret":"payload-x"}}]}"#;
    let events = logged(vec![Answer::json(200, body)], |_| {});
    let warnings: Vec<_> = events.iter().filter(|event| event.level == Level::Warn).collect();
    let field = |index: usize, key: &str| warnings[index].fields.get(key).map(String::as_str);
    assert_eq!(warnings.len(), 3);
    assert_eq!((field(0, "request_id"), field(0, "command_type")), (Some("r1"), Some("mystery")));
    assert_eq!((field(1, "request_id"), field(1, "reason")), (Some("r2"), Some("missing_shard_token")));
    assert_eq!((field(2, "request_id"), field(2, "command_type")), (Some("r3"), None));
    let text = format!("{events:?}");
    for secret in ["token-x", "payload-x", "header-x", KEY] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn more_commands_than_asked_for_are_an_error_in_the_log() {
    let command = r#"{"request_id":"r","shard_token":"s","command_type":"oauth_discovery"}"#;
    let body = format!(r#"{{"commands":[{}]}}"#, vec![command; 21].join(","));
    let events = logged(vec![Answer::json(200, body)], |_| {});
    let error = events.iter().find(|event| event.level == Level::Error).unwrap();
    assert_eq!((&*error.fields["limit"], &*error.fields["total"]), ("20", "21"));
}

/// What one posting, answered with `answer`, logs last.
fn posted(id: &str, answer: Answer) -> (Captured, String) {
    let server = Server::start(move |_| answer.clone());
    let client = client(&server);
    let command = Command {
        request_id: "r-1".to_owned(),
        shard_token: Secret::new("token-x".to_owned()),
        channel: Channel::main(),
        received_at: Instant::now(),
        created_at: None,
        deadline: Deadline::NEVER,
        headers: [("X-Request-Id", "conn-77"), ("Mcp-Session-Id", "abc")].into_iter().collect(),
        work: Work::JsonRpc(
            Message::parse(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"m"}}"#)).unwrap(),
        ),
    };
    let headers: HeaderList = [("Content-Type", "header-x")].into_iter().collect();
    let body = ResponseBody::JsonRpc(r#"{"result":"payload-x"}"#.to_owned());
    captured::take();
    client.post(&Posting {
        command: &command,
        body: &body,
        code: 200,
        headers: &headers,
        deadline: Deadline::NEVER,
    });
    let mut events = captured::take();
    let text = format!("{events:?}");
    (events.pop().unwrap(), text)
}

#[test]
fn postings_are_logged_by_outcome_with_all_identifiers() {
    let rejected = Answer::json(400, r#"{"error":{"code":"invalid_channel_format"}}"#);
    for (id, answer, level, rpc_id) in [
        ("7", Answer::status(200).with("X-Request-Id", "cp-9"), Level::Debug, "7"),
        ("\"a\\u0062\"", Answer::status(404), Level::Warn, "ab"),
        ("1.50", rejected, Level::Error, "1.50"),
        ("7", Answer::status(503), Level::Error, "7"),
    ] {
        let (event, text) = posted(id, answer);
        assert_eq!(event.level, level, "{event:?}");
        for (key, value) in [
            ("request_id", "r-1"),
            ("cmd_request_id", "conn-77"),
            ("session_id", "abc"),
            ("rpc_request_id", rpc_id),
            ("finalResponse", "true"),
        ] {
            assert_eq!(event.fields.get(key).map(String::as_str), Some(value), "{key} of {event:?}");
        }
        assert_eq!(event.fields.contains_key("tunnel_request_id"), level == Level::Debug);
        assert_eq!(event.fields.contains_key("error"), level != Level::Debug);
        for secret in ["token-x", "payload-x", "header-x", KEY] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn raw_messages_are_dumped_only_on_request_and_without_changing_them() {
    let dumps = |raw| {
        let server = Server::start(|_| Answer::json(200, r#"{"commands":[]}"#));
        let client =
            client_with(Settings { log_raw_http: raw, ..settings(&server) }, &Arc::default(), &Cancel::new());
        captured::take();
        client.poll(3).unwrap();
        let dumps: Vec<_> =
            captured::take().into_iter().filter_map(|mut event| event.fields.remove("dump")).collect();
        let names: Vec<_> = server.next().headers.into_iter().map(|(name, _)| name).collect();
        (dumps, names)
    };
    let ((none, plain), (two, dumped)) = (dumps(false), dumps(true));
    assert!(none.is_empty());
    assert_eq!(plain, dumped);
    assert!(
        two[0].starts_with(&format!("GET /v1/tunnels/{TUNNEL}/poll?limit=3&timeout_ms=30000 HTTP/1.1\r\n"))
    );
    assert!(two[0].contains("Authorization: Bearer [REDACTED]\r\n"), "{}", two[0]);
    assert!(
        two[1].starts_with("HTTP/1.1 200") && two[1].ends_with("\r\n\r\n{\"commands\":[]}"),
        "{}",
        two[1]
    );
}
