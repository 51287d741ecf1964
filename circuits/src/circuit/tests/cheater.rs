//! A prover that may put anything into the cells, in league with the issuer: whatever leaf comes out, the issuer signs
//! it. What is refused all the same is refused by the circuit, not for lack of a signature.

use std::collections::BTreeSet;
use std::ops::Range;

use ff::{Field, PrimeField};
use group::Curve;
use pasta_curves::pallas::{Base, Point, Scalar};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::super::*;
use super::constraints::{Constraint, refusals};
use super::support::*;
use crate::note::{ContextHash, Nullifier, ShareY, ValueCommitment};
use crate::schnorr::{Signature, SigningKey, coordinates, generator, low_128};

/// Values of all cells and of the instance.
pub(super) struct Filling {
    pub(super) trace: Trace,
    pub(super) instance: Instance,
}

/// The private and public values of a spend, as raw field elements.
#[derive(Clone)]
pub(super) struct Cheater {
    pub(super) circuit: SpendCircuit,
    pub(super) key: PublicKey,
    /// `d`, the issuer's secret.
    pub(super) secret: Scalar,
    /// The nonce of the signature.
    pub(super) nonce: Scalar,
    pub(super) k: Base,
    pub(super) rho: Base,
    pub(super) v: Base,
    pub(super) r: Base,
    pub(super) next_rho: Base,
    pub(super) x: Base,
    pub(super) charge: u64,
    /// What the range of `v'` is filled with.
    pub(super) change: u64,
}

impl Cheater {
    /// A prover that has not cheated yet.
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let key = SigningKey::generate(&mut rng);
        let (v, r, charge) = (50_000_000u64, 7_000_000, 10_000_000);
        Self {
            circuit: SpendCircuit::for_key(&key.public_key()),
            key: key.public_key(),
            secret: Scalar::from_repr(key.to_bytes()).unwrap(),
            nonce: Scalar::random(&mut rng),
            k: Base::random(&mut rng),
            rho: Base::random(&mut rng),
            v: v.into(),
            r: r.into(),
            next_rho: Base::random(&mut rng),
            x: Base::random(&mut rng),
            charge,
            change: v + r - charge,
        }
    }

    /// Fills all cells, with lies at some wires, and gets the leaf signed that they lead to.
    pub(super) fn fill(&self, faults: &[(usize, Base)]) -> Filling {
        self.sign(faults, self.raw(faults, &self.respond(0)))
    }

    /// As [`fill`](Self::fill), and `v` is such that `v'` and its range agree, whatever the lies.
    pub(super) fn fill_to_fit(&self, faults: &[(usize, Base)]) -> Filling {
        let ends = |trace: &Trace| (trace.get((Col::P0, layout::CHANGE_VALUE)), trace.get((Col::Z, RANGE_END)));
        let mut me = self.clone();
        let mut trace = me.raw(faults, &me.respond(0));
        if let ((balance, range), Some(change)) = (ends(&trace), small(&ends(&trace).0))
            && balance != range
        {
            me.change = change;
            trace = me.raw(faults, &me.respond(0));
        }
        let (balance, range) = ends(&trace);
        if balance != range {
            me.v += range - balance;
            trace = me.raw(faults, &me.respond(0));
        }
        me.sign(faults, trace)
    }

    /// The signature with the challenge `e` whose `R` is `[nonce]G`.
    pub(super) fn respond(&self, e: u128) -> Signature {
        signature(e, &(self.nonce + Scalar::from_u128(e) * self.secret))
    }

    /// `trace` has all but the right challenge.
    fn sign(&self, faults: &[(usize, Base)], trace: Trace) -> Filling {
        let e = low_128(&trace.get(layout::CHALLENGE_2.output()));
        self.conclude(self.raw(faults, &self.respond(e)))
    }

    fn raw(&self, faults: &[(usize, Base)], signature: &Signature) -> Trace {
        let mut trace = Trace::empty();
        trace.faults = faults.to_vec();
        // Of these the filling takes x and the charge alone.
        let zero = Base::ZERO;
        let public = SpendPublic {
            context: ContextHash::from_value(self.x),
            share: ShareY::from_value(zero),
            nullifier: Nullifier::from_value(zero),
            change: ValueCommitment::from_value(zero),
            charge: self.charge,
        };
        let Self { k, rho, v, r, next_rho, change, .. } = *self;
        self.circuit.fill_cells(&mut trace, &public, &Secrets { k, rho, v, r, next_rho, change, signature });
        trace
    }

    /// The claims that fit the cells.
    pub(super) fn conclude(&self, trace: Trace) -> Filling {
        let [y, nf, change] = [layout::SHARE, layout::NULLIFIER, layout::CHANGE].map(|row| trace.get((Col::P0, row)));
        Filling { instance: [self.x, y, nf, change, Base::from(self.charge)], trace }
    }

    /// The number of wires.
    pub(super) fn wires(&self) -> usize {
        self.raw(&[], &self.respond(0)).wires
    }

    /// Those of the signature chain.
    pub(super) fn chain_wires(&self) -> Range<usize> {
        let zero = Base::ZERO;
        let mut chain = Trace::empty();
        signature::fill(&mut chain, &self.circuit.fixed.table, &self.respond(0));
        let mut after = Trace::empty();
        self.hash_challenge(&mut after, zero, zero);
        self.fill_ranges(&mut after, zero);
        // Four that carry R.x, L, ch1 and e.
        let end = self.wires() - after.wires - 4;
        end - chain.wires..end
    }

    /// Fills what comes after the chain, for an `R.x` and a leaf of the cheater's choice: returns the challenge hash.
    pub(super) fn hash_challenge(&self, trace: &mut Trace, r_x: Base, leaf: Base) -> Base {
        let ch1 = poseidon::fill(trace, layout::CHALLENGE_1, r_x, leaf);
        poseidon::fill(trace, CHALLENGE_2, ch1, self.key.fingerprint())
    }

    /// Fills the ranges; `hash` is what they are taken from, which the cheater may have chosen otherwise than the hash is.
    pub(super) fn fill_ranges(&self, trace: &mut Trace, hash: Base) {
        let low = trace.get((Col::Z, layout::CONSTANT));
        range::fill(trace, self.change, hash, low);
    }

    /// Which constraints refuse the filling.
    pub(super) fn refusals(&self, filling: Filling) -> BTreeSet<Constraint> {
        refusals(&self.circuit, filling.trace, &filling.instance)
    }
}

