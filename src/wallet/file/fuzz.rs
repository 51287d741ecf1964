//! Fuzz target: the records of a wallet's file, its journal among them.

use super::codec::{self, Frontier, SpendRow};
use super::header::Header;
use super::state::State;
use crate::fuzz::canonical;
use crate::fuzz::samples::SAMPLES;
use crate::protocol::{ContentDigest, Credits, DeviceId, LANES, MintResponse, PaymentId, Timestamp};
use crate::testing::world::{rng, root_key, sixty_and_forty};
use crate::wallet::{JournalEntry, LaneId, LaneOrigin, OutcomeNote, PaymentEntry, PaymentOrigin, RequestNote};

/// Every value of the tables, and what stands before them.
pub(crate) fn records(bytes: &[u8]) {
    canonical(bytes, |bytes| SpendRow::from_bytes(bytes).ok(), SpendRow::to_bytes);
    // What an earlier release wrote is written anew in the form of this one.
    let of_this_form = |entry: &PaymentEntry| codec::payment_to_bytes(entry).first() == bytes.first();
    canonical(bytes, |bytes| codec::payment_from_bytes(bytes).ok().filter(of_this_form), codec::payment_to_bytes);
    canonical(bytes, |bytes| Frontier::from_bytes(bytes).ok(), Frontier::to_bytes);
    canonical(bytes, |bytes| State::from_bytes(bytes).ok(), State::to_bytes);
    canonical(bytes, |bytes| Header::from_bytes(bytes).ok(), |header| header.to_bytes().to_vec());
}

/// One of each, with all that may be there and without it.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let bare = JournalEntry {
        key: SAMPLES.key,
        lane: LaneId { payment: 3, lane: 1 },
        index: 4,
        spend: SAMPLES.spend.to_bytes(),
        pinned_at: Timestamp::from_seconds(1_700_000_000),
        request: None,
        settlement: None,
        outcome: None,
    };
    let note = RequestNote {
        method: "POST".into(),
        target: "/v1/chat".into(),
        content: ContentDigest::of(b"{}"),
        budget: None,
    };
    let full = JournalEntry {
        request: Some(note),
        settlement: Some(SAMPLES.settlement.clone()),
        outcome: Some(OutcomeNote {
            settled_at: Timestamp::from_seconds(1_700_000_100),
            receipt: Some(SAMPLES.receipt.clone()),
        }),
        ..bare.clone()
    };
    let counted = JournalEntry {
        request: full.request.clone().map(|note| RequestNote { budget: Some("agent".into()), ..note }),
        ..full.clone()
    };
    let payment = |minted: Option<MintResponse>| PaymentEntry {
        number: 3,
        payment: PaymentId::from_bytes([1; 32]),
        amounts: sixty_and_forty(),
        requested_at: minted.is_some().then(|| Timestamp::from_seconds(1_700_000_000)),
        seal: minted.is_some().then_some(SAMPLES.answer.seal),
        minted,
        origin: None,
    };
    let change =
        || LaneOrigin::Change { index: 7, hidden: Credits::from_micro(9), settlement: SAMPLES.settlement.clone() };
    let lanes = core::array::from_fn(|lane| match lane % 3 {
        0 => LaneOrigin::Mint,
        1 => change(),
        _ => LaneOrigin::Closed,
    });
    let origin = PaymentOrigin { device: DeviceId::from_number(2), number: 1, held_until: Timestamp::MAX, lanes };
    let restored = PaymentEntry { origin: Some(Box::new(origin)), ..payment(Some(SAMPLES.minted.clone())) };
    let mut frontier = Frontier { payment: 3, lanes: Vec::new() };
    frontier.lane(0);
    frontier.lane(LANES as u32 - 1).newest = Some((4, 5));
    let mut state = State::new([9; _]);
    let plain = state.to_bytes();
    state.quarantined_until = Some(Timestamp::from_seconds(1_700_000_000));
    state.moved = Some([8; 32]);
    vec![
        SpendRow::split(bare).0.to_bytes(),
        SpendRow::split(full).0.to_bytes(),
        SpendRow::split(counted).0.to_bytes(),
        codec::payment_to_bytes(&payment(None)),
        codec::payment_to_bytes(&payment(Some(SAMPLES.minted.clone()))),
        codec::payment_to_bytes(&restored),
        frontier.to_bytes(),
        plain,
        state.to_bytes(),
        Header::generate(root_key().public_key(), &mut rng(1)).to_bytes().to_vec(),
    ]
}
