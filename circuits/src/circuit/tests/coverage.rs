//! Each constraint is needed: for each there is a filling of the cells that it alone refuses. Take it out, and this filling
//! is accepted.

use std::collections::{BTreeMap, BTreeSet};

use ff::Field;
use pasta_curves::pallas::Base;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use rayon::prelude::*;

use super::super::*;
use super::attack::Attack;
use super::cheater::{Cheater, Filling, small};
use super::constraints::{Constraint, all};
use super::signer::{self, Lie};
use super::{balance, forgeries, identity};
use crate::circuit::layout::{BOUND, CONSTANT};
use crate::note::{ContextHash, Nullifier, ShareY, ValueCommitment};
use crate::proof::{ProvingKey, VerifyError};

const SPLIT: &str = "range: challenge = low 128 bits of the hash";

/// A lie that no range has room for, however it is added to a digit.
fn lie() -> Base {
    Base::from(4)
}

/// What the lies at the wires of the filling show, one after another.
struct Sweep {
    /// Constraints that were the only ones to refuse a lie.
    alone: BTreeSet<Constraint>,
    /// What refused, by wire, where it was not one constraint.
    others: BTreeMap<usize, BTreeSet<Constraint>>,
}

fn sweep(cheater: &Cheater) -> Sweep {
    let chain = cheater.chain_wires();
    let results: Vec<_> = (0..cheater.wires())
        .into_par_iter()
        .filter(|wire| !chain.contains(wire))
        .map(|wire| (wire, cheater.refusals(cheater.fill_to_fit(&[(wire, lie())]))))
        .collect();
    let mut sweep = Sweep { alone: BTreeSet::new(), others: BTreeMap::new() };
    for (wire, refusals) in results {
        if refusals.len() == 1 {
            sweep.alone.extend(refusals);
        } else {
            sweep.others.insert(wire, refusals);
        }
    }
    sweep
}

/// The words that leave the partial rounds are stated in two combinations, so a lie at one word is refused by both. Two lies
/// that cancel in one are refused by the other.
fn paired_lies(cheater: &Cheater, words: [usize; 2]) -> Vec<BTreeSet<Constraint>> {
    let refused = |[a, b]: [Base; 2]| cheater.refusals(cheater.fill_to_fit(&[(words[0], b), (words[1], -a)]));
    poseidon::exit_weights().map(refused).to_vec()
}

/// The public claim differs from the cell that is bound to it.
fn other_claims(cheater: &Cheater) -> Vec<BTreeSet<Constraint>> {
    BOUND
        .map(|row| {
            let mut filling = cheater.fill(&[]);
            filling.instance[row] += Base::ONE;
            cheater.refusals(filling)
        })
        .collect()
}

fn attacks(cheater: &Cheater) -> Vec<Attack> {
    [forgeries::all, forgeries::wide_digits, balance::all, identity::all]
        .into_iter()
        .flat_map(|all| all(cheater))
        .collect()
}

#[test]
fn every_constraint_alone_refuses_what_it_is_there_to_refuse() {
    let cheater = Cheater::new(1);
    let Sweep { mut alone, others } = sweep(&cheater);

    let mut free = Vec::new();
    let mut pairs = Vec::new();
    for (wire, refusals) in &others {
        let gates: Vec<_> = refusals.iter().collect();
        match gates[..] {
            [] => free.push(*wire),
            [Constraint::Gate("poseidon: out of the partial rounds", 1, a), Constraint::Gate(_, 2, b)] if a == b => {
                pairs.push(*wire)
            }
            // What the challenge is compared with cannot follow a lie: `forgeries` has attacks there.
            _ => assert!(gates.iter().any(|c| matches!(c, Constraint::Gate(SPLIT, ..))), "{gates:?}"),
        }
    }
    // One wire is free, as rho' is: the change note may have any secret.
    assert_eq!(free.len(), 1);
    assert_eq!(pairs.len(), 2 * BLOCKS.len());
    let paired: Vec<_> = pairs.par_chunks(2).flat_map_iter(|pair| paired_lies(&cheater, [pair[0], pair[1]])).collect();
    let lies: Vec<_> = Lie::all().collect();
    let of_signer: Vec<_> =
        lies.into_par_iter().filter_map(|lie| Some(cheater.refusals(signer::lie(&cheater, lie)?))).collect();
    let by_hand: Vec<_> = attacks(&cheater).into_par_iter().map(|attack| attack.carry_out(&cheater)).collect();
    for refusals in paired.into_iter().chain(other_claims(&cheater)).chain(of_signer).chain(by_hand) {
        assert_eq!(refusals.len(), 1, "{refusals:?}");
        alone.extend(refusals);
    }

    let missing: BTreeSet<_> = all().difference(&alone).copied().collect();
    let implied = Constraint::Gate("range: digits", 1, RANGE_START);
    let (digits, missing): (BTreeSet<_>, BTreeSet<_>) =
        missing.into_iter().partition(|c| matches!(c, Constraint::Gate("signature: digit", 0, row) if *row < CONSTANT));
    // The first digit of `y` is a bit, so that it is a digit.
    assert_eq!(missing, [implied].into(), "a constraint without an attack");
    // In these rows no fifth digit leads to a point of the curve, so that nobody can finish the chain.
    assert!(digits.len() <= CONSTANT * 2 / 3, "{}", digits.len());
    assert!(alone.is_subset(&all()));
}

/// The mock prover's word is not all: a proof is made of each attack by hand, and the verifier refuses it.
#[test]
fn the_verifier_refuses_the_attacks_too() {
    let cheater = Cheater::new(3);
    let key = ProvingKey::build(&cheater.key);
    let verify = |Filling { trace, instance }: Filling, seed| {
        let [x, y, nf, change, charge] = instance;
        let public = SpendPublic {
            context: ContextHash::from_value(x),
            share: ShareY::from_value(y),
            nullifier: Nullifier::from_value(nf),
            change: ValueCommitment::from_value(change),
            charge: small(&charge).unwrap(),
        };
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let proof = key.prove_circuit(&public, cheater.circuit.with_trace(trace), &mut rng).unwrap();
        key.verifying_key().verify(&public, &proof)
    };
    assert_eq!(verify(cheater.fill(&[]), 0), Ok(()));
    let attacks: Vec<_> =
        [forgeries::all, balance::all, identity::all].into_iter().flat_map(|all| all(&cheater)).collect();
    attacks.into_par_iter().for_each(|attack| {
        assert_eq!(verify(attack.filling, 1), Err(VerifyError::Invalid), "{}", attack.name);
    });
}
