//! The control plane: what connectors call and tunnel clients poll, in one process.
//!
//! `front` sets up the HTTP front of `net`, `api` knows the routes and their rules, `engine` holds the queue; each knows only
//! what comes after it. [`Local`] serves one tunnel on this machine, [`Standalone`] a whole site.

mod api;
mod clock;
mod engine;
mod front;
mod local;
mod settings;
mod standalone;
mod store;

pub use crate::net::front::ListenAt;

pub use self::local::{ClientListener, Gauges, Local, LocalOptions};
pub use self::settings::{ServerConfig, SettingsError, SimpleOptions, parse_duration, parse_listen};
pub use self::standalone::{Listening, Standalone, StartError};
