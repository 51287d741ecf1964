//! The Spend circuit: `2^8` rows, eight advice columns, degree 6. [`layout`] says where everything lies.

#[cfg(any(test, feature = "fixtures"))]
mod description;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod header;
mod layout;
mod places;
mod poseidon;
mod range;
mod signature;
mod trace;

#[cfg(test)]
mod tests;

use ff::Field;
use halo2_proofs::circuit::{Layouter, SimpleFloorPlanner, Value};
use halo2_proofs::plonk::{Advice, Circuit, Column, ConstraintSystem, Error};
use pasta_curves::pallas::Base;
use std::sync::Arc;

use header::HeaderConfig;
use layout::{BLOCKS, CHALLENGE_2, COPIES, RANGE_END, RANGE_START};
use poseidon::PoseidonConfig;
use range::RangeConfig;
use signature::{Row, SignatureConfig};
use trace::Trace;

use crate::schnorr::PublicKey;
use crate::spend::{SpendPublic, SpendWitness, Violation};

#[cfg(feature = "fixtures")]
pub(crate) use description::Description;
pub(crate) use layout::{CELLS, Col, K};
pub(crate) use places::FIXED;
pub(crate) use poseidon::Forms;
pub(crate) use range::power_of_two;
pub(crate) use signature::three_halves;

/// Columns and gates of the circuit.
#[derive(Clone, Debug)]
pub(crate) struct SpendConfig {
    advice: [Column<Advice>; Col::COUNT],
    header: HeaderConfig,
    poseidon: PoseidonConfig,
    signature: SignatureConfig,
    range: RangeConfig,
}

/// The circuit for one epoch key, with or without a witness.
#[derive(Clone, Debug)]
pub(crate) struct SpendCircuit {
    fixed: Arc<FixedPart>,
    trace: Value<Arc<Trace>>,
}

/// What an epoch key puts into the fixed columns.
#[derive(Debug)]
struct FixedPart {
    table: Vec<Row>,
    key_fingerprint: Base,
}

impl SpendCircuit {
    /// The circuit without a witness, for key generation.
    pub(crate) fn for_key(key: &PublicKey) -> Self {
        Self {
            fixed: Arc::new(FixedPart { table: signature::table(key), key_fingerprint: key.fingerprint() }),
            trace: Value::unknown(),
        }
    }

    /// The circuit with a witness. It holds if and only if [`crate::spend::check`] passes.
    ///
    /// # Errors
    /// When the charge cannot be paid, as then there is no `v'` to fill in.
    pub(crate) fn with_witness(&self, public: &SpendPublic, witness: &SpendWitness) -> Result<Self, Violation> {
        let mut trace = Trace::empty();
        self.fill(&mut trace, public, witness)?;
        Ok(self.with_trace(trace))
    }

    fn with_trace(&self, trace: Trace) -> Self {
        Self { fixed: self.fixed.clone(), trace: Value::known(Arc::new(trace)) }
    }

    /// Computes all cells, each from those that its constraints tie it to.
    fn fill(&self, trace: &mut Trace, public: &SpendPublic, witness: &SpendWitness) -> Result<(), Violation> {
        let change = witness.change_value(public.charge)?;
        self.fill_cells(
            trace,
            public,
            &Secrets {
                k: witness.account.value(),
                rho: witness.note.value(),
                v: Base::from(witness.hidden),
                r: Base::from(witness.refund),
                next_rho: witness.next_note.value(),
                change,
                signature: &witness.signature,
            },
        );
        Ok(())
    }

