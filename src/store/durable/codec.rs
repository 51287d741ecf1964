//! The bytes of what is stored.
//!
//! | table | key | value |
//! | --- | --- | --- |
//! | `meta` | `format` | version of this layout (2), gateway id (16), 0 or 1 for a backup (1) |
//! | | `sequence` | number of commits (8) |
//! | | `moved` | the name of the store that took the place of this one |
//! | | `time` | latest time that was seen (8), time that surely has passed (8) |
//! | | `t`, name of a table | number of the commit that changed it last (8) |
//! | | `p`, epoch (4) | phase (1), number of the last bucket (4), totals (112), erased totals (112) |
//! | | `b`, epoch (4), bucket (4) | when it was begun (8), when last settled in (8), totals of what is settled in it (112) |
//! | `spends-<epoch>` | nf (32) | open: 1, tag (32), memo (64), bucket, owner (16), lease (8), metered |
//! | | | settled: 2, tag (32), memo (64), bucket, signing epoch, refund, signature (48) |
//! | `open` | epoch (4), nf (32) | nothing |
//! | `evidence-<epoch>-<bucket>` | nf (32) | nonce (24), then sealed: x (32), charge (8), `C'` (32), spend |
//! | `mints` | payment (32) | account (32), amount (8), digest of the request (32), response |
//! | `accounts` | account (32) | payment (32) |
//! | `payments` | payment (32) | amount (8) |
//!
//! Each table but `meta` also has, under 33 bytes of `ff`, the number of the commit that changed it last (8).
//!
//! Where no length is given, a number is in groups of seven bits, the lowest first, all but the last with the high bit set.

use halometer_circuits::note::{AccountId, ContextHash, Nullifier, ValueCommitment};
use halometer_circuits::schnorr::Signature;

use super::evidence_keys::BucketId;
use crate::protocol::codec::{DecodeError, Reader};
use crate::protocol::{
    Credits, Digest, EpochNumber, LANES, Memo, MintResponse, OwnerId, PaymentId, Settlement, SpendTag, Timestamp,
};
use crate::store::{Lease, MintRecord, PartitionPhase, Pulse, RecordEvidence, RecordState, Totals};

type Decoded<T> = Result<T, DecodeError>;

/// A record without its key and evidence.
pub(super) struct Row {
    pub(super) tag: SpendTag,
    pub(super) memo: Memo,
    pub(super) bucket: BucketId,
    pub(super) state: RecordState,
}

impl Row {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(176);
        out.push(match self.state {
            RecordState::Open { .. } => 1,
            RecordState::Settled(_) => 2,
        });
        out.extend_from_slice(&self.tag.to_bytes());
        out.extend_from_slice(self.memo.as_bytes());
        put_number(&mut out, u64::from(self.bucket));
        match &self.state {
            RecordState::Open { lease, metered } => {
                out.extend_from_slice(lease.owner.as_bytes());
                out.extend_from_slice(&lease.until.seconds().to_be_bytes());
                put_number(&mut out, metered.micro());
            }
            RecordState::Settled(Settlement { epoch, refund, signature }) => {
                put_number(&mut out, u64::from(epoch.number()));
                put_number(&mut out, refund.micro());
                out.extend_from_slice(&signature.to_bytes());
            }
        }
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        let tag = SpendTag::from_bytes(reader.array()?);
        let memo = Memo::from_bytes(reader.array()?);
        let bucket = small_number(&mut reader)?;
        let state = match kind {
            1 => {
                let owner = OwnerId::from_bytes(reader.array()?);
                let until = Timestamp::from_seconds(reader.u64()?);
                let metered = Credits::from_micro(number(&mut reader)?);
                RecordState::Open { lease: Lease { owner, until }, metered }
            }
            2 => RecordState::Settled(Settlement {
                epoch: EpochNumber::new(small_number(&mut reader)?),
                refund: Credits::from_micro(number(&mut reader)?),
                signature: reader.canonical("signature", Signature::from_bytes)?,
            }),
            _ => return Err(DecodeError::Field("kind of record")),
        };
        reader.finish()?;
        Ok(Self { tag, memo, bucket, state })
    }
}

/// Under this key, what is remembered of the time. No table has this name, whose number would be under it.
pub(super) const PULSE: &[u8] = b"time";

