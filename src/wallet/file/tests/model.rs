//! The file against the journal in memory: the same answers to everything, and after every opening.

use proptest::prelude::*;

use super::*;
use crate::protocol::*;
use crate::wallet::root_secret::{NotePath, PaymentPath};
use crate::wallet::*;
use halometer_circuits::note::ContextHash;
use halometer_circuits::schnorr::{Signature, SigningKey};

#[derive(Clone, Debug)]
enum Step {
    Pin(Vec<(u8, bool)>),
    Settle(Vec<(u8, u8)>),
    Annotate(u8, u8),
    Payment { number: u8, id: u8, amount: u8, minted: bool },
    Directory,
    Freeze(u8),
    Dispute(u8),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let spend = 0..24u8;
    prop_oneof![
        8 => prop::collection::vec((spend.clone(), prop::bool::weighted(0.1)), 0..3).prop_map(Step::Pin),
        4 => prop::collection::vec((spend.clone(), any::<u8>()), 0..3).prop_map(Step::Settle),
        2 => (spend, any::<u8>()).prop_map(|(spend, at)| Step::Annotate(spend, at)),
        3 => (0..3u8, 0..3u8, 0..2u8, any::<bool>())
            .prop_map(|(number, id, amount, minted)| Step::Payment { number, id, amount, minted }),
        1 => Just(Step::Directory),
        1 => (0..6u8).prop_map(Step::Freeze),
        1 => (0..3u8).prop_map(Step::Dispute),
        2 => Just(Step::Reopen),
    ]
}

/// Spend `n` is of note `n / 4` in one of four lanes.
pub(super) fn entry(n: u8, other: bool) -> JournalEntry {
    let lane = LaneId { payment: u64::from(n % 4 / 2), lane: u32::from(n % 2) };
    let key = SpendKey {
        epoch: EPOCH[0],
        nullifier: Nullifier::from_bytes(&[n + 1; 32]).unwrap(),
        context: ContextHash::from_bytes(&[n + 1 + u8::from(other); 32]).unwrap(),
    };
    let request = (!n.is_multiple_of(3)).then(|| RequestNote {
        method: "POST".to_owned(),
        target: "/".repeat(usize::from(n)),
        content: ContentDigest::of(&[n]),
        budget: n.is_multiple_of(2).then(|| "b".repeat(n.into())),
    });
    let spend = vec![n; [0, 10, 3679, 3680, 3942][usize::from(n % 5)]];
    let (pinned_at, settlement, outcome) = (T0.after(n.into()), None, None);
    JournalEntry { key, lane, index: u64::from(n / 4), spend, pinned_at, request, settlement, outcome }
}

/// A signature of something.
fn signature() -> Signature {
    let (root, payment) = (RootSecret::from_bytes([1; 32]), PaymentId::from_bytes([1; 32]));
    let payment = PaymentPath {
        issuer: IssuerId::from_bytes(payment.to_bytes()),
        device: DeviceId::from_bytes([1; 8]),
        payment: 0,
    };
    let note = root.note(&NotePath { payment, lane: 0, index: 0 });
    SigningKey::generate(&mut rng(1)).sign(&root.account(&payment).account_id().commit(&note, 0).leaf(1))
}

/// The answer without what only one of them says.
fn answer<T>(result: Result<T, JournalError>) -> Result<T, &'static str> {
    result.map_err(|error| match error {
        JournalError::OtherContext => "other context",
        JournalError::OtherPayment => "other payment",
        error => panic!("{error:?}"),
    })
}

