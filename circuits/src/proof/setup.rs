//! The public parameters: generators of Vesta from a hash to the curve. Nobody's secret, the same for all epochs.

use std::sync::LazyLock;

use group::GroupEncoding;
use halo2_proofs::poly::commitment::Params;
use pasta_curves::vesta;

use super::sums::Table;
use crate::circuit::K;
use crate::spend::SpendPublic;

const N: usize = 1 << K;

/// Generators of the commitments, as `halo2_proofs` makes them.
pub(super) static PARAMS: LazyLock<Params<vesta::Affine>> = LazyLock::new(|| apart(|| Params::new(K)));

/// The same, as points.
pub(super) struct Generators {
    /// `G`: a polynomial with coefficients `a` and blinding `r` commits to `sum a_i G_i + r W`.
    pub(super) g: Vec<vesta::Affine>,
    /// `L`: one with the values `v` in the rows commits to `sum v_i L_i + r W`.
    pub(super) lagrange: Vec<vesta::Affine>,
    /// `W`, of the blinding.
    pub(super) w: vesta::Affine,
    /// `U`, of the inner product.
    pub(super) u: vesta::Affine,
}

/// `halo2_proofs` shows all of them only in the encoding of the parameters: `k`, then `G`, `L`, `W` and `U`.
pub(super) static GENERATORS: LazyLock<Generators> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    PARAMS.write(&mut bytes).expect("memory takes all");
    let points: Vec<vesta::Affine> = bytes[4..]
        .chunks_exact(32)
        .map(|point| vesta::Affine::from_bytes(point.try_into().expect("32 bytes")).expect("points of the curve"))
        .collect();
    assert_eq!(points.len(), 2 * N + 2);
    Generators { g: points[..N].to_vec(), lagrange: points[N..2 * N].to_vec(), w: points[2 * N], u: points[2 * N + 1] }
});

/// Where `W` lies in both tables.
pub(super) const BLINDING: usize = N;
/// Where `U` lies in the table of the coefficients' generators.
pub(super) const INNER: usize = N + 1;
/// Where the Lagrange generators of the instance's rows begin in that table.
pub(super) const INSTANCE: usize = N + 2;
/// Points of that table.
pub(super) const TABLED: usize = INSTANCE + SpendPublic::COUNT;

/// Multiples of `G`, `W`, `U`, and of the Lagrange generators of the instance's rows: for commitments to coefficients, the
/// rounds of the opening, and the verifier.
pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let Generators { g, lagrange, w, u } = &*GENERATORS;
    Table::new(&[&g[..], &[*w, *u], &lagrange[..SpendPublic::COUNT]].concat())
});

/// Multiples of the Lagrange generators and of `W`: for commitments to values.
pub(super) static LAGRANGE_TABLE: LazyLock<Table> = LazyLock::new(|| {
    let Generators { lagrange, w, .. } = &*GENERATORS;
    Table::new(&[&lagrange[..], &[*w]].concat())
});

/// Makes the tables of the verifier now, so that the first verification need not.
pub(super) fn prepare() {
    LazyLock::force(&TABLE);
}

/// Runs `init` on a thread and in a rayon pool of its own. What is computed once is computed under a lock, and a worker of a
/// pool that waits for a part of its own work takes up other work meanwhile: work that may want the same lock, for ever.
fn apart<T: Send>(init: impl FnOnce() -> T + Send) -> T {
    let run = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("the system has a thread to give");
        pool.install(init)
    };
    std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
