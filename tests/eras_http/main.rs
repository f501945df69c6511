//! Connectors and HTTP servers of different protocol eras, through a real client.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "../common/mod.rs"]
mod common;

mod bridging;
mod changes;
mod detection;
mod rig;
