//! The public parameters: generators of Vesta from a hash to the curve. Nobody's secret, the same for all epochs.

use std::sync::LazyLock;

use ff::Field;
use group::Curve;
use halo2_proofs::poly::EvaluationDomain;
use halo2_proofs::poly::commitment::{Blind, Params};
use pasta_curves::{pallas, vesta};

use crate::circuit::K;
use crate::spend::SpendPublic;

/// Generators of the commitments.
pub(super) static PARAMS: LazyLock<Params<vesta::Affine>> = LazyLock::new(|| Params::new(K));

/// The Lagrange generators of the instance's rows: an instance `v` commits to `sum v_i L_i + W`.
pub(super) static INSTANCE_BASES: LazyLock<[vesta::Affine; SpendPublic::COUNT]> = LazyLock::new(|| {
    let domain = EvaluationDomain::<pallas::Base>::new(1, K);
    core::array::from_fn(|row| {
        let mut unit = domain.empty_lagrange();
        unit[row] = pallas::Base::ONE;
        PARAMS.commit_lagrange(&unit, Blind(pallas::Base::ZERO)).to_affine()
    })
});
