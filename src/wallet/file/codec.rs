//! The values of the tables as bytes. Integers are big-endian; a flag is a byte, 0 or 1; text and bytes of any length stand behind
//! their length in four bytes.

use halometer_circuits::note::{ContextHash, Nullifier};
use halometer_circuits::proof::Proof;

use super::super::{JournalEntry, LaneId, LaneOrigin, OutcomeNote, PaymentEntry, PaymentOrigin, RequestNote};
use crate::protocol::codec::{DecodeError, Reader};
use crate::protocol::{
    ContentDigest, Credits, DeviceId, EpochNumber, LANES, MintResponse, MintSeal, PaymentId, Settlement, SpendKey,
    Timestamp,
};

const VERSION: u8 = 1;
/// Of spends that count for a budget. All others are as the first version has them.
const BUDGET_VERSION: u8 = 2;
/// Of payments, since they have the time of their request and the issuer's seal. The first version is read still.
const PAYMENT_VERSION: u8 = 2;
/// Of payments of a restored wallet, which say where they came from. All others are written as before.
const RESTORED_VERSION: u8 = 3;

/// A spend as it is kept: without its proof, which stands in a table of its own so that a change of the rest does not write it
/// again, and so that it can go.
pub(super) struct SpendRow {
    /// Its `spend` lacks the proof.
    pub(super) entry: JournalEntry,
    /// Whether there is a proof in the other table.
    pub(super) proof: bool,
}

impl SpendRow {
    /// Takes an entry apart.
    pub(super) fn split(mut entry: JournalEntry) -> (Self, Option<Vec<u8>>) {
        let proof = entry.spend.len().checked_sub(Proof::LENGTH).map(|head| entry.spend.split_off(head));
        (Self { entry, proof: proof.is_some() }, proof)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let JournalEntry { key, lane, index, spend, pinned_at, request, settlement, outcome } = &self.entry;
        let budget = request.as_ref().and_then(|request| request.budget.as_deref());
        let mut out = vec![if budget.is_some() { BUDGET_VERSION } else { VERSION }];
        out.extend_from_slice(&key.epoch.number().to_be_bytes());
        out.extend_from_slice(&key.nullifier.to_bytes());
        out.extend_from_slice(&key.context.to_bytes());
        out.extend_from_slice(&lane.payment.to_be_bytes());
        out.extend_from_slice(&lane.lane.to_be_bytes());
        out.extend_from_slice(&index.to_be_bytes());
        out.extend_from_slice(&pinned_at.seconds().to_be_bytes());
        out.push(self.proof.into());
        put_bytes(&mut out, spend);
        out.push(request.is_some().into());
        if let Some(RequestNote { method, target, content, budget }) = request {
            put_bytes(&mut out, method.as_bytes());
            put_bytes(&mut out, target.as_bytes());
            out.extend_from_slice(&content.to_bytes());
            if let Some(budget) = budget {
                put_bytes(&mut out, budget.as_bytes());
            }
        }
        out.push(settlement.is_some().into());
        if let Some(settlement) = settlement {
            out.extend_from_slice(&settlement.to_bytes());
        }
        out.push(outcome.is_some().into());
        if let Some(OutcomeNote { settled_at, receipt }) = outcome {
            out.extend_from_slice(&settled_at.seconds().to_be_bytes());
            out.push(receipt.is_some().into());
            if let Some(receipt) = receipt {
                put_bytes(&mut out, receipt);
            }
        }
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if !(VERSION..=BUDGET_VERSION).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let key = SpendKey {
            epoch: EpochNumber::new(reader.u32()?),
            nullifier: reader.canonical("nullifier", Nullifier::from_bytes)?,
            context: reader.canonical("context", ContextHash::from_bytes)?,
        };
        let lane = LaneId { payment: reader.u64()?, lane: reader.u32()? };
        let index = reader.u64()?;
        let pinned_at = Timestamp::from_seconds(reader.u64()?);
        let proof = flag(&mut reader)?;
        let spend = bytes_of(&mut reader)?.to_vec();
        let request = optional(&mut reader, |reader| {
            let (method, target) = (text(reader)?, text(reader)?);
            let content = ContentDigest::from_bytes(reader.array()?);
            let budget = if version == BUDGET_VERSION { Some(text(reader)?) } else { None };
            Ok(RequestNote { method, target, content, budget })
        })?;
        // What is read is written again as it was.
        if version == BUDGET_VERSION && request.is_none() {
            return Err(DecodeError::Field("budget"));
        }
        let settlement = optional(&mut reader, |reader| Settlement::from_bytes(reader.take(Settlement::LENGTH)?))?;
        let outcome = optional(&mut reader, |reader| {
            let settled_at = Timestamp::from_seconds(reader.u64()?);
            Ok(OutcomeNote { settled_at, receipt: optional(reader, |reader| Ok(bytes_of(reader)?.to_vec()))? })
        })?;
        reader.finish()?;
        Ok(Self { entry: JournalEntry { key, lane, index, spend, pinned_at, request, settlement, outcome }, proof })
    }
}

pub(super) fn payment_to_bytes(entry: &PaymentEntry) -> Vec<u8> {
    let PaymentEntry { number, payment, amounts, requested_at, minted, seal, origin } = entry;
    let mut out = vec![if origin.is_some() { RESTORED_VERSION } else { PAYMENT_VERSION }];
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(payment.as_bytes());
    for amount in amounts {
        out.extend_from_slice(&amount.micro().to_be_bytes());
    }
    out.push(requested_at.is_some().into());
    if let Some(requested_at) = requested_at {
        out.extend_from_slice(&requested_at.seconds().to_be_bytes());
    }
    out.push(minted.is_some().into());
    if let Some(minted) = minted {
        out.extend_from_slice(&minted.to_bytes());
    }
    out.push(seal.is_some().into());
    if let Some(seal) = seal {
        out.extend_from_slice(&seal.to_bytes());
    }
    if let Some(origin) = origin {
        put_origin(&mut out, origin);
    }
    out
}

