//! Tunnel ids.

use std::fmt;
use std::sync::Arc;

const PREFIX: &str = "tunnel_";
const SUFFIX_CHARS: usize = 32;

/// A tunnel id: `tunnel_` and 32 lowercase letters or digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TunnelId(Arc<str>);

/// The text is no tunnel id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTunnelId(String);

impl TunnelId {
    /// Checks `text` as it is (trim first what an operator typed).
    pub fn parse(text: &str) -> Result<TunnelId, InvalidTunnelId> {
        let valid = text.strip_prefix(PREFIX).is_some_and(|suffix| {
            suffix.len() == SUFFIX_CHARS
                && suffix.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        });
        if valid { Ok(TunnelId(Arc::from(text))) } else { Err(InvalidTunnelId(text.to_owned())) }
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for InvalidTunnelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid tunnel ID {:?}: it must match ^{PREFIX}[a-z0-9]{{{SUFFIX_CHARS}}}$, \
             {PREFIX} followed by {SUFFIX_CHARS} lowercase letters or digits",
            self.0
        )
    }
}

impl std::error::Error for InvalidTunnelId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_32_lowercase_letters_or_digits_are_accepted() {
        for good in ["tunnel_0123456789abcdef0123456789abcdef", "tunnel_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"] {
            assert_eq!(TunnelId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "tunnel_1234", "bad id", "tunnel_0123456789ABCDEF0123456789ABCDEF", "path/unsafe"] {
            assert!(TunnelId::parse(bad).is_err(), "{bad}");
        }
    }
}
