//! Fixed-length identifiers and digests.

use core::fmt;
use core::str::FromStr;

use blake2b_simd::Params;

use super::codec::DecodeError;

macro_rules! byte_string {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $length]);

        impl $name {
            /// Length in bytes.
            pub const LENGTH: usize = $length;

            /// Wraps the bytes; every value is valid.
            pub const fn from_bytes(bytes: [u8; $length]) -> Self {
                Self(bytes)
            }

            /// The bytes.
            pub const fn to_bytes(&self) -> [u8; $length] {
                self.0
            }

            /// The bytes, borrowed.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl FromStr for $name {
            type Err = DecodeError;

            /// Reads lower-case hexadecimal digits, two a byte, as `Display` writes them.
            fn from_str(text: &str) -> Result<Self, DecodeError> {
                let mut bytes = [0; $length];
                read_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }
    };
}

/// Prints all of it.
macro_rules! printed {
    ($($name:ident),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        })*
    };
}

printed!(Digest, IssuerId, GatewayId, OwnerId, DeviceId);

/// Not which: until it is minted, any reader of a log could mint it. `Display` is for the payer.
impl fmt::Debug for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PaymentId(..)")
    }
}

byte_string! {
    /// A BLAKE2b-256 digest of a structure of the protocol.
    Digest, 32
}
byte_string! {
    /// Names an issuer: the hash of its root key ([`RootKey::issuer_id`](super::RootKey::issuer_id)).
    IssuerId, 32
}
byte_string! {
    /// Names a gateway, that is, one linearizable spent set (protocol, section 5). When set data was lost or rolled back, the
    /// gateway takes a new id.
    GatewayId, 16
}
byte_string! {
    /// Names a payment at the issuer. The id of a payment that is not yet minted is enough to mint it, so it must not
    /// be guessable.
    PaymentId, 32
}
byte_string! {
    /// Names a process that owns open spends by lease (protocol, sections 5 and 6).
    OwnerId, 16
}
byte_string! {
    /// Names a device of a wallet's owner; it separates the keys of two devices that share a root secret.
    DeviceId, 8
}

impl DeviceId {
    /// Devices of smaller numbers than this are tried when a wallet is restored (protocol, section 7).
    pub const DERIVABLE: u64 = 1 << 16;

    /// The device of a number. A wallet's first is number 0, and each restored wallet takes a higher one.
    pub const fn from_number(number: u64) -> Self {
        Self(number.to_be_bytes())
    }

    /// Its number, if it is so small that it is found again by trying. Earlier releases drew ids at random.
    pub const fn number(&self) -> Option<u64> {
        let number = u64::from_be_bytes(self.0);
        if number < Self::DERIVABLE { Some(number) } else { None }
    }
}

impl PaymentId {
    /// The id of a payment that another system knows under a reference of any length: its digest.
    pub fn of_reference(reference: &[u8]) -> Self {
        Self(digest(b"halometer1-payid", &[reference]).0)
    }
}

/// BLAKE2b-256 under a personalisation. The caller makes `parts` injective: fixed-width or length-prefixed.
pub(crate) fn digest(personal: &[u8; 16], parts: &[&[u8]]) -> Digest {
    let mut state = Params::new().hash_length(32).personal(personal).to_state();
    for part in parts {
        state.update(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(state.finalize().as_bytes());
    Digest(bytes)
}

fn read_hex(text: &str, bytes: &mut [u8]) -> Result<(), DecodeError> {
    if text.len() != 2 * bytes.len() {
        return Err(DecodeError::Length { expected: 2 * bytes.len(), found: text.len() });
    }
    let read = hex::decode_to_slice(text, bytes);
    match read.is_ok() && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Ok(()),
        false => Err(DecodeError::Field("hexadecimal digit")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_has_one_form() {
        let id = GatewayId::from_bytes(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse::<GatewayId>().unwrap(), id);
        assert!(id.to_string()[1..].parse::<GatewayId>().is_err(), "odd");
        assert!(format!("{id}00").parse::<GatewayId>().is_err(), "longer");
        assert!("AB".repeat(16).parse::<GatewayId>().is_err(), "upper case");
        assert!("é".repeat(16).parse::<GatewayId>().is_err(), "not ASCII");
    }

    #[test]
    fn a_payment_id_is_not_printed_for_programmers() {
        assert_eq!(format!("{:?}", PaymentId::from_bytes([7; 32])), "PaymentId(..)");
    }
}
