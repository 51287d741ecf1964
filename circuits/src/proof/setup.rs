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
pub(super) static PARAMS: LazyLock<Params<vesta::Affine>> = LazyLock::new(|| apart(|| Params::new(K)));

/// The Lagrange generators of the instance's rows: an instance `v` commits to `sum v_i L_i + W`.
pub(super) static INSTANCE_BASES: LazyLock<[vesta::Affine; SpendPublic::COUNT]> = LazyLock::new(|| {
    apart(|| {
        let domain = EvaluationDomain::<pallas::Base>::new(1, K);
        core::array::from_fn(|row| {
            let mut unit = domain.empty_lagrange();
            unit[row] = pallas::Base::ONE;
            PARAMS.commit_lagrange(&unit, Blind(pallas::Base::ZERO)).to_affine()
        })
    })
});

/// Runs `init` on a thread and in a rayon pool of its own. What is computed once is computed under a lock, and a worker of a
/// pool that waits for a part of its own work takes up other work meanwhile: work that may want the same lock, for ever.
fn apart<T: Send>(init: impl FnOnce() -> T + Send) -> T {
    let run = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("the system has a thread to give");
        pool.install(init)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
