//! The ring of events.

use crate::site;

#[test]
fn the_newest_events_come_in_order_with_their_fields() {
    let site = site(&["--admin-ui.log-buffer-events", "3"]);
    for level in ["warn", "info", "debug", "info"] {
        let body = format!(r#"{{"level":"{level}"}}"#);
        assert_eq!(site.ask("PUT", "/api/log-level", &[], &body).status, 200);
    }
    let events = site.events();
    assert_eq!(events.len(), 3);
    let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [seqs[0], seqs[0] + 1, seqs[0] + 2]);
    let last = &events[2];
    assert_eq!((&last["level"], &last["message"]), (&"INFO".into(), &"runtime log level updated".into()));
    assert_eq!(last["attrs"]["tunnel_id"], crate::common::TUNNEL_ID);
    assert_eq!(last["attrs"]["client_instance_id"].as_str().unwrap().len(), 32);
    let newest = site.document("/api/logs?limit=1");
    assert_eq!(newest["events"].as_array().unwrap().len(), 1);
    assert_eq!(newest["events"][0]["seq"], seqs[2]);
}

#[test]
fn a_limit_that_is_no_positive_number_is_the_default() {
    let site = site(&[]);
    // Debug has an event for itself each time: more than the default of all limits.
    for _ in 0..205 {
        site.ask("PUT", "/api/log-level", &[], r#"{"level":"info"}"#);
    }
    let count = |limit: &str| site.document(&format!("/api/logs{limit}"))["events"].as_array().unwrap().len();
    for limit in
        ["", "?limit=", "?limit=abc", "?limit=0", "?limit=-1", "?limit=1.5", "?limit=99999999999999999999"]
    {
        assert_eq!(count(limit), 200, "{limit}");
    }
    assert_eq!(count("?limit=7"), 7);
    assert!(count("?limit=999999") > 200);
}
