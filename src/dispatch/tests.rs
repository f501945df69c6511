//! The dispatcher as a whole, between a queue that is fed by hand and a poster that records.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::control_plane::{ResponseBody, Work};
use crate::jsonrpc::Message;
use crate::mcp::{Answer, Event, Head, Outcome, Script};
use crate::net::{Cancel, Deadline, HeaderList};
use crate::secret::Secret;

const PATIENCE: Duration = Duration::from_secs(30);

/// Request id, `resp_type` and code of every posting that was not a panic.
type Posted = (String, &'static str, u16);

#[derive(Default)]
struct Recorder {
    posted: Mutex<Vec<Posted>>,
    changed: Condvar,
    /// Postings that panic, counted down; streamed notifications always do.
    panics: AtomicUsize,
    notifications_panic: bool,
    observer_panics: bool,
    delivered: AtomicUsize,
}

impl Recorder {
    fn wait_for(&self, count: usize) -> Vec<Posted> {
        let posted = self.posted.lock().unwrap();
        let (posted, wait) =
            self.changed.wait_timeout_while(posted, PATIENCE, |posted| posted.len() < count).unwrap();
        assert!(!wait.timed_out(), "{posted:?}");
        posted.clone()
    }
}

impl Poster for Recorder {
    fn post(&self, posting: &Posting<'_>) -> Delivery {
        if self.notifications_panic && matches!(posting.body, ResponseBody::Notify(_)) {
            panic!("the test's poster, on purpose");
        }
        if self.panics.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            panic!("the test's poster, on purpose");
        }
        let id = posting.command.request_id.clone();
        self.posted.lock().unwrap().push((id, posting.body.wire_type(), posting.code));
        self.changed.notify_all();
        if posting.deadline.is_past() {
            return Delivery::Expired;
        }
        Delivery::Delivered
    }
}

impl Observer for Recorder {
    fn worker_busy(&self) {
        assert!(!self.observer_panics, "the test's observer, on purpose");
    }

    fn worker_idle(&self) {
        assert!(!self.observer_panics, "the test's observer, on purpose");
    }

    fn delivered(&self, _: &Delivered<'_>) {
        self.delivered.fetch_add(1, SeqCst);
        assert!(!self.observer_panics, "the test's observer, on purpose");
    }
}

fn call(id: &str, deadline: Deadline) -> Command {
    let json = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"tools/call"}}"#);
    Command {
        request_id: id.into(),
        shard_token: Secret::new("s".into()),
        channel: Channel::main(),
        received_at: Instant::now(),
        created_at: None,
        deadline,
        headers: HeaderList::new(),
        work: Work::JsonRpc(Message::parse(json).unwrap()),
    }
}

fn dispatcher(recorder: &Arc<Recorder>, workers: usize, script: Script) -> Dispatcher {
    Dispatcher::start(Setup {
        capacity: 100,
        workers,
        connection_ttl: PATIENCE,
        routes: HashMap::from([(Channel::main(), Arc::new(Binding::Scripted(script)))]),
        discovery: None,
        poster: Arc::clone(recorder) as _,
        observer: Arc::clone(recorder) as _,
    })
    .unwrap()
}

fn push(dispatcher: &Dispatcher, command: Command) {
    assert!(dispatcher.queue().push(command, &Cancel::new()).is_ok());
}

fn stop(dispatcher: Dispatcher) {
    assert!(dispatcher.drain(Vec::new(), Deadline::after(PATIENCE)));
    assert!(dispatcher.join(Deadline::after(PATIENCE)));
}

fn answered() -> Outcome {
    Outcome::Answered(Answer { head: Head::bare(200), json: "{}".into() })
}

fn terminal(id: &str, code: u16) -> Posted {
    (id.into(), "jsonrpc_response", code)
}

#[test]
fn a_panicking_binding_costs_neither_the_answer_nor_the_worker() {
    let recorder = Arc::new(Recorder::default());
    let script: Script = Box::new(|exchange, _| {
        let bad = exchange.message.id().is_some_and(|id| id.as_json() == "\"bad\"");
        assert!(!bad, "the test's binding, on purpose");
        answered()
    });
    let dispatcher = dispatcher(&recorder, 1, script);
    for id in ["bad", "good"] {
        push(&dispatcher, call(id, Deadline::NEVER));
    }
    assert_eq!(recorder.wait_for(2), [terminal("bad", 502), terminal("good", 200)]);
    stop(dispatcher);
    assert_eq!(recorder.wait_for(2).len(), 2, "exactly one each");
}

#[test]
fn a_panicking_poster_gets_a_second_chance_and_ends_no_worker() {
    let recorder = Arc::new(Recorder { panics: 1.into(), ..Recorder::default() });
    let dispatcher = dispatcher(&recorder, 1, Box::new(|_, _| answered()));
    push(&dispatcher, call("a", Deadline::NEVER));
    assert_eq!(recorder.wait_for(1), [terminal("a", 502)]);
    recorder.panics.store(2, SeqCst);
    for id in ["lost", "b"] {
        push(&dispatcher, call(id, Deadline::NEVER));
    }
    assert_eq!(recorder.wait_for(2)[1], terminal("b", 200), "nobody can answer it, but the others live");
    stop(dispatcher);
}

