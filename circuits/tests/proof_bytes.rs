//! What a hostile proof may look like. All of it is refused with an error that says why, and nothing panics.

mod common;

use common::{Epoch, Proven, element};
use ff::{Field, PrimeField};
use group::CurveAffine as _;
use halometer_circuits::note::{ContextHash, Nullifier, ShareY, ValueCommitment};
use halometer_circuits::proof::{Proof, VerifyError};
use halometer_circuits::spend::SpendPublic;
use pasta_curves::arithmetic::CurveAffine;
use pasta_curves::{pallas, vesta};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

const POINT: usize = 64;
const SCALAR: usize = 32;

/// What lies in a proof, in this order.
const SECTIONS: [(&str, Kind, usize); 9] = [
    ("advice commitments", Kind::Point, 8),
    ("permutation product", Kind::Point, 1),
    ("random polynomial", Kind::Point, 1),
    ("quotient pieces", Kind::Point, 5),
    ("evaluations: instance, advice, fixed, random, permutation", Kind::Scalar, 1 + 15 + 24 + 1 + 3 + 2),
    ("multi-opening quotient", Kind::Point, 1),
    ("multi-opening evaluations", Kind::Scalar, 2),
    ("blinding polynomial and rounds", Kind::Point, 1 + 8),
    ("what the rounds leave, and the blinding", Kind::Scalar, 16 + 1),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Point,
    Scalar,
}

impl Kind {
    fn bytes(self) -> usize {
        match self {
            Kind::Point => POINT,
            Kind::Scalar => SCALAR,
        }
    }
}

/// All points and scalars: what each is part of, and where it begins.
fn slots() -> Vec<(&'static str, Kind, usize)> {
    let mut at = 0;
    let mut slots = Vec::new();
    for (name, kind, count) in SECTIONS {
        for _ in 0..count {
            slots.push((name, kind, at));
            at += kind.bytes();
        }
    }
    assert_eq!(at, Proof::LENGTH, "the sections above are those of another circuit");
    slots
}

fn places(kind: Kind) -> impl Iterator<Item = (&'static str, usize)> {
    slots().into_iter().filter(move |slot| slot.1 == kind).map(|(name, _, at)| (name, at))
}

fn verdict(proven: &Proven, bytes: &[u8]) -> Result<(), VerifyError> {
    proven.key.verify(&proven.public, &Proof::from_bytes(bytes)?)
}

fn with(proven: &Proven, at: usize, new: &[u8]) -> Result<(), VerifyError> {
    let mut bytes = proven.proof.as_bytes().to_vec();
    bytes[at..at + new.len()].copy_from_slice(new);
    verdict(proven, &bytes)
}

fn slot<const N: usize>(proven: &Proven, at: usize) -> [u8; N] {
    proven.proof.as_bytes()[at..at + N].try_into().expect("N bytes")
}

/// `n + m` as 256-bit numbers, if there is room.
fn plus(n: &[u8; 32], m: &[u8; 32]) -> Option<[u8; 32]> {
    let mut carry = 0u16;
    let sum = core::array::from_fn(|i| {
        carry += u16::from(n[i]) + u16::from(m[i]);
        let byte = carry as u8;
        carry >>= 8;
        byte
    });
    (carry == 0).then_some(sum)
}

/// The modulus of a field, from its largest element.
fn modulus<F: PrimeField<Repr = [u8; 32]>>() -> [u8; 32] {
    let mut one = [0; 32];
    one[0] = 1;
    plus(&(-F::ONE).to_repr(), &one).expect("a field of 255 bits")
}

#[test]
fn a_valid_proof_is_valid() {
    let proven = Epoch::new(1).prove(1);
    assert_eq!(verdict(&proven, proven.proof.as_bytes()), Ok(()));
}

/// Flips some bits of one byte and demands that the proof is refused.
fn flip(proven: &Proven, place: usize, mask: u8) {
    let verdict = with(proven, place, &[proven.proof.as_bytes()[place] ^ mask]);
    assert!(
        matches!(verdict, Err(VerifyError::Encoding | VerifyError::Invalid)),
        "byte {place} ^ {mask:02x}: {verdict:?}"
    );
}

#[test]
fn a_flipped_byte_is_refused() {
    let proven = Epoch::new(2).prove(2);
    let mut rng = ChaCha20Rng::seed_from_u64(2);
    // One byte in each point and scalar, and as many again anywhere.
    let each: Vec<_> = slots().iter().map(|(_, kind, at)| at + rng.next_u32() as usize % kind.bytes()).collect();
    let anywhere = (0..200 - each.len()).map(|_| rng.next_u32() as usize % Proof::LENGTH);
    let places: Vec<_> = each.iter().copied().chain(anywhere).map(|place| (place, rng_mask(place))).collect();
    places.par_iter().for_each(|(place, mask)| flip(&proven, *place, *mask));
}

