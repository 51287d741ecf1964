//! Targets: the messages of the protocol.

use super::canonical;
use super::samples::SAMPLES;
use crate::clearing::{ClearingAnswer, ClearingProblem, ClearingRequest, Envelope};
use crate::lifecycle::{Evidence, ParsedSpend, ParsedTransfer};
use crate::protocol::*;
use crate::store::RecordKey;
use crate::testing::world::{GATEWAY, T0, errand, micro, rng};
use crate::wallet::{Dispute, DisputeKind, HeardNote};

pub(super) fn opening(bytes: &[u8]) {
    canonical(bytes, |bytes| Opening::from_bytes(bytes).ok(), Opening::to_bytes);
    if let Ok(spend) = ParsedSpend::parse(bytes, &SAMPLES.directory) {
        let _ = spend.authenticate(&errand());
    }
}

pub(super) fn opening_seeds() -> Vec<Vec<u8>> {
    vec![SAMPLES.opening.clone()]
}

pub(super) fn following(bytes: &[u8]) {
    canonical(bytes, |bytes| Following::from_bytes(bytes).ok(), Following::to_bytes);
    if let Ok(following) = Following::from_bytes(bytes) {
        following.verify(&errand());
    }
}

pub(super) fn following_seeds() -> Vec<Vec<u8>> {
    let key = SessionKey::from_bytes(&[3; 32]);
    let sign = |action, sequence| Following::sign(&key, &SAMPLES.key, action, sequence, &errand()).to_bytes();
    vec![sign(Action::Call, 1), sign(Action::Fetch, 0), sign(Action::Close, u64::MAX)]
}

pub(super) fn transfer(bytes: &[u8]) {
    canonical(bytes, |bytes| Transfer::from_bytes(bytes).ok(), Transfer::to_bytes);
    if let Ok(transfer) = ParsedTransfer::parse(bytes, &SAMPLES.directory) {
        let _ = transfer.authenticate(&errand());
    }
}

pub(super) fn transfer_seeds() -> Vec<Vec<u8>> {
    vec![SAMPLES.transfer.clone()]
}

pub(super) fn cancellation(bytes: &[u8]) {
    canonical(bytes, |bytes| Cancellation::from_bytes(bytes).ok(), Cancellation::to_bytes);
    if let Ok(spend) = ParsedSpend::parse_cancellation(bytes, &SAMPLES.directory) {
        let _ = spend.authenticate(&errand());
    }
}

pub(super) fn cancellation_seeds() -> Vec<Vec<u8>> {
    vec![SAMPLES.cancellation.clone(), SAMPLES.half_cancellation.clone()]
}

/// The signed form, and what is signed by itself, as a changed byte would be refused for its signature.
pub(super) fn directory(bytes: &[u8]) {
    canonical(bytes, |bytes| Directory::from_bytes(bytes).ok(), |directory| directory.as_bytes().to_vec());
    if let Ok(directory) = Directory::from_bytes(bytes) {
        let _ = (directory.check_follows(&SAMPLES.directory), SAMPLES.directory.check_follows(&directory));
        let _ = (directory.issuing(T0), directory.quantum());
    }
    if let Ok(signed) = SignedDirectory::from_bytes(bytes) {
        assert!(signed.to_bytes() == bytes, "another encoding of the same value");
        let _ = signed.verify(&SAMPLES.directory.parts().root);
    }
}

pub(super) fn directory_seeds() -> Vec<Vec<u8>> {
    vec![SAMPLES.directory.as_bytes().to_vec(), SAMPLES.signed.to_bytes()]
}

pub(super) fn settlement(bytes: &[u8]) {
    canonical(bytes, |bytes| Settlement::from_bytes(bytes).ok(), |settlement| settlement.to_bytes().to_vec());
}

pub(super) fn settlement_seeds() -> Vec<Vec<u8>> {
    vec![SAMPLES.settlement.to_bytes().to_vec()]
}

