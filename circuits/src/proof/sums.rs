//! Sums of multiples of points of Vesta, which are nine tenths of proving and verifying.
//!
//! # Method
//!
//! A scalar is written in base `2^w` with signed digits. Points with the same digit are added into one bucket of
//! `2^(w-1)`, and the buckets are weighed once. For points that are known in advance, `[2^(w d)] P` is tabled for each digit
//! position `d` ([`Table`]), so that all positions share one set of buckets. For other points each position has a set of its
//! own ([`Terms`]). Where they are few, the endomorphism of the curve halves the positions.
//!
//! A bucket's points are added in affine coordinates, pair by pair for all buckets at once, as then one inversion serves
//! them all: six multiplications an addition ([`Adder`]).
//!
//! # Exceptions
//!
//! The formula for the sum of two points fails where they are equal or opposite. A prover chooses the points of a
//! proof, and may send `L = R`, `L = -R`, or points that cancel on the way. Such pairs are told apart before the division and
//! added by the rule that is theirs. Whether a sum is right depends on no assumption about the points; that of no points
//! is the identity.
//!
//! # Time
//!
//! Both depend on the scalars: which bucket a point goes to decides which memory is read, and a digit of zero costs
//! nothing. That is so of `best_multiexp` as well, which `halo2_proofs` commits with, bucket by bucket in the same way. The
//! prover's scalars are secret, so its time and memory accesses tell something about them to another process of the same
//! machine, as those of the stock prover do. All buffers are wiped when they are dropped.

mod adder;
mod buckets;
mod digits;
mod endomorphism;
mod table;
mod terms;
#[cfg(test)]
mod tests;

use ff::WithSmallOrderMulGroup;
use group::CurveAffine as _;
use pasta_curves::arithmetic::{Coordinates, CurveAffine};
use pasta_curves::{pallas, vesta};
use zeroize::Zeroize;

pub(super) use adder::Adder;
pub(super) use table::Table;
pub(super) use terms::Terms;

/// Scalars of Vesta: the field of the circuit.
pub(super) type Scalar = pallas::Base;

/// A point that is not the identity, as its coordinates. It fills one line of the cache and never parts of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Zeroize)]
#[repr(align(64))]
pub(super) struct Xy {
    x: vesta::Base,
    y: vesta::Base,
}

impl Xy {
    /// Nothing for the identity.
    pub(super) fn of(point: &vesta::Affine) -> Option<Self> {
        // pasta_curves gives (0, 0) for the identity.
        let coordinates: Coordinates<vesta::Affine> = Option::from(point.coordinates())?;
        (!bool::from(point.is_identity())).then(|| Self { x: *coordinates.x(), y: *coordinates.y() })
    }

    fn point(&self) -> vesta::Affine {
        vesta::Affine::from_xy_unchecked(self.x, self.y)
    }

    /// The point times `lambda`: see [`endomorphism`].
    fn turned(&self) -> Self {
        Self { x: self.x * vesta::Base::ZETA, y: self.y }
    }

    fn negated_if(self, negative: bool) -> Self {
        Self { x: self.x, y: if negative { -self.y } else { self.y } }
    }
}
