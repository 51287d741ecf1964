//! Fuzz targets: records of the store, and its journals.

use super::codec::{self, BucketMeta, PartitionMeta, Row};
use super::evidence_keys;
use super::journal::{SEQUENCE, sample_commit, whole_commit};
use crate::fuzz::canonical;
use crate::fuzz::samples::SAMPLES;
use crate::protocol::{Credits, Digest, Memo, OwnerId, PaymentId, SpendTag, Timestamp};
use crate::store::{Lease, MintRecord, PartitionPhase, RecordEvidence, RecordState, Totals};
use crate::testing::fuzz::planted;
use crate::testing::world::sixty_and_forty;

const PAYMENT: PaymentId = PaymentId::from_bytes([7; 32]);

/// Every value of the tables.
pub(crate) fn records(bytes: &[u8]) {
    canonical(bytes, |bytes| Row::from_bytes(bytes).ok(), Row::to_bytes);
    canonical(bytes, |bytes| PartitionMeta::from_bytes(bytes).ok(), |meta| meta.to_bytes());
    canonical(bytes, |bytes| BucketMeta::from_bytes(bytes).ok(), |meta| meta.to_bytes());
    canonical(bytes, |bytes| codec::evidence_from_bytes(bytes).ok(), codec::evidence_to_bytes);
    canonical(bytes, |bytes| codec::mint_from_bytes(PAYMENT, bytes).ok(), codec::mint_to_bytes);
    canonical(bytes, |bytes| codec::nullifier(bytes).ok(), |nullifier| nullifier.to_bytes().to_vec());
    let _ = (PartitionMeta::read_key(bytes), BucketMeta::read_key(bytes));
    let _ = (evidence_keys::looks_whole(bytes), crate::store::mark::looks_whole(bytes));
}

/// One of each.
pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let row = |state, bucket| {
        let (tag, memo) = (SpendTag::from_bytes([3; SpendTag::LENGTH]), Memo::from_bytes([4; Memo::LENGTH]));
        Row { tag, memo, bucket, state }.to_bytes()
    };
    let lease = Lease { owner: OwnerId::from_bytes([5; 16]), until: Timestamp::from_seconds(1_700_000_000) };
    let totals = Totals { open: 1, held: 2, settled: 3, cost: u128::MAX, refunded: 5, moved_out: 6, moved_in: 7 };
    let meta = PartitionMeta { phase: PartitionPhase::Closing, last_bucket: 3, totals, erased: Totals::default() };
    let (begun, last_settled) = (Timestamp::from_seconds(8), Timestamp::from_seconds(9));
    let spend = &SAMPLES.spend;
    let evidence = RecordEvidence {
        context: SAMPLES.key.context,
        charge: spend.charge,
        change: spend.change,
        spend: spend.to_bytes(),
    };
    let mint = MintRecord {
        payment: PAYMENT,
        account: SAMPLES.account,
        amount: Credits::from_micro(100),
        amounts: Some(sixty_and_forty()),
        request: Digest::from_bytes([6; 32]),
        response: SAMPLES.minted.clone(),
    };
    let former = MintRecord { amounts: None, ..mint.clone() };
    vec![
        row(RecordState::Open { lease, metered: Credits::from_micro(300) }, 0),
        row(RecordState::Settled(SAMPLES.settlement.clone()), 130),
        meta.to_bytes(),
        BucketMeta { begun, last_settled, totals }.to_bytes(),
        codec::evidence_to_bytes(&evidence),
        codec::mint_to_bytes(&mint),
        codec::mint_to_bytes(&former),
        SAMPLES.key.nullifier.to_bytes().to_vec(),
    ]
}

/// The engine's journals: what is taken for a whole commit lies within the bytes, and nothing in it can be changed.
pub(crate) fn journals(bytes: &[u8]) {
    let Some(length) = whole_commit(bytes) else { return };
    assert!(length <= bytes.len());
    // The planted fault: a commit is thought to reach as far as the bytes do.
    let length = if planted() { bytes.len() } else { length };
    assert!(whole_commit(&bytes[..length]) == Some(length), "a commit that needs what follows it");
    assert!(whole_commit(&bytes[..length - 1]).is_none(), "a commit that is whole without its end");
}

/// Commits of none, one and several items, and some in a row.
pub(crate) fn journal_seeds() -> Vec<Vec<u8>> {
    let sequence = 5_u64.to_be_bytes();
    let one = sample_commit(&[(SEQUENCE, &sequence)]);
    let several = sample_commit(&[(b"a key", b"a value"), (&[0xff; 33], &[1; 8]), (SEQUENCE, &sequence)]);
    vec![sample_commit(&[]), one.clone(), several.clone(), [one, several, vec![0; 64]].concat()]
}
