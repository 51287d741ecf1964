//! Poseidon: the published vectors natively and in the lane, and the lane against the chip of `halo2_gadgets`.

use ff::{Field, PrimeField};
use halo2_gadgets::poseidon::primitives::P128Pow5T3;
use halo2_gadgets::poseidon::{PoseidonInstructions, Pow5Chip, Pow5Config, StateWord};
use halo2_poseidon::test_vectors::fp;
use halo2_proofs::circuit::{AssignedCell, Layouter, SimpleFloorPlanner, Value};
use halo2_proofs::dev::MockProver;
use halo2_proofs::plonk::{Circuit, Column, ConstraintSystem, Error, Instance};
use pasta_curves::pallas::Base;

use super::super::*;
use super::cheater::Cheater;
use super::constraints::Constraint;
use crate::hash::{Tag, hash_two, permute};

fn words<const N: usize>(bytes: [[u8; 32]; N]) -> [Base; N] {
    bytes.map(|repr| Base::from_repr(repr).unwrap())
}

#[test]
fn the_permutation_is_the_published_one() {
    let vectors = fp::permute();
    assert!(vectors.len() > 10);
    for vector in vectors {
        assert_eq!(permute(words(vector.initial_state)), words(vector.final_state));
    }
}

/// The published hash of two elements has `2^65`, twice the length, in its capacity word. Ours are the same with tags there.
#[test]
fn the_published_hash_is_ours_with_another_capacity_word() {
    let length = Base::from_u128(2 << 64);
    for vector in fp::hash() {
        let [a, b] = words(vector.input);
        let expected = Base::from_repr(vector.output).unwrap();
        assert_eq!(permute([a, b, length])[0], expected);
        for tag in Tag::ALL {
            assert_ne!(tag.capacity(), length);
            assert_ne!(hash_two(tag, a, b), expected);
        }
    }
}

/// A capacity word that is not the tag's is refused for that, and for nothing else in the lane: so the lane states the
/// permutation of any state, and with it those of the vectors.
#[test]
fn the_lane_satisfies_the_published_vectors() {
    let cheater = Cheater::new(1);
    let block = layout::SLOPE;
    for vector in fp::permute() {
        let [a, b, capacity] = words(vector.initial_state);
        let mut block_trace = Trace::empty();
        block_trace.faults = vec![(1, capacity - block.tag.capacity())];
        poseidon::fill(&mut block_trace, block, a, b);
        for (col, word) in Col::LANE.iter().zip(words(vector.final_state)) {
            assert_eq!(block_trace.get((*col, block.landing())), word);
        }
        let mut filling = cheater.fill(&[]);
        for at in &block_trace.written {
            filling.trace.set(*at, block_trace.get(*at));
        }
        let of_lane: Vec<_> = cheater
            .refusals(filling)
            .into_iter()
            .filter(|c| matches!(c, Constraint::Gate(name, ..) if name.starts_with("poseidon")))
            .collect();
        assert_eq!(of_lane, [Constraint::Gate("poseidon: the capacity word starts as its tag", 0, block.start)]);
    }
}

/// A permutation by the chip of `halo2_gadgets`. The instance is the state before, then the state after.
struct Permutation([Base; 3]);

impl Circuit<Base> for Permutation {
    type Config = (Pow5Config<Base, 3, 2>, [Column<Advice>; 3], Column<Instance>);
    type FloorPlanner = SimpleFloorPlanner;

    fn without_witnesses(&self) -> Self {
        Self([Base::ZERO; 3])
    }

    fn configure(meta: &mut ConstraintSystem<Base>) -> Self::Config {
        let state = core::array::from_fn(|_| meta.advice_column());
        let sbox = meta.advice_column();
        let (rc_a, rc_b) =
            (core::array::from_fn(|_| meta.fixed_column()), core::array::from_fn(|_| meta.fixed_column()));
        let instance = meta.instance_column();
        meta.enable_equality(instance);
        (Pow5Chip::configure::<P128Pow5T3>(meta, state, sbox, rc_a, rc_b), state, instance)
    }

    fn synthesize(&self, config: Self::Config, mut layouter: impl Layouter<Base>) -> Result<(), Error> {
        let (config, columns, instance) = config;
        let initial = layouter.assign_region(
            || "initial state",
            |mut region| {
                let mut words = Vec::new();
                for (column, word) in columns.iter().zip(self.0) {
                    words.push(region.assign_advice(|| "word", *column, 0, || Value::known(word))?);
                }
                Ok(words)
            },
        )?;
        for (i, word) in initial.iter().enumerate() {
            layouter.constrain_instance(word.cell(), instance, i)?;
        }
        let state: [StateWord<Base>; 3] = core::array::from_fn(|i| StateWord::from(initial[i].clone()));
        let chip = Pow5Chip::construct(config);
        let last = PoseidonInstructions::<Base, P128Pow5T3, 3, 2>::permute(&chip, &mut layouter, &state)?;
        for (i, word) in last.into_iter().enumerate() {
            let word = AssignedCell::<Base, Base>::from(word);
            layouter.constrain_instance(word.cell(), instance, 3 + i)?;
        }
        Ok(())
    }
}

/// Every permutation of a spend, as it lies in the lane, is one to the chip of `halo2_gadgets`.
#[test]
fn the_lane_agrees_with_the_chip_of_halo2_gadgets() {
    for seed in 0..3 {
        let cheater = Cheater::new(seed);
        let trace = cheater.fill(&[]).trace;
        for block in BLOCKS {
            let row = |row| [Col::P0, Col::P1, Col::P2].map(|col| trace.get((col, row)));
            let [a, b, zero] = row(block.start);
            assert_eq!(zero, Base::ZERO);
            let b = if block.start == CHALLENGE_2.start { cheater.key.fingerprint() } else { b };
            let before = [a, b, block.tag.capacity()];
            let after = row(block.landing());
            assert_eq!(after[0], hash_two(block.tag, a, b));
            let instance = [before, after].concat();
            let run = |instance| MockProver::run(7, &Permutation(before), vec![instance]).unwrap().verify();
            assert_eq!(run(instance.clone()), Ok(()));
            let mut wrong = instance;
            wrong[3] += Base::ONE;
            assert!(run(wrong).is_err());
        }
    }
}
