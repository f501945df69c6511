//! What one discovery did and came to.

use std::time::SystemTime;

use url::Url;

use super::documents::{ResourceMetadata, ServerMetadata};
use super::places::{ResourcePlace, ServerPlace, Source};
use crate::net::{Cause, Error, HeaderList, Method};

/// One discovery, step by step.
#[derive(Debug)]
pub struct Report {
    /// When it began.
    pub started: SystemTime,
    /// What the endpoint's challenge said.
    pub challenge: Challenge,
    /// All places of the resource's document, in order; those behind the first good one were not asked.
    pub attempts: Vec<Attempt>,
    /// The resource's document.
    pub(super) found: Option<Found>,
    /// What is known of its authorization server.
    pub(super) server: Option<Server>,
}

/// What the endpoint's challenge said.
#[derive(Clone, Debug, Default)]
pub struct Challenge {
    /// Where it says the metadata are.
    pub advertised: Option<Url>,
    /// Why it says nothing.
    pub error: Option<String>,
    /// Method and error of each request that got no reply.
    pub(super) failures: Vec<(Method, String)>,
}

/// One place of the resource's document.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where.
    pub url: Url,
    /// Why there.
    pub source: Source,
    /// Whether it was asked.
    pub tried: bool,
    /// The reply's status; 0 without a reply.
    pub status: u16,
    /// Why its document was not taken; no more of a URL than its origin.
    pub error: Option<String>,
    /// Whether its document was taken.
    pub selected: bool,
    /// What there was instead, in words for those who may not know the network.
    pub(super) trouble: Option<Trouble>,
}

/// Why there is no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Refused,
    Unreachable,
    TimedOut,
    Status(u16),
    Invalid,
}

/// The resource's document.
#[derive(Debug)]
pub(super) struct Found {
    /// Which attempt brought it.
    pub(super) attempt: usize,
    pub(super) headers: HeaderList,
    /// As it was received.
    pub(super) json: String,
    pub(super) metadata: ResourceMetadata,
}

/// What is known of an authorization server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) issuer: String,
    /// The places that were asked.
    pub(super) attempts: Vec<ServerAttempt>,
    /// Its document, and which attempt brought it.
    pub(super) metadata: Option<(usize, ServerMetadata)>,
}

/// One place of an authorization server's document that was asked.
#[derive(Debug)]
pub(super) struct ServerAttempt {
    pub(super) place: ServerPlace,
    pub(super) status: u16,
    pub(super) error: Option<String>,
    /// The document names another issuer, or none.
    pub(super) mismatch: Option<String>,
    pub(super) headers: HeaderList,
    /// What was received, if it is short.
    pub(super) body: Option<String>,
}

impl Attempt {
    pub(super) fn new(place: ResourcePlace) -> Attempt {
        Attempt {
            url: place.url,
            source: place.source,
            tried: false,
            status: 0,
            error: None,
            selected: false,
            trouble: None,
        }
    }

    pub(super) fn failed(&mut self, trouble: Trouble, error: impl Into<String>) {
        self.trouble = Some(trouble);
        self.error = Some(error.into());
    }
}

impl Trouble {
    pub(super) fn of(error: &Error) -> Trouble {
        match error.cause {
            Cause::Timeout => Trouble::TimedOut,
            Cause::InvalidRequest => Trouble::Refused,
            _ => Trouble::Unreachable,
        }
    }
}

impl Report {
    /// Whether the resource's document was found.
    pub fn is_success(&self) -> bool {
        self.found.is_some()
    }

    /// Whether the server advertises nothing, which is no failure: no challenge names a place, and 404
    /// is the answer everywhere.
    pub fn is_not_advertised(&self) -> bool {
        self.challenge.advertised.is_none()
            && !self.attempts.is_empty()
            && self.attempts.iter().all(|attempt| attempt.tried && !attempt.selected && attempt.status == 404)
    }

    /// The attempt that brought the document.
    pub fn selected(&self) -> Option<&Attempt> {
        self.attempts.iter().find(|attempt| attempt.selected)
    }

    /// Why there is no document, for the operator; no more of a URL than its origin.
    pub fn error(&self) -> Option<String> {
        if self.found.is_some() {
            return None;
        }
        let last = self.attempts.last();
        let origin = last.map(|last| last.url.origin().ascii_serialization()).unwrap_or_default();
        let why = last.and_then(|last| last.error.as_deref()).unwrap_or("no place to ask");
        Some(format!("no protected resource metadata: {origin}: {why}"))
    }

    /// The same for the connector, which is not told about the network.
    pub(super) fn public_error(&self) -> String {
        let why = match self.attempts.last().and_then(|last| last.trouble) {
            Some(Trouble::Unreachable) => "the MCP server cannot be reached".to_owned(),
            Some(Trouble::TimedOut) => "the MCP server did not answer in time".to_owned(),
            Some(Trouble::Status(status)) => format!("the MCP server answered with status {status}"),
            Some(Trouble::Invalid) => "the document of the MCP server is not valid".to_owned(),
            Some(Trouble::Refused) | None => "there is no place to ask".to_owned(),
        };
        format!("OAuth discovery failed: {why}")
    }
}