/// Any bits but none.
fn rng_mask(seed: usize) -> u8 {
    (ChaCha20Rng::seed_from_u64(seed as u64).next_u32() % 255) as u8 + 1
}

#[test]
#[ignore = "slow suite"]
fn every_flipped_byte_is_refused() {
    let proven = Epoch::new(3).prove(3);
    (0..Proof::LENGTH).into_par_iter().for_each(|place| {
        flip(&proven, place, rng_mask(place));
        flip(&proven, place, 1 << (place % 8));
    });
}

#[test]
fn another_length_is_refused() {
    let proven = Epoch::new(4).prove(4);
    let mut bytes = proven.proof.as_bytes().to_vec();
    bytes.push(0);
    for found in (0..Proof::LENGTH).chain([Proof::LENGTH + 1]) {
        assert_eq!(Proof::from_bytes(&bytes[..found]).err(), Some(VerifyError::Length { found }));
    }
    // A proof of format 1 is refused by that name.
    let older = [proven.proof.as_bytes(), &[0; 32]].concat();
    assert_eq!(Proof::from_bytes(&older).err(), Some(VerifyError::Superseded { found: 1 }));
    let twice = [proven.proof.as_bytes(), proven.proof.as_bytes()].concat();
    assert_eq!(Proof::from_bytes(&twice).err(), Some(VerifyError::Length { found: 2 * Proof::LENGTH }));
    // Of the right length, but with a byte missing or added within.
    for place in [0, 1, 500, 2000] {
        let mut shifted = proven.proof.as_bytes().to_vec();
        shifted.remove(place);
        shifted.push(0);
        assert_eq!(verdict(&proven, &shifted), Err(VerifyError::Encoding));
    }
}

#[test]
fn a_scalar_that_is_not_canonical_is_refused() {
    let proven = Epoch::new(5).prove(5);
    let p = modulus::<pallas::Base>();
    for (name, at) in places(Kind::Scalar) {
        let same = plus(&slot(&proven, at), &p).expect("below 2^256");
        for bad in [p, same, [0xff; 32]] {
            assert_eq!(with(&proven, at, &bad), Err(VerifyError::Encoding), "{name}");
        }
    }
}

#[test]
fn a_coordinate_that_is_not_canonical_is_refused() {
    let proven = Epoch::new(6).prove(6);
    let q = modulus::<vesta::Base>();
    for (name, at) in places(Kind::Point) {
        for coordinate in [at, at + 32] {
            let same = plus(&slot(&proven, coordinate), &q).expect("below 2^256");
            for bad in [q, same, [0xff; 32]] {
                assert_eq!(with(&proven, coordinate, &bad), Err(VerifyError::Encoding), "{name}");
            }
        }
    }
}

#[test]
fn the_identity_and_points_off_the_curve_are_refused() {
    let proven = Epoch::new(7).prove(7);
    for (name, at) in places(Kind::Point) {
        let [x, y] = [slot::<32>(&proven, at), slot::<32>(&proven, at + 32)];
        let next = |repr: [u8; 32]| (vesta::Base::from_repr(repr).expect("canonical") + vesta::Base::ONE).to_repr();
        for (what, bad) in [
            ("the identity", [[0; 32], [0; 32]]),
            ("x = 0", [[0; 32], y]),
            ("y = 0", [x, [0; 32]]),
            ("exchanged coordinates", [y, x]),
            ("another y", [x, next(y)]),
            ("another x", [next(x), y]),
        ] {
            // Whether x + 1 has this y is a matter of luck that nobody has.
            assert_eq!(with(&proven, at, &bad.concat()), Err(VerifyError::Encoding), "{name}: {what}");
        }
    }
}

#[test]
fn another_point_of_the_curve_is_refused() {
    let proven = Epoch::new(8).prove(8);
    let generator = vesta::Affine::generator().coordinates().expect("not the identity");
    let generator = [generator.x().to_repr(), generator.y().to_repr()].concat();
    for (name, at) in places(Kind::Point) {
        let y = vesta::Base::from_repr(slot(&proven, at + 32)).expect("canonical");
        assert_eq!(with(&proven, at + 32, &(-y).to_repr()), Err(VerifyError::Invalid), "{name}: negated");
        assert_eq!(with(&proven, at, &generator), Err(VerifyError::Invalid), "{name}: the generator");
    }
}

