//! The gateway's signed word on what a call cost.

use super::VERSION;
use super::bytes::{GatewayId, IssuerId, digest};
use super::codec::{DecodeError, Reader, is_text, put_count, put_text};
use super::credits::Credits;
use super::ed25519::{GatewayKey, GatewaySigningKey, SIGNATURE};
use super::session::ContentDigest;
use super::spend_key::SpendKey;
use super::tariff::Tariff;

/// What a receipt is about. The caller knows all of it, and none of it travels: `nf` and `x` have no place in headers, which
/// proxies log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptSubject {
    /// The issuer.
    pub issuer: IssuerId,
    /// The gateway.
    pub gateway: GatewayId,
    /// The spend.
    pub spend: SpendKey,
    /// Digest of the body of the request that was paid for. Where it went is of no matter here: a spend pays for one request.
    pub content: ContentDigest,
}

/// A gateway's receipt: its signature over the spend, the request, what was metered and what that cost (protocol, section 5,
/// "Receipt"). With the tariff, which `x` binds, it is the caller's evidence of an overcharge.
///
/// The signed message without the salt reveals nothing of the request.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt {
    salt: [u8; Self::SALT],
    usage: Vec<(String, u64)>,
    cost: Credits,
    signature: [u8; SIGNATURE],
}

impl core::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Receipt").field("usage", &self.usage).field("cost", &self.cost).finish_non_exhaustive()
    }
}

/// Why there is no receipt, or it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The usage has more than [`Receipt::MAX_ITEMS`] items, one of them twice, or one whose name no tariff can have.
    /// The metering gateway is at fault.
    #[error("the usage is not well-formed")]
    Usage,
    /// It is not this gateway's receipt for this spend and request. The party that shows it is at fault.
    #[error("the receipt is not this gateway's for this spend and request")]
    Signature,
}

impl Receipt {
    /// Length of the salt in bytes.
    pub const SALT: usize = 16;
    /// Most items in a receipt.
    pub const MAX_ITEMS: usize = 32;

    /// Signs a receipt. `usage` is how many units of which items of the tariff were metered, in any order; `salt` is drawn for
    /// this receipt and used for no other.
    ///
    /// # Errors
    /// [`ReceiptError::Usage`].
    pub fn sign(
        key: &GatewaySigningKey,
        subject: &ReceiptSubject,
        mut usage: Vec<(String, u64)>,
        cost: Credits,
        salt: [u8; Self::SALT],
    ) -> Result<Self, ReceiptError> {
        usage.sort();
        if !is_usage(&usage) {
            return Err(ReceiptError::Usage);
        }
        let mut receipt = Self { salt, usage, cost, signature: [0; SIGNATURE] };
        receipt.signature = key.sign(&receipt.message(subject));
        Ok(receipt)
    }

    /// Checks that it is a gateway's receipt for a spend and a request. `key` is the gateway's of the directory.
    ///
    /// # Errors
    /// [`ReceiptError::Signature`].
    pub fn verify(&self, key: &GatewayKey, subject: &ReceiptSubject) -> Result<(), ReceiptError> {
        let valid = key.verify(&self.message(subject), &self.signature);
        if valid { Ok(()) } else { Err(ReceiptError::Signature) }
    }

    /// How many units of which items were metered, by the item's name.
    pub fn usage(&self) -> &[(String, u64)] {
        &self.usage
    }

    /// What the spend was settled at.
    pub fn cost(&self) -> Credits {
        self.cost
    }

    fn message(&self, subject: &ReceiptSubject) -> Vec<u8> {
        let mut out = b"halometer/1 receipt\0".to_vec();
        out.push(VERSION);
        out.extend_from_slice(subject.issuer.as_bytes());
        out.extend_from_slice(subject.gateway.as_bytes());
        out.extend_from_slice(&subject.spend.epoch.number().to_be_bytes());
        out.extend_from_slice(&subject.spend.nullifier.to_bytes());
        out.extend_from_slice(&subject.spend.context.to_bytes());
        out.extend_from_slice(digest(b"halometer1-recpt", &[&self.salt, &subject.content.to_bytes()]).as_bytes());
        self.write_metered(&mut out);
        out
    }

    fn write_metered(&self, out: &mut Vec<u8>) {
        put_count(out, self.usage.len());
        for (item, units) in &self.usage {
            put_text(out, item);
            out.extend_from_slice(&units.to_be_bytes());
        }
        out.extend_from_slice(&self.cost.micro().to_be_bytes());
    }

    /// Version (1), salt (16), number of items (2), of each its name behind its length (1 + n) and its units (8), by name, cost
    /// (8), signature (64).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.salt);
        self.write_metered(&mut out);
        out.extend_from_slice(&self.signature);
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version()?;
        let receipt = Self {
            salt: reader.array()?,
            usage: reader
                .list("usage", Self::MAX_ITEMS, |reader| Ok((reader.text("item", Tariff::MAX_NAME)?, reader.u64()?)))?,
            cost: Credits::from_micro(reader.u64()?),
            signature: reader.array()?,
        };
        reader.finish()?;
        if is_usage(&receipt.usage) { Ok(receipt) } else { Err(DecodeError::Field("usage")) }
    }
}

