//! An owned message.

use super::{Envelope, Id, Invalid, Kind};

/// A message that was checked once and then travels as the bytes it came in.
#[derive(Clone, Debug)]
pub struct Message {
    json: Box<str>,
    kind: Kind,
    id: Option<Id>,
    method: Box<str>,
}

impl Message {
    /// Checks and keeps `json`.
    pub fn parse(json: impl Into<Box<str>>) -> Result<Message, Invalid> {
        let json = json.into();
        let envelope = Envelope::parse(json.as_bytes())?;
        let (kind, id, method) = (envelope.kind, envelope.id, Box::from(&*envelope.method));
        Ok(Message { json, kind, id, method })
    }

    /// The message, byte for byte.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its id; `None` for a notification.
    pub fn id(&self) -> Option<&Id> {
        self.id.as_ref()
    }

    /// Its method; empty for a response.
    pub fn method(&self) -> &str {
        &self.method
    }
}
