//! The part of the verifier's equation that falls on the generators of the polynomial commitment.
//!
//! The equation of a proof has 256 terms on generators that are the same for all proofs, and about 90 others. With
//! multiples of the generators tabled once, the former cost about half of what they cost in the general sum, which takes a
//! quarter off a single verification: see `docs/performance.md` for the measurements. All of it is public, so that the time may
//! depend on it.
//!
//! # Method
//!
//! A scalar is written in base 2^9 with signed digits; for every digit position `w` the point `[2^(9 w)] G_j` is tabled, so
//! that all positions share one set of 256 buckets. A bucket's points are added in affine coordinates, pair by pair for all
//! buckets at once, as then one inversion serves them all (Montgomery's trick): six multiplications an addition.

use std::sync::LazyLock;

use ff::{Field, PrimeField};
use group::{Curve, CurveAffine as _, Group};
use pasta_curves::arithmetic::{CurveAffine, VartimeBatchInvert};
use pasta_curves::{pallas, vesta};

use super::setup::{INSTANCE_BASES, PARAMS};
use crate::circuit::K;

const GENERATORS: usize = 1 << K;
const WINDOW: usize = 9;
/// Digits of a scalar of 255 bits, the last carry included.
const DIGITS: usize = 29;
const BUCKETS: usize = 1 << (WINDOW - 1);
const _: () = assert!(DIGITS * WINDOW > 255);

/// A point that is not the identity, as its coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Xy {
    x: vesta::Base,
    y: vesta::Base,
}

/// `[2^(9 w)] G_j` at `j * DIGITS + w`.
static TABLE: LazyLock<Vec<Xy>> = LazyLock::new(|| {
    let mut points = Vec::with_capacity(GENERATORS * DIGITS);
    for generator in PARAMS.get_g() {
        let mut power = vesta::Point::from(generator);
        for _ in 0..DIGITS {
            points.push(power);
            for _ in 0..WINDOW {
                power = power.double();
            }
        }
    }
    let mut affine = vec![vesta::Affine::identity(); points.len()];
    vesta::Point::batch_normalize(&points, &mut affine);
    affine.iter().map(Xy::of).collect()
});

/// Makes all tables now, which takes some milliseconds, so that the first verification need not.
pub(super) fn prepare() {
    LazyLock::force(&INSTANCE_BASES);
    LazyLock::force(&TABLE);
}

impl Xy {
    fn of(point: &vesta::Affine) -> Self {
        let coordinates = point.coordinates().expect("a multiple of a generator by a power of two");
        Self { x: *coordinates.x(), y: *coordinates.y() }
    }

    fn point(&self) -> vesta::Affine {
        vesta::Affine::from_xy_unchecked(self.x, self.y)
    }
}

/// Scalars of the generators.
#[derive(Clone, Debug)]
pub(super) struct GeneratorScalars(Vec<pallas::Base>);

impl GeneratorScalars {
    /// All zero.
    pub(super) fn zero() -> Self {
        Self(vec![pallas::Base::ZERO; GENERATORS])
    }

    /// The coefficients of `-c prod (1 + u_{k-1-i} X^(2^i))`: what the inner-product argument's `k` round challenges and its
    /// last scalar `c` put on the generators.
    pub(super) fn of_argument(challenges: &[pallas::Base; K as usize], c: pallas::Base) -> Self {
        let mut scalars = Vec::with_capacity(GENERATORS);
        scalars.push(-c);
        for challenge in challenges.iter().rev() {
            scalars.extend_from_within(..);
            let half = scalars.len() / 2;
            for scalar in &mut scalars[half..] {
                *scalar *= challenge;
            }
        }
        Self(scalars)
    }

