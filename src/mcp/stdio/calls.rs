//! The calls that a child has not answered yet.
//!
//! Invariant: two unanswered calls never share a wire id or a progress token. A caller's own id goes
//! to the child unless another unanswered (or abandoned) call holds it; then a private one does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::jsonrpc::Id;

use super::mailbox::Mailbox;

/// Calls given up whose late answers are still recognised.
const MAX_ABANDONED: usize = 1024;
/// For so long after a call was given up, what cannot be attributed may still be about it.
const ABANDONED_ECHO: Duration = Duration::from_secs(60);

/// All unanswered calls of one child.
#[derive(Default)]
pub(super) struct Calls {
    live: BTreeMap<u64, Call>,
    ids: HashMap<Key, Holder>,
    tokens: HashMap<Key, Holder>,
    /// Oldest first; entries whose late answer came are gone from `ids` already.
    abandoned: VecDeque<Abandoned>,
    next: u64,
    /// An abandoned id was forgotten: from now on no id or token of a connector is safe.
    only_private: bool,
}

/// One unanswered call.
pub(super) struct Call {
    /// Where its events and its answer go; `None` when nobody waits any more.
    pub(super) mailbox: Option<Arc<Mailbox>>,
    /// The caller's id; `None` for a request of our own.
    pub(super) caller_id: Option<Id>,
    /// What it is for.
    pub(super) role: Role,
    /// The message carries the modern era's marks.
    pub(super) modern: bool,
    /// Its name in the table.
    pub(super) sequence: u64,
    wire_id: WireName,
    token: Option<Token>,
}

/// What a call is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// An ordinary call.
    Plain,
    /// `subscriptions/listen`: stays open, its notifications name it.
    Listen,
    /// `server/discover`, whose answer tells how the child must be spoken to.
    Discover,
    /// An `initialize` that is nothing but a call; it must not be cancelled.
    Initialize,
    /// An `initialize` whose answer decides about the child.
    Handshake {
        /// Its parameters, byte for byte.
        params: Box<str>,
        /// How many of our own attempts came before; `None` for a connector's.
        own: Option<super::handshake::Stage>,
        /// When it was queued.
        since: Instant,
    },
}

/// What a call carries to the child in place of the caller's values.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wire {
    /// Names the call within this table.
    pub(super) sequence: u64,
    /// The id's JSON text; `None` to keep the caller's.
    pub(super) id: Option<String>,
    /// The progress token's JSON text; `None` to keep the caller's, or without one.
    pub(super) token: Option<String>,
}

/// Who holds a wire id or a token.
#[derive(Clone, Copy)]
enum Holder {
    Live(u64),
    Abandoned,
}

struct Abandoned {
    id: Key,
    token: Option<Key>,
    since: Instant,
}

struct WireName {
    key: Key,
    /// The JSON text on the wire, when it is not the caller's.
    replaced: Option<String>,
}

struct Token {
    caller: Box<str>,
    wire: WireName,
}

/// An id or token as servers tell it apart. Numbers are compared as JavaScript would: a server that
/// reads them as doubles echoes another spelling, or loses digits.
type Key = Box<str>;

/// What a response belongs to.
pub(super) enum Match {
    /// An unanswered call, which is answered now.
    Call(Call),
    /// A call that was given up.
    Late,
    /// Nothing.
    Unknown,
}

/// Where a progress notification belongs.
pub(super) enum Progress<'a> {
    /// To this call; its own token's text.
    Call(&'a Call, &'a str),
    /// To nobody we know.
    Unknown,
}

impl Calls {
    /// Adds a call. `token` is the JSON text of its progress token.
    pub(super) fn insert(
        &mut self,
        caller_id: Option<&Id>,
        token: Option<&str>,
        role: Role,
        modern: bool,
        mailbox: Option<Arc<Mailbox>>,
    ) -> Wire {
        let sequence = self.next;
        self.next += 1;
        let wire_id = match caller_id {
            Some(id) => choose(&self.ids, id.as_json(), "tc-x-", self.only_private),
            None if role == Role::Discover => choose(&self.ids, "", "tc-probe-", true),
            None => choose(&self.ids, "", "tc-init-", true),
        };
        let token = token.map(|caller| Token {
            caller: Box::from(caller),
            wire: choose(&self.tokens, caller, "tc-p-", self.only_private),
        });
        self.ids.insert(wire_id.key.clone(), Holder::Live(sequence));
        if let Some(token) = &token {
            self.tokens.insert(token.wire.key.clone(), Holder::Live(sequence));
        }
        let wire = Wire {
            sequence,
            id: wire_id.replaced.clone(),
            token: token.as_ref().and_then(|token| token.wire.replaced.clone()),
        };
        let caller_id = caller_id.cloned();
        self.live.insert(sequence, Call { mailbox, caller_id, role, modern, sequence, wire_id, token });
        wire
    }

