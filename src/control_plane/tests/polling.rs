//! Polling: requests, statuses, pacing, stopping.

use super::*;
use crossbeam_channel::{Receiver, Select, Sender, bounded};
use std::time::Instant;

/// A queue as the dispatcher has it.
struct Queue {
    sender: Sender<Command>,
    receiver: Receiver<Command>,
    capacity: usize,
}

impl Queue {
    fn new(capacity: usize) -> Arc<Queue> {
        let (sender, receiver) = bounded(capacity);
        Arc::new(Queue { sender, receiver, capacity })
    }

    fn next(&self) -> Command {
        self.receiver.recv_timeout(PATIENCE).expect("no command was queued")
    }
}

impl CommandSink for Queue {
    fn free(&self) -> usize {
        self.capacity - self.sender.len()
    }

    fn push(&self, command: Command, stop: &Cancel) -> Result<(), Stopped> {
        let mut select = Select::new();
        let room = select.send(&self.sender);
        select.recv(stop.receiver());
        let ready = select.select();
        if ready.index() == room {
            ready.send(&self.sender, command).map_err(|error| Stopped(Box::new(error.0)))
        } else {
            let _ = ready.recv(stop.receiver());
            Err(Stopped(Box::new(command)))
        }
    }
}

struct Rig {
    server: Server,
    queue: Arc<Queue>,
    tally: Arc<Tally>,
    state: Arc<PollState>,
    poller: PollerHandle,
}

fn rig_with(server: Server, capacity: usize, change: impl FnOnce(&mut Settings), gate: Option<Gate>) -> Rig {
    let mut settings = settings(&server);
    change(&mut settings);
    let (queue, tally, state) = (Queue::new(capacity), Arc::<Tally>::default(), Arc::new(PollState::new()));
    let poller = Poller {
        client: client_with(settings, &tally, &Cancel::new()),
        sink: Arc::<Queue>::clone(&queue),
        observer: Arc::<Tally>::clone(&tally),
        state: Arc::clone(&state),
        gate,
    };
    Rig { server, queue, tally, state, poller: poller.spawn().unwrap() }
}

fn rig(server: Server, capacity: usize) -> Rig {
    rig_with(server, capacity, |_| {}, None)
}

