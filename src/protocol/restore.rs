//! What is asked, and answered, when a wallet is restored from its root secret alone (protocol, section 7).

use halometer_circuits::note::{AccountId, Nullifier};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::bytes::PaymentId;
use super::codec::{DecodeError, Reader};
use super::credits::Credits;
use super::epoch::EpochNumber;
use super::memo::{Memo, MemoCode};
use super::mint::LANES;
use super::mint_statement::MintAnswer;
use super::{VERSION, mint};

/// A question to the issuer: what was minted for these accounts? It says of an account that is known what its payment was; without
/// the secret of the account the answer is worth nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountQuery(Vec<AccountId>);

/// How many, and not which: together they say which payments are one wallet's.
impl core::fmt::Debug for AccountQuery {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AccountQuery").field("accounts", &self.0.len()).finish()
    }
}

impl AccountQuery {
    /// Most accounts of one question.
    pub const MOST: usize = 64;
    /// Length of the longest in bytes.
    pub const MAX_LENGTH: usize = 1 + 32 * Self::MOST;

    /// Of 1 to [`MOST`](Self::MOST) accounts; none for another number.
    pub fn new(accounts: Vec<AccountId>) -> Option<Self> {
        (1..=Self::MOST).contains(&accounts.len()).then_some(Self(accounts))
    }

    /// The accounts.
    pub fn accounts(&self) -> &[AccountId] {
        &self.0
    }

    /// Version (1), the accounts (32 each).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        self.0.iter().for_each(|account| out.extend_from_slice(&account.to_bytes()));
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version()?;
        let mut accounts = Vec::new();
        let count = bytes.len().saturating_sub(1).div_ceil(32);
        for _ in 0..count.min(Self::MOST) {
            accounts.push(reader.canonical("account id", AccountId::from_bytes)?);
        }
        reader.finish()?;
        Self::new(accounts).ok_or(DecodeError::Field("number of accounts"))
    }
}

/// What was minted for an account.
#[derive(Clone, PartialEq, Eq)]
pub struct MintFound {
    /// The payment. It is minted: its id is worth nothing any more.
    pub payment: PaymentId,
    /// What the lanes were worth at first.
    pub amounts: [Credits; LANES],
    /// The answer that its payer was given.
    pub answer: MintAnswer,
}

/// Without the payment, which names the payer to the issuer.
impl core::fmt::Debug for MintFound {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MintFound").field("epoch", &self.answer.response.epoch).finish_non_exhaustive()
    }
}

/// The answer to an [`AccountQuery`]: what was minted for each of its accounts, in their order. None where nothing was, and for a mint
/// that was recorded before its amounts were kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintsFound(pub Vec<Option<MintFound>>);

impl MintsFound {
    const ONE: usize = 1 + 32 + 8 * LANES + MintAnswer::LENGTH;
    /// Length of the longest in bytes.
    pub const MAX_LENGTH: usize = 1 + Self::ONE * AccountQuery::MOST;

    /// Version (1), then for each account a byte: 0 where nothing was minted; 1 before payment (32), eight amounts (8 each), and the
    /// [`MintAnswer`] (549).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for found in &self.0 {
            out.push(found.is_some().into());
            let Some(MintFound { payment, amounts, answer }) = found else { continue };
            out.extend_from_slice(payment.as_bytes());
            amounts.iter().for_each(|amount| out.extend_from_slice(&amount.micro().to_be_bytes()));
            out.extend_from_slice(&answer.to_bytes());
        }
        out
    }

    /// Reads the answer to a question of so many accounts. What it says is checked by the wallet that asked.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8], accounts: usize) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version()?;
        let mut all = Vec::new();
        for _ in 0..accounts {
            all.push(match reader.u8()? {
                0 => None,
                1 => {
                    let payment = PaymentId::from_bytes(reader.array()?);
                    let amounts = mint::read_array(|| reader.u64().map(Credits::from_micro))?;
                    let answer = MintAnswer::from_bytes(reader.take(MintAnswer::LENGTH)?)?;
                    Some(MintFound { payment, amounts, answer })
                }
                _ => return Err(DecodeError::Field("flag")),
            });
        }
        reader.finish()?;
        Ok(Self(all))
    }
}

/// Names a recorded spend, which is told its [`Memo`]: 64 bytes that only the wallet reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MemoQuery {
    /// The spent epoch.
    pub epoch: EpochNumber,
    /// `nf`.
    pub nullifier: Nullifier,
}

/// Without the nullifier.
impl core::fmt::Debug for MemoQuery {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MemoQuery").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl MemoQuery {
    /// Length in bytes.
    pub const LENGTH: usize = 1 + 4 + 32;

    /// Version (1), epoch (4), `nf` (32).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.epoch.number().to_be_bytes());
        out.extend_from_slice(&self.nullifier.to_bytes());
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        reader.version()?;
        let query = Self {
            epoch: EpochNumber::new(reader.u32()?),
            nullifier: reader.canonical("nullifier", Nullifier::from_bytes)?,
        };
        reader.finish()?;
        Ok(query)
    }
}

/// Asks for the settlement of a recorded spend, and shows that the asker reads its memo.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ChangeQuery {
    /// The spend.
    #[zeroize(skip)]
    pub spend: MemoQuery,
    /// The code of its memo.
    pub code: MemoCode,
}

impl core::fmt::Debug for ChangeQuery {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ChangeQuery").field("spend", &self.spend).finish_non_exhaustive()
    }
}

impl ChangeQuery {
    /// Length in bytes.
    pub const LENGTH: usize = MemoQuery::LENGTH + MemoCode::LENGTH;

    /// Whether the memo is the one that the code belongs to. In constant time.
    pub fn reads(&self, memo: &Memo) -> bool {
        self.code.nonce().ct_eq(memo.nonce()).into()
    }

    /// The [`MemoQuery`] (37), the code (32).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.spend.to_bytes();
        out.extend_from_slice(self.code.as_bytes());
        out
    }

    /// Reads the encoding.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::exact(bytes, Self::LENGTH)?;
        let spend = MemoQuery::from_bytes(reader.take(MemoQuery::LENGTH)?)?;
        Ok(Self { spend, code: MemoCode::from_bytes(reader.array()?) })
    }
}