fn put_origin(out: &mut Vec<u8>, origin: &PaymentOrigin) {
    let PaymentOrigin { device, number, held_until, lanes } = origin;
    out.extend_from_slice(device.as_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&held_until.seconds().to_be_bytes());
    for lane in lanes {
        match lane {
            LaneOrigin::Mint => out.push(0),
            LaneOrigin::Change { index, hidden, settlement } => {
                out.push(1);
                out.extend_from_slice(&index.to_be_bytes());
                out.extend_from_slice(&hidden.micro().to_be_bytes());
                out.extend_from_slice(&settlement.to_bytes());
            }
            LaneOrigin::Closed => out.push(2),
        }
    }
}

fn origin_of(reader: &mut Reader<'_>) -> Result<PaymentOrigin, DecodeError> {
    let (device, number) = (DeviceId::from_bytes(reader.array()?), reader.u64()?);
    let held_until = Timestamp::from_seconds(reader.u64()?);
    let mut lanes = [const { LaneOrigin::Mint }; LANES];
    for lane in &mut lanes {
        *lane = match reader.u8()? {
            0 => LaneOrigin::Mint,
            1 => LaneOrigin::Change {
                index: reader.u64()?,
                hidden: Credits::from_micro(reader.u64()?),
                settlement: Settlement::from_bytes(reader.take(Settlement::LENGTH)?)?,
            },
            2 => LaneOrigin::Closed,
            _ => return Err(DecodeError::Field("origin of a lane")),
        };
    }
    Ok(PaymentOrigin { device, number, held_until, lanes })
}

pub(super) fn payment_from_bytes(bytes: &[u8]) -> Result<PaymentEntry, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if !(VERSION..=RESTORED_VERSION).contains(&version) {
        return Err(DecodeError::Version(version));
    }
    let (number, payment) = (reader.u64()?, PaymentId::from_bytes(reader.array()?));
    let mut amounts = [Credits::ZERO; LANES];
    for amount in &mut amounts {
        *amount = Credits::from_micro(reader.u64()?);
    }
    // The first version had neither the time nor the seal.
    let newer = version >= PAYMENT_VERSION;
    let requested_at =
        if newer { optional(&mut reader, |reader| reader.u64().map(Timestamp::from_seconds))? } else { None };
    let minted = optional(&mut reader, |reader| MintResponse::from_bytes(reader.take(MintResponse::LENGTH)?))?;
    let seal = |reader: &mut Reader<'_>| MintSeal::from_bytes(reader.take(MintSeal::LENGTH)?);
    let seal = if newer { optional(&mut reader, seal)? } else { None };
    let origin = if version == RESTORED_VERSION { Some(Box::new(origin_of(&mut reader)?)) } else { None };
    reader.finish()?;
    Ok(PaymentEntry { number, payment, amounts, requested_at, minted, seal, origin })
}

/// What is known of the lanes of a payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Frontier {
    pub(super) payment: u64,
    pub(super) lanes: Vec<LaneFrontier>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LaneFrontier {
    pub(super) lane: u32,
    pub(super) frozen: bool,
    /// Index of the newest spent note in the lane, and the number of its spend.
    pub(super) newest: Option<(u64, u64)>,
}

impl Frontier {
    pub(super) fn lane(&mut self, lane: u32) -> &mut LaneFrontier {
        let at = match self.lanes.binary_search_by_key(&lane, |known| known.lane) {
            Ok(at) => at,
            Err(at) => {
                self.lanes.insert(at, LaneFrontier { lane, frozen: false, newest: None });
                at
            }
        };
        &mut self.lanes[at]
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.payment.to_be_bytes());
        for LaneFrontier { lane, frozen, newest } in &self.lanes {
            out.extend_from_slice(&lane.to_be_bytes());
            out.push((*frozen).into());
            out.push(newest.is_some().into());
            let (index, number) = newest.unwrap_or_default();
            out.extend_from_slice(&index.to_be_bytes());
            out.extend_from_slice(&number.to_be_bytes());
        }
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = versioned(bytes)?;
        let payment = reader.u64()?;
        let mut lanes = Vec::new();
        let mut rest = Reader::new(reader.rest());
        let mut left = bytes.len().saturating_sub(1 + 8);
        while left > 0 {
            let (lane, frozen, known) = (rest.u32()?, flag(&mut rest)?, flag(&mut rest)?);
            let newest = (rest.u64()?, rest.u64()?);
            if !known && newest != (0, 0) {
                return Err(DecodeError::Field("a lane without spends"));
            }
            lanes.push(LaneFrontier { lane, frozen, newest: known.then_some(newest) });
            left = left.saturating_sub(4 + 1 + 1 + 8 + 8);
        }
        rest.finish()?;
        if !lanes.is_sorted_by(|one, other| one.lane < other.lane) {
            return Err(DecodeError::Field("order of lanes"));
        }
        Ok(Self { payment, lanes })
    }
}

fn versioned(bytes: &[u8]) -> Result<Reader<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => Ok(reader),
        other => Err(DecodeError::Version(other)),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // What is longer is refused by the storage engine before it gets here: no value of 4 GiB is ever made.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn bytes_of<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = usize::try_from(reader.u32()?).map_err(|_| DecodeError::Truncated)?;
    reader.take(length)
}

fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    String::from_utf8(bytes_of(reader)?.to_vec()).map_err(|_| DecodeError::Field("text"))
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Field("flag")),
    }
}

fn optional<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if flag(reader)? { read(reader).map(Some) } else { Ok(None) }
}