    pub(super) fn scale(&mut self, factor: pallas::Base) {
        for scalar in &mut self.0 {
            *scalar *= factor;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (scalar, other) in self.0.iter_mut().zip(&other.0) {
            *scalar += other;
        }
    }

    /// The sum of the generators with these scalars.
    pub(super) fn sum(&self) -> vesta::Point {
        let table = &*TABLE;
        let mut buckets = Buckets::default();
        let digits: Vec<i32> = self.0.iter().flat_map(signed_digits).collect();
        for digit in &digits {
            buckets.ends[digit.unsigned_abs() as usize] += 1;
        }
        // Digit 0 adds nothing.
        buckets.ends[0] = 0;
        let mut total = 0;
        for end in &mut buckets.ends {
            total += *end;
            *end = total;
        }
        buckets.points = vec![table[0]; total];
        // Each bucket is filled from its end.
        let mut place = buckets.ends;
        for (digit, multiple) in digits.iter().zip(table).filter(|(digit, _)| **digit != 0) {
            let place = &mut place[digit.unsigned_abs() as usize];
            let y = if *digit > 0 { multiple.y } else { -multiple.y };
            *place -= 1;
            buckets.points[*place] = Xy { x: multiple.x, y };
        }
        buckets.add_up();
        // sum_i i B_i, as a sum of the sums from the top.
        let mut running = vesta::Point::identity();
        let mut total = vesta::Point::identity();
        for i in (1..=BUCKETS).rev() {
            if let [point] = &buckets.points[buckets.ends[i - 1]..buckets.ends[i]] {
                running += point.point();
            }
            total += running;
        }
        total
    }
}

/// Digits of `scalar` in base 2^9, each in -256..=255.
fn signed_digits(scalar: &pallas::Base) -> [i32; DIGITS] {
    let repr = scalar.to_repr();
    let mut carry = 0;
    core::array::from_fn(|w| {
        let (byte, bit) = (w * WINDOW / 8, w * WINDOW % 8);
        let mut word = [0u8; 4];
        let available = &repr[byte.min(32)..(byte + 4).min(32)];
        word[..available.len()].copy_from_slice(available);
        let digit = (u32::from_le_bytes(word) >> bit & ((1 << WINDOW) - 1)) as i32 + carry;
        carry = i32::from(digit >= BUCKETS as i32);
        digit - (carry << WINDOW)
    })
}

/// Points by bucket: those of bucket `i` from `ends[i - 1]` to `ends[i]`. Bucket 0 is empty.
#[derive(Debug)]
struct Buckets {
    points: Vec<Xy>,
    ends: [usize; BUCKETS + 1],
}

impl Default for Buckets {
    fn default() -> Self {
        Self { points: Vec::new(), ends: [0; BUCKETS + 1] }
    }
}

impl Buckets {
    /// Adds up each bucket, so that it holds at most one point.
    fn add_up(&mut self) {
        let mut runs = Vec::with_capacity(self.points.len() / 2);
        loop {
            runs.clear();
            let mut start = 0;
            for end in self.ends {
                runs.extend(self.points[start..end].chunks_exact(2).map(|pair| slope_of(&pair[0], &pair[1]).1));
                start = end;
            }
            if runs.is_empty() {
                return;
            }
            runs.iter_mut().batch_invert_vartime();
            let mut inverses = runs.iter();
            // The sums are written over points that have been read.
            let (mut start, mut kept) = (0, 0);
            for bucket in 0..=BUCKETS {
                let end = self.ends[bucket];
                for at in (start..end).step_by(2) {
                    let first = self.points[at];
                    if at + 1 == end {
                        self.points[kept] = first;
                        kept += 1;
                        continue;
                    }
                    let second = self.points[at + 1];
                    let inverse = inverses.next().expect("one for each pair");
                    // Zero stays zero: a point and its negative, whose sum is left out.
                    if bool::from(inverse.is_zero()) {
                        continue;
                    }
                    let slope = slope_of(&first, &second).0 * inverse;
                    let x = slope.square() - first.x - second.x;
                    self.points[kept] = Xy { x, y: slope * (first.x - x) - first.y };
                    kept += 1;
                }
                start = end;
                self.ends[bucket] = kept;
            }
            self.points.truncate(kept);
        }
    }
}

/// Rise and run of the line through two points, the tangent when they are equal, zeros when one is the other's negative. The
/// run is not zero else: no point of Vesta has `y = 0`.
fn slope_of(a: &Xy, b: &Xy) -> (vesta::Base, vesta::Base) {
    if a.x != b.x {
        (b.y - a.y, b.x - a.x)
    } else if a.y == b.y {
        (a.x.square() * vesta::Base::from(3), a.y.double())
    } else {
        (vesta::Base::ZERO, vesta::Base::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use halo2_proofs::arithmetic::best_multiexp;
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    fn agrees(scalars: Vec<pallas::Base>) {
        assert_eq!(GeneratorScalars(scalars.clone()).sum(), best_multiexp(&scalars, &PARAMS.get_g()));
    }

    #[test]
    fn the_sum_agrees_with_a_general_multiexp() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for _ in 0..4 {
            agrees((0..GENERATORS).map(|_| pallas::Base::random(&mut rng)).collect());
        }
        for value in [
            pallas::Base::ZERO,
            pallas::Base::ONE,
            -pallas::Base::ONE,
            pallas::Base::from(511),
            pallas::Base::from(512),
            pallas::Base::from(513),
            pallas::Base::from(1 << 20),
            -pallas::Base::from(512),
        ] {
            agrees(vec![value; GENERATORS]);
            let mut one = vec![pallas::Base::ZERO; GENERATORS];
            one[200] = value;
            agrees(one);
        }
    }

    #[test]
    fn doublings_and_cancellations_are_added_right() {
        let p = PARAMS.get_g()[0];
        let (two, three) = ((p + p).to_affine(), (p + p + p).to_affine());
        let cases = [
            (vec![p, p], vec![two]),
            (vec![p, -p], vec![]),
            (vec![p, p, p], vec![three]),
            (vec![p, -p, p], vec![p]),
            (vec![p, p, -p, -p], vec![]),
            (vec![], vec![]),
        ];
        let mut buckets = Buckets::default();
        for (i, (points, _)) in cases.iter().enumerate() {
            buckets.points.extend(points.iter().map(Xy::of));
            buckets.ends[i + 1..].fill(buckets.points.len());
        }
        buckets.add_up();
        for (i, (_, expected)) in cases.iter().enumerate() {
            let found: Vec<_> = buckets.points[buckets.ends[i]..buckets.ends[i + 1]].iter().map(Xy::point).collect();
            assert_eq!(found, *expected);
        }
    }

    #[test]
    fn the_argument_puts_a_product_on_the_generators() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let challenges: [_; K as usize] = core::array::from_fn(|_| pallas::Base::random(&mut rng));
        let c = pallas::Base::random(&mut rng);
        let scalars = GeneratorScalars::of_argument(&challenges, c);
        for (i, scalar) in scalars.0.iter().enumerate() {
            let expected = (0..K as usize)
                .filter(|bit| i >> bit & 1 == 1)
                .fold(-c, |product, bit| product * challenges[K as usize - 1 - bit]);
            assert_eq!(*scalar, expected);
        }
    }
}
