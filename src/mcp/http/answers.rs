//! Our answers to what a server asks inside a stream.
//!
//! They leave in order on a thread beside the one that reads the stream, so that a server which is slow to
//! take one does not delay its own answer. Invariant: after the first that does not arrive none is sent.

use std::convert::Infallible;
use std::sync::Weak;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::net::{Deadline, HeaderMap, HeaderValue, Method};

use super::HttpBinding;
use super::headers::{Purpose, SESSION_ID};
use super::send::Call;
use super::stream::MAX_SERVER_REQUESTS;

/// Time for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long the end of an exchange waits for them.
const SETTLE_TIME: Duration = Duration::from_millis(250);

/// The answers of one exchange.
pub(super) struct Answers {
    route: Route,
    thread: Option<(Sender<String>, Receiver<Infallible>)>,
}

/// How the answers of an exchange travel.
#[derive(Clone)]
struct Route {
    purpose: Purpose,
    built_in: HeaderMap,
    forwarded: HeaderMap,
    deadline: Deadline,
}

impl Answers {
    /// Those of `call`, in the session that its reply named.
    pub(super) fn new(binding: &HttpBinding, call: &Call<'_>, session_id: Option<HeaderValue>) -> Answers {
        let mut built_in = binding.post_headers.clone();
        if let Some(session_id) = session_id {
            built_in.insert(SESSION_ID, session_id);
        }
        let forwarded = call.forwarded.clone();
        let route = Route { purpose: call.purpose, built_in, forwarded, deadline: call.deadline };
        let thread = binding.me.get().and_then(Weak::upgrade).and_then(|binding| {
            let (sender, answers) = bounded::<String>(MAX_SERVER_REQUESTS);
            let (owner, route) = (binding.clone(), route.clone());
            let (running, ended) = bounded::<Infallible>(0);
            let send = move || {
                let _running = running;
                for answer in answers {
                    if !route.send(&binding, &answer) {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name("mcp-answer".into()).spawn(send).ok()?;
            owner.eras.adopt(thread);
            Some((sender, ended))
        });
        Answers { route, thread }
    }

    /// Sends one; false if no further one needs to be tried.
    pub(super) fn give(&self, binding: &HttpBinding, answer: String) -> bool {
        match &self.thread {
            Some((thread, _)) => thread.try_send(answer).is_ok(),
            None => self.route.send(binding, &answer),
        }
    }

    /// The exchange is over: those that are on their way get a moment to arrive before its answer is told.
    pub(super) fn settle(self) {
        if let Some((thread, ended)) = self.thread {
            drop(thread);
            let _ = ended.recv_timeout(SETTLE_TIME);
        }
    }
}

impl Route {
    fn send(&self, binding: &HttpBinding, answer: &str) -> bool {
        let sent = binding.send(&Call {
            method: Method::POST,
            purpose: self.purpose,
            built_in: &self.built_in,
            forwarded: &self.forwarded,
            body: Some(answer.as_bytes()),
            deadline: self.deadline.earliest(Deadline::after(ANSWER_TIME)),
        });
        match sent {
            Ok(reply) => {
                reply.discard(self.deadline);
                true
            }
            Err(error) => {
                log::debug!(target: "mcpclient", error:%; "a request of the MCP server could not be answered");
                false
            }
        }
    }
}