    fn fill_cells(&self, trace: &mut Trace, public: &SpendPublic, secrets: &Secrets<'_>) {
        let zero = Base::ZERO;
        let [x, _, _, _, charge] = public.instance();
        let Secrets { k, rho, v, r, next_rho, change, signature } = *secrets;

        // Header. Each copy is a wire of its own.
        let a = poseidon::fill(trace, layout::SLOPE, k, rho);
        let (line_a, line_k) = (trace.wire(a), trace.wire(k));
        trace.set((Col::P0, layout::LINE), line_a);
        trace.set((Col::P1, layout::LINE), line_k);
        let y = trace.wire(line_k + line_a * x);
        trace.set((Col::P0, layout::SHARE), y);

        let a = trace.wire(a);
        let nf = poseidon::fill(trace, layout::NULLIFIER_HASH, a, zero);
        let nf = trace.wire(nf);
        trace.set((Col::P0, layout::NULLIFIER), nf);

        let account_k = trace.wire(k);
        let account = poseidon::fill(trace, layout::ACCOUNT, account_k, zero);
        let (note_a, next_a) = (trace.wire(account), trace.wire(account));
        let note_rho = trace.wire(rho);
        let note = poseidon::fill(trace, layout::NOTE, note_a, note_rho);
        let note = trace.wire(note);
        let commitment = poseidon::fill(trace, layout::VALUE, note, v);
        let commitment = trace.wire(commitment);
        let leaf = poseidon::fill(trace, layout::LEAF, commitment, r);

        let (balance_v, balance_r) = (trace.wire(v), trace.wire(r));
        trace.set((Col::P0, layout::BALANCE), balance_v);
        trace.set((Col::P1, layout::BALANCE), balance_r);
        let change_value = trace.wire(balance_v + balance_r - charge);
        trace.set((Col::P0, layout::CHANGE_VALUE), change_value);

        let next_note = poseidon::fill(trace, layout::NEXT_NOTE, next_a, next_rho);
        let next_note = trace.wire(next_note);
        let committed = trace.wire(change_value);
        let next_commitment = poseidon::fill(trace, layout::NEXT_VALUE, next_note, committed);
        let next_commitment = trace.wire(next_commitment);
        trace.set((Col::P0, layout::CHANGE), next_commitment);

        let (r_x, _) = signature::fill(trace, &self.fixed.table, signature);
        let r_x = trace.wire(r_x);
        let leaf = trace.wire(leaf);
        let ch1 = poseidon::fill(trace, layout::CHALLENGE_1, r_x, leaf);
        let ch1 = trace.wire(ch1);
        let ch2 = poseidon::fill(trace, CHALLENGE_2, ch1, self.fixed.key_fingerprint);
        let low = trace.wire(trace.get((Col::Z, layout::CONSTANT)));
        range::fill(trace, change, ch2, low);
    }
}

/// The witness as field elements.
struct Secrets<'a> {
    k: Base,
    rho: Base,
    v: Base,
    r: Base,
    next_rho: Base,
    /// `v'` as the range of it is filled.
    change: u64,
    signature: &'a crate::schnorr::Signature,
}

impl Circuit<Base> for SpendCircuit {
    type Config = SpendConfig;
    type FloorPlanner = SimpleFloorPlanner;

    fn without_witnesses(&self) -> Self {
        Self { fixed: self.fixed.clone(), trace: Value::unknown() }
    }

    /// Enables equality on `p0`, `p1` and `z`; with degree 6 these need one product polynomial.
    fn configure(meta: &mut ConstraintSystem<Base>) -> SpendConfig {
        let advice = core::array::from_fn(|_| meta.advice_column());
        let [p0, p1, p2, p3, z, x, y, lambda] = advice;
        let instance = meta.instance_column();
        for column in Col::PERMUTED {
            meta.enable_equality(advice[column.index()]);
        }
        // Selectors that are on in few rows are `complex_selector`s, so that each keeps a column of its own: combined ones would
        // save columns, but add a product of all the others of the column to each gate, for the prover 3 % of a proof.
        let first = meta.complex_selector();
        SpendConfig {
            advice,
            header: HeaderConfig::configure(meta, [p0, p1], instance, first),
            poseidon: PoseidonConfig::configure(meta, [p0, p1, p2, p3]),
            signature: SignatureConfig::configure(meta, [z, x, y, lambda], p0, first),
            range: RangeConfig::configure(meta, [x, y], p0, p1),
        }
    }

    fn synthesize(&self, config: SpendConfig, mut layouter: impl Layouter<Base>) -> Result<(), Error> {
        layouter.assign_region(
            || "spend",
            |mut region| {
                config.header.assign(&mut region)?;
                for block in BLOCKS {
                    let second = if block.start == CHALLENGE_2.start { self.fixed.key_fingerprint } else { Base::ZERO };
                    config.poseidon.assign(&mut region, block, second)?;
                }
                config.signature.assign(&mut region, &self.fixed.table, RANGE_START..RANGE_END)?;
                config.range.assign(&mut region)?;

                let mut cells = std::collections::HashMap::with_capacity(CELLS.len());
                for at in CELLS.iter() {
                    let column = config.advice[at.0.index()];
                    let value = self.trace.as_ref().map(|trace| trace.get(*at));
                    cells.insert(*at, region.assign_advice(|| "cell", column, at.1, || value)?.cell());
                }
                for (_, from, to) in COPIES {
                    region.constrain_equal(cells[&from], cells[&to])?;
                }
                Ok(())
            },
        )
    }
}
