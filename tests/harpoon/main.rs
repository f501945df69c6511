//! The embedded caller of allow-listed targets: the real client between a scripted control plane and
//! real HTTP targets.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "../common/mod.rs"]
mod common;

mod bypasses;
mod calls;
mod discovered;
mod operators;
mod protocol;
mod redirects;
mod rig;
mod transport;
