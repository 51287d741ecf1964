//! Sums over points that nobody knew before.

use group::Group;
use pasta_curves::vesta;

use super::adder::Adder;
use super::buckets::Buckets;
use super::digits::Limbs;
use super::{Scalar, Xy, digits, endomorphism};

/// Points with their scalars, to be added up.
#[derive(Clone, Debug, Default)]
pub(in crate::proof) struct Terms {
    scalars: Vec<Scalar>,
    points: Vec<Xy>,
}

impl Terms {
    /// No terms, with room for some.
    pub(in crate::proof) fn with_capacity(count: usize) -> Self {
        Self { scalars: Vec::with_capacity(count), points: Vec::with_capacity(count) }
    }

    /// Adds `[scalar] point`.
    pub(in crate::proof) fn push(&mut self, scalar: Scalar, point: Xy) {
        self.scalars.push(scalar);
        self.points.push(point);
    }

    /// Adds all terms of `other`, each times `factor`.
    pub(in crate::proof) fn extend(&mut self, other: &Self, factor: Option<&Scalar>) {
        self.points.extend_from_slice(&other.points);
        match factor {
            Some(factor) => self.scalars.extend(other.scalars.iter().map(|scalar| scalar * factor)),
            None => self.scalars.extend_from_slice(&other.scalars),
        }
    }

    pub(in crate::proof) fn len(&self) -> usize {
        self.points.len()
    }

    /// The sum of all terms.
    pub(in crate::proof) fn sum(&self, adder: &mut Adder) -> vesta::Point {
        if self.len() > HALVED {
            let limbs = self.scalars.iter().map(|scalar| (digits::limbs(scalar), false)).collect();
            return sum(limbs, digits::BITS, &self.points, adder);
        }
        let mut points = self.points.clone();
        points.extend(self.points.iter().map(Xy::turned));
        let (low, high): (Vec<_>, Vec<_>) =
            self.scalars.iter().map(endomorphism::split).map(|[k1, k2]| (k1, k2)).unzip();
        sum([low, high].concat(), endomorphism::BITS, &points, adder)
    }
}

/// The sum of `points` with numbers of `bits`, each with its sign.
fn sum(numbers: Vec<(Limbs, bool)>, bits: usize, points: &[Xy], adder: &mut Adder) -> vesta::Point {
    let terms = points.len();
    let window = window(terms, bits);
    let count = digits::count(bits, window);
    // As many positions at a time as fill the processor's cache; a few inversions more or less cost nothing.
    let together = (SHARED_POINTS / terms.max(1)).clamp(1, count);
    let mut codes: Vec<i32> = vec![0; count * terms];
    for (i, (limbs, minus)) in numbers.iter().enumerate() {
        digits::signed(limbs, bits, window, |position, magnitude, negative| {
            let magnitude = magnitude as i32;
            codes[position * terms + i] = if negative ^ minus { -magnitude } else { magnitude };
        });
    }
    let mut sums = Vec::with_capacity(count + together);
    let mut buckets = Buckets::new(window, together, together * terms);
    for positions in codes.chunks(together * terms.max(1)) {
        for (set, digits) in positions.chunks(terms).enumerate() {
            for (i, digit) in digits.iter().enumerate().filter(|(_, digit)| **digit != 0) {
                buckets.put(set, digit.unsigned_abs(), (i as u32) << 1 | u32::from(*digit < 0));
            }
        }
        sums.extend(buckets.weigh(adder, |code| points[(code >> 1) as usize].negated_if(code & 1 == 1)));
    }
    sums.truncate(count);
    sums.into_iter()
        .rev()
        .fold(vesta::Point::identity(), |total, sum| (0..window).fold(total, |total, _| total.double()) + sum)
}

/// Bits of a digit that make a sum cheap: each position costs an addition a point, about two and a half a bucket, and some for
/// what is left of the buckets.
fn window(terms: usize, bits: usize) -> usize {
    let cost = |window: usize| digits::count(bits, window) * (terms + (5 << (window - 1)) / 2 + (3 << (window / 2)));
    (3..=13).min_by_key(|window| cost(*window)).expect("a range that is not empty")
}

/// The most terms for which half the positions are worth twice the terms.
const HALVED: usize = 64;
const SHARED_POINTS: usize = 1024;
