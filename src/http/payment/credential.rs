//! What a paying request carries.

use serde::{Deserialize, Serialize};

use super::challenge::{Echo, PaymentChallenge};
use super::{SCHEME, decode, encode};

/// The longest header line that common proxies take, in bytes, name and line end included.
pub const MAX_HEADER_LINE: usize = 8 * 1024;

/// A credential: what a request pays with.
///
/// A holder of the bytes of an opening can tell the gateway what it has seen, so they are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The challenge that is answered.
    pub challenge: PaymentChallenge,
    /// The payment.
    pub payload: Payload,
}

/// The payment of a credential, in the encodings of [`protocol`](crate::protocol), which reads them.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// An [`Opening`](crate::protocol::Opening): a spend, and the session's signature on the request that brings it.
    Opening(Vec<u8>),
    /// A [`Following`](crate::protocol::Following): a further request of the session.
    Following(Vec<u8>),
}

/// Why an `Authorization` header holds no credential. The caller is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// No `Authorization` header of the scheme `Payment`.
    #[error("no payment is attached")]
    Absent,
    /// More than one.
    #[error("more than one payment is attached")]
    Several,
    /// The header line would be above [`MAX_HEADER_LINE`].
    #[error("the payment credential is longer than one header line of 8 KiB")]
    TooLong,
    /// Not base64url without padding.
    #[error("the payment credential is not base64url without padding")]
    Encoding,
    /// Not the JSON object that it must be.
    #[error("the payment credential is not the expected JSON object")]
    Json,
    /// The echoed challenge does not belong to its id, or is another method's.
    #[error("the payment credential answers a challenge that is not halometer's")]
    Challenge,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    challenge: Echo,
    payload: WirePayload,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WirePayload {
    Opening(String),
    Following(String),
}

impl Credential {
    /// The value of the `Authorization` header.
    pub fn to_header_value(&self) -> String {
        let payload = match &self.payload {
            Payload::Opening(bytes) => WirePayload::Opening(encode(bytes)),
            Payload::Following(bytes) => WirePayload::Following(encode(bytes)),
        };
        let wire = Wire { challenge: self.challenge.to_echo(), payload };
        // Serialising strings into memory cannot fail.
        format!("{SCHEME} {}", encode(&serde_json::to_vec(&wire).unwrap_or_default()))
    }

    /// Reads the values of the request's `Authorization` headers. Other schemes are passed over; two payments are refused,
    /// so that nobody downstream can take another one than we do.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub fn from_header_values<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, CredentialError> {
        let mut found = None;
        for value in values {
            let Some(token) = strip_scheme(value) else { continue };
            if found.replace((token, value.len())).is_some() {
                return Err(CredentialError::Several);
            }
        }
        let (token, length) = found.ok_or(CredentialError::Absent)?;
        if "authorization: \r\n".len() + length > MAX_HEADER_LINE {
            return Err(CredentialError::TooLong);
        }
        let json = std::str::from_utf8(token).ok().and_then(decode).ok_or(CredentialError::Encoding)?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|_| CredentialError::Json)?;
        let challenge = PaymentChallenge::from_echo(wire.challenge).ok_or(CredentialError::Challenge)?;
        let payload = match &wire.payload {
            WirePayload::Opening(text) => decode(text).map(Payload::Opening),
            WirePayload::Following(text) => decode(text).map(Payload::Following),
        };
        Ok(Self { challenge, payload: payload.ok_or(CredentialError::Encoding)? })
    }
}

impl core::fmt::Debug for Payload {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Payload(..)")
    }
}

impl core::fmt::Debug for Credential {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// What follows `Payment` and at least one space.
fn strip_scheme(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) || rest.first().is_some_and(|&b| b != b' ') {
        return None;
    }
    Some(rest.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::super::challenge::tests::sample as challenge;
    use super::*;

    fn sample(length: usize) -> Credential {
        Credential { challenge: challenge(), payload: Payload::Opening(vec![0xa5; length]) }
    }

    fn read(value: &str) -> Result<Credential, CredentialError> {
        Credential::from_header_values([value.as_bytes()])
    }

    #[test]
    fn what_is_printed_is_read_back() {
        let credential = sample(100);
        assert!(read(&credential.to_header_value()) == Ok(credential.clone()));
        assert!(read(&credential.to_header_value().replacen("Payment", "pAYMENT", 1)) == Ok(credential.clone()));
        assert_eq!(format!("{credential:?}"), "Credential(..)");
        let following = Credential { payload: Payload::Following(vec![1; 174]), ..credential };
        assert!(read(&following.to_header_value()) == Ok(following));
    }

    #[test]
    fn the_largest_spend_fits_one_header_line() {
        let value = sample(4_200).to_header_value();
        let line = format!("Authorization: {value}\r\n");
        assert!(line.len() <= MAX_HEADER_LINE, "{}", line.len());
        assert!(read(&value).is_ok());
        assert_eq!(read(&sample(4_600).to_header_value()).err(), Some(CredentialError::TooLong));
    }

    #[test]
    fn other_schemes_are_passed_over_and_two_payments_refused() {
        let value = sample(10).to_header_value();
        let both = [b"Bearer abc".as_slice(), value.as_bytes()];
        assert!(Credential::from_header_values(both).is_ok());
        assert_eq!(read("Bearer abc").err(), Some(CredentialError::Absent));
        assert_eq!(read("Payments abc").err(), Some(CredentialError::Absent));
        let twice = [value.as_bytes(), value.as_bytes()];
        assert_eq!(Credential::from_header_values(twice).err(), Some(CredentialError::Several));
    }

    #[test]
    fn broken_credentials_are_refused() {
        assert_eq!(read("Payment").err(), Some(CredentialError::Json));
        assert_eq!(read("Payment ###").err(), Some(CredentialError::Encoding));
        assert_eq!(read("Payment \u{e9}").err(), Some(CredentialError::Encoding));
        assert_eq!(read(&format!("Payment {}", encode(b"[]"))).err(), Some(CredentialError::Json));
        assert_eq!(read(&format!("{}=", sample(10).to_header_value())).err(), Some(CredentialError::Encoding));
        let json = String::from_utf8(decode(&sample(10).to_header_value()["Payment ".len()..]).unwrap()).unwrap();
        let other = json.replace("\"halometer\"", "\"tempo\"");
        assert_eq!(read(&format!("Payment {}", encode(other.as_bytes()))).err(), Some(CredentialError::Challenge));
    }
}
