//! Name and description of the tunnel, fetched in the background.
//!
//! Purely informative: no failure in here affects polling or readiness.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::Level;
use serde_json::Value;

use super::client::{Client, Outgoing};
use super::errors::{StatusError, Told};
use super::event::Event;
use super::server_info::InvalidServerInfo;
use crate::net::{Backoff, Cancel, Deadline, Error, HttpClient, Method};

/// Path template of the request, for metrics.
const ROUTE: &str = "/v1/tunnels/{tunnel_id}";
/// Longest reply.
const BODY_BYTES: usize = 1024 * 1024;
/// Most attempts in the background.
const ATTEMPTS: u32 = 4;
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What the control plane knows about the tunnel; parts may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TunnelMetadata {
    /// The tunnel's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
}

/// Why there is no metadata.
#[derive(Debug)]
pub enum MetadataError {
    /// No usable reply.
    Transport(Error),
    /// A status other than 2xx.
    Status(StatusError),
    /// A reply that is no JSON object, or whose members have the wrong types.
    Body,
    /// The channels cannot be declared; nothing was sent.
    ServerInfo(InvalidServerInfo),
}

/// The fetch, running or done; owns its thread.
pub struct MetadataFetch {
    slot: MetadataSlot,
    cancel: Cancel,
    thread: Option<JoinHandle<()>>,
}

/// Where the result will be; clones share it.
#[derive(Clone, Default)]
pub struct MetadataSlot {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    outcome: Mutex<Option<Result<TunnelMetadata, String>>>,
    stored: Condvar,
}

impl Client {
    /// Fetches the metadata once.
    pub fn fetch_metadata(&self) -> Result<TunnelMetadata, MetadataError> {
        self.fetch_metadata_over(&self.post_http)
    }

    fn fetch_metadata_over(&self, http: &HttpClient) -> Result<TunnelMetadata, MetadataError> {
        let outgoing = Outgoing {
            route: ROUTE,
            method: Method::GET,
            uri: &self.endpoints.metadata,
            headers: self.request_headers().map_err(MetadataError::ServerInfo)?,
            body: None,
            deadline: Deadline::after(self.request_time),
        };
        let reply = self.send(http, outgoing).map_err(MetadataError::Transport)?;
        match reply.status {
            200..=299 => parse(&reply.read(BODY_BYTES).map_err(MetadataError::Transport)?),
            status => {
                let detail = self.error_detail(reply, None);
                Err(MetadataError::Status(StatusError { status, detail }))
            }
        }
    }
}

impl MetadataFetch {
    /// Starts fetching; a few attempts outlast a short outage.
    pub fn spawn(client: Arc<Client>) -> io::Result<MetadataFetch> {
        let slot = MetadataSlot::default();
        let cancel = client.cancel.child();
        let (result, stop) = (slot.clone(), cancel.clone());
        let thread = thread::Builder::new().name("tunnel-metadata".to_owned()).spawn(move || {
            if let Some(outcome) = fetch(&client, &stop) {
                client.observer.metadata_settled(&outcome);
                result.store(outcome);
            }
        })?;
        Ok(MetadataFetch { slot, cancel, thread: Some(thread) })
    }

    /// Where the result will be.
    pub fn slot(&self) -> MetadataSlot {
        self.slot.clone()
    }

    /// Gives up if it is still fetching, and waits for the thread.
    pub fn stop(self) {}
}

impl Drop for MetadataFetch {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl MetadataSlot {
    /// The result, if there is one within `time`: the metadata, or why there is none.
    pub fn wait(&self, time: Duration) -> Option<Result<TunnelMetadata, String>> {
        let outcome = self.shared.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.stored.wait_timeout_while(outcome, time, |outcome| outcome.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn store(&self, outcome: Result<TunnelMetadata, String>) {
        *self.shared.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        self.shared.stored.notify_all();
    }
}

/// `None` when stopped: then there is nothing to tell.
fn fetch(client: &Client, stop: &Cancel) -> Option<Result<TunnelMetadata, String>> {
    let http = client.separate_http(stop);
    let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
    let mut attempt = 1;
    loop {
        let error = match client.fetch_metadata_over(&http) {
            Ok(metadata) => {
                Event::at(Level::Info)
                    .with("name", metadata.name.as_str())
                    .with("description", metadata.description.as_str())
                    .emit("tunnel metadata fetched");
                return Some(Ok(metadata));
            }
            Err(error) => error,
        };
        if stop.is_cancelled() {
            return None;
        }
        if attempt == ATTEMPTS || !error.is_transient() {
            let text = error.to_string();
            report(&error, &text);
            return Some(Err(text));
        }
        attempt += 1;
        if stop.wait(backoff.next_delay()) {
            return None;
        }
    }
}

fn report(error: &MetadataError, text: &str) {
    let status = match error {
        MetadataError::Status(status) => Some(status),
        _ => None,
    };
    let told = Told::of(status);
    told.fields_of(Event::at(Level::Warn).with("error", text)).emit("tunnel metadata could not be fetched");
}

/// The first JSON value of `body`; what follows it does not matter.
fn parse(body: &[u8]) -> Result<TunnelMetadata, MetadataError> {
    let first = serde_json::Deserializer::from_slice(body).into_iter::<Value>().next();
    let Some(Ok(Value::Object(object))) = first else {
        return Err(MetadataError::Body);
    };
    let text = |name| match object.get(name) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(MetadataError::Body),
    };
    Ok(TunnelMetadata { id: text("id")?, name: text("name")?, description: text("description")? })
}

impl MetadataError {
    /// Whether another attempt may help.
    fn is_transient(&self) -> bool {
        match self {
            MetadataError::Transport(_) => true,
            MetadataError::Status(error) => matches!(error.status, 408 | 429 | 500..=599),
            MetadataError::Body | MetadataError::ServerInfo(_) => false,
        }
    }
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("fetching the tunnel's metadata failed: ")?;
        match self {
            MetadataError::Transport(error) => error.fmt(f),
            MetadataError::Status(error) => error.fmt(f),
            MetadataError::Body => f.write_str("the reply is not the JSON object expected"),
            MetadataError::ServerInfo(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MetadataError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_id_name_and_description_of_the_first_value_count() {
        let parsed = parse(br#"{"id":"t","name":"Prod","creator":{},"description":null} junk"#).unwrap();
        assert_eq!(
            parsed,
            TunnelMetadata { id: "t".into(), name: "Prod".into(), description: String::new() }
        );
        assert_eq!(parse(b"{}").unwrap(), TunnelMetadata::default());
        for bad in ["", "x", "[]", "null", r#"{"name":5}"#] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