#[test]
fn exchanged_points_and_scalars_are_refused() {
    let proven = Epoch::new(9).prove(9);
    for kind in [Kind::Point, Kind::Scalar] {
        let places: Vec<_> = places(kind).collect();
        for pair in places.windows(2) {
            let [(_, a), (_, b)] = *pair else { unreachable!("two") };
            let mut bytes = proven.proof.as_bytes().to_vec();
            let (first, second) = (bytes[a..a + kind.bytes()].to_vec(), bytes[b..b + kind.bytes()].to_vec());
            assert_ne!(first, second);
            bytes[a..a + kind.bytes()].copy_from_slice(&second);
            bytes[b..b + kind.bytes()].copy_from_slice(&first);
            assert_eq!(verdict(&proven, &bytes), Err(VerifyError::Invalid), "{kind:?} at {a} and {b}");
        }
    }
}

/// A point where two scalars should be, and the like.
#[test]
fn bytes_of_another_kind_are_refused() {
    let proven = Epoch::new(10).prove(10);
    for filler in [0x00, 0x01, 0x7f, 0x80, 0xff] {
        assert_eq!(verdict(&proven, &[filler; Proof::LENGTH]), Err(VerifyError::Encoding));
    }
    let mut rng = ChaCha20Rng::seed_from_u64(10);
    for _ in 0..100 {
        let mut bytes = [0; Proof::LENGTH];
        rng.fill_bytes(&mut bytes);
        assert_eq!(verdict(&proven, &bytes), Err(VerifyError::Encoding));
    }
    let mut reversed = proven.proof.as_bytes().to_vec();
    reversed.reverse();
    assert!(verdict(&proven, &reversed).is_err());
}

/// The head of one valid proof with the tail of another, cut between any two of their parts.
#[test]
fn parts_of_two_proofs_make_none() {
    let epoch = Epoch::new(11);
    let (one, other) = (epoch.prove(11), epoch.prove(12));
    let cuts: Vec<usize> = slots().iter().skip(1).map(|(_, _, at)| *at).collect();
    cuts.par_iter().for_each(|cut| {
        let bytes = [&one.proof.as_bytes()[..*cut], &other.proof.as_bytes()[*cut..]].concat();
        for proven in [&one, &other] {
            assert_eq!(verdict(proven, &bytes), Err(VerifyError::Invalid), "cut at {cut}");
        }
    });
}

#[test]
fn a_proof_is_of_its_public_inputs_alone() {
    let epoch = Epoch::new(13);
    let (one, other) = (epoch.prove(13), epoch.prove(14));
    let bytes = element(1);
    let public = one.public;
    let others = [
        SpendPublic { context: ContextHash::from_bytes(&bytes).expect("canonical"), ..public },
        SpendPublic { share: ShareY::from_bytes(&bytes).expect("canonical"), ..public },
        SpendPublic { nullifier: Nullifier::from_bytes(&bytes).expect("canonical"), ..public },
        SpendPublic { change: ValueCommitment::from_bytes(&bytes).expect("canonical"), ..public },
        SpendPublic { charge: public.charge + 1, ..public },
        SpendPublic { charge: public.charge - 1, ..public },
        SpendPublic { charge: 0, ..public },
        SpendPublic { context: other.public.context, ..public },
        SpendPublic { context: other.public.context, share: other.public.share, ..public },
        SpendPublic { nullifier: other.public.nullifier, ..public },
        other.public,
    ];
    assert_eq!(one.key.verify(&public, &one.proof), Ok(()));
    for other in others {
        assert_eq!(one.key.verify(&other, &one.proof), Err(VerifyError::Invalid));
    }
}

#[test]
fn a_proof_is_of_its_epoch_alone() {
    let (ours, theirs) = (Epoch::new(15), Epoch::new(16));
    let proven = ours.prove(15);
    assert_eq!(theirs.verifying().verify(&proven.public, &proven.proof), Err(VerifyError::Invalid));
    assert_ne!(ours.key(), theirs.key());
    assert_ne!(ours.verifying().digest(), theirs.verifying().digest());
    // Keys that were built apart are the same.
    assert_eq!(Epoch::new(15).verifying().verify(&proven.public, &proven.proof), Ok(()));
}

/// Proofs are random, so that two of one spend cannot be told from two of two: what identifies a spend is `(nf, x)`.
#[test]
fn two_proofs_of_one_spend_have_no_part_in_common() {
    let epoch = Epoch::new(17);
    let (public, witness) = epoch.spend(17);
    let [one, other] = [1, 2].map(|seed| {
        epoch.proving.prove(&public, &witness, &mut ChaCha20Rng::seed_from_u64(seed)).expect("a true statement")
    });
    for (name, kind, at) in slots() {
        // The evaluations of the instance and of fixed columns are at a challenge of their own each time.
        let part = |proof: &Proof| proof.as_bytes()[at..at + kind.bytes()].to_vec();
        assert_ne!(part(&one), part(&other), "{name}");
    }
}