pub(super) fn mint_request(bytes: &[u8]) {
    canonical(bytes, |bytes| MintRequest::from_bytes(bytes).ok(), |request| request.to_bytes().to_vec());
    // What a wallet asks that is being restored.
    canonical(bytes, |bytes| AccountQuery::from_bytes(bytes).ok(), AccountQuery::to_bytes);
    canonical(bytes, |bytes| MemoQuery::from_bytes(bytes).ok(), MemoQuery::to_bytes);
    canonical(bytes, |bytes| ChangeQuery::from_bytes(bytes).ok(), ChangeQuery::to_bytes);
}

pub(super) fn mint_request_seeds() -> Vec<Vec<u8>> {
    let spend = MemoQuery { epoch: SAMPLES.key.epoch, nullifier: SAMPLES.key.nullifier };
    let change = ChangeQuery { spend, code: MemoCode::from_bytes([6; MemoCode::LENGTH]) };
    let accounts = AccountQuery::new(vec![SAMPLES.statement.account; 2]).map(|query| query.to_bytes());
    let asked = [spend.to_bytes(), change.to_bytes()].into_iter().chain(accounts);
    [SAMPLES.mint_request.clone()].into_iter().chain(asked).collect()
}

pub(super) fn mint_answer(bytes: &[u8]) {
    canonical(bytes, |bytes| MintAnswer::from_bytes(bytes).ok(), MintAnswer::to_bytes);
    canonical(bytes, |bytes| MintResponse::from_bytes(bytes).ok(), MintResponse::to_bytes);
    canonical(bytes, |bytes| MintStatement::from_bytes(bytes).ok(), MintStatement::to_bytes);
    for accounts in [1, 2, AccountQuery::MOST] {
        canonical(bytes, |bytes| MintsFound::from_bytes(bytes, accounts).ok(), MintsFound::to_bytes);
    }
    if let Ok(statement) = MintStatement::from_bytes(bytes) {
        let _ = statement.verify(&SAMPLES.directory.parts().root);
    }
}

pub(super) fn mint_answer_seeds() -> Vec<Vec<u8>> {
    let MintStatement { payment, amounts, .. } = SAMPLES.statement;
    let found = MintsFound(vec![Some(MintFound { payment, amounts, answer: SAMPLES.answer.clone() }), None]);
    vec![SAMPLES.answer.to_bytes(), SAMPLES.minted.to_bytes(), SAMPLES.statement.to_bytes(), found.to_bytes()]
}

pub(super) fn receipt(bytes: &[u8]) {
    canonical(bytes, |bytes| Receipt::from_bytes(bytes).ok(), Receipt::to_bytes);
}

pub(super) fn receipt_seeds() -> Vec<Vec<u8>> {
    vec![SAMPLES.receipt.clone()]
}

fn gateway_key() -> GatewaySigningKey {
    GatewaySigningKey::from_bytes(&[10; 32])
}

/// The envelope, and what is signed in it by itself: requests, and answers to them.
pub(super) fn envelope(bytes: &[u8]) {
    let key = |gateway: &GatewayId| SAMPLES.directory.gateway(gateway).map(|entry| entry.key);
    let read = |bytes: &[u8]| Envelope::verify(bytes, &SAMPLES.directory.issuer(), key, T0).ok();
    canonical(bytes, read, |envelope| envelope.sign(&gateway_key()));
    canonical(bytes, |bytes| ClearingRequest::from_bytes(bytes).ok(), ClearingRequest::to_bytes);
    canonical(bytes, |bytes| ClearingAnswer::from_bytes(bytes).ok(), |(digest, answer)| answer.to_bytes(digest));
}

