//! The client's side of the control plane: poll, decode, respond, metadata.
//!
//! Knows nothing of MCP servers. Invariant: the shard token leaves only in its header, the API key
//! only in `Authorization`, and no redirect is ever followed.

mod types;

pub use types::{Command, Delivery, Posting, Refusal, ResponseBody, Work};
