//! The `X-Tunnel-MCP-Server-Info` header: which channels this process serves right now.
//!
//! Invariant: nothing beyond channel names and process affinity ever gets into it.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::ids::Channel;
use crate::net::HeaderValue;

/// Most channels that can be declared.
const MAX_CHANNELS: usize = 32;
/// Longest header value.
const MAX_BYTES: usize = 4096;

/// Effective channels, each with whether its work depends on this process.
pub type DeclaredChannels = Vec<(Channel, bool)>;

/// Asks for the effective channels before every request; they may grow at run time.
pub struct ServerInfo {
    source: Box<dyn Fn() -> DeclaredChannels + Send + Sync>,
    /// The last declaration, so that unchanged channels cost a comparison only.
    last: Mutex<Option<(DeclaredChannels, HeaderValue)>>,
}

/// The channels cannot be declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidServerInfo {
    /// There is none.
    Empty,
    /// One name occurs twice.
    Duplicate(Channel),
    /// More than 32; the number.
    TooMany(usize),
    /// Longer than 4096 bytes; the length.
    TooLong(usize),
}

impl ServerInfo {
    /// `source` is called before every request, from any thread; it must not block.
    pub fn new(source: impl Fn() -> DeclaredChannels + Send + Sync + 'static) -> ServerInfo {
        ServerInfo { source: Box::new(source), last: Mutex::new(None) }
    }

    /// The header's value now.
    pub(super) fn header(&self) -> Result<HeaderValue, InvalidServerInfo> {
        let channels = (self.source)();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, value)) = &*last
            && *known == channels
        {
            return Ok(value.clone());
        }
        let text = render_server_info(&channels)?;
        let value = HeaderValue::try_from(text).map_err(|_| InvalidServerInfo::Empty)?;
        *last = Some((channels, value.clone()));
        Ok(value)
    }
}

/// The header's text for `channels`, in their order. Call it at startup with every set of channels
/// that may come up later.
pub fn render_server_info(channels: &[(Channel, bool)]) -> Result<String, InvalidServerInfo> {
    match channels.len() {
        0 => return Err(InvalidServerInfo::Empty),
        n if n > MAX_CHANNELS => return Err(InvalidServerInfo::TooMany(n)),
        _ => {}
    }
    let mut json = String::from(r#"{"version":1,"channels":["#);
    for (index, (channel, affinity)) in channels.iter().enumerate() {
        if channels[..index].iter().any(|(earlier, _)| earlier == channel) {
            return Err(InvalidServerInfo::Duplicate(channel.clone()));
        }
        if index > 0 {
            json.push(',');
        }
        json.push_str(r#"{"name":""#);
        json.push_str(channel.as_str());
        json.push_str(if *affinity { r#"","proc_affinity":true}"# } else { r#""}"# });
    }
    json.push_str("]}");
    if json.len() > MAX_BYTES { Err(InvalidServerInfo::TooLong(json.len())) } else { Ok(json) }
}

impl fmt::Debug for ServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerInfo")
    }
}

impl fmt::Display for InvalidServerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the channels cannot be declared to the control plane: ")?;
        match self {
            InvalidServerInfo::Empty => f.write_str("there is none; configure an MCP server"),
            InvalidServerInfo::Duplicate(channel) => write!(f, "channel {channel} is configured twice"),
            InvalidServerInfo::TooMany(n) => write!(f, "{n} are more than {MAX_CHANNELS}"),
            InvalidServerInfo::TooLong(n) => {
                write!(f, "their {n} bytes are more than {MAX_BYTES}; use shorter names")
            }
        }
    }
}

impl std::error::Error for InvalidServerInfo {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    #[test]
    fn only_names_and_true_affinities_are_declared_in_the_given_order() {
        assert_eq!(
            render_server_info(&[(channel("main"), false), (channel("harpoon"), true)]).unwrap(),
            r#"{"version":1,"channels":[{"name":"main"},{"name":"harpoon","proc_affinity":true}]}"#
        );
    }

    #[test]
    fn what_cannot_be_declared_is_refused() {
        let many: Vec<_> = (0..33).map(|n| (channel(&format!("c{n}")), false)).collect();
        assert_eq!(render_server_info(&[]), Err(InvalidServerInfo::Empty));
        assert_eq!(render_server_info(&many), Err(InvalidServerInfo::TooMany(33)));
        assert!(render_server_info(&many[..32]).is_ok());
        let twice = [(channel("a"), false), (channel("a"), true)];
        assert_eq!(render_server_info(&twice), Err(InvalidServerInfo::Duplicate(channel("a"))));
    }

    #[test]
    fn the_channels_are_asked_for_each_time() {
        let harpoon = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&harpoon);
        let info = ServerInfo::new(move || {
            let mut channels = vec![(channel("main"), true)];
            if seen.load(Ordering::SeqCst) {
                channels.push((channel("harpoon"), true));
            }
            channels
        });
        let first = info.header().unwrap();
        assert_eq!(first, r#"{"version":1,"channels":[{"name":"main","proc_affinity":true}]}"#);
        assert_eq!(info.header().unwrap(), first);
        harpoon.store(true, Ordering::SeqCst);
        assert!(info.header().unwrap().to_str().unwrap().contains("harpoon"));
    }
}
