//! The signature chain against the elliptic-curve chip of `halo2_gadgets`: one circuit holds both, on the same `s` and `e`, and
//! equates their `R.x`.

use ff::{Field, PrimeField};
use group::Curve;
use halo2_gadgets::ecc::chip::{
    BaseFieldElem, CircuitVersion, EccChip, EccConfig, FixedPoint, FullScalar, H, ShortScalar,
};
use halo2_gadgets::ecc::{FixedPoints, NonIdentityPoint, ScalarVar};
use halo2_gadgets::utilities::lookup_range_check::{LookupRangeCheck, PallasLookupRangeCheckConfig};
use halo2_proofs::circuit::{AssignedCell, Layouter, SimpleFloorPlanner, Value};
use halo2_proofs::dev::MockProver;
use halo2_proofs::plonk::{Circuit, Column, ConstraintSystem, Constraints, Error, Selector, TableColumn};
use halo2_proofs::poly::Rotation;
use pasta_curves::pallas::{self, Affine, Base};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::super::*;
use crate::circuit::layout::{CHAIN_END, CONSTANT, S_DIGITS};
use crate::note::Leaf;
use crate::schnorr::{Signature, SigningKey, generator};

/// Rows for the chip's lookup table of `2^10`.
const K: u32 = 11;

/// The chip wants to know fixed points. Both of ours are variable bases to it, so that nothing of our tables is shared.
macro_rules! no_point {
    ($name:ident, $kind:ty) => {
        #[derive(Clone, Debug, PartialEq, Eq)]
        enum $name {}

        impl FixedPoint<Affine> for $name {
            type FixedScalarKind = $kind;

            fn generator(&self) -> Affine {
                match *self {}
            }

            fn u(&self) -> Vec<[[u8; 32]; H]> {
                match *self {}
            }

            fn z(&self) -> Vec<u64> {
                match *self {}
            }
        }
    };
}
no_point!(NoFull, FullScalar);
no_point!(NoShort, ShortScalar);
no_point!(NoBase, BaseFieldElem);

#[derive(Clone, Debug, PartialEq, Eq)]
struct NoPoints;

impl FixedPoints<Affine> for NoPoints {
    type FullScalar = NoFull;
    type ShortScalar = NoShort;
    type Base = NoBase;
}

/// What both compute, and the scalars that the other chip is given.
struct Both {
    circuit: SpendCircuit,
    key: PublicKey,
    /// The cells of our chain.
    chain: Trace,
    s: Base,
}

#[derive(Clone)]
struct BothConfig {
    ours: [Column<Advice>; 4],
    hashed: Column<Advice>,
    first: Selector,
    signature: SignatureConfig,
    /// `s`, in the row in which our `z` is `-s / 4^128`.
    s: Column<Advice>,
    table: TableColumn,
    ecc: EccConfig<NoPoints>,
}

impl Circuit<Base> for Both {
    type Config = BothConfig;
    type FloorPlanner = SimpleFloorPlanner;

    fn without_witnesses(&self) -> Self {
        panic!("the mock prover has no use for it")
    }

    fn configure(meta: &mut ConstraintSystem<Base>) -> BothConfig {
        let ours: [_; 4] = core::array::from_fn(|_| meta.advice_column());
        let hashed = meta.advice_column();
        let s = meta.advice_column();
        for column in [ours[0], ours[1], s] {
            meta.enable_equality(column);
        }
        let first = meta.complex_selector();
        let signature = SignatureConfig::configure(meta, ours, hashed, first);
        meta.create_gate("s is what the digits add up to", |meta| {
            let selector = meta.query_selector(first);
            let four_n = Base::from(4).pow_vartime([S_DIGITS as u64]);
            let (z, s) = (meta.query_advice(ours[0], Rotation::cur()), meta.query_advice(s, Rotation::cur()));
            Constraints::with_selector(selector, [z * four_n + s])
        });

        let advice = core::array::from_fn(|_| meta.advice_column());
        let table = meta.lookup_table_column();
        let lagrange = core::array::from_fn(|_| meta.fixed_column());
        let constants = meta.fixed_column();
        meta.enable_constant(constants);
        let range = PallasLookupRangeCheckConfig::configure(meta, advice[9], table);
        let ecc = EccChip::<NoPoints>::configure(meta, advice, lagrange, range);
        BothConfig { ours, hashed, first, signature, s, table, ecc }
    }

