//! Shard tokens: they tie a request id to its tunnel, so that a response for another tunnel is refused
//! without a look-up, and the request is known even when its body is too large to read.
//!
//! `v1.<request id>.<mac>`; opaque to clients, authenticated with a key that lives as long as the process.

use ring::hmac;

use super::command::RequestId;
use crate::ids::TunnelId;

const VERSION: &str = "v1";
/// Hexadecimal digits of the truncated HMAC-SHA-256: 128 bits.
const MAC_DIGITS: usize = 32;

/// Seals and opens shard tokens.
pub(crate) struct Sealer {
    key: hmac::Key,
}

impl Sealer {
    /// A sealer with a fresh key; fails when the kernel gives no random bytes.
    pub(crate) fn new() -> Result<Sealer, getrandom::Error> {
        let mut key = [0u8; 32];
        getrandom::fill(&mut key)?;
        Ok(Sealer { key: hmac::Key::new(hmac::HMAC_SHA256, &key) })
    }

    /// The token of a command.
    pub(crate) fn seal(&self, tunnel: &TunnelId, request: RequestId) -> String {
        format!("{VERSION}.{request}.{}", self.mac(tunnel, request))
    }

    /// The request a token belongs to; `None` unless it was sealed here for `tunnel`.
    pub(crate) fn open(&self, tunnel: &TunnelId, token: &str) -> Option<RequestId> {
        let rest = token.strip_prefix(VERSION)?.strip_prefix('.')?;
        let (request, mac) = rest.split_once('.')?;
        let request = RequestId::parse(request)?;
        same(self.mac(tunnel, request).as_bytes(), mac.as_bytes()).then_some(request)
    }

    fn mac(&self, tunnel: &TunnelId, request: RequestId) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(tunnel.as_str().as_bytes());
        context.update(b"\0");
        context.update(request.to_string().as_bytes());
        let tag = context.sign();
        let mut digits = String::with_capacity(MAC_DIGITS);
        for byte in &tag.as_ref()[..MAC_DIGITS / 2] {
            for digit in [byte >> 4, byte & 15] {
                digits.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
            }
        }
        digits
    }
}

/// Whether the two are equal, in a time that depends on the lengths only.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::super::command::RequestIds;
    use super::*;

    #[test]
    fn a_token_opens_only_for_its_own_tunnel_and_unchanged() {
        let sealer = Sealer::new().unwrap();
        let tunnel = TunnelId::parse("tunnel_0123456789abcdef0123456789abcdef").unwrap();
        let other = TunnelId::parse("tunnel_1123456789abcdef0123456789abcdef").unwrap();
        let request = RequestIds::new().unwrap().next();
        let token = sealer.seal(&tunnel, request);
        assert!(token.len() <= 512 && token.bytes().all(|b| b.is_ascii_graphic()));
        assert_eq!(sealer.open(&tunnel, &token), Some(request));
        assert_eq!(sealer.open(&other, &token), None);
        assert_eq!(Sealer::new().unwrap().open(&tunnel, &token), None);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(sealer.open(&tunnel, std::str::from_utf8(&bytes).unwrap()), None, "{at}");
        }
        assert_eq!(sealer.open(&tunnel, ""), None);
    }
}
