//! The header: five instance cells in rows 0 to 4, and the two linear statements that need them.
//!
//! ```text
//! row  p0   p1   instance   gate
//! 0    a    k    x          y = k + a x, y in the next row
//! 1    y         y          bound
//! 2    nf        nf         bound
//! 3    C'        C'         bound
//! 4    v    r    charge     v' = v + r - charge, v' in the next row
//! 5    v'
//! ```
//!
//! The instance is read by gates at its own row, so that its column is not part of the permutation argument. That needs the
//! circuit's one region to start at row 0, which the tests assert.

use halo2_proofs::circuit::Region;
use halo2_proofs::plonk::{Advice, Column, ConstraintSystem, Constraints, Error, Instance, Selector};
use halo2_proofs::poly::Rotation;
use pasta_curves::pallas::Base;

use super::layout::{BALANCE, BOUND, LINE};

/// Selectors of the header.
#[derive(Clone, Debug)]
pub(crate) struct HeaderConfig {
    pub(super) first: Selector,
    pub(super) bound: Selector,
    pub(super) balance: Selector,
}

impl HeaderConfig {
    /// Adds the header's gates and two selectors. `first` is the selector of row 0. Enables equality on nothing; the instance
    /// is queried at its own row.
    pub(crate) fn configure(
        meta: &mut ConstraintSystem<Base>,
        [p0, p1]: [Column<Advice>; 2],
        instance: Column<Instance>,
        first: Selector,
    ) -> Self {
        let config = Self { first, bound: meta.complex_selector(), balance: meta.complex_selector() };
        let (cur, next) = (Rotation::cur(), Rotation::next());

        meta.create_gate("header: y = k + a*x", |meta| {
            let selector = meta.query_selector(config.first);
            let (a, k, x) =
                (meta.query_advice(p0, cur), meta.query_advice(p1, cur), meta.query_instance(instance, cur));
            Constraints::with_selector(selector, [k + a * x - meta.query_advice(p0, next)])
        });

        meta.create_gate("header: bound to the instance", |meta| {
            let selector = meta.query_selector(config.bound);
            Constraints::with_selector(selector, [meta.query_advice(p0, cur) - meta.query_instance(instance, cur)])
        });

        meta.create_gate("header: v' = v + r - charge", |meta| {
            let selector = meta.query_selector(config.balance);
            let (v, r) = (meta.query_advice(p0, cur), meta.query_advice(p1, cur));
            let charge = meta.query_instance(instance, cur);
            Constraints::with_selector(selector, [v + r - charge - meta.query_advice(p0, next)])
        });

        config
    }

    /// Enables the selectors.
    pub(crate) fn assign(&self, region: &mut Region<'_, Base>) -> Result<(), Error> {
        self.first.enable(region, LINE)?;
        for row in BOUND {
            self.bound.enable(region, row)?;
        }
        self.balance.enable(region, BALANCE)
    }
}
