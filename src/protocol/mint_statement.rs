//! What the issuer signs of a mint: which account a payment was minted for.

use halometer_circuits::note::AccountId;

use super::bytes::{IssuerId, PaymentId};
use super::codec::{DecodeError, Reader};
use super::credits::Credits;
use super::ed25519::{MintKey, MintSigningKey, RootKey, RootSigningKey, SIGNATURE};
use super::epoch::EpochNumber;
use super::mint::{LANES, MintRequest, MintResponse};
use super::{VERSION, mint};

const KEY_PREFIX: &[u8] = b"halometer/1 mint key\0";
const PREFIX: &[u8] = b"halometer/1 mint\0";

/// The issuer's signature of a mint: the mint key, the root key's word that this key signs mints, and the mint key's signature over
/// payment, account, amounts and epoch (protocol, section 5, "Mint"). It comes with every [`MintAnswer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MintSeal {
    key: MintKey,
    certificate: [u8; SIGNATURE],
    signature: [u8; SIGNATURE],
}

impl MintSeal {
    /// Length in bytes.
    pub const LENGTH: usize = 32 + 2 * SIGNATURE;

    /// Key (32), certificate (64), signature (64).
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.key.to_bytes()[..], &self.certificate, &self.signature].concat()
    }

    /// Reads the encoding. What it says is checked by [`MintStatement::verify`].
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        let key = MintKey::from_bytes(&reader.array()?).ok_or(DecodeError::Field("mint key"))?;
        let seal = Self { key, certificate: reader.array()?, signature: reader.array()? };
        reader.finish()?;
        Ok(seal)
    }
}

/// What seals mints: a key of its own, derived from the root key, so that the root key can go back to where it is kept.
pub struct MintSealer {
    issuer: IssuerId,
    key: MintSigningKey,
    certificate: [u8; SIGNATURE],
}

impl core::fmt::Debug for MintSealer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MintSealer(..)")
    }
}

impl MintSealer {
    /// The one of a root key, the same every time.
    pub fn new(root: &RootSigningKey) -> Self {
        let key = root.mint_key();
        let certificate = root.sign(&[KEY_PREFIX, &key.public_key().to_bytes()].concat());
        Self { issuer: root.public_key().issuer_id(), key, certificate }
    }

    /// Seals what was minted for an account. The same again gives the same.
    pub fn seal(
        &self,
        payment: &PaymentId,
        account: &AccountId,
        amounts: &[Credits; LANES],
        epoch: EpochNumber,
    ) -> MintSeal {
        let signature = self.key.sign(&message(&self.issuer, payment, account, amounts, epoch));
        MintSeal { key: self.key.public_key(), certificate: self.certificate, signature }
    }
}

fn message(
    issuer: &IssuerId,
    payment: &PaymentId,
    account: &AccountId,
    amounts: &[Credits; LANES],
    epoch: EpochNumber,
) -> Vec<u8> {
    let mut out = PREFIX.to_vec();
    out.push(VERSION);
    out.extend_from_slice(issuer.as_bytes());
    put(&mut out, payment, account, amounts, epoch);
    out
}

fn put(out: &mut Vec<u8>, payment: &PaymentId, account: &AccountId, amounts: &[Credits; LANES], epoch: EpochNumber) {
    out.extend_from_slice(payment.as_bytes());
    out.extend_from_slice(&account.to_bytes());
    out.extend_from_slice(&epoch.number().to_be_bytes());
    amounts.iter().for_each(|amount| out.extend_from_slice(&amount.micro().to_be_bytes()));
}

/// The issuer's answer to a [`MintRequest`]: the signatures of the lanes, and the seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintAnswer {
    /// The signatures of the lanes.
    pub response: MintResponse,
    /// What binds the account to the payment.
    pub seal: MintSeal,
}

impl MintAnswer {
    /// Length in bytes.
    pub const LENGTH: usize = MintResponse::LENGTH + MintSeal::LENGTH;