fn compare(file: &FileJournal, model: &MemoryJournal) {
    let (one, other) = (file.load().unwrap(), model.load().unwrap());
    assert_eq!(one.directory, other.directory);
    assert_eq!(one.payments, other.payments);
    assert_eq!(one.newest, other.newest);
    let mut frozen = other.frozen;
    frozen.sort_unstable();
    assert_eq!(one.frozen, frozen);
    assert_eq!(file.disputes().unwrap(), model.disputes().unwrap());
    for limit in [0, 1, 3, 100] {
        assert_eq!(file.history(limit).unwrap(), model.history(limit).unwrap());
    }
    for n in 0..24 {
        let nullifier = entry(n, false).key.nullifier;
        assert_eq!(file.entry(&nullifier).unwrap(), model.entry(&nullifier).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_file_answers_as_the_memory_does(steps in prop::collection::vec(step(), 1..40)) {
        let (world, device, signature) = (World::without_keys(), Device::new(), signature());
        let whole = device.file("wallet");
        drop(create(&world, &whole));
        let open = || FileJournal::new(whole.open_in_order(&lock()).unwrap().0);
        let (mut file, mut model) = (open(), MemoryJournal::new());
        model.put_directory(world.issuer.signed_directory()).unwrap();
        for step in steps {
            match step {
                Step::Pin(spends) => {
                    let entries: Vec<_> = spends.iter().map(|(n, other)| entry(*n, *other)).collect();
                    prop_assert_eq!(answer(file.pin(&entries)), answer(model.pin(&entries)));
                }
                Step::Settle(spends) => {
                    let settlement = |refund: u8| Settlement {
                        epoch: EPOCH[0],
                        refund: micro(refund.into()),
                        signature: signature.clone(),
                    };
                    let settled: Vec<_> =
                        spends.iter().map(|(n, refund)| (entry(*n, false).key, settlement(*refund))).collect();
                    prop_assert_eq!(answer(file.settle(&settled)), answer(model.settle(&settled)));
                }
                Step::Annotate(n, at) => {
                    let receipt = (at % 2 == 0).then(|| vec![at; at.into()]);
                    let (key, outcome) = (entry(n, false).key, OutcomeNote { settled_at: T0.after(at.into()), receipt });
                    prop_assert_eq!(answer(file.annotate(&key, &outcome)), answer(model.annotate(&key, &outcome)));
                }
                Step::Payment { number, id, amount, minted } => {
                    let minted = minted.then(|| MintResponse {
                        epoch: EPOCH[0],
                        signatures: core::array::from_fn(|_| signature.clone()),
                    });
                    let payment = PaymentEntry {
                        number: number.into(),
                        payment: PaymentId::from_bytes([id; 32]),
                        amounts: [micro(amount.into()); LANES],
                        requested_at: (amount % 2 == 0).then_some(T0),
                        minted,
                        seal: None,
                        origin: None,
                    };
                    prop_assert_eq!(answer(file.put_payment(&payment)), answer(model.put_payment(&payment)));
                }
                Step::Directory => {
                    let mut parts = directory_parts();
                    parts.serial += 1;
                    let signed = SignedDirectory::sign(&Directory::new(parts).unwrap(), &root_key()).unwrap();
                    file.put_directory(&signed).unwrap();
                    model.put_directory(&signed).unwrap();
                }
                Step::Freeze(n) => {
                    let lane = LaneId { payment: u64::from(n / 2), lane: u32::from(n % 2) };
                    prop_assert_eq!(answer(file.freeze(lane)), answer(model.freeze(lane)));
                }
                Step::Dispute(n) => {
                    let kind = [DisputeKind::Withheld, DisputeKind::Denied, DisputeKind::Overcharged][usize::from(n)];
                    let dispute = Dispute {
                        kind,
                        at: T0,
                        gateway: None,
                        spend: None,
                        content: None,
                        settlement: None,
                        receipt: None,
                        mint: None,
                        directories: Vec::new(),
                        heard: vec![HeardNote { at: T0, what: "nothing".to_owned() }],
                    };
                    prop_assert_eq!(answer(file.put_dispute(&dispute)), answer(model.put_dispute(&dispute)));
                }
                Step::Reopen => {
                    drop(file);
                    whole.check(Some(&lock())).unwrap();
                    file = open();
                }
            }
            compare(&file, &model);
        }
    }
}
