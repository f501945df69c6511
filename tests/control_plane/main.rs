//! The wire protocol of the control plane: the real client process against a scripted control plane.
//!
//! Every request that the script sees is checked for its headers, its shape and its order besides
//! what a test asks for.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "test code")]

#[path = "../net_support/authority.rs"]
mod authority;
#[path = "../common/mod.rs"]
mod common;

mod administration;
mod commands;
mod connections;
mod deadlines;
mod headers;
mod logs;
mod metadata;
mod polling;
mod proxies;
mod responses;
mod rig;
mod startup;
mod stopping;
mod tls;
