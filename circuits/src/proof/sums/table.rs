//! Multiples of points that are known in advance.

use group::Group;
use pasta_curves::arithmetic::CurveExt;
use pasta_curves::vesta;
use zeroize::Zeroizing;

use super::adder::Adder;
use super::buckets::Buckets;
use super::{Scalar, Xy, digits};

/// Bits of a digit. With 10 a table of 263 points has 430 kB, and sums of 257 terms are as fast as with any other: fewer digits
/// make a smaller table and more buckets to weigh.
const WINDOW: usize = 10;
const DIGITS: usize = digits::count(digits::BITS, WINDOW);
const _: () = assert!(DIGITS * WINDOW > 255);

/// `[2^(10 d)] P` at `i * DIGITS + d` for each of some points `P_i`.
pub(in crate::proof) struct Table(Vec<Xy>);

/// Scalars of successive points of a table: the table's place in the sum, the first point's place in the table, the
/// scalars.
pub(in crate::proof) type Segment<'a> = (usize, usize, &'a [Scalar]);

impl Table {
    /// The table of `points`, none of which is the identity.
    ///
    /// # Panics
    /// When one is.
    pub(in crate::proof) fn new(points: &[vesta::Affine]) -> Self {
        let mut multiples = Vec::with_capacity(points.len() * DIGITS);
        for point in points {
            let mut power = vesta::Point::from(*point);
            for _ in 0..DIGITS {
                multiples.push(power);
                for _ in 0..WINDOW {
                    power = power.double();
                }
            }
        }
        let mut affine = vec![vesta::Affine::default(); multiples.len()];
        vesta::Point::batch_normalize_vartime(&multiples, &mut affine);
        Self(affine.iter().map(|point| Xy::of(point).expect("a multiple of a generator by a power of two")).collect())
    }

    /// Bytes that the table takes.
    #[cfg(test)]
    pub(in crate::proof) fn bytes(&self) -> usize {
        core::mem::size_of_val(&*self.0)
    }

    /// Sums over points of up to four tables, several at once so that their inversions are shared.
    pub(in crate::proof) fn sums<const N: usize>(
        tables: [&Self; N],
        adder: &mut Adder,
        sums: &[&[Segment<'_>]],
    ) -> Vec<vesta::Point> {
        const { assert!(N > 0 && N <= 1 << TABLE_BITS) };
        let terms: usize = sums.iter().flat_map(|sum| sum.iter()).map(|(_, _, scalars)| scalars.len()).sum();
        let mut buckets = Buckets::new(WINDOW, sums.len(), terms * DIGITS);
        for (set, segments) in sums.iter().enumerate() {
            for (table, first, scalars) in *segments {
                for (i, scalar) in scalars.iter().enumerate() {
                    let place = (first + i) * DIGITS;
                    let limbs = Zeroizing::new(digits::limbs(scalar));
                    digits::signed(&limbs, digits::BITS, WINDOW, |position, magnitude, negative| {
                        buckets.put(set, magnitude, code::<N>(*table, place + position, negative));
                    });
                }
            }
        }
        let tables = tables.map(|table| &table.0[..]);
        buckets.weigh(adder, |code| {
            let table = if N == 1 { tables[0] } else { tables[(code >> 1) as usize % (1 << TABLE_BITS) % N] };
            let shift = if N == 1 { 1 } else { 1 + TABLE_BITS };
            table[(code >> shift) as usize].negated_if(code & 1 == 1)
        })
    }

    /// One sum over points of this table.
    pub(in crate::proof) fn sum(&self, adder: &mut Adder, segments: &[Segment<'_>]) -> vesta::Point {
        Self::sums([self], adder, &[segments])[0]
    }
}

const TABLE_BITS: u32 = 2;

#[inline(always)]
fn code<const N: usize>(table: usize, place: usize, negative: bool) -> u32 {
    let place = if N == 1 { place as u32 } else { (place as u32) << TABLE_BITS | table as u32 };
    place << 1 | u32::from(negative)
}
