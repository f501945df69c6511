//! Where log events go: three line formats, a stream or a file, and the ring behind the local UI.
//!
//! An event's target is its component. Invariant: only our own events pass below the level `warn`,
//! so that no other crate's debug output, which may hold header values, reaches a log.
//!
//! One event is one line and, up to 4096 bytes, one `write`. A destination that does not take a line
//! within [`STALL_LIMIT`] loses lines, which are counted and reported when it recovers: whoever
//! logs waits that long once, then not at all until the destination takes lines again. A file on a
//! disk that hangs is the one thing that can hold a caller longer.

mod admission;
mod format;
mod install;
mod quote;
mod ring;
mod stream;
mod text;

pub use admission::COMPONENTS;
pub(crate) use format::time_text;
pub use format::{Fields, Shape};
pub use install::{LogError, LogHandle, install, install_beside_status, install_on_stderr, install_plain};
pub(in crate::ops) use ring::html_safe;
pub use ring::{Following, Redact, Ring, RingEvent, redactor};
pub use stream::STALL_LIMIT;
pub(in crate::ops) use stream::local_time;
pub use text::{Json, List};
