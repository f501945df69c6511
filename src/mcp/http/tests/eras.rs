//! What is believed of a server, and for how long.

use super::*;

/// A binding that bridges, and believes refusals for `kept`.
fn bridging(server: &Scripted, kept: Duration) -> HttpBinding {
    let mut binding = own(server).with_bridge(true, "main", Duration::from_secs(5), Duration::from_secs(5));
    binding.eras.refusal_kept = kept;
    binding
}

#[test]
fn a_server_that_refuses_both_eras_is_asked_again_after_a_while() {
    let server = always(reply("404 Not Found", "Content-Type: text/html\r\n", "no"));
    let binding = bridging(&server, Duration::from_secs(2));
    let discover = r#"{"jsonrpc":"2.0","id":"c1","method":"server/discover"}"#;
    let ask = || rejected(run(&binding, discover, &[], PATIENCE).0).0.status;
    assert_eq!(ask(), 404);
    let round = [server.next(), server.next()];
    assert!(round[0].body.contains("server/discover") && round[1].body.contains("initialize"));
    assert_eq!(ask(), 404);
    assert!(server.seen.is_empty(), "believed for a while");
    let end = Instant::now() + PATIENCE;
    while server.seen.is_empty() {
        assert_eq!(ask(), 404);
        assert!(Instant::now() < end, "never asked again");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(server.next().body.contains("server/discover"));
}
