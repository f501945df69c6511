//! References to secrets: a configuration names where a key is, it never holds one.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Deserialize;
use serde::de;

use crate::server::api::KeyDigest;

/// Where a key is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyReference {
    /// `env:NAME`.
    Env(String),
    /// `file:/path`; white space around the key is not part of it.
    File(PathBuf),
    /// `sha256:<64 hexadecimal digits>`: the key's digest.
    Digest([u8; 32]),
}

/// Why a reference is none, or leads to no key. Never shows the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadReference(String);

impl FromStr for KeyReference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<KeyReference, BadReference> {
        let (scheme, rest) = text.split_once(':').unwrap_or(("", ""));
        match scheme {
            "env" if !rest.is_empty() => Ok(KeyReference::Env(rest.to_owned())),
            "file" if !rest.is_empty() => Ok(KeyReference::File(PathBuf::from(rest))),
            "sha256" => digest(rest)
                .map(KeyReference::Digest)
                .ok_or_else(|| BadReference("after sha256: there must be 64 hexadecimal digits".to_owned())),
            // The text may be the key itself: it must not be shown.
            _ => Err(BadReference("give the key as env:NAME, file:/path or sha256:<digest>".to_owned())),
        }
    }
}

impl KeyReference {
    /// The digest of the key it leads to.
    pub(crate) fn resolve(&self) -> Result<KeyDigest, BadReference> {
        let key = match self {
            KeyReference::Digest(bytes) => return Ok(KeyDigest::from_bytes(*bytes)),
            KeyReference::Env(name) => std::env::var(name)
                .map_err(|_| BadReference(format!("environment variable {name} is not set to a text")))?,
            KeyReference::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| BadReference(format!("cannot read {}: {error}", path.display())))?;
                text.trim().to_owned()
            }
        };
        if key.is_empty() {
            return Err(BadReference(format!("the key at {self} is empty")));
        }
        if !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BadReference(format!("the key at {self} holds white space or non-ASCII characters")));
        }
        Ok(KeyDigest::of(key.as_bytes()))
    }
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0u8; 32];
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

impl<'de> Deserialize<'de> for KeyReference {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<KeyReference, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for KeyReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyReference::Env(name) => write!(f, "env:{name}"),
            KeyReference::File(path) => write!(f, "file:{}", path.display()),
            KeyReference::Digest(_) => f.write_str("sha256:…"),
        }
    }
}

impl fmt::Display for BadReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadReference {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_where_the_reference_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, " secret-1\n").unwrap();
        let reference: KeyReference = format!("file:{}", path.display()).parse().unwrap();
        assert_eq!(reference.resolve(), Ok(KeyDigest::of(b"secret-1")));
        let hex = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let reference: KeyReference = format!("sha256:{hex}").parse().unwrap();
        assert_eq!(reference.resolve(), Ok(KeyDigest::of(b"secret")));
        std::fs::write(&path, "two words").unwrap();
        let reference = KeyReference::File(path);
        let error = reference.resolve().unwrap_err().to_string();
        assert!(!error.contains("two words"), "{error}");
        assert!(KeyReference::Env("SURELY_NOT_SET_3141".into()).resolve().is_err());
    }

    #[test]
    fn a_key_given_outright_is_refused_and_not_repeated() {
        for bad in ["plain-key-text", "env:", "file:", "sha256:12", "https:plain-key-text"] {
            let error = bad.parse::<KeyReference>().unwrap_err().to_string();
            assert!(!error.contains("plain"), "{error}");
        }
    }
}
