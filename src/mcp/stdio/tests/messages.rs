//! What travels where while a child runs.

use super::*;

#[test]
fn nothing_is_written_before_the_first_message_and_then_exactly_that() {
    let rig = Rig::plain();
    let message = r#"{ "jsonrpc":"2.0", "id" : 12345678901234567890 ,"method":"echo","params":{"b":1.10,"a":"\u0041<"},"x":[1]}"#;
    let report = rig.send(message);
    assert_eq!(rig.record(), [message]);
    assert!(report.answer().starts_with(r#"{"id":12345678901234567890,"#), "{}", report.answer());
    assert!(report.events.is_empty());
}

#[test]
fn a_message_over_several_lines_reaches_the_child_on_one() {
    let rig = Rig::plain();
    let report = rig.send("{\"jsonrpc\":\"2.0\",\n\"id\":1,\r\n\"method\":\"echo\",\"params\":{}}\n");
    assert_eq!(report.answer(), answer("1", "{}"));
    assert_eq!(rig.record(), [r#"{"jsonrpc":"2.0", "id":1,  "method":"echo","params":{}}"#]);
}

#[test]
fn an_answer_passes_byte_for_byte() {
    let rig = Rig::plain();
    let odd = r#"{ "result" : {"n":1.10,"s":"\u00e9<>"} ,"id":1, "jsonrpc":"2.0", "extra":true }"#;
    let params = serde_json::json!({ "text": format!("{odd}\r\n") }).to_string();
    assert_eq!(rig.send(&call("1", "text", &params)).answer(), odd);
}

#[test]
fn concurrent_calls_with_equal_ids_each_get_their_own_answer() {
    let rig = Rig::plain();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let thread = rig.send_aside(&call("1", "hold", &format!(r#"{{"n":{n}}}"#)));
            rig.wait_for_record(&format!(r#"{{"n":{n}}}"#));
            thread
        })
        .collect();
    assert_eq!(rig.send(&call("\"r\"", "release", "{}")).answer(), answer("\"r\"", "{}"));
    for (n, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap().answer(), answer("1", &format!(r#"{{"n":{n}}}"#)));
    }
    let ids: std::collections::HashSet<_> = rig.record().iter().map(|line| line[..35].to_owned()).collect();
    assert!(ids.len() >= 8, "the child never sees one id twice: {ids:?}");
}

#[test]
fn progress_reaches_the_call_that_asked_for_it_even_with_equal_tokens() {
    let rig = Rig::plain();
    let threads: Vec<_> = (0..3)
        .map(|n| {
            let params = format!(r#"{{"n":{n},"of":3,"_meta":{{"progressToken":1}}}}"#);
            let thread = rig.send_aside(&call("1", "progress", &params));
            rig.wait_for_record(&format!(r#""n":{n},"#));
            thread
        })
        .collect();
    for (n, thread) in threads.into_iter().enumerate() {
        let report = thread.join().unwrap();
        assert_eq!(report.answer(), answer("1", &format!(r#"{{"n":{n}}}"#)));
        let expected = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":{n},"progressToken":1}}}}"#
        );
        assert_eq!(report.events, [expected]);
    }
}

#[test]
fn a_lone_call_gets_every_notification_and_the_oldest_of_several_what_can_be_given_to_one() {
    let rig = Rig::plain();
    let methods = r#"{"methods":["notifications/message","notifications/tools/list_changed","x"]}"#;
    let names = |report: &Report| {
        report
            .events
            .iter()
            .map(|json| Message::parse(&**json).unwrap().method().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&rig.send(&call("1", "notify", methods))),
        ["notifications/message", "notifications/tools/list_changed", "x"]
    );
    let oldest = rig.send_aside(&call("2", "hold", "{}"));
    rig.wait_for_record("hold");
    assert!(rig.send(&call("3", "notify", methods)).events.is_empty());
    rig.send(&call("4", "release", "{}"));
    assert_eq!(names(&oldest.join().unwrap()), ["notifications/message", "x"]);
}

#[test]
fn a_listen_gets_only_what_names_it() {
    let rig = Rig::plain();
    let listen = rig.send_aside(&call("7", "subscriptions/listen", "{}"));
    rig.wait_for_record("listen");
    let lines = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}
{"jsonrpc":"2.0","method":"notifications/message","params":{}}
{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":""}}
{"jsonrpc":"2.0","id":8,"result":{}}
"#;
    // The method is unknown to the child, which answers the listen at once: keep that from happening.
    drop(listen);
    let rig = Rig::with("normal", |target| {
        target.lifecycle_care = false;
        target.bridge = false;
        target.argv = vec!["sh".into(), "-c".into(), format!("read a; read b; cat <<'E'\n{lines}E\nread c")];
    });
    let listen = rig.send_aside(&call("7", "subscriptions/listen", "{}"));
    wait_until(|| rig.binding.shared.with(|session| session.calls.waiting()) == 1);
    let report = rig.send(&call("8", "x", "{}"));
    assert_eq!(report.events, [r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#]);
    let listen = listen.join().unwrap();
    assert_eq!(listen.events.len(), 1);
    assert!(listen.events[0].contains("list_changed") && listen.answer().contains("error"));
}

#[test]
fn a_notification_is_accepted_once_it_is_in_the_pipe() {
    let rig = Rig::plain();
    let message = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert!(rig.send(message).is_accepted());
    rig.wait_for_record(message);
}

#[test]
fn a_call_past_its_deadline_is_cancelled_and_its_late_answer_is_dropped() {
    let rig = Rig::plain();
    let pid = rig.pid();
    assert!(rig.send_within(&call("1", "hold", r#"{"old":1}"#), Duration::from_millis(200)).is_expired());
    rig.wait_for_record(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"reason":"tunnel deadline reached"}}"#);
    let again = rig.send_aside(&call("1", "hold", r#"{"new":1}"#));
    rig.wait_for_record("new");
    rig.send(&call("2", "release", "{}"));
    assert_eq!(again.join().unwrap().answer(), answer("1", r#"{"new":1}"#));
    assert_eq!(rig.send(&call("1", "echo", "[]")).answer(), answer("1", "[]"));
    assert_eq!(rig.pid(), pid);
}

#[test]
fn what_names_no_call_is_dropped_while_an_abandoned_call_may_be_meant() {
    let rig = Rig::plain();
    assert!(rig.send_within(&call("1", "ignore", "{}"), Duration::from_millis(200)).is_expired());
    let report = rig.send(&call("2", "notify", r#"{"methods":["notifications/message"]}"#));
    assert!(report.events.is_empty());
    assert_eq!(report.answer(), answer("2", "{}"));
}

#[test]
fn an_initialize_past_its_deadline_is_not_cancelled() {
    for care in [true, false] {
        let rig = Rig::with("ignore", |target| target.lifecycle_care = care);
        assert!(rig.send_within(&call("1", "initialize", "{}"), Duration::from_millis(300)).is_expired());
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
        assert!(rig.send(cancel).is_accepted());
        if !care {
            rig.send(&call("2", "echo", "{}"));
        }
        assert!(!rig.record().iter().any(|line| line.contains("cancelled")), "{:?}", rig.record());
    }
}

#[test]
fn a_cancellation_names_the_id_that_the_child_knows() {
    let rig = Rig::plain();
    assert!(rig.send_within(&call("1", "ignore", "{}"), Duration::from_millis(200)).is_expired());
    let running = rig.send_aside(&call("1", "hold", "{}"));
    rig.wait_for_record("hold");
    let cancel = |id: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"bored"}}}}"#
        )
    };
    assert!(rig.send(&cancel("1")).is_accepted());
    assert!(rig.send(&cancel("99")).is_accepted());
    rig.send(&call("3", "release", "{}"));
    assert_eq!(running.join().unwrap().answer(), answer("1", "{}"));
    let record = rig.record();
    let hold = record.iter().find(|line| line.contains("hold")).unwrap();
    let id = hold.split("\"id\":").nth(1).unwrap().split(',').next().unwrap();
    assert!(id.starts_with("\"tc-x-"), "{hold}");
    let bored: Vec<_> = record.iter().filter(|line| line.contains("bored")).collect();
    assert_eq!(bored, [&cancel(id)]);
}

#[test]
fn requests_of_the_child_are_answered_and_disturb_no_call() {
    let rig = Rig::plain();
    let report = rig.send(&call("1", "ask", "{}"));
    assert_eq!(report.answer(), answer("1", "{}"));
    assert!(report.events.is_empty());
    rig.wait_for_record(r#"{"jsonrpc":"2.0","id":"s1","result":{}}"#);
    rig.wait_for_record(
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"Method not found: elicitation/create is not available through this tunnel"}}"#,
    );
}

#[test]
fn garbage_and_stray_answers_on_stdout_are_skipped() {
    for garbage in [
        "INFO listening\n",
        "{\"broken\n",
        "{\n",
        "[\n\n",
        "{\"jsonrpc\":\"2.0\",\"id\":\n",
        "[]\n[1]\n3\nnull\n",
        "{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{}}\n",
        "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1,\"message\":\"\"}}\n",
        "{\"id\":98,\"result\":{}}\n",
        "\r\n \n",
        "INFO ",
    ] {
        let rig = Rig::plain();
        let params = serde_json::json!({ "text": format!("{garbage}{}\n", answer("1", "{}")) }).to_string();
        let report = rig.send_within(&call("1", "text", &params), Duration::from_secs(2));
        if garbage == "INFO " {
            assert!(report.is_expired(), "an answer glued to text is no answer");
        } else {
            assert_eq!(report.answer(), answer("1", "{}"), "{garbage:?}");
        }
        assert_eq!(rig.send(&call("2", "echo", "{}")).answer(), answer("2", "{}"), "{garbage:?}");
    }
}

#[test]
fn batches_pretty_printed_values_and_two_values_on_a_line_are_understood() {
    let event = r#"{"jsonrpc":"2.0","method":"x"}"#;
    let reply = answer("1", "{}");
    for text in [
        format!("[{event},{reply}]\n"),
        format!("[\n  {event},\n  {reply}\n]\n"),
        format!("[{event},\n{reply}]\n"),
        format!("{event} {reply}\n"),
    ] {
        let rig = Rig::plain();
        let params = serde_json::json!({ "text": text }).to_string();
        let report = rig.send_within(&call("1", "text", &params), Duration::from_secs(2));
        assert_eq!(report.answer(), reply, "{text}");
        assert_eq!(report.events, [event], "{text}");
    }
    let rig = Rig::plain();
    let params = serde_json::json!({ "text": "{\n  \"jsonrpc\": \"2.0\",\n\n  \"id\": 1,\n  \"result\": {\n    \"a\": \"}\"\n  }\n}\n" });
    let report = rig.send(&call("1", "text", &params.to_string()));
    let value: serde_json::Value = serde_json::from_str(report.answer()).unwrap();
    assert_eq!(value["result"]["a"], "}");
}

#[test]
fn an_answer_above_the_limit_fails_its_call_and_the_next_one_works() {
    let rig = Rig::with("normal", |target| {
        target.lifecycle_care = false;
        target.max_message_bytes = 100_000;
    });
    assert_eq!(
        rig.send(&call("1", "big", r#"{"bytes":90000}"#)).answer().len(),
        90_000 + answer("1", r#"{"a":""}"#).len()
    );
    let report = rig.send(&call("1", "big", r#"{"bytes":3000000}"#));
    assert_eq!(report.failure(), (502, "protocol", "invalid_protocol_response"));
    assert_eq!(rig.send(&call("1", "echo", "{}")).answer(), answer("1", "{}"));
}

#[test]
fn a_broken_answer_fails_the_call_that_it_names() {
    let rig = Rig::plain();
    let params = serde_json::json!({ "text": "{\"id\":1,\"result\":{}}\n" }).to_string();
    assert_eq!(
        rig.send(&call("1", "text", &params)).failure(),
        (502, "protocol", "invalid_protocol_response")
    );
}

#[test]
fn a_child_that_does_not_read_blocks_nobody_beyond_the_deadline() {
    let rig = Rig::plain();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let wait = format!(r#"{{"jsonrpc":"2.0","method":"await","params":{{"path":"{}"}}}}"#, go.display());
    assert!(rig.send(&wait).is_accepted());
    rig.wait_for_record("await");
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(200_000));
    let started = Instant::now();
    assert!(
        rig.send_within(&call("1", "echo", &large), Duration::from_millis(100)).is_expired(),
        "half written"
    );
    assert!(
        rig.send_within(&call("2", "echo", &large), Duration::from_millis(100)).is_expired(),
        "never written"
    );
    let notification = r#"{"jsonrpc":"2.0","method":"late"}"#;
    let report = rig.send_within(notification, Duration::from_millis(100));
    assert!(report.is_expired(), "{report:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    std::fs::write(&go, "").unwrap();
    assert_eq!(rig.send(&call("3", "echo", "{}")).answer(), answer("3", "{}"));
    let record = rig.record();
    let ids: Vec<_> = record.iter().filter(|line| line.len() > 200_000).map(|line| &line[..24]).collect();
    // On a busy machine even the first may have expired before its first byte was written.
    assert!(ids.len() <= 1, "what was never written stays unwritten");
    assert!(!record.iter().any(|line| line.contains("late")));
}

#[test]
fn output_between_calls_is_drained_and_not_given_to_the_next_call() {
    let rig = Rig::plain();
    let flood = format!("{}\n", r#"{"jsonrpc":"2.0","method":"notifications/message"}"#).repeat(20_000);
    let params = serde_json::json!({ "text": flood });
    let message = format!(r#"{{"jsonrpc":"2.0","method":"text","params":{params}}}"#);
    assert!(rig.send(&message).is_accepted());
    // The child can only read on once all of its output has been taken.
    assert!(rig.send(r#"{"jsonrpc":"2.0","method":"done"}"#).is_accepted());
    rig.wait_for_record("done");
    let report = rig.send(&call("1", "echo", "{}"));
    assert!(report.events.len() < 20_000);
    assert_eq!(report.answer(), answer("1", "{}"));
}

#[test]
fn a_burst_of_notifications_arrives_complete_and_in_order() {
    let rig = Rig::plain();
    let lines: String = (0..5000).map(|n| format!("{{\"jsonrpc\":\"2.0\",\"method\":\"m{n}\"}}\n")).collect();
    let params = serde_json::json!({ "text": lines + &answer("1", "{}") + "\n" }).to_string();
    let report = rig.send(&call("1", "text", &params));
    assert_eq!(report.answer(), answer("1", "{}"));
    assert_eq!(report.events.len(), 5000);
    assert!(report.events.iter().enumerate().all(|(n, json)| json.contains(&format!("\"m{n}\""))));
}

#[test]
fn a_call_that_does_not_take_its_events_does_not_stop_the_others_for_good() {
    let rig = Rig::plain();
    let lines = "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}\n".repeat(3000);
    let params = serde_json::json!({ "text": lines }).to_string();
    let message = Message::parse(call("1", "text", &params)).unwrap();
    let (stuck, unstick) = crossbeam_channel::bounded::<()>(0);
    let binding = Arc::clone(&rig.binding);
    let slow = std::thread::spawn(move || {
        let headers = HeaderList::new();
        let deadline = Deadline::after(Duration::from_millis(200));
        binding.exchange(&Exchange { message: &message, headers: &headers, deadline }, &mut |_| {
            let _ = unstick.recv();
        })
    });
    assert_eq!(rig.send(&call("2", "echo", "{}")).answer(), answer("2", "{}"));
    drop(stuck);
    assert!(matches!(slow.join().unwrap(), Outcome::Expired));
}