    /// The [`MintResponse`] (389), the [`MintSeal`] (160).
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.response.to_bytes(), self.seal.to_bytes()].concat()
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        let response = MintResponse::from_bytes(reader.take(MintResponse::LENGTH)?)?;
        Ok(Self { response, seal: MintSeal::from_bytes(reader.rest())? })
    }
}

/// A mint as it is shown to others: the issuer says by its signature that this payment was minted for this account. Together with the
/// evidence of a double spend it names a payment to anyone; and an honest payer shows with it that an account is not the payer's.
/// A payment has one account and an account one payment: two statements that say otherwise convict the issuer.
#[derive(Clone, PartialEq, Eq)]
pub struct MintStatement {
    /// The payment. It is minted: its id is worth nothing any more.
    pub payment: PaymentId,
    /// `A`.
    pub account: AccountId,
    /// What the lanes were worth at first.
    pub amounts: [Credits; LANES],
    /// The epoch whose key signed the lanes.
    pub epoch: EpochNumber,
    /// The issuer's signature.
    pub seal: MintSeal,
}

/// Without payment and account, which name the payer to the issuer.
impl core::fmt::Debug for MintStatement {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MintStatement").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// Why a statement of a mint shows nothing. The party that shows it is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MintStatementError {
    /// The key is not one that the root key has named for mints.
    #[error("the key that signed the mint is not certified by this issuer's root key")]
    Key,
    /// The signature is not the key's for this payment, account, amounts and epoch.
    #[error("the signature is not the issuer's for this payment, account, amounts and epoch")]
    Signature,
}

impl MintStatement {
    /// Length in bytes.
    pub const LENGTH: usize = 1 + 32 + 32 + 4 + 8 * LANES + MintSeal::LENGTH;

    /// The statement of a request and its answer.
    pub fn of(request: &MintRequest, answer: &MintAnswer) -> Self {
        let amounts = core::array::from_fn(|lane| request.lanes[lane].amount);
        let MintRequest { payment, account, .. } = request;
        Self { payment: *payment, account: *account, amounts, epoch: answer.response.epoch, seal: answer.seal }
    }

    /// Whether the issuer with this root key has signed it.
    ///
    /// # Errors
    /// [`MintStatementError`].
    pub fn verify(&self, root: &RootKey) -> Result<(), MintStatementError> {
        let Self { payment, account, amounts, epoch, seal } = self;
        if !root.verify(&[KEY_PREFIX, &seal.key.to_bytes()].concat(), &seal.certificate) {
            return Err(MintStatementError::Key);
        }
        let message = message(&root.issuer_id(), payment, account, amounts, *epoch);
        if seal.key.verify(&message, &seal.signature) { Ok(()) } else { Err(MintStatementError::Signature) }
    }

    /// Whether an honest issuer signs only one of the two: one payment for two accounts, otherwise divided or in another epoch, or one
    /// account for two payments. Both have been verified.
    pub fn contradicts(&self, other: &Self) -> bool {
        let says = |one: &Self| (one.payment, one.account, one.amounts, one.epoch);
        (self.payment == other.payment || self.account == other.account) && says(self) != says(other)
    }

    /// Version (1), payment (32), account (32), epoch (4), eight amounts (8 each), the [`MintSeal`] (160).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, &self.payment, &self.account, &self.amounts, self.epoch);
        out.extend_from_slice(&self.seal.to_bytes());
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        reader.version()?;
        let payment = PaymentId::from_bytes(reader.array()?);
        let account = reader.canonical("account id", AccountId::from_bytes)?;
        let epoch = EpochNumber::new(reader.u32()?);
        let amounts = mint::read_array(|| reader.u64().map(Credits::from_micro))?;
        Ok(Self { payment, account, amounts, epoch, seal: MintSeal::from_bytes(reader.rest())? })
    }
}