/// Any `e` with any `s`.
pub(super) fn signature(e: u128, s: &Scalar) -> Signature {
    let mut bytes = [0; Signature::LENGTH];
    bytes[..16].copy_from_slice(&e.to_le_bytes());
    bytes[16..].copy_from_slice(&s.to_repr());
    Signature::from_bytes(&bytes).unwrap()
}

/// The leaf that the cells lead to.
pub(super) fn leaf_of(trace: &Trace) -> Base {
    trace.get(layout::LEAF.output())
}

/// A number below `2^64`.
pub(super) fn small(value: &Base) -> Option<u64> {
    let bytes = value.to_repr();
    let (low, high) = bytes.split_at(8);
    high.iter().all(|byte| *byte == 0).then(|| u64::from_le_bytes(low.try_into().unwrap()))
}

/// `x` of `[t]G`.
pub(super) fn nonce_x(t: &Scalar) -> Base {
    x_of(&(generator() * t))
}

pub(super) fn x_of(point: &Point) -> Base {
    coordinates(&point.to_affine()).unwrap().0
}

#[test]
fn an_honest_prover_is_not_refused() {
    for seed in 0..4 {
        let cheater = Cheater::new(seed);
        let filling = cheater.fill(&[]);
        assert_eq!(filling.trace.get(layout::CHALLENGE_1.first_input()), nonce_x(&cheater.nonce));
        assert_eq!(cheater.refusals(filling), Default::default());
    }
}

#[test]
fn the_wires_of_the_chain_are_those_of_its_cells() {
    let cheater = Cheater::new(0);
    let honest = cheater.raw(&[], &cheater.respond(0));
    let chain = cheater.chain_wires();
    let moved = |wire, at| cheater.raw(&[(wire, Base::ONE)], &cheater.respond(0)).get(at) != honest.get(at);
    assert!(moved(chain.start, (Col::X, 0)) && moved(chain.end - 1, (Col::Z, layout::CHAIN_END)));
    assert!(!moved(chain.start - 1, (Col::X, 0)) && !moved(chain.end, (Col::Z, layout::CHAIN_END)));
}