pub(super) fn envelope_seeds() -> Vec<Vec<u8>> {
    let spend = &SAMPLES.spend;
    let SpendKey { epoch, nullifier, context } = SAMPLES.key;
    let key = RecordKey { epoch, nullifier, tag: SpendTag::of(&context, &spend.session) };
    let requests = [
        ClearingRequest::Admit { spend: Box::new(spend.clone()) },
        ClearingRequest::Meter { spend: key, cost: micro(3) },
        ClearingRequest::Settle { spend: key, cost: micro(3) },
        ClearingRequest::Cancel { spend: Box::new(spend.clone()), cost: micro(0) },
        ClearingRequest::Fetch { spend: key },
    ];
    let answers = [
        ClearingAnswer::Admitted,
        ClearingAnswer::Settled(SAMPLES.settlement.clone()),
        ClearingAnswer::DoubleSpend,
        ClearingAnswer::Refused(ClearingProblem::Stale),
    ];
    let issuer = SAMPLES.directory.issuer();
    let seal = |request: &ClearingRequest| {
        Envelope::new(issuer, GATEWAY, T0, request.clone(), &mut rng(1)).sign(&gateway_key())
    };
    let envelopes = requests.iter().map(seal);
    let bare = requests.iter().map(ClearingRequest::to_bytes);
    let digest = Digest::from_bytes([5; 32]);
    envelopes.chain(bare).chain(answers.iter().map(|answer| answer.to_bytes(&digest))).collect()
}

/// Two spends. What they prove is verified only when all else is right, which takes a key of the epoch: few rounds.
pub(super) fn evidence(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let length = Spend::purpose_number(bytes).and_then(Spend::length).ok()?;
        let (first, second) = bytes.split_at_checked(length)?;
        Some([Spend::from_bytes(first).ok()?, Spend::from_bytes(second).ok()?])
    };
    canonical(bytes, read, |spends| spends.iter().flat_map(Spend::to_bytes).collect());
    assert!(Evidence::from_bytes(bytes, &SAMPLES.directory).is_err(), "evidence without a proof");
}

pub(super) fn evidence_seeds() -> Vec<Vec<u8>> {
    let (first, second) = (SAMPLES.spend.to_bytes(), SAMPLES.double.to_bytes());
    let half = Transfer::from_bytes(&SAMPLES.transfer).expect("a transfer").halves[0].spend.to_bytes();
    vec![[&first[..], &second].concat(), [&first[..], &first].concat(), [&first[..], &half].concat(), half]
}

/// JSON has many forms of one value: what is read, written and read again is the same. The planted fault forgets a line.
pub(super) fn dispute(bytes: &[u8]) {
    let Some(mut read) = core::str::from_utf8(bytes).ok().and_then(|text| Dispute::from_json(text).ok()) else {
        return;
    };
    let written = read.to_json();
    if crate::testing::fuzz::planted() {
        read.heard.pop();
    }
    let again = Dispute::from_json(&written).expect("what was written is read");
    assert!(again.to_json() == read.to_json(), "another dispute");
    let _ = read.verify(&SAMPLES.directory.parts().root);
}

pub(super) fn dispute_seeds() -> Vec<Vec<u8>> {
    let full = Dispute {
        kind: DisputeKind::Overcharged,
        at: T0,
        gateway: Some(GATEWAY),
        spend: Some(SAMPLES.spend.to_bytes()),
        content: Some(ContentDigest::of(b"question")),
        settlement: Some(SAMPLES.settlement.clone()),
        receipt: Some(SAMPLES.receipt.clone()),
        mint: Some(SAMPLES.statement.clone()),
        directories: vec![SAMPLES.signed.clone()],
        heard: vec![HeardNote { at: T0, what: "\"in progress\", 409".to_owned() }],
    };
    let bare = Dispute {
        kind: DisputeKind::TwoDirectories,
        gateway: None,
        spend: None,
        content: None,
        settlement: None,
        receipt: None,
        mint: None,
        ..full.clone()
    };
    vec![full.to_json().into_bytes(), bare.to_json().into_bytes()]
}
