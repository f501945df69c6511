//! The embedded MCP server that calls allow-listed URLs by label.
//!
//! A caller names a label, never a URL; what is reachable is what is in the [`Registry`]. Invariant: no
//! connection is opened to anything but the exact URL of a target, redirects included.

mod discovered;
mod registry;
mod url;

pub use discovered::{Discovered, OAUTH, Registration};
pub use registry::{MAX_TARGETS, NewTarget, Registry, Rejected, Target, is_label};
pub use url::{InvalidUrl, TargetUrl};