fn is_usage(usage: &[(String, u64)]) -> bool {
    usage.len() <= Receipt::MAX_ITEMS
        && usage.iter().all(|(item, _)| is_text(item, Tariff::MAX_NAME))
        && usage.windows(2).all(|pair| pair[0].0 < pair[1].0)
}

#[cfg(test)]
mod tests {
    use halometer_circuits::note::{ContextHash, Nullifier};

    use super::*;
    use crate::protocol::EpochNumber;

    fn key() -> GatewaySigningKey {
        GatewaySigningKey::from_bytes(&[7; 32])
    }

    fn subject() -> ReceiptSubject {
        ReceiptSubject {
            issuer: IssuerId::from_bytes([1; 32]),
            gateway: GatewayId::from_bytes([2; 16]),
            spend: SpendKey {
                epoch: EpochNumber::new(3),
                nullifier: Option::from(Nullifier::from_bytes(&[4; 32])).unwrap(),
                context: Option::from(ContextHash::from_bytes(&[5; 32])).unwrap(),
            },
            content: ContentDigest::of(b"question"),
        }
    }

    fn receipt(usage: &[(&str, u64)]) -> Result<Receipt, ReceiptError> {
        let usage = usage.iter().map(|(item, units)| ((*item).to_owned(), *units)).collect();
        Receipt::sign(&key(), &subject(), usage, Credits::from_micro(30), [6; 16])
    }

    #[test]
    fn a_receipt_is_read_back_and_verifies() {
        for usage in [&[][..], &[("call", 1)], &[("output", u64::MAX), ("input", 2)]] {
            let receipt = receipt(usage).unwrap();
            let read = Receipt::from_bytes(&receipt.to_bytes()).unwrap();
            assert_eq!(read, receipt);
            assert_eq!(read.verify(&key().public_key(), &subject()), Ok(()));
            assert_eq!((read.cost().micro(), read.usage().len()), (30, usage.len()));
        }
    }

    #[test]
    fn a_receipt_of_another_gateway_spend_or_request_proves_nothing() {
        let receipt = receipt(&[("call", 1)]).unwrap();
        let refused = |subject: &ReceiptSubject| {
            assert_eq!(receipt.verify(&key().public_key(), subject), Err(ReceiptError::Signature));
        };
        let subject = subject();
        let spend = subject.spend;
        refused(&ReceiptSubject { issuer: IssuerId::from_bytes([9; 32]), ..subject });
        refused(&ReceiptSubject { gateway: GatewayId::from_bytes([9; 16]), ..subject });
        refused(&ReceiptSubject { spend: SpendKey { epoch: EpochNumber::new(9), ..spend }, ..subject });
        let nullifier = Option::from(Nullifier::from_bytes(&[9; 32])).unwrap();
        refused(&ReceiptSubject { spend: SpendKey { nullifier, ..spend }, ..subject });
        let context = Option::from(ContextHash::from_bytes(&[9; 32])).unwrap();
        refused(&ReceiptSubject { spend: SpendKey { context, ..spend }, ..subject });
        refused(&ReceiptSubject { content: ContentDigest::of(b"another"), ..subject });
        let other = GatewaySigningKey::from_bytes(&[8; 32]).public_key();
        assert_eq!(receipt.verify(&other, &subject), Err(ReceiptError::Signature));
    }

    #[test]
    fn a_receipt_with_any_bit_changed_proves_nothing() {
        let bytes = receipt(&[("input", 3), ("output", 4)]).unwrap().to_bytes();
        for bit in 0..8 * bytes.len() {
            let mut altered = bytes.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let verified = Receipt::from_bytes(&altered).ok().map(|read| read.verify(&key().public_key(), &subject()));
            assert_ne!(verified, Some(Ok(())), "bit {bit}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Receipt::from_bytes(&longer), Err(DecodeError::Trailing));
        for length in 0..bytes.len() {
            assert!(Receipt::from_bytes(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn usage_has_one_form() {
        assert_eq!(receipt(&[("a", 1), ("a", 2)]), Err(ReceiptError::Usage));
        assert_eq!(receipt(&[("", 1)]), Err(ReceiptError::Usage));
        assert_eq!(receipt(&[("two words", 1)]), Err(ReceiptError::Usage));
        let names: Vec<String> = (0..33).map(|n| format!("item{n}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
        assert_eq!(receipt(&many), Err(ReceiptError::Usage));
        assert!(receipt(&many[..32]).is_ok());
        assert_eq!(receipt(&[("b", 2), ("a", 1)]), receipt(&[("a", 1), ("b", 2)]));
        // In another order on the wire.
        let mut bytes = receipt(&[("a", 1), ("b", 1)]).unwrap().to_bytes();
        let place = bytes.iter().position(|byte| *byte == b'a').unwrap();
        (bytes[place], bytes[place + 10]) = (b'b', b'a');
        assert_eq!(Receipt::from_bytes(&bytes), Err(DecodeError::Field("usage")));
    }

    #[test]
    fn a_signature_for_another_purpose_is_no_receipt() {
        let mut receipt = receipt(&[]).unwrap();
        let message = receipt.message(&subject());
        receipt.signature = key().sign(&message[b"halometer/1 receipt\0".len()..]);
        assert_eq!(receipt.verify(&key().public_key(), &subject()), Err(ReceiptError::Signature));
    }
}
