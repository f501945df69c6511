//! What is known about the server's eras, and who finds out.
//!
//! Invariant: at most one test of the modern era runs at a time; whoever needs its result waits for it,
//! and no lock is held while it runs.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::mcp::bridge::legacy::Connector;
use crate::mcp::bridge::own;
use crate::mcp::bridge::parameters::Tools;
use crate::mcp::bridge::{Direction, Fact, MessageOutcome, Protocol, Tally};
use crate::mcp::peek;
use crate::mcp::probe::ServerInfo;
use crate::mcp::{Failure, FailureKind, LifecycleNote, Outcome, Source};
use crate::net::Deadline;

use super::refusals::Refusal;
use super::running::Running;
use super::sessions::{Key, Sessions};

/// How long a "no" is believed, so that an upgraded server is noticed.
const NO_KEPT: Duration = Duration::from_secs(10 * 60);
/// How long both refusals of a server are repeated to connectors without asking it again.
const REFUSAL_KEPT: Duration = Duration::from_secs(30);
/// What a command keeps of its time to be answered that a lifecycle step took too long.
const ANSWER_MARGIN: Duration = Duration::from_secs(1);
/// A discovery is not read again before it is so old, whatever it says itself.
const DISCOVERY_KEPT: Duration = Duration::from_secs(60);
const LEGACY_BIT: u8 = 1;
const MODERN_BIT: u8 = 2;
/// Methods of refused requests that are told apart in the log.
const MAX_REFUSED_METHODS: usize = 16;
/// Identities whose tools are remembered.
const MAX_TOOL_TABLES: usize = 64;

/// One server's eras, and what bridging to it needs.
pub(in crate::mcp) struct Eras {
    /// Messages of the other era are translated.
    pub(super) bridge: bool,
    pub(super) channel: String,
    pub(super) window: Duration,
    pub(super) handshake_limit: Duration,
    pub(super) tally: Tally,
    state: Mutex<State>,
    pub(super) changed: Condvar,
    /// Methods of the server that were refused, the first time worth a warning.
    refused: Mutex<BTreeSet<String>>,
    /// What is known for certain, for a look without the lock: one bit an era.
    certain: AtomicU8,
    /// The server could not be reached since it was last asked what it is.
    pub(super) unreached: AtomicBool,
    /// Calls that their connectors may take back.
    pub(super) running: Running,
    /// How long refusals are repeated without asking again.
    pub(in crate::mcp) refusal_kept: Duration,
}

/// What is known.
#[derive(Default)]
pub(super) struct State {
    pub(super) legacy: Known,
    pub(super) modern: Known,
    testing: bool,
    pub(super) refusal: Option<Refusal>,
    /// The last answer of a server that does not speak the modern era to the test of it; none if it was
    /// silent.
    pub(super) modern_refusal: Option<Outcome>,
    /// When it was last found not to.
    pub(super) refused_modern_at: Option<Instant>,
    pub(super) discovered: Option<Discovered>,
    pub(super) sessions: Sessions,
    /// Threads that go on beside the commands that caused them.
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) connector: Connector,
    tools: HashMap<Key, Tools>,
    identity: Identity,
    last_transition: Option<SystemTime>,
    announced: [bool; 2],
}

#[derive(Clone, Default)]
struct Identity {
    version: Option<String>,
    name: Option<String>,
    software: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    #[default]
    Unknown,
    Yes,
    No(Instant),
}

/// The result of a discovery.
#[derive(Clone)]
pub(super) struct Discovered {
    pub(super) result: Arc<str>,
    at: Instant,
    kept: Duration,
    /// It names a revision that messages can be translated into.
    bridgeable: bool,
}

/// What a message has to do.
pub(super) enum Road<'a> {
    /// The server speaks its era.
    Pass,
    /// The server speaks only the other.
    Bridge,
    /// Its era has to be tested; nobody else does while this is held.
    Test(Testing<'a>),
    /// The server refused both a moment ago.
    Refused(Outcome),
}

/// The right to test, given back when dropped.
pub(super) struct Testing<'a>(&'a Eras);