    /// Takes the call that a response with the wire id `id` answers.
    pub(super) fn answer(&mut self, id: &str) -> Match {
        match self.ids.remove(&*key(id)) {
            Some(Holder::Live(sequence)) => match self.live.remove(&sequence) {
                Some(call) => {
                    if let Some(token) = &call.token {
                        self.tokens.remove(&token.wire.key);
                    }
                    Match::Call(call)
                }
                None => Match::Unknown,
            },
            Some(Holder::Abandoned) => {
                let known = self.abandoned.iter().position(|abandoned| abandoned.id == key(id));
                if let Some(token) =
                    known.and_then(|index| self.abandoned.remove(index)).and_then(|one| one.token)
                {
                    self.tokens.remove(&token);
                }
                Match::Late
            }
            None => Match::Unknown,
        }
    }

    /// The call by its name in this table.
    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut Call> {
        self.live.get_mut(&sequence)
    }

    /// Forgets a call that never reached the child.
    pub(super) fn withdraw(&mut self, sequence: u64) -> Option<Call> {
        let call = self.live.remove(&sequence)?;
        self.ids.remove(&call.wire_id.key);
        if let Some(token) = &call.token {
            self.tokens.remove(&token.wire.key);
        }
        Some(call)
    }

    /// Gives a call up that the child may still answer; its wire id's JSON text.
    pub(super) fn abandon(&mut self, sequence: u64, now: Instant) -> Option<String> {
        let call = self.live.remove(&sequence)?;
        let text = call.wire_text()?.to_owned();
        let token = call.token.map(|token| token.wire.key);
        self.ids.insert(call.wire_id.key.clone(), Holder::Abandoned);
        if let Some(token) = &token {
            self.tokens.insert(token.clone(), Holder::Abandoned);
        }
        self.abandoned.push_back(Abandoned { id: call.wire_id.key, token, since: now });
        if self.abandoned.len() > MAX_ABANDONED {
            if let Some(oldest) = self.abandoned.pop_front() {
                self.ids.remove(&oldest.id);
                oldest.token.map(|token| self.tokens.remove(&token));
            }
            self.only_private = true;
        }
        Some(text)
    }

    /// Whether what the child says without naming a call may be about one that was given up.
    pub(super) fn echoes(&self, now: Instant) -> bool {
        self.abandoned.back().is_some_and(|last| now.saturating_duration_since(last.since) < ABANDONED_ECHO)
    }

    /// The call that `token` (JSON text) belongs to.
    pub(super) fn progress(&self, token: &str) -> Progress<'_> {
        let Some(Holder::Live(sequence)) = self.tokens.get(&*key(token)) else { return Progress::Unknown };
        match self.live.get(sequence) {
            Some(call) => match &call.token {
                Some(token) => Progress::Call(call, &token.caller),
                None => Progress::Unknown,
            },
            None => Progress::Unknown,
        }
    }

    /// The call with the wire id `id` (JSON text).
    pub(super) fn by_wire_id(&self, id: &str) -> Option<&Call> {
        match self.ids.get(&*key(id)) {
            Some(Holder::Live(sequence)) => self.live.get(sequence),
            Some(Holder::Abandoned) | None => None,
        }
    }

    /// The wire id's JSON text of the one call whose caller named it `id`; none when several did, since
    /// nothing tells their callers apart.
    pub(super) fn wire_id_of(&self, id: &Id) -> Option<(&Call, &str)> {
        let mut named = self.live.values().filter(|call| call.caller_id.as_ref() == Some(id));
        let call = named.next().filter(|_| named.next().is_none())?;
        Some((call, call.wire_text()?))
    }

    /// Calls that somebody waits for and that can own what names no call, oldest first.
    pub(super) fn running(&self) -> impl Iterator<Item = &Call> {
        self.live.values().filter(|call| call.mailbox.is_some() && call.role != Role::Listen)
    }

    /// Calls that somebody waits for.
    pub(super) fn waiting(&self) -> usize {
        self.live.values().filter(|call| call.mailbox.is_some()).count()
    }

    /// Forgets everything; the calls that were unanswered, oldest first.
    pub(super) fn clear(&mut self) -> Vec<Call> {
        let calls = std::mem::take(self);
        self.next = calls.next;
        calls.live.into_values().collect()
    }
}

impl Call {
    /// The JSON text of the id that the child sees.
    fn wire_text(&self) -> Option<&str> {
        self.wire_id.replaced.as_deref().or(self.caller_id.as_ref().map(Id::as_json))
    }

    /// Whether the child sees another id than the caller's.
    pub(super) fn has_private_id(&self) -> bool {
        self.wire_id.replaced.is_some()
    }

    /// Whether the call asked for progress.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }
}

/// Keeps `text` if nobody holds it, else makes up a name that nobody holds.
fn choose(held: &HashMap<Key, Holder>, text: &str, prefix: &str, private: bool) -> WireName {
    if !private {
        let key = key(text);
        if !held.contains_key(&key) {
            return WireName { key, replaced: None };
        }
    }
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        let replaced = format!("\"{prefix}{}\"", NEXT.fetch_add(1, Ordering::Relaxed));
        if !held.contains_key(&*replaced) {
            return WireName { key: Box::from(&*replaced), replaced: Some(replaced) };
        }
    }
}

