//! How fast this machine is: the unit in which figures of different machines are compared.

use ff::Field as _;
use group::{Curve as _, Group as _};
use halo2_proofs::arithmetic::best_multiexp;
use pasta_curves::vesta;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::figures::Samples;
use super::machine::pinned_workers;

const POINTS: usize = 1 << 11;
/// Runs of one sample, for the groups that do not time it beside their own figures.
const RUNS: usize = 15;

/// One multiexponentiation of 2^11 random points of Vesta, on one core.
pub(super) struct Yardstick {
    scalars: Vec<vesta::Scalar>,
    points: Vec<vesta::Affine>,
}

impl Yardstick {
    pub(super) fn new() -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(4);
        Self {
            scalars: (0..POINTS).map(|_| vesta::Scalar::random(&mut rng)).collect(),
            points: (0..POINTS).map(|_| vesta::Point::random(&mut rng).to_affine()).collect(),
        }
    }

    pub(super) fn run(&self) -> vesta::Point {
        best_multiexp(&self.scalars, &self.points)
    }
}

/// The yardstick by itself, in a pool of one pinned thread.
///
/// # Errors
/// When the operating system gives no thread.
pub(super) fn measure() -> Result<Samples, Box<dyn std::error::Error>> {
    let one = pinned_workers(1)?;
    let yardstick = Yardstick::new();
    let samples = one.run(vec![()], |_| Samples::time(RUNS, |_| yardstick.run()));
    samples.into_iter().next().ok_or_else(|| "no thread has run".into())
}
