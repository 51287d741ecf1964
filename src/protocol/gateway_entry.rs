//! A directory's entry for a gateway.

use super::bytes::GatewayId;
use super::codec::{DecodeError, Reader, is_text, put_count, put_text};
use super::ed25519::GatewayKey;

/// A gateway: its id, where it is reached, and the key it signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayEntry {
    /// Its id.
    pub id: GatewayId,
    /// Its origins, such as `https://api.example.org`: 1 to 16 of 1 to 255 visible ASCII characters.
    pub origins: Vec<String>,
    /// The key of its receipts and of its [`clearing`](crate::clearing) envelopes.
    pub key: GatewayKey,
}

impl GatewayEntry {
    const MAX_ORIGINS: usize = 16;
    const MAX_ORIGIN: usize = 255;

    pub(crate) fn is_well_formed(&self) -> bool {
        (1..=Self::MAX_ORIGINS).contains(&self.origins.len())
            && self.origins.iter().all(|origin| is_text(origin, Self::MAX_ORIGIN))
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.id.as_bytes());
        put_count(out, self.origins.len());
        self.origins.iter().for_each(|origin| put_text(out, origin));
        out.extend_from_slice(&self.key.to_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: GatewayId::from_bytes(reader.array()?),
            origins: reader.list("origins", Self::MAX_ORIGINS, |reader| reader.text("origin", Self::MAX_ORIGIN))?,
            key: GatewayKey::from_bytes(&reader.array()?).ok_or(DecodeError::Field("gateway key"))?,
        })
    }
}
