//! Between connectors and servers on different sides of the split of MCP: revisions with an `initialize`
//! handshake (legacy) and those whose requests each carry all that matters (modern, from 2026-07-28).
//!
//! Here is what both transports share: pure translation of messages, judgement of answers, and what is
//! known about a server. Invariant: nothing here sends anything, and a message is only changed where its
//! era is not the server's.

pub(in crate::mcp) mod complete;
mod edit;
pub(in crate::mcp) mod evidence;
pub(in crate::mcp) mod legacy;
pub(in crate::mcp) mod modern;
pub(in crate::mcp) mod own;
pub(in crate::mcp) mod parameters;
mod status;
mod tally;

pub(in crate::mcp) use edit::Editor;
pub use status::{ChildProtocol, Fact, Protocol};
pub(in crate::mcp) use tally::{Direction, MessageOutcome};
pub use tally::{Tally, TallyReport};
