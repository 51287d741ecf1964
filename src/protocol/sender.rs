//! Where a request came from, as far as limits care.

use core::net::IpAddr;

/// What the requests of one caller have in common on the network: an IPv4 address, or the /64 of an IPv6 address. Limits count by
/// it, so that one caller does not use up what others need. It is no part of anything that is signed or stored, and is not
/// printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sender([u8; 16]);

/// Not printed: logs link nobody.
impl core::fmt::Debug for Sender {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Sender(..)")
    }
}

impl Default for Sender {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl Sender {
    /// Of requests of which it is not known where they came from. They are counted together.
    pub const UNKNOWN: Self = Self([0; 16]);

    /// For another replica of this gateway, and for nobody else.
    #[cfg(feature = "server")]
    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// As another replica said it.
    #[cfg(feature = "server")]
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Of an address. An IPv6 address stands for its /64, which one subscriber has whole; an IPv4 address in IPv6 for itself.
    pub fn of_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => {
                let mut bytes = address.octets();
                bytes[8..].fill(0);
                // Apart from the unknown ones, and from IPv4.
                bytes[15] = 1;
                Self(bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Sender {
        Sender::of_address(address.parse().unwrap())
    }

    #[test]
    fn an_ipv6_network_is_one_sender_and_an_ipv4_address_is_one() {
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        for address in ["0.0.0.0", "::", "::1", "127.0.0.1"] {
            assert_ne!(of(address), Sender::UNKNOWN, "{address}");
        }
    }
}