impl Drop for Testing<'_> {
    fn drop(&mut self) {
        self.0.lock().testing = false;
        self.0.changed.notify_all();
    }
}

impl Known {
    fn fact(self, now: Instant) -> Fact {
        match self {
            Known::Yes => Fact::Yes,
            Known::No(until) if now < until => Fact::No,
            _ => Fact::Unknown,
        }
    }
}

impl Eras {
    pub(in crate::mcp) fn new(
        bridge: bool,
        channel: &str,
        window: Duration,
        handshake_limit: Duration,
    ) -> Eras {
        Eras {
            bridge,
            channel: channel.to_owned(),
            window,
            handshake_limit,
            tally: Tally::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            refused: Mutex::default(),
            certain: AtomicU8::new(0),
            unreached: AtomicBool::new(false),
            running: Running::default(),
            refusal_kept: REFUSAL_KEPT,
        }
    }

    /// Whether messages of the other era are translated.
    pub(in crate::mcp) fn bridges(&self) -> bool {
        self.bridge
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that a thread is waited for in the end.
    pub(in crate::mcp) fn adopt(&self, thread: JoinHandle<()>) {
        let mut state = self.lock();
        state.threads.retain(|thread| !thread.is_finished());
        state.threads.push(thread);
    }

    pub(super) fn notify(&self) {
        self.changed.notify_all();
    }

    /// Waits for a change; `None` when `until` has passed.
    pub(super) fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        until: Deadline,
    ) -> Option<MutexGuard<'a, State>> {
        match until.remaining() {
            None => Some(self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)),
            Some(left) if left.is_zero() => None,
            Some(left) => {
                Some(self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0)
            }
        }
    }

    /// Until when a command waits for what only the lifecycle needs.
    pub(super) fn patience(&self, deadline: Deadline) -> Deadline {
        match deadline.remaining() {
            None => Deadline::after(self.handshake_limit),
            Some(left) => Deadline::after(left - ANSWER_MARGIN.min(left / 2)),
        }
    }

    /// How long the discover test of a command may take.
    pub(super) fn test_deadline(&self, deadline: Deadline) -> Deadline {
        let window = self.window.max(Duration::from_secs(5));
        let share = deadline.remaining().map_or(window, |left| left.mul_f64(0.4));
        Deadline::after(window.min(share).max(Duration::from_secs(1)))
    }

    /// What is known about messages with a handshake.
    pub(super) fn speaks_legacy(&self) -> Fact {
        if self.is_certain(LEGACY_BIT) {
            return Fact::Yes;
        }
        self.lock().legacy.fact(Instant::now())
    }

    /// Whether only the modern era is spoken.
    pub(super) fn is_modern_only(&self) -> bool {
        let (state, now) = (self.lock(), Instant::now());
        state.legacy.fact(now) == Fact::No && state.modern.fact(now) == Fact::Yes
    }

    /// What a message without handshake has to do.
    pub(super) fn modern_road(&self, deadline: Deadline) -> Result<Road<'_>, Outcome> {
        if self.is_certain(MODERN_BIT) {
            return Ok(Road::Pass);
        }
        let patience = self.patience(deadline);
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(outcome) = state.refusal(now).and_then(|refusal| refusal.modern.clone()) {
                return Ok(Road::Refused(outcome));
            }
            match state.modern.fact(now) {
                Fact::Yes => return Ok(Road::Pass),
                Fact::No => return Ok(Road::Bridge),
                Fact::Unknown if !state.testing => {
                    state.testing = true;
                    return Ok(Road::Test(Testing(self)));
                }
                Fact::Unknown => {}
            }
            state = self.wait(state, patience).ok_or_else(handshake_silent)?;
        }
    }

    /// What a message with a handshake has to do that its server does not seem to know: pass after all,
    /// be bridged, or test.
    pub(super) fn legacy_road(&self, deadline: Deadline) -> Result<Road<'_>, Outcome> {
        let patience = self.patience(deadline);
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(refusal) = state.refusal(now) {
                return Ok(Road::Refused(refusal.legacy.clone()));
            }
            match state.modern.fact(now) {
                Fact::Yes => return Ok(Road::Bridge),
                Fact::No => return Ok(Road::Pass),
                Fact::Unknown if !state.testing => {
                    state.testing = true;
                    return Ok(Road::Test(Testing(self)));
                }
                Fact::Unknown => {}
            }
            state = self.wait(state, patience).ok_or_else(handshake_silent)?;
        }
    }

    fn is_certain(&self, bit: u8) -> bool {
        self.certain.load(Ordering::Relaxed) & bit != 0
    }

    /// To be called before the lock is given back after a change.
    pub(super) fn settle(&self, state: &State) {
        let bit = |known: Known, bit: u8| if known == Known::Yes { bit } else { 0 };
        self.certain.store(bit(state.legacy, LEGACY_BIT) | bit(state.modern, MODERN_BIT), Ordering::Relaxed);
    }

    /// Notes what a test or a message that was begun at `since` has shown.
    pub(super) fn learn(
        &self,
        legacy: Option<bool>,
        modern: Option<bool>,
        evidence: &'static str,
        since: Instant,
    ) {
        let known = |yes: bool| if yes { Known::Yes } else { Known::No(Instant::now() + NO_KEPT) };
        let mut state = self.lock();
        let before = state.facts();
        if let Some(yes) = legacy {
            state.legacy = known(yes);
        }
        if let Some(yes) = modern {
            state.modern = known(yes);
        }
        self.settle(&state);
        let after = state.facts();
        let version = state.identity.version.clone().unwrap_or_default();
        if before == after {
            return;
        }
        state.last_transition = Some(SystemTime::now());
        drop(state);
        self.changed.notify_all();
        let era = match after {
            (Fact::Yes, Fact::Yes) => "dual",
            (Fact::Yes, _) => "legacy",
            (_, Fact::Yes) => "modern",
            _ => return,
        };
        log::info!(target: "mcpclient", channel = self.channel.as_str(), era, protocol_version = version.as_str(),
            evidence, elapsed_ms = millis(since.elapsed()); "mcp server era determined");
    }

    /// Forgets what is known about the eras, since an answer contradicted it.
    pub(super) fn reset(&self) {
        let mut state = self.lock();
        state.legacy = Known::Unknown;
        state.modern = Known::Unknown;
        state.refused_modern_at = None;
        self.settle(&state);
        state.discovered = None;
        state.announced = [false; 2];
        state.last_transition = Some(SystemTime::now());
        drop(state);
        self.changed.notify_all();
    }

    /// Keeps a discovery, `answer` being all of the message.
    pub(super) fn discovered(&self, result: &str, answer: &str) {
        let bridgeable = own::is_bridgeable(answer);
        let [ttl, own_meta] = peek::members(result, ["ttlMs", "_meta"]);
        let ttl = ttl.and_then(|ttl| ttl.get().parse().ok()).map_or(Duration::ZERO, Duration::from_millis);
        let info = own_meta.and_then(|own_meta| peek::member(own_meta, own::meta::SERVER_INFO));
        let mut state = self.lock();
        state.identity = Identity {
            version: own::newest_modern(result).or_else(|| Some(own::MODERN_VERSION.to_owned())),
            name: info.and_then(|info| text(info.get(), "name")),
            software: info.and_then(|info| text(info.get(), "version")),
        };
        state.discovered = Some(Discovered {
            result: Arc::from(result),
            at: Instant::now(),
            kept: ttl.max(DISCOVERY_KEPT),
            bridgeable,
        });
    }

    /// Keeps who answered an `initialize`.
    pub(super) fn initialized(&self, result: &str) {
        let info = peek::members(result, ["serverInfo"])[0].map_or("{}", |info| info.get());
        let (name, software) = (text(info, "name"), text(info, "version"));
        self.lock().identity = Identity { version: text(result, "protocolVersion"), name, software };
    }

    /// What the readiness probe found.
    pub(in crate::mcp) fn probed(&self, info: &ServerInfo, since: Instant) {
        let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        self.lock().identity = Identity {
            version: known(&info.protocol_version),
            name: known(&info.name),
            software: known(&info.version),
        };
        match info.modern {
            true => self.learn(Some(false), Some(true), "discover_result", since),
            false => self.learn(Some(true), None, "initialize_result", since),
        }
    }

    /// Whether the server names a revision of the modern era that is known here, as far as it told.
    pub(super) fn is_bridgeable(&self) -> bool {
        let state = self.lock();
        state.discovered.as_ref().is_none_or(|known| known.bridgeable || known.at.elapsed() >= known.kept)
    }

    /// The discovery at hand; none if there is none, or if it is old and `fresh` is wanted.
    pub(super) fn discovery(&self, fresh: bool) -> Option<Arc<str>> {
        let state = self.lock();
        let known = state.discovered.as_ref()?;
        (!fresh || known.at.elapsed() < known.kept).then(|| Arc::clone(&known.result))
    }

    /// Works on the tools that are known to this identity.
    pub(super) fn with_tools<R>(&self, key: Key, work: impl FnOnce(&mut Tools) -> R) -> R {
        let mut state = self.lock();
        if state.tools.len() >= MAX_TOOL_TABLES && !state.tools.contains_key(&key) {
            state.tools.clear();
        }
        work(state.tools.entry(key).or_default())
    }

    /// Counts and logs a message that met the bridge.
    pub(super) fn bridged(&self, direction: Direction, outcome: MessageOutcome, method: &str) {
        self.tally.message(direction, outcome);
        let first = !std::mem::replace(&mut self.lock().announced[direction as usize], true);
        if first {
            let (connector_era, server_era) = direction.eras();
            log::info!(target: "mcpclient", channel = self.channel.as_str(), connector_era, server_era;
                "protocol bridge active");
        }
        log::debug!(target: "mcpclient", channel = self.channel.as_str(), direction = direction.label(),
            rpc_method = method, outcome = outcome.label(); "bridged message");
    }

    /// Counts and logs that a request of the server was refused.
    pub(in crate::mcp) fn refused_request(&self, method: &str) {
        self.tally.refused_request(method);
        let first = {
            let mut known = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            known.len() < MAX_REFUSED_METHODS && known.insert(method.to_owned())
        };
        let level = if first { log::Level::Warn } else { log::Level::Debug };
        log::log!(target: "mcpclient", level, channel = self.channel.as_str(), method; "refused server request");
    }

    /// What operators may know.
    pub(in crate::mcp) fn protocol(&self) -> Protocol {
        let state = self.lock();
        let (legacy, modern) = state.facts();
        let identity = state.identity.clone();
        Protocol {
            bridge: self.bridge,
            speaks_legacy: legacy,
            speaks_modern: modern,
            protocol_version: identity.version,
            server_name: identity.name,
            server_version: identity.software,
            last_transition: state.last_transition,
            child: None,
            bridge_sessions: Some(state.sessions.count()),
            bridged_connectors: self.tally.bridged_connectors(),
        }
    }

    /// The counters.
    pub(in crate::mcp) fn tally(&self) -> &Tally {
        &self.tally
    }
}

impl State {
    fn facts(&self) -> (Fact, Fact) {
        let now = Instant::now();
        (self.legacy.fact(now), self.modern.fact(now))
    }

    fn refusal(&mut self, now: Instant) -> Option<&Refusal> {
        self.refusal.take_if(|refusal| refusal.until <= now);
        self.refusal.as_ref()
    }
}

/// Whole milliseconds for a log field.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn text(object: &str, name: &str) -> Option<String> {
    peek::members(object, [name])[0].and_then(peek::string).map(own::clipped)
}

/// The server did not answer what its era needs, or somebody else's handshake took too long.
pub(super) fn handshake_silent() -> Outcome {
    lifecycle(504, Source::Timeout, FailureKind::McpHandshakeTimeout, None)
}

/// The server refused the handshake that a message needs.
pub(super) fn handshake_failed(code: Option<i64>) -> Outcome {
    lifecycle(502, Source::Protocol, FailureKind::McpHandshakeFailed, code)
}

fn lifecycle(status: u16, source: Source, kind: FailureKind, server_error_code: Option<i64>) -> Outcome {
    let note = LifecycleNote { reason: "handshake", server_error_code, retry_after_ms: None };
    Outcome::Failed(Failure::Lifecycle { status, source, kind, note })
}
