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

#[cfg(test)]
mod tests {
    use super::*;

    fn account(byte: u8) -> AccountId {
        Option::from(AccountId::from_bytes(&[byte; 32])).unwrap()
    }

    #[test]
    fn questions_have_one_encoding() {
        let query = AccountQuery::new((1..4).map(account).collect()).unwrap();
        let bytes = query.to_bytes();
        assert_eq!(AccountQuery::from_bytes(&bytes), Ok(query));
        for length in 0..bytes.len() {
            let fits = length > 1 && (length - 1) % 32 == 0;
            assert_eq!(AccountQuery::from_bytes(&bytes[..length]).is_ok(), fits, "{length}");
        }
        assert!(AccountQuery::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        let many = [&[1][..], &[1; 32 * (AccountQuery::MOST + 1)]].concat();
        assert!(AccountQuery::from_bytes(&many).is_err());

        let nullifier = Option::from(Nullifier::from_bytes(&[5; 32])).unwrap();
        let spend = MemoQuery { epoch: EpochNumber::new(7), nullifier };
        assert_eq!(MemoQuery::from_bytes(&spend.to_bytes()), Ok(spend));
        let change = ChangeQuery { spend, code: MemoCode::from_bytes([9; 32]) };
        let read = ChangeQuery::from_bytes(&change.to_bytes()).unwrap();
        assert_eq!((read.spend, read.code.as_bytes()), (spend, &[9; 32]));
        assert_eq!(change.to_bytes().len(), ChangeQuery::LENGTH);
        assert!(
            MemoQuery::from_bytes(&change.to_bytes()).is_err() && ChangeQuery::from_bytes(&spend.to_bytes()).is_err()
        );
        assert!(!format!("{change:?} {spend:?}").contains("05"), "nothing that is printed names a nullifier");
    }

    #[test]
    fn an_answer_has_as_many_parts_as_the_question() {
        let none = MintsFound(vec![None, None]);
        let bytes = none.to_bytes();
        assert_eq!(MintsFound::from_bytes(&bytes, 2), Ok(none));
        for accounts in [0, 1, 3] {
            assert!(MintsFound::from_bytes(&bytes, accounts).is_err(), "{accounts}");
        }
        assert!(MintsFound::from_bytes(&[1, 2, 0], 2).is_err());
    }

    #[test]
    fn only_the_code_of_a_memo_reads_it() {
        let nullifier = Option::from(Nullifier::from_bytes(&[5; 32])).unwrap();
        let spend = MemoQuery { epoch: EpochNumber::new(7), nullifier };
        let code = MemoCode::from_bytes([9; 32]);
        let mut memo = [0; Memo::LENGTH];
        memo[..MemoCode::NONCE].copy_from_slice(&code.nonce());
        let query = ChangeQuery { spend, code };
        assert!(query.reads(&Memo::from_bytes(memo)));
        for byte in 0..MemoCode::NONCE {
            let mut other = memo;
            other[byte] ^= 1;
            assert!(!query.reads(&Memo::from_bytes(other)), "{byte}");
        }
    }
}
