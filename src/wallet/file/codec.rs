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
/// Also read still: it had neither other amounts nor an origin, and nor have most payments, which are written so.
const PAYMENT_VERSION: u8 = 2;
/// Of payments of a restored wallet, which say where they came from.
const RESTORED_VERSION: u8 = 3;
/// Of payments that were asked for with several amounts, or that were forgotten; it has all that there is.
const ASKED_ANEW_VERSION: u8 = 4;

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

/// The first form that has room for all of a payment: what an older release can read, it finds as it knows it.
fn payment_version(entry: &PaymentEntry) -> u8 {
    match (entry.forgotten || !entry.earlier.is_empty(), &entry.origin) {
        (true, _) => ASKED_ANEW_VERSION,
        (false, Some(_)) => RESTORED_VERSION,
        (false, None) => PAYMENT_VERSION,
    }
}

pub(super) fn payment_to_bytes(entry: &PaymentEntry) -> Vec<u8> {
    let PaymentEntry { number, payment, amounts, requested_at, minted, seal, earlier, forgotten, origin } = entry;
    let version = payment_version(entry);
    let mut out = vec![version];
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
    if version == ASKED_ANEW_VERSION {
        out.push((*forgotten).into());
        // There are few: the wallet sees to it.
        out.extend_from_slice(&u32::try_from(earlier.len()).unwrap_or(u32::MAX).to_be_bytes());
        for amount in earlier.iter().flatten() {
            out.extend_from_slice(&amount.micro().to_be_bytes());
        }
        out.push(origin.is_some().into());
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
    if !(VERSION..=ASKED_ANEW_VERSION).contains(&version) {
        return Err(DecodeError::Version(version));
    }
    let (number, payment) = (reader.u64()?, PaymentId::from_bytes(reader.array()?));
    let amounts = amounts_of(&mut reader)?;
    // The first version had neither the time nor the seal.
    let newer = version >= PAYMENT_VERSION;
    let requested_at =
        if newer { optional(&mut reader, |reader| reader.u64().map(Timestamp::from_seconds))? } else { None };
    let minted = optional(&mut reader, |reader| MintResponse::from_bytes(reader.take(MintResponse::LENGTH)?))?;
    let seal = |reader: &mut Reader<'_>| MintSeal::from_bytes(reader.take(MintSeal::LENGTH)?);
    let seal = if newer { optional(&mut reader, seal)? } else { None };
    let (mut forgotten, mut earlier) = (false, Vec::new());
    if version == ASKED_ANEW_VERSION {
        forgotten = flag(&mut reader)?;
        for _ in 0..reader.u32()? {
            earlier.push(amounts_of(&mut reader)?);
        }
    }
    let restored = version == RESTORED_VERSION || (version == ASKED_ANEW_VERSION && flag(&mut reader)?);
    let origin = if restored { Some(Box::new(origin_of(&mut reader)?)) } else { None };
    reader.finish()?;
    let entry = PaymentEntry { number, payment, amounts, requested_at, minted, seal, earlier, forgotten, origin };
    // What is read is written again as it was; but for the first version, which is written as the second.
    if version > PAYMENT_VERSION && payment_version(&entry) != version {
        return Err(DecodeError::Field("version of a payment"));
    }
    Ok(entry)
}

fn amounts_of(reader: &mut Reader<'_>) -> Result<[Credits; LANES], DecodeError> {
    let mut amounts = [Credits::ZERO; LANES];
    for amount in &mut amounts {
        *amount = Credits::from_micro(reader.u64()?);
    }
    Ok(amounts)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::samples::SAMPLES;

    /// The fields that all versions have, and after the amounts what one adds.
    fn row(version: u8, rest: &[&[u8]]) -> Vec<u8> {
        let mut row = vec![version];
        row.extend_from_slice(&7_u64.to_be_bytes());
        row.extend_from_slice(&[1; 32]);
        (10..10 + LANES as u64).for_each(|amount| row.extend_from_slice(&amount.to_be_bytes()));
        rest.iter().for_each(|part| row.extend_from_slice(part));
        row
    }

    fn plain() -> PaymentEntry {
        PaymentEntry {
            number: 7,
            payment: PaymentId::from_bytes([1; 32]),
            amounts: core::array::from_fn(|lane| Credits::from_micro(10 + lane as u64)),
            requested_at: None,
            minted: None,
            seal: None,
            earlier: Vec::new(),
            forgotten: false,
            origin: None,
        }
    }

    #[test]
    fn payments_of_every_earlier_release_are_read() {
        let (minted, seal) = (SAMPLES.minted.to_bytes(), SAMPLES.answer.seal.to_bytes());
        let at = 1_700_000_000_u64.to_be_bytes();
        let full = PaymentEntry { minted: Some(SAMPLES.minted.clone()), ..plain() };
        let sealed = PaymentEntry {
            requested_at: Some(Timestamp::from_seconds(1_700_000_000)),
            seal: Some(SAMPLES.answer.seal),
            ..full.clone()
        };
        // The device, the number, the end of the hold, and the lanes: all begin with the mint.
        let origin = [&[3; 8][..], &5_u64.to_be_bytes(), &9_u64.to_be_bytes(), &[0; LANES]].concat();
        let origin_read = PaymentOrigin {
            device: DeviceId::from_bytes([3; 8]),
            number: 5,
            held_until: Timestamp::from_seconds(9),
            lanes: [const { LaneOrigin::Mint }; LANES],
        };
        let restored = PaymentEntry { origin: Some(Box::new(origin_read)), ..sealed.clone() };
        let written = [&[1][..], &at, &[1], &minted, &[1], &seal].concat();
        let cases = [
            (row(1, &[&[0]]), plain(), 2),
            (row(1, &[&[1], &minted]), full, 2),
            (row(2, &[&[0, 0, 0]]), plain(), 2),
            (row(2, &[&written]), sealed.clone(), 2),
            (row(3, &[&written, &origin]), restored.clone(), 3),
            (row(4, &[&[0, 0, 0], &[1], &0_u32.to_be_bytes(), &[0]]), PaymentEntry { forgotten: true, ..plain() }, 4),
            (
                row(4, &[&written, &[0], &1_u32.to_be_bytes(), &[0; 8 * LANES], &[1], &origin]),
                PaymentEntry { earlier: vec![[Credits::ZERO; LANES]], ..restored },
                4,
            ),
        ];
        for (bytes, entry, version) in cases {
            assert_eq!(payment_from_bytes(&bytes).unwrap(), entry, "version {}", bytes[0]);
            let again = payment_to_bytes(&entry);
            assert_eq!(again[0], version);
            assert!(bytes[0] == 1 || again == bytes, "version {}", bytes[0]);
        }
    }

    #[test]
    fn a_payment_in_a_form_that_is_not_its_own_is_refused() {
        for wrong in [
            row(0, &[&[0, 0, 0]]),
            row(4, &[&[0, 0, 0], &[0], &0_u32.to_be_bytes(), &[0]]),
            row(4, &[&[0, 0, 0], &[1], &1_u32.to_be_bytes(), &[0]]),
            row(4, &[&[0, 0, 0], &[1], &u32::MAX.to_be_bytes()]),
            row(5, &[&[0, 0, 0]]),
        ] {
            assert!(payment_from_bytes(&wrong).is_err(), "{wrong:?}");
        }
    }
}
