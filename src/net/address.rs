//! Addresses at which there are no servers, but the host's own surroundings.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a cloud provider's metadata service is, beside the link-local addresses of all others.
const METADATA_SERVICE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether no server that anyone means is at `address`: link-local, multicast, broadcast and
/// unspecified addresses, also those embedded in IPv6 (RFC 4291 §2.5.5, RFC 6052 §2.1).
pub fn is_no_server_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_no_server_v4(address),
        IpAddr::V6(address) => {
            address.is_unspecified()
                || address.is_multicast()
                || address.is_unicast_link_local()
                || address == METADATA_SERVICE
                || embedded(address).is_some_and(is_no_server_v4)
        }
    }
}

fn is_no_server_v4(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0 || address.is_link_local() || address.is_multicast() || address.is_broadcast()
}

/// The IPv4 address in a mapped, compatible or translated one.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let translated = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let compatible = segments[..6] == [0; 6] && !address.is_loopback();
    let bits = (u32::from(segments[6]) << 16) | u32::from(segments[7]);
    address.to_ipv4_mapped().or((translated || compatible).then(|| Ipv4Addr::from_bits(bits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_at_ordinary_addresses() {
        for none in [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "::a9fe:a9fe",
            "fd00:ec2::254",
        ] {
            assert!(is_no_server_address(none.parse().unwrap()), "{none}");
        }
        for some in [
            "127.0.0.1",
            "10.0.0.1",
            "192.168.1.1",
            "8.8.8.8",
            "::1",
            "fd00::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_no_server_address(some.parse().unwrap()), "{some}");
        }
    }
}
