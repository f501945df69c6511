//! What a client declares about itself: the value of `X-Tunnel-MCP-Server-Info`, version 1.

use serde::Deserialize;

use crate::ids::Channel;

/// Longest value that is read.
const BYTES: usize = 4096;
/// Most channels that are read.
const CHANNELS: usize = 32;

/// The channels a client serves, each with whether its work depends on that one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared(Vec<(Channel, bool)>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    version: u64,
    channels: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    proc_affinity: bool,
}

impl Declared {
    /// Reads the header; `None` when it is malformed or too large.
    pub(crate) fn parse(text: &str) -> Option<Declared> {
        if text.len() > BYTES {
            return None;
        }
        let info: Info = serde_json::from_str(text).ok()?;
        if info.version != 1 || info.channels.len() > CHANNELS {
            return None;
        }
        let mut channels: Vec<(Channel, bool)> = Vec::with_capacity(info.channels.len());
        for Entry { name, proc_affinity } in info.channels {
            let channel = Channel::parse(&name).ok().filter(|channel| channel.as_str() == name)?;
            if channels.iter().any(|(have, _)| *have == channel) {
                return None;
            }
            channels.push((channel, proc_affinity));
        }
        Some(Declared(channels))
    }

    /// Whether the client serves `channel`.
    pub(crate) fn serves(&self, channel: &Channel) -> bool {
        self.0.iter().any(|(have, _)| have == channel)
    }

    /// Whether work on `channel` depends on that process.
    pub(crate) fn is_affine(&self, channel: &Channel) -> bool {
        self.0.iter().any(|(have, affine)| *affine && have == channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_read_strictly() {
        let text = r#"{"version":1,"channels":[{"name":"main"},{"name":"harpoon","proc_affinity":true}]}"#;
        let declared = Declared::parse(text).unwrap();
        let (main, harpoon) = (Channel::main(), Channel::parse("harpoon").unwrap());
        assert!(declared.serves(&main) && declared.serves(&harpoon));
        assert!(declared.is_affine(&harpoon) && !declared.is_affine(&main));
        let many: Vec<String> = (0..33).map(|n| format!(r#"{{"name":"c{n}"}}"#)).collect();
        for bad in [
            "",
            "[]",
            r#"{"version":2,"channels":[]}"#,
            r#"{"version":1,"channels":[{"name":"Main"}]}"#,
            r#"{"version":1,"channels":[{"name":"a"},{"name":"a"}]}"#,
            r#"{"version":1,"channels":[{"name":"a","url":"x"}]}"#,
            &format!(r#"{{"version":1,"channels":[{}]}}"#, many.join(",")),
            &format!("{text}{}", " ".repeat(BYTES)),
        ] {
            assert_eq!(Declared::parse(bad), None, "{bad}");
        }
    }
}