#[test]
fn a_panic_while_a_notification_is_posted_still_ends_in_one_terminal_answer() {
    let recorder = Arc::new(Recorder { notifications_panic: true, ..Recorder::default() });
    let script: Script = Box::new(|_, on_event| {
        on_event(Event { head: &Head::bare(200), json: r#"{"jsonrpc":"2.0","method":"n"}"# });
        answered()
    });
    let dispatcher = dispatcher(&recorder, 1, script);
    push(&dispatcher, call("a", Deadline::NEVER));
    assert_eq!(recorder.wait_for(1), [terminal("a", 502)]);
    stop(dispatcher);
}

#[test]
fn a_panicking_observer_costs_no_answer_and_no_worker() {
    let recorder = Arc::new(Recorder { observer_panics: true, ..Recorder::default() });
    let dispatcher = dispatcher(&recorder, 1, Box::new(|_, _| answered()));
    for id in ["a", "b"] {
        push(&dispatcher, call(id, Deadline::NEVER));
    }
    let posted = recorder.wait_for(2);
    assert_eq!(posted.iter().map(|(id, ..)| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    stop(dispatcher);
    assert_eq!(recorder.wait_for(2).len(), 2);
}

#[test]
fn queued_commands_are_answered_at_a_stop_even_if_answering_panics() {
    let recorder = Arc::new(Recorder::default());
    let (entered, seen) = crossbeam_channel::bounded(1);
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let script: Script = Box::new(move |_, _| {
        entered.send(()).unwrap();
        let _ = held.recv();
        answered()
    });
    let dispatcher = dispatcher(&recorder, 1, script);
    push(&dispatcher, call("running", Deadline::NEVER));
    seen.recv_timeout(PATIENCE).unwrap();
    for n in 0..40 {
        push(&dispatcher, call(&format!("q{n}"), Deadline::NEVER));
    }
    push(&dispatcher, call("expired", Deadline::after(Duration::ZERO)));
    recorder.panics.store(1, SeqCst);
    let leftovers = vec![call("left", Deadline::NEVER)];
    let drained = std::thread::scope(|scope| {
        let drain = scope.spawn(|| dispatcher.drain(leftovers, Deadline::after(PATIENCE)));
        assert!(
            recorder.wait_for(41).iter().all(|(_, kind, code)| (*kind, *code) == ("jsonrpc_response", 502))
        );
        drop(release);
        drain.join().unwrap()
    });
    assert!(drained);
    let posted = recorder.wait_for(42);
    assert_eq!(posted[41], terminal("running", 200));
    let mut ids: Vec<_> = posted.iter().map(|(id, ..)| id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), posted.len()), (42, 42), "one answer each, none for the expired one");
    assert!(dispatcher.join(Deadline::after(PATIENCE)));
}

#[test]
fn the_time_of_a_drain_bounds_the_answers_to_queued_commands() {
    struct Slow(Mutex<Vec<Option<Duration>>>);
    impl Poster for Slow {
        fn post(&self, posting: &Posting<'_>) -> Delivery {
            self.0.lock().unwrap().push(posting.deadline.remaining());
            Delivery::Exhausted
        }
    }
    impl Observer for Slow {}
    let slow = Arc::new(Slow(Mutex::default()));
    let dispatcher = Dispatcher::start(Setup {
        capacity: 1,
        workers: 1,
        connection_ttl: PATIENCE,
        routes: HashMap::new(),
        discovery: None,
        poster: Arc::clone(&slow) as _,
        observer: Arc::clone(&slow) as _,
    })
    .unwrap();
    dispatcher.drain(vec![call("a", Deadline::NEVER)], Deadline::after(PATIENCE));
    dispatcher.drain(vec![call("late", Deadline::NEVER)], Deadline::after(Duration::ZERO));
    let seen = slow.0.lock().unwrap();
    assert!(matches!(seen[..], [Some(left)] if left <= PATIENCE), "{seen:?}");
}

#[test]
fn an_exchange_that_notices_its_commands_deadline_early_is_still_answered_with_silence() {
    let recorder = Arc::new(Recorder::default());
    let dispatcher = dispatcher(&recorder, 1, Box::new(|_, _| Outcome::Expired));
    push(&dispatcher, call("deadline", Deadline::after(PATIENCE / 2)));
    push(&dispatcher, call("ttl", Deadline::NEVER));
    assert_eq!(recorder.wait_for(1), [terminal("ttl", 504)]);
    stop(dispatcher);
}

#[test]
fn a_call_that_its_connector_took_back_is_answered_only_if_no_deadline_ends_it() {
    let recorder = Arc::new(Recorder::default());
    let dispatcher = dispatcher(&recorder, 1, Box::new(|_, _| Outcome::Withdrawn));
    push(&dispatcher, call("deadline", Deadline::after(PATIENCE / 2)));
    push(&dispatcher, call("none", Deadline::NEVER));
    assert_eq!(recorder.wait_for(1), [terminal("none", 502)]);
    stop(dispatcher);
}

#[test]
fn workers_are_started_as_they_are_needed() {
    let recorder = Arc::new(Recorder::default());
    let running = Arc::new((Mutex::new(0), Condvar::new()));
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let counted = Arc::clone(&running);
    let script: Script = Box::new(move |_, _| {
        *counted.0.lock().unwrap() += 1;
        counted.1.notify_all();
        let _ = held.recv();
        answered()
    });
    let dispatcher = dispatcher(&recorder, usize::MAX, script);
    for n in 0..5 {
        push(&dispatcher, call(&n.to_string(), Deadline::NEVER));
    }
    let (count, wait) =
        running.1.wait_timeout_while(running.0.lock().unwrap(), PATIENCE, |running| *running < 5).unwrap();
    assert!(!wait.timed_out(), "{count} of 5 run");
    drop(count);
    assert!(dispatcher.started() <= 6, "{} workers for 5 commands", dispatcher.started());
    drop(release);
    recorder.wait_for(5);
    stop(dispatcher);
}