pub(super) fn pulse_to_bytes(pulse: Pulse) -> Vec<u8> {
    [pulse.seen().seconds().to_be_bytes(), pulse.sure().seconds().to_be_bytes()].concat()
}

pub(super) fn pulse_from_bytes(bytes: &[u8]) -> Decoded<Pulse> {
    let mut reader = Reader::exact(bytes, 16)?;
    let mut time = || Ok::<_, DecodeError>(Timestamp::from_seconds(reader.u64()?));
    Ok(Pulse::from_parts(time()?, time()?))
}

pub(super) fn evidence_to_bytes(evidence: &RecordEvidence) -> Vec<u8> {
    let RecordEvidence { context, charge, change, spend } = evidence;
    let mut out = Vec::with_capacity(72 + spend.len());
    out.extend_from_slice(&context.to_bytes());
    out.extend_from_slice(&charge.micro().to_be_bytes());
    out.extend_from_slice(&change.to_bytes());
    out.extend_from_slice(spend);
    out
}

pub(super) fn evidence_from_bytes(bytes: &[u8]) -> Decoded<RecordEvidence> {
    let mut reader = Reader::new(bytes);
    Ok(RecordEvidence {
        context: reader.canonical("context hash", ContextHash::from_bytes)?,
        charge: Credits::from_micro(reader.u64()?),
        change: reader.canonical("change commitment", ValueCommitment::from_bytes)?,
        spend: reader.rest().to_vec(),
    })
}

pub(super) fn nullifier(bytes: &[u8]) -> Decoded<Nullifier> {
    let mut reader = Reader::exact(bytes, 32)?;
    reader.canonical("nullifier", Nullifier::from_bytes)
}

/// A partition's entry in `meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PartitionMeta {
    pub(super) phase: PartitionPhase,
    /// A number is never used again: the records of an erased bucket keep it.
    pub(super) last_bucket: BucketId,
    pub(super) totals: Totals,
    pub(super) erased: Totals,
}

impl PartitionMeta {
    pub(super) fn key(epoch: EpochNumber) -> Vec<u8> {
        [&b"p"[..], &epoch.number().to_be_bytes()].concat()
    }

    pub(super) fn read_key(key: &[u8]) -> Decoded<EpochNumber> {
        let mut reader = Reader::exact(key, 5)?;
        reader.u8()?;
        Ok(EpochNumber::new(reader.u32()?))
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = vec![match self.phase {
            PartitionPhase::Open => 0,
            PartitionPhase::Closing => 1,
            PartitionPhase::Retired => 2,
        }];
        out.extend_from_slice(&self.last_bucket.to_be_bytes());
        put_totals(&mut out, &self.totals);
        put_totals(&mut out, &self.erased);
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let phase = match reader.u8()? {
            0 => PartitionPhase::Open,
            1 => PartitionPhase::Closing,
            2 => PartitionPhase::Retired,
            _ => return Err(DecodeError::Field("phase")),
        };
        let last_bucket = reader.u32()?;
        let meta = Self { phase, last_bucket, totals: totals(&mut reader)?, erased: totals(&mut reader)? };
        reader.finish()?;
        Ok(meta)
    }
}

/// A bucket's entry in `meta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BucketMeta {
    pub(super) begun: Timestamp,
    pub(super) last_settled: Timestamp,
    pub(super) totals: Totals,
}

impl BucketMeta {
    pub(super) fn key(epoch: EpochNumber, bucket: BucketId) -> Vec<u8> {
        [&b"b"[..], &epoch.number().to_be_bytes(), &bucket.to_be_bytes()].concat()
    }

    pub(super) fn read_key(key: &[u8]) -> Decoded<(EpochNumber, BucketId)> {
        let mut reader = Reader::exact(key, 9)?;
        reader.u8()?;
        Ok((EpochNumber::new(reader.u32()?), reader.u32()?))
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&self.begun.seconds().to_be_bytes());
        out.extend_from_slice(&self.last_settled.seconds().to_be_bytes());
        put_totals(&mut out, &self.totals);
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new(bytes);
        let begun = Timestamp::from_seconds(reader.u64()?);
        let last_settled = Timestamp::from_seconds(reader.u64()?);
        let meta = Self { begun, last_settled, totals: totals(&mut reader)? };
        reader.finish()?;
        Ok(meta)
    }
}

