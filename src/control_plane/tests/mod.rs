//! The room against a scripted control plane on a real socket.

mod administering;
mod describing;
mod logging;
mod polling;
mod responding;
mod server;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::*;
use crate::ids::{Channel, TunnelId, random_hex};
use crate::net::{Cancel, HeaderList, HttpExchange, Route, Trust, Via};
use crate::secret::Secret;
use server::{Answer, PATIENCE, Seen, Server};

const TUNNEL: &str = "tunnel_0123456789abcdef0123456789abcdef";
const KEY: &str = "example-key";

fn settings(server: &Server) -> Settings {
    Settings {
        base_url: server.url(),
        url_path: String::new(),
        tunnel_id: TunnelId::parse(TUNNEL).unwrap(),
        organization_id: None,
        api_key: Secret::new(KEY.to_owned()),
        instance_id: random_hex().unwrap(),
        client_version: "1.2.3".to_owned(),
        poll_timeout: Duration::from_secs(30),
        poll_deadline_guardrail: Duration::from_secs(5),
        poll_channels: None,
        extra_headers: HeaderList::new(),
        log_raw_http: false,
    }
}

fn route() -> Route {
    Route::new(Via::Direct, Trust::system())
}

fn main_only() -> ServerInfo {
    ServerInfo::new(|| vec![(Channel::main(), false)])
}

fn client_with(settings: Settings, observer: &Arc<Tally>, cancel: &Cancel) -> Arc<Client> {
    let observer: Arc<dyn PollObserver> = Arc::<Tally>::clone(observer);
    Arc::new(Client::new(settings, main_only(), &route(), observer, cancel).unwrap())
}

fn client(server: &Server) -> Arc<Client> {
    client_with(settings(server), &Arc::default(), &Cancel::new())
}

/// What every request must carry, whatever it is for.
fn assert_identified(seen: &Seen) {
    assert_eq!(seen.header("authorization"), Some("Bearer example-key"));
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert_eq!(seen.header("user-agent"), Some("tunnel-client-rs/1.2.3"));
    assert_eq!(seen.header("x-tunnel-client-name"), Some("tunnel-client-rs"));
    assert_eq!(seen.header("x-tunnel-client-version"), Some("1.2.3"));
    let id = seen.header("x-tunnel-client-instance-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    for absent in ["x-tunnel-id", "cookie", "traceparent"] {
        assert_eq!(seen.header(absent), None);
    }
    let has_body = !seen.body.is_empty();
    assert_eq!(seen.header("content-type"), has_body.then_some("application/json"));
}

/// Counts everything.
#[derive(Default)]
struct Tally {
    started: AtomicUsize,
    polled: AtomicUsize,
    enqueued: AtomicUsize,
    dropped: AtomicUsize,
    succeeded: AtomicUsize,
    outcomes: Mutex<Vec<PollOutcome>>,
    refused: Mutex<Vec<(&'static str, bool)>>,
    posted: Mutex<Vec<(&'static str, &'static str)>>,
    ages: Mutex<Vec<Duration>>,
    requests: Mutex<Vec<(String, Option<u16>)>>,
}

impl PollObserver for Tally {
    fn poll_started(&self) {
        self.started.fetch_add(1, Ordering::SeqCst);
    }
    fn poll_finished(&self, _: Duration, outcome: PollOutcome) {
        self.outcomes.lock().unwrap().push(outcome);
    }
    fn poll_succeeded(&self, at: SystemTime) {
        assert!(at > SystemTime::UNIX_EPOCH);
        self.succeeded.fetch_add(1, Ordering::SeqCst);
    }
    fn commands_polled(&self, count: usize) {
        self.polled.fetch_add(count, Ordering::SeqCst);
    }
    fn commands_enqueued(&self, count: usize) {
        self.enqueued.fetch_add(count, Ordering::SeqCst);
    }
    fn commands_dropped(&self, reason: &'static str, count: usize) {
        assert_eq!(reason, "context_canceled");
        self.dropped.fetch_add(count, Ordering::SeqCst);
    }
    fn command_refused(&self, reason: &'static str, answered: bool) {
        self.refused.lock().unwrap().push((reason, answered));
    }
    fn command_age(&self, age: Duration) {
        self.ages.lock().unwrap().push(age);
    }
    fn response_posted(&self, resp_type: &'static str, result: &'static str) {
        self.posted.lock().unwrap().push((resp_type, result));
    }
    fn http_request(&self, exchange: &HttpExchange<'_>) {
        assert_eq!((exchange.scheme, exchange.host), ("http", "127.0.0.1"));
        self.requests.lock().unwrap().push((exchange.route.to_owned(), exchange.status));
    }
}

impl Tally {
    fn errors(&self, kind: &str) -> usize {
        self.outcomes.lock().unwrap().iter().filter(|outcome| outcome.error_kind() == Some(kind)).count()
    }
}
