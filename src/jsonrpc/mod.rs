//! JSON-RPC 2.0 messages as bytes with a view on their envelope.
//!
//! Invariant: a payload is never re-encoded. What must change (an id, a progress token) is spliced
//! into the original bytes; everything else leaves exactly as it came.

mod envelope;
mod error_object;
mod id;
mod members;
mod message;
mod splice;

pub use envelope::{Envelope, Invalid, Kind};
pub(crate) use error_object::json_string;
pub use error_object::{INTERNAL_ERROR, METHOD_NOT_FOUND, error_response, result_response};
pub use id::Id;
pub(crate) use members::{Text, for_each_member};
pub use message::Message;
pub use splice::{Splice, single_line, splice};