pub(super) fn mint_to_bytes(mint: &MintRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(72 + MintResponse::LENGTH);
    out.extend_from_slice(&mint.account.to_bytes());
    out.extend_from_slice(&mint.amount.micro().to_be_bytes());
    out.extend_from_slice(mint.request.as_bytes());
    out.extend_from_slice(&mint.response.to_bytes());
    for amount in mint.amounts.iter().flatten() {
        out.extend_from_slice(&amount.micro().to_be_bytes());
    }
    out
}

pub(super) fn mint_from_bytes(payment: PaymentId, bytes: &[u8]) -> Decoded<MintRecord> {
    let mut reader = Reader::new(bytes);
    let account = reader.canonical("account id", AccountId::from_bytes)?;
    let amount = Credits::from_micro(reader.u64()?);
    let request = Digest::from_bytes(reader.array()?);
    let response = MintResponse::from_bytes(reader.take(MintResponse::LENGTH)?)?;
    // Mints of before end here.
    let mut rest = Reader::new(reader.rest());
    let amounts = if rest.is_empty() {
        None
    } else {
        let mut amounts = [Credits::ZERO; LANES];
        for amount in &mut amounts {
            *amount = Credits::from_micro(rest.u64()?);
        }
        Some(amounts)
    };
    rest.finish()?;
    Ok(MintRecord { payment, account, amount, amounts, request, response })
}

fn put_totals(out: &mut Vec<u8>, totals: &Totals) {
    let Totals { open, held, settled, cost, refunded, moved_out, moved_in } = *totals;
    for number in [u128::from(open), held, u128::from(settled), cost, refunded, moved_out, moved_in] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn totals(reader: &mut Reader<'_>) -> Decoded<Totals> {
    let mut number = || Ok::<_, DecodeError>(u128::from_be_bytes(reader.array()?));
    let count = |number: u128| u64::try_from(number).map_err(|_| DecodeError::Field("count"));
    Ok(Totals {
        open: count(number()?)?,
        held: number()?,
        settled: count(number()?)?,
        cost: number()?,
        refunded: number()?,
        moved_out: number()?,
        moved_in: number()?,
    })
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn number(reader: &mut Reader<'_>) -> Decoded<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8()?;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            break;
        }
        number |= part << shift;
        if byte < 0x80 {
            // A last group of zeros would be another encoding of the same number.
            return if byte == 0 && shift > 0 { Err(DecodeError::Field("number")) } else { Ok(number) };
        }
    }
    Err(DecodeError::Field("number"))
}

fn small_number(reader: &mut Reader<'_>) -> Decoded<u32> {
    u32::try_from(number(reader)?).map_err(|_| DecodeError::Field("number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_are_read_as_they_were_written() {
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_number(&mut out, n);
            let mut reader = Reader::new(&out);
            assert_eq!(number(&mut reader), Ok(n));
            reader.finish().unwrap();
            assert!(number(&mut Reader::new(&out[..out.len() - 1])).is_err());
        }
        assert!(number(&mut Reader::new(&[0xff; 11])).is_err(), "more than 64 bits");
        assert!(number(&mut Reader::new(&[0x80, 0])).is_err(), "a group too many");
        assert!(small_number(&mut Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x10])).is_err(), "more than 32 bits");
    }

    #[test]
    fn metas_are_read_as_they_were_written() {
        let totals = Totals { open: 1, held: 2, settled: 3, cost: u128::MAX, refunded: 5, moved_out: 6, moved_in: 7 };
        let meta = PartitionMeta { phase: PartitionPhase::Closing, last_bucket: 3, totals, erased: Totals::default() };
        assert_eq!(PartitionMeta::from_bytes(&meta.to_bytes()), Ok(meta));
        let (begun, last_settled) = (Timestamp::from_seconds(8), Timestamp::from_seconds(9));
        let meta = BucketMeta { begun, last_settled, totals };
        assert_eq!(BucketMeta::from_bytes(&meta.to_bytes()), Ok(meta));
        assert!(BucketMeta::from_bytes(&[&meta.to_bytes()[..], &[0]].concat()).is_err());
        let epoch = EpochNumber::new(0x0102_0304);
        assert_eq!(BucketMeta::read_key(&BucketMeta::key(epoch, 7)), Ok((epoch, 7)));
        assert_eq!(PartitionMeta::read_key(&PartitionMeta::key(epoch)), Ok(epoch));
    }
}