    fn synthesize(&self, config: BothConfig, mut layouter: impl Layouter<Base>) -> Result<(), Error> {
        let (s, e, r_x) = self.ours(&config, &mut layouter)?;
        layouter.assign_table(
            || "ten bits",
            |mut table| {
                (0..1 << 10)
                    .try_for_each(|n| table.assign_cell(|| "n", config.table, n, || Value::known(Base::from(n as u64))))
            },
        )?;
        let chip = EccChip::construct(config.ecc, CircuitVersion::AnchoredBase);
        let mut multiply = |point: Affine, by: &AssignedCell<Base, Base>| {
            let base = NonIdentityPoint::new_from_constant(chip.clone(), layouter.namespace(|| "base"), point)?;
            let by = ScalarVar::from_base(chip.clone(), layouter.namespace(|| "scalar"), by)?;
            base.mul(layouter.namespace(|| "product"), by).map(|(product, _)| product)
        };
        let of_g = multiply(generator().to_affine(), &s)?;
        let of_d = multiply(-self.key.point(), &e)?;
        let r = of_g.add(layouter.namespace(|| "R"), &of_d)?;
        layouter.assign_region(|| "equal", |mut region| region.constrain_equal(r.inner().x().cell(), r_x.cell()))
    }
}

type Cell = AssignedCell<Base, Base>;

impl Both {
    /// Our chain, and its `s`, `e` and `R.x`.
    fn ours(&self, config: &BothConfig, layouter: &mut impl Layouter<Base>) -> Result<(Cell, Cell, Cell), Error> {
        let [z, x, y, lambda] = config.ours;
        layouter.assign_region(
            || "chain",
            |mut region| {
                let after = CHAIN_END + 1;
                config.signature.assign(&mut region, &self.circuit.fixed.table, after..after)?;
                config.first.enable(&mut region, 0)?;
                let s = region.assign_advice(|| "s", config.s, 0, || Value::known(self.s))?;
                let mut cells = std::collections::HashMap::new();
                for at in &self.chain.written {
                    let column = match at.0 {
                        Col::Z => z,
                        Col::X => x,
                        Col::Y => y,
                        _ => lambda,
                    };
                    let value = Value::known(self.chain.get(*at));
                    cells.insert(*at, region.assign_advice(|| "cell", column, at.1, || value)?);
                }
                let r_x = cells[&(Col::X, CHAIN_END)].clone();
                region.assign_advice(|| "hashed", config.hashed, CHAIN_END, || r_x.value().copied())?;
                region.assign_advice(|| "no range", z, after, || Value::known(Base::ZERO))?;
                Ok((s, cells[&(Col::Z, CONSTANT)].clone(), r_x))
            },
        )
    }
}

fn both(key: &SigningKey, signature: &Signature, s: Base) -> Both {
    let key = key.public_key();
    let circuit = SpendCircuit::for_key(&key);
    let mut chain = Trace::empty();
    signature::fill(&mut chain, &circuit.fixed.table, signature);
    Both { circuit, key, chain, s }
}

fn holds(both: &Both) -> bool {
    MockProver::run(K, both, vec![]).unwrap().verify().is_ok()
}

/// `s` as an element of the base field, in which it has room: but for a part of 2^-126, `s` is below `p`.
fn in_base_field(s: &pallas::Scalar) -> Base {
    Base::from_repr(s.to_repr()).unwrap()
}

#[test]
fn the_chain_agrees_with_the_chip_of_halo2_gadgets() {
    for seed in 0..4 {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let key = SigningKey::generate(&mut rng);
        let signature = key.sign(&Leaf::from_value(Base::random(&mut rng)));
        assert!(holds(&both(&key, &signature, in_base_field(signature.s()))), "a signature");
        // Any s and e: they need not make a signature for R to be what it is.
        let s = pallas::Scalar::random(&mut rng);
        for e in [u128::MAX, 1, u128::MAX / 3] {
            assert!(holds(&both(&key, &super::cheater::signature(e, &s), in_base_field(&s))), "e = {e:x}");
        }
        // With another s the two disagree; this shows that the comparison compares.
        assert!(!holds(&both(&key, &signature, in_base_field(&s))));
    }
}
