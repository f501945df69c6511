//! Names that cross every boundary of the tunnel: tunnel ids, channel names, random ids.
//!
//! They are opaque beyond their syntax: nothing is ever inferred from their content.

mod channel;
mod random;
mod tunnel;

pub use channel::{Channel, InvalidChannel};
pub use random::{RandomUnavailable, random_hex};
pub use tunnel::{InvalidTunnelId, TunnelId};