fn key(json: &str) -> Key {
    if json.starts_with('"') {
        if json.contains('\\')
            && let Ok(text) = serde_json::from_str::<String>(json)
        {
            return Box::from(format!("\"{text}\""));
        }
        return Box::from(json);
    }
    let exact = json.len() <= 15 && json.bytes().all(|byte| byte.is_ascii_digit()) && !json.starts_with('0');
    match json.parse::<f64>() {
        Ok(number) if !exact && number.is_finite() => Box::from((number + 0.0).to_string()),
        _ => Box::from(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(json: &str) -> Id {
        Id::from_json(json).unwrap()
    }

    fn call(calls: &mut Calls, json: &str, token: Option<&str>) -> Wire {
        calls.insert(Some(&id(json)), token, Role::Plain, false, Some(Arc::default()))
    }

    fn caller_of(found: Match) -> String {
        match found {
            Match::Call(call) => call.caller_id.unwrap().as_json().to_owned(),
            Match::Late => "late".into(),
            Match::Unknown => "unknown".into(),
        }
    }

    #[test]
    fn a_free_id_stays_and_a_taken_one_is_replaced() {
        let mut calls = Calls::default();
        let first = call(&mut calls, "1", Some("\"p\""));
        assert_eq!((first.id, first.token), (None, None));
        let second = call(&mut calls, "1", Some("\"p\""));
        let (second_id, second_token) = (second.id.unwrap(), second.token.unwrap());
        assert!(second_id.starts_with("\"tc-x-") && second_token.starts_with("\"tc-p-"));
        assert!(call(&mut calls, "\"1\"", None).id.is_none(), "a string differs from a number");
        assert!(matches!(calls.progress(&second_token), Progress::Call(_, "\"p\"")));
        assert!(matches!(calls.answer(&second_id), Match::Call(call) if call.has_private_id()));
        assert_eq!(caller_of(calls.answer("1")), "1");
        assert_eq!(caller_of(calls.answer("1")), "unknown");
        assert!(call(&mut calls, "1", Some("\"p\"")).id.is_none(), "an answered id is free again");
    }

    #[test]
    fn numbers_are_recognised_after_a_server_read_them_as_doubles() {
        for (sent, echoed) in [
            ("9007199254740993", "9007199254740992"),
            ("12345678901234567890", "12345678901234567000"),
            ("1.10", "1.1"),
            ("1e2", "100"),
            ("7", "7.0"),
            ("-0", "0"),
            (r#""\u0061""#, r#""a""#),
        ] {
            let mut calls = Calls::default();
            assert!(call(&mut calls, sent, None).id.is_none());
            assert_eq!(caller_of(calls.answer(echoed)), sent);
        }
        let mut calls = Calls::default();
        call(&mut calls, "9007199254740993", None);
        assert!(call(&mut calls, "9007199254740992", None).id.is_some(), "such a server would confuse them");
    }

    #[test]
    fn a_late_answer_is_recognised_once_and_its_id_can_be_reused_before() {
        let mut calls = Calls::default();
        let first = call(&mut calls, "1", Some("5"));
        let now = Instant::now();
        assert_eq!(calls.abandon(first.sequence, now).as_deref(), Some("1"));
        assert!(calls.echoes(now) && !calls.echoes(now + ABANDONED_ECHO));
        assert!(matches!(calls.progress("5"), Progress::Unknown));
        let second = call(&mut calls, "1", Some("5"));
        assert!(second.id.is_some() && second.token.is_some());
        assert_eq!(caller_of(calls.answer("1")), "late");
        assert_eq!(caller_of(calls.answer("1")), "unknown");
        assert!(!calls.echoes(now));
        assert_eq!(caller_of(calls.answer(&second.id.unwrap())), "1");
    }

    #[test]
    fn after_too_many_abandoned_calls_every_id_is_private() {
        let mut calls = Calls::default();
        for n in 0..=MAX_ABANDONED {
            let wire = call(&mut calls, &(n + 1).to_string(), None);
            calls.abandon(wire.sequence, Instant::now());
        }
        assert_eq!(calls.abandoned.len(), MAX_ABANDONED);
        assert!(call(&mut calls, "\"fresh\"", Some("1")).id.is_some());
        calls.clear();
        assert!(call(&mut calls, "\"fresh\"", None).id.is_none(), "a new child has no past");
    }

    #[test]
    fn a_cancellation_finds_its_call_unless_two_callers_used_the_id() {
        let mut calls = Calls::default();
        call(&mut calls, "1", None);
        assert_eq!(calls.wire_id_of(&id("1")).unwrap().1, "1");
        call(&mut calls, "1", None);
        assert!(calls.wire_id_of(&id("1")).is_none());
        assert!(calls.wire_id_of(&id("2")).is_none());
    }
}