fn commands(ids: std::ops::Range<usize>) -> String {
    let commands: Vec<String> = ids
        .map(|id| format!(r#"{{"request_id":"r{id}","shard_token":"s","command_type":"oauth_discovery"}}"#))
        .collect();
    format!(r#"{{"commands":[{}]}}"#, commands.join(","))
}

/// Polls, and waits until each of `answers` was given and one more poll hangs.
fn play(answers: Vec<Answer>) -> (Rig, Vec<Seen>) {
    let count = answers.len() + 1;
    let rig = rig(Server::replaying(answers), 20);
    let seen = (0..count).map(|_| rig.server.next()).collect();
    (rig, seen)
}

#[test]
fn the_poll_asks_for_what_the_queue_has_room_for() {
    for (capacity, limit) in [(30, 25), (7, 7), (1, 1), (25, 25)] {
        let rig = rig(Server::replaying([]), capacity);
        let seen = rig.server.next();
        assert_identified(&seen);
        assert_eq!(seen.method, "GET");
        assert_eq!(seen.target, format!("/v1/tunnels/{TUNNEL}/poll?limit={limit}&timeout_ms=30000"));
        assert_eq!(
            seen.header("x-tunnel-mcp-server-info"),
            Some(r#"{"version":1,"channels":[{"name":"main"}]}"#)
        );
        assert_eq!(seen.header("openai-organization"), None);
    }
}

#[test]
fn settings_shape_the_request() {
    let change = |settings: &mut Settings| {
        settings.base_url.set_path("/some/path");
        settings.url_path = "/a/b".to_owned();
        settings.organization_id = Some("org_1".to_owned());
        settings.poll_timeout = Duration::from_millis(500);
        settings.poll_channels = Some(["harpoon", "main"].map(|name| Channel::parse(name).unwrap()).to_vec());
        settings.extra_headers =
            [("openai-organization", "other"), ("X-Corp", "1"), ("X-Tunnel-Client-Instance-Id", "x")]
                .into_iter()
                .collect();
    };
    let rig = rig_with(Server::replaying([]), 20, change, None);
    let seen = rig.server.next();
    assert_identified(&seen);
    assert_eq!(seen.path(), format!("/a/b/v1/tunnels/{TUNNEL}/poll"));
    assert_eq!(seen.query(), "channel=harpoon&channel=main&limit=20&timeout_ms=500");
    assert_eq!((seen.header("openai-organization"), seen.header("x-corp")), (Some("org_1"), Some("1")));
}

#[test]
fn empty_replies_are_polled_again_at_once_and_are_successes() {
    let (rig, seen) =
        play(vec![Answer::status(204), Answer::json(200, r#"{"commands":[]}"#), Answer::json(200, "{}")]);
    assert!(seen[3].at - seen[0].at < Duration::from_millis(550), "{:?}", seen[3].at - seen[0].at);
    assert_eq!(rig.tally.succeeded.load(Ordering::SeqCst), 3);
    assert_eq!(rig.tally.started.load(Ordering::SeqCst), 4);
    assert!(rig.state.snapshot().last_success.is_some());
    assert!(seen.iter().all(|seen| seen.connection == 0), "the connection is kept");
}

#[test]
fn a_control_plane_that_answers_empty_polls_at_once_is_not_hammered() {
    let server = Server::start(|_| Answer::status(204));
    let rig = rig(server, 20);
    for _ in 0..14 {
        rig.server.next();
    }
    let (before, started) = (rig.tally.started.load(Ordering::SeqCst), Instant::now());
    while started.elapsed() < Duration::from_millis(600) {
        rig.server.next();
    }
    let polls = rig.tally.started.load(Ordering::SeqCst) - before;
    assert!((1..=10).contains(&polls), "{polls} polls");
}

#[test]
fn every_command_beyond_the_limit_is_processed_in_order() {
    let rig = rig(Server::replaying([Answer::json(200, commands(0..5))]), 1);
    assert!(rig.server.next().query().starts_with("limit=1&"));
    for id in 0..5 {
        assert_eq!(rig.queue.next().request_id, format!("r{id}"));
    }
    rig.server.next();
    assert_eq!(rig.tally.polled.load(Ordering::SeqCst), 5);
    assert_eq!(rig.tally.enqueued.load(Ordering::SeqCst), 5);
}

#[test]
fn no_poll_is_sent_while_the_queue_is_full() {
    let rig = rig(Server::replaying([Answer::json(200, commands(0..2))]), 2);
    assert!(rig.server.next().query().starts_with("limit=2&"));
    assert!(rig.server.quiet_for(Duration::from_millis(400)));
    rig.queue.next();
    assert!(rig.server.next().query().starts_with("limit=1&"));
}

#[test]
fn commands_of_a_reply_share_the_moment_its_head_arrived() {
    let (go, gone) = bounded::<()>(0);
    let body = r#"{"commands":[{"request_id":"r","shard_token":"s","command_type":"oauth_discovery","response_timeout":"300ms","created_at":"2026-01-01T00:00:00Z"}]}"#;
    let rig = rig(Server::replaying([Answer::HeadFirst(body.into(), gone)]), 20);
    rig.server.next();
    assert!(rig.queue.receiver.recv_timeout(Duration::from_millis(400)).is_err());
    let body_sent = Instant::now();
    drop(go);
    let command = rig.queue.next();
    assert!(command.deadline.is_past());
    assert!(command.received_at < body_sent);
    rig.server.next();
    assert_eq!(rig.tally.ages.lock().unwrap().len(), 1);
}

#[test]
fn every_kind_of_failure_backs_off_and_polls_again() {
    let failures = vec![
        Answer::status(503),
        Answer::json(200, "not json"),
        Answer::json(200, "[]"),
        Answer::json(200, ""),
        Answer::status(202),
    ];
    let count = failures.len();
    let (rig, seen) = play(failures);
    let first_wait = seen[1].at - seen[0].at;
    assert!(
        first_wait >= Duration::from_millis(190) && first_wait < Duration::from_secs(5),
        "{first_wait:?}"
    );
    assert!(seen.windows(2).all(|pair| pair[1].at - pair[0].at >= Duration::from_millis(190)));
    assert_eq!(rig.tally.errors("other"), count);
    assert!(rig.state.snapshot().failing);
}

#[test]
fn a_reply_beyond_64_mib_fails_its_poll_instead_of_filling_memory() {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 64 * 1024 * 1024 + 1);
    let (rig, _) = play(vec![Answer::Raw(head.into_bytes())]);
    assert_eq!(rig.tally.errors("other"), 1);
}

#[test]
fn a_closed_connection_and_a_redirect_are_failures_too() {
    let (rig, seen) = play(vec![Answer::Close, Answer::status(302).with("Location", "/elsewhere")]);
    assert!(seen.iter().all(Seen::is_poll));
    assert_eq!(rig.tally.errors("other"), 2);
}

#[test]
fn retry_after_delays_the_next_poll_and_nonsense_does_not() {
    let (_rig, seen) = play(vec![
        Answer::status(429).with("Retry-After", "1"),
        Answer::status(204),
        Answer::status(429).with("Retry-After", "later"),
        Answer::status(204),
        Answer::status(429).with("Retry-After", "-1"),
    ]);
    let gap = |index: usize| seen[index + 1].at - seen[index].at;
    assert!(gap(0) >= Duration::from_millis(990), "{:?}", gap(0));
    for nonsense in [gap(2), gap(4)] {
        assert!(nonsense >= Duration::from_millis(190) && nonsense < Duration::from_secs(5), "{nonsense:?}");
    }
}

#[test]
fn the_last_error_is_kept_with_its_code_and_its_remedy() {
    let body = r#"{"error":{"message":"m","type":"t","code":"tunnel_active_organization_required"}}"#;
    let (rig, _) = play(vec![Answer::json(401, body), Answer::status(204)]);
    let status = rig.state.snapshot();
    assert!(!status.failing && status.last_success.is_some());
    let trouble = status.last_error.unwrap();
    assert_eq!((trouble.status, trouble.code.as_str()), (Some(401), "tunnel_active_organization_required"));
    assert!(
        trouble.text.contains("unexpected status 401: tunnel_active_organization_required: m"),
        "{}",
        trouble.text
    );
    assert!(trouble.mitigation.unwrap().contains("CONTROL_PLANE_ORGANIZATION_ID"));
}

#[test]
fn an_unanswered_poll_is_given_up_after_timeout_and_guardrail() {
    let change = |settings: &mut Settings| {
        settings.poll_timeout = Duration::from_millis(300);
        settings.poll_deadline_guardrail = Duration::from_millis(200);
    };
    let rig = rig_with(Server::replaying([Answer::Hang]), 20, change, None);
    let (first, second) = (rig.server.next(), rig.server.next());
    let gap = second.at - first.at;
    assert!(gap >= Duration::from_millis(650) && gap < Duration::from_secs(5), "{gap:?}");
    assert_eq!(rig.tally.errors("timeout"), 1);
}

#[test]
fn one_bad_command_leaves_the_others_alone() {
    let body = r#"{"commands":[
        {"request_id":"","shard_token":"s","command_type":"oauth_discovery"},
        {"request_id":"bad","shard_token":"s","command_type":"mystery"},
        {"request_id":"good","shard_token":"s","command_type":"oauth_discovery"}]}"#;
    let rig = rig(Server::replaying([Answer::json(200, body)]), 20);
    let (bad, good) = (rig.queue.next(), rig.queue.next());
    assert!(matches!(bad.work, Work::Refused(Refusal { code: 501, .. })));
    assert!(good.request_id == "good" && matches!(good.work, Work::OauthDiscovery));
    rig.server.next();
    rig.server.next();
    assert_eq!(rig.tally.polled.load(Ordering::SeqCst), 1);
    assert_eq!(rig.tally.enqueued.load(Ordering::SeqCst), 1);
    assert_eq!(
        *rig.tally.refused.lock().unwrap(),
        [("missing_request_id", false), ("unsupported_command_type", true)]
    );
}

#[test]
fn stopping_cuts_a_waiting_poll_at_once_and_is_no_error() {
    let rig = rig(Server::replaying([Answer::Hang]), 20);
    rig.server.next();
    let started = Instant::now();
    assert!(rig.poller.stop().is_empty());
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    assert_eq!(*rig.tally.outcomes.lock().unwrap(), [PollOutcome::Stopped]);
    assert_eq!(rig.tally.errors("timeout") + rig.tally.errors("other"), 0);
    assert!(rig.state.snapshot().last_error.is_none());
}

#[test]
fn stopping_ends_a_back_off() {
    let rig = rig(Server::replaying([Answer::status(503).with("Retry-After", "60")]), 20);
    rig.server.next();
    while rig.state.snapshot().last_error.is_none() {
        std::thread::yield_now();
    }
    let started = Instant::now();
    rig.poller.stop();
    assert!(started.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_reply_that_is_arriving_when_polling_stops_is_read_to_its_end_and_handed_back() {
    let (go, gone) = bounded::<()>(0);
    let rig = rig(Server::replaying([Answer::HeadFirst(commands(0..2).into_bytes(), gone)]), 20);
    rig.server.next();
    while rig.tally.requests.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    let opener = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(go);
    });
    let leftovers = rig.poller.stop();
    opener.join().unwrap();
    assert_eq!(leftovers.iter().map(|command| command.request_id.as_str()).collect::<Vec<_>>(), ["r0", "r1"]);
    assert_eq!(rig.tally.dropped.load(Ordering::SeqCst), 2);
    assert_eq!(rig.tally.enqueued.load(Ordering::SeqCst), 0);
}

#[test]
fn a_reply_that_stalls_does_not_hold_up_the_end() {
    let (go, gone) = bounded::<()>(0);
    let rig = rig(Server::replaying([Answer::HeadFirst(commands(0..2).into_bytes(), gone)]), 20);
    rig.server.next();
    while rig.tally.requests.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    let started = Instant::now();
    assert!(rig.poller.stop().is_empty());
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    drop(go);
}

#[test]
fn commands_that_wait_for_room_when_polling_stops_are_handed_back() {
    let rig = rig(Server::replaying([Answer::json(200, commands(0..5))]), 2);
    rig.server.next();
    while rig.queue.receiver.len() < 2 {
        std::thread::yield_now();
    }
    let leftovers = rig.poller.stop();
    assert_eq!(
        leftovers.iter().map(|command| command.request_id.as_str()).collect::<Vec<_>>(),
        ["r2", "r3", "r4"]
    );
    assert_eq!(rig.tally.dropped.load(Ordering::SeqCst), 3);
    assert_eq!(rig.tally.polled.load(Ordering::SeqCst), 5);
    assert_eq!(rig.tally.enqueued.load(Ordering::SeqCst), 2);
}

#[test]
fn the_first_poll_waits_for_its_gate() {
    let (open, gate) = bounded::<()>(0);
    let wait: Gate = Box::new(move |_stop| {
        let _ = gate.recv();
    });
    let rig = rig_with(Server::replaying([]), 20, |_| {}, Some(wait));
    assert!(rig.server.quiet_for(Duration::from_millis(300)));
    drop(open);
    assert!(rig.server.next().is_poll());
}

#[test]
fn a_poller_stopped_at_its_gate_never_polls() {
    let wait: Gate = Box::new(|stop| stop.wait_forever());
    let rig = rig_with(Server::replaying([]), 20, |_| {}, Some(wait));
    assert!(rig.poller.stop().is_empty());
    assert!(rig.server.rest().is_empty());
    assert_eq!(rig.tally.started.load(Ordering::SeqCst), 0);
}

#[test]
fn two_clients_share_a_tunnel_without_losing_or_doubling_a_command() {
    let (open, second_half) = bounded::<()>(0);
    let (next, stopped) = (AtomicUsize::new(0), Arc::new(Mutex::new(String::new())));
    let gone = Arc::clone(&stopped);
    let hand_out = move |seen: &Seen| {
        let id = next.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |id| (id < 20).then_some(id + 1));
        let id = id.or_else(|_| {
            // Polls of the second half are held, and given commands only if their client is still there.
            let _ = second_half.recv();
            match seen.header("x-tunnel-client-instance-id") == Some(&*gone.lock().unwrap()) {
                true => Err(40),
                false => Ok(next.fetch_add(1, Ordering::SeqCst)),
            }
        });
        id.ok().filter(|id| *id < 40).map_or(Answer::Hang, |id| Answer::json(200, commands(id..id + 1)))
    };
    let server = Server::start(hand_out);
    // Dropped before the server, whose threads wait for it.
    let open = open;
    let queue = Queue::new(100);
    let start = |instance_id: &str| {
        let settings = Settings { instance_id: instance_id.to_owned(), ..settings(&server) };
        let poller = Poller {
            client: client_with(settings, &Arc::default(), &Cancel::new()),
            sink: Arc::<Queue>::clone(&queue),
            observer: Arc::new(()),
            state: Arc::new(PollState::new()),
            gate: None,
        };
        poller.spawn().unwrap()
    };
    let (one, two) = (start("one"), start("two"));
    let mut ids: Vec<String> = (0..20).map(|_| queue.next().request_id).collect();
    *stopped.lock().unwrap() = "one".to_owned();
    ids.extend(one.stop().into_iter().map(|command| command.request_id));
    let again = start("one, restarted");
    drop(open);
    ids.extend((20..40).map(|_| queue.next().request_id));
    ids.extend(two.stop().into_iter().chain(again.stop()).map(|command| command.request_id));
    let mut expected: Vec<String> = (0..40).map(|id| format!("r{id}")).collect();
    ids.sort();
    expected.sort();
    assert_eq!(ids, expected);
}

/// A queue that panics once.
struct Fragile(Arc<Queue>, AtomicUsize);

impl CommandSink for Fragile {
    fn free(&self) -> usize {
        assert!(self.1.fetch_add(1, Ordering::SeqCst) != 1, "the second look at the queue");
        self.0.free()
    }

    fn push(&self, command: Command, stop: &Cancel) -> Result<(), Stopped> {
        self.0.push(command, stop)
    }
}

#[test]
fn a_panic_does_not_end_the_polling() {
    let server =
        Server::replaying(vec![Answer::json(200, commands(0..1)), Answer::json(200, commands(1..2))]);
    let (queue, tally) = (Queue::new(5), Arc::<Tally>::default());
    let poller = Poller {
        client: client_with(settings(&server), &tally, &Cancel::new()),
        sink: Arc::new(Fragile(Arc::clone(&queue), AtomicUsize::new(0))),
        observer: Arc::<Tally>::clone(&tally),
        state: Arc::new(PollState::new()),
        gate: None,
    };
    let poller = poller.spawn().unwrap();
    assert_eq!(queue.next().request_id, "r0");
    assert_eq!(queue.next().request_id, "r1");
    assert!(poller.is_running());
    assert!(poller.stop().is_empty());
}
