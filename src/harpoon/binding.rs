//! The server as the binding of channel `harpoon`.
//!
//! One session for all commands; calls of tools run side by side. Invariant: a command that ends early
//! cuts its own request and nothing else; the session goes on.

use std::sync::Arc;

use super::server::{Answer, Server};
use super::session::Session;
use crate::jsonrpc::Envelope;
use crate::mcp::{self, Exchange, Head, InMemory, Outcome};

/// The server and the one session of the channel.
pub struct InProcess {
    server: Arc<Server>,
    session: Session,
}

impl InProcess {
    /// `server` behind a channel.
    pub fn new(server: Arc<Server>) -> InProcess {
        let session = server.open_session();
        InProcess { server, session }
    }
}

impl InMemory for InProcess {
    fn is_routable(&self) -> bool {
        self.server.registry().is_routable()
    }

    fn exchange(&self, exchange: &Exchange<'_>, entered: &mut dyn FnMut()) -> Outcome {
        // Calls run side by side; whatever else there is takes no time, and later calls rely on it.
        if exchange.message.method() == "tools/call" {
            entered();
        }
        let Ok(envelope) = Envelope::parse(exchange.message.json().as_bytes()) else {
            // Unreachable: a message was parsed when it was made.
            return Outcome::Failed(mcp::Failure::protocol(None));
        };
        let version = exchange.headers.get("Mcp-Protocol-Version").map(str::trim);
        match self.server.answer(&self.session, &envelope, version, exchange.deadline) {
            Answer::Json(json) => Outcome::Answered(mcp::Answer { head: Head::bare(200), json }),
            Answer::Nothing => Outcome::Accepted(Head::bare(200)),
            Answer::Expired => Outcome::Expired,
        }
    }

    fn stop(&self) {
        self.session.end();
    }
}
