//! Channel names.

use std::fmt;
use std::sync::Arc;

const MAX_CHANNEL_BYTES: usize = 64;

/// A canonical channel name: 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Channel(Arc<str>);

/// The text is no channel name, not even after trimming and lower-casing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidChannel(String);

impl Channel {
    /// The channel of commands and bindings that name none.
    pub const MAIN: &'static str = "main";
    /// The channel of the built-in server for allow-listed HTTP callouts.
    pub const HARPOON: &'static str = "harpoon";

    /// The channel `main`.
    pub fn main() -> Channel {
        Channel(Arc::from(Channel::MAIN))
    }

    /// Trims and lower-cases `text`; nothing left means `main`.
    pub fn parse(text: &str) -> Result<Channel, InvalidChannel> {
        let name = text.trim();
        if name.is_empty() {
            return Ok(Channel::main());
        }
        let name = name.to_ascii_lowercase();
        let valid = name.len() <= MAX_CHANNEL_BYTES
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if valid { Ok(Channel(Arc::from(name))) } else { Err(InvalidChannel(text.to_owned())) }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `main`.
    pub fn is_main(&self) -> bool {
        &*self.0 == Channel::MAIN
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid channel name {:?}: use 1 to 64 lowercase letters, digits, hyphens and underscores",
            self.0
        )
    }
}

impl std::error::Error for InvalidChannel {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_lower_cased_and_checked() {
        assert_eq!(Channel::parse(" MAIN ").unwrap(), Channel::main());
        assert_eq!(Channel::parse("").unwrap(), Channel::main());
        assert_eq!(Channel::parse("\t").unwrap(), Channel::main());
        assert_eq!(Channel::parse("Tools-1_x").unwrap().as_str(), "tools-1_x");
        assert!(Channel::parse(&"a".repeat(64)).is_ok());
        for bad in ["bad channel", "a/b", "é", &"a".repeat(65)] {
            assert!(Channel::parse(bad).is_err(), "{bad}");
        }
    }
}
