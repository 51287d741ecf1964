//! Sums against a general multiexponentiation, and where the addition formula fails.

use ff::{Field, PrimeField};
use group::{Curve, Group};
use halo2_proofs::arithmetic::best_multiexp;
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::digits;
use super::*;

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn points(seed: u64, count: usize) -> Vec<vesta::Affine> {
    let mut rng = rng(seed);
    (0..count).map(|_| vesta::Point::random(&mut rng).to_affine()).collect()
}

fn scalars(seed: u64, count: usize) -> Vec<Scalar> {
    let mut rng = rng(seed);
    (0..count).map(|_| Scalar::random(&mut rng)).collect()
}

/// Scalars at which a digit, a carry or a limb ends.
fn edges() -> Vec<Scalar> {
    let two = Scalar::from(2);
    let mut edges = vec![Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::TWO_INV, -Scalar::TWO_INV];
    for bits in [3, 4, 5, 9, 10, 11, 13, 63, 64, 65, 127, 128, 129, 191, 192, 250, 253, 254] {
        let power = two.pow_vartime([bits]);
        edges.extend([power, power - Scalar::ONE, power + Scalar::ONE, -power, Scalar::ONE - power]);
    }
    edges
}

#[test]
fn digits_make_up_the_scalar() {
    for scalar in edges().into_iter().chain(scalars(1, 50)) {
        for window in 2..=15 {
            let base = Scalar::from(1u64 << window);
            let mut sum = Scalar::ZERO;
            digits::signed(&digits::limbs(&scalar), digits::BITS, window, |position, magnitude, negative| {
                assert!(
                    position < digits::count(digits::BITS, window) && magnitude > 0 && magnitude <= 1 << (window - 1)
                );
                let digit = Scalar::from(u64::from(magnitude)) * base.pow_vartime([position as u64]);
                sum += if negative { -digit } else { digit };
            });
            assert_eq!(sum, scalar, "{window}");
        }
    }
}

fn table_sum(points: &[vesta::Affine], scalars: &[Scalar]) -> vesta::Point {
    Table::new(points).sum(&mut Adder::default(), &[(0, 0, scalars)])
}

fn terms_sum(points: &[vesta::Affine], scalars: &[Scalar]) -> vesta::Point {
    let mut terms = Terms::default();
    for (point, scalar) in points.iter().zip(scalars) {
        terms.push(*scalar, Xy::of(point).unwrap());
    }
    terms.sum(&mut Adder::default())
}

fn agrees(points: &[vesta::Affine], scalars: &[Scalar]) {
    let expected = points
        .iter()
        .zip(scalars)
        .fold(vesta::Point::identity(), |sum, (point, scalar)| sum + vesta::Point::from(*point) * scalar);
    assert_eq!(table_sum(points, scalars), expected);
    assert_eq!(terms_sum(points, scalars), expected);
}

#[test]
fn sums_agree_with_a_general_multiexp() {
    for (seed, count) in [(1, 1), (2, 2), (3, 33), (4, 263), (5, 1500)] {
        let (points, scalars) = (points(seed, count), scalars(seed + 10, count));
        let expected = best_multiexp(&scalars, &points);
        assert_eq!(terms_sum(&points, &scalars), expected, "{count}");
        if count < 300 {
            assert_eq!(table_sum(&points, &scalars), expected, "{count}");
        }
    }
}

#[test]
fn a_sum_of_nothing_is_the_identity() {
    assert!(bool::from(Terms::default().sum(&mut Adder::default()).is_identity()));
    let table = Table::new(&points(1, 3));
    assert!(bool::from(table.sum(&mut Adder::default(), &[]).is_identity()));
    assert!(bool::from(table.sum(&mut Adder::default(), &[(0, 0, &[Scalar::ZERO; 3])]).is_identity()));
    agrees(&points(1, 3), &[Scalar::ZERO; 3]);
}

#[test]
fn scalars_at_the_ends_of_digits_are_right() {
    let edges = edges();
    let points = points(7, edges.len());
    agrees(&points, &edges);
    for edge in edges.chunks(9) {
        agrees(&points[..1], &edge[..1]);
        agrees(&points[..edge.len()], edge);
        agrees(&points[..7], &[edge[0]; 7]);
    }
}

/// Equal and opposite points, alone and among others, that meet at once or only after some additions.
#[test]
fn equal_and_opposite_points_are_added_right() {
    let p = points(8, 3);
    let (a, b, c) = (p[0], p[1], p[2]);
    let ab = (a + b).to_affine();
    let two_a = (a + a).to_affine();
    let cases: Vec<Vec<vesta::Affine>> = vec![
        vec![a, a],
        vec![a, -a],
        vec![a, a, a],
        vec![a, -a, a],
        vec![a, a, -a, -a],
        vec![a, -a, b],
        vec![a, -a, b, -b],
        vec![a, b, -ab],
        vec![a, b, -ab, c],
        vec![a, b, ab, ab],
        vec![a, b, -b, -a, c, -c, a],
        vec![a, a, -two_a],
        vec![a, a, two_a, b],
        vec![a; 64],
        [vec![a; 63], vec![-a; 63]].concat(),
        [vec![a; 63], vec![-a; 64], vec![b]].concat(),
    ];
    let some = scalars(9, 130);
    for case in &cases {
        // With one scalar for all they share every bucket.
        for scalar in edges().into_iter().step_by(3).chain([some[0]]) {
            agrees(case, &vec![scalar; case.len()]);
        }
        agrees(case, &some[..case.len()]);
        let opposite: Vec<_> = (0..case.len()).map(|i| if i % 2 == 0 { some[0] } else { -some[0] }).collect();
        agrees(case, &opposite);
    }
}

#[test]
fn runs_that_cancel_leave_nothing() {
    let p = points(10, 2);
    let (a, b) = (p[0], p[1]);
    let cases = [
        (vec![a, -a], vec![]),
        (vec![], vec![]),
        (vec![a, b], vec![(a + b).to_affine()]),
        (vec![a, b, -b, -a], vec![]),
        (vec![a, -a, b], vec![b]),
        (vec![a, a, a, a, b], vec![(a + a + a + a + b).to_affine()]),
    ];
    let all: Vec<Xy> = cases.iter().flat_map(|(points, _)| points.iter().map(|point| Xy::of(point).unwrap())).collect();
    let mut ends: Vec<u32> = cases
        .iter()
        .scan(0, |end, (points, _)| {
            *end += points.len() as u32;
            Some(*end)
        })
        .collect();
    let mut adder = Adder::default();
    adder.add_up(&mut ends, |at| all[at as usize]);
    let mut start = 0;
    for ((_, expected), end) in cases.iter().zip(ends) {
        let found: Vec<_> = adder.points()[start..end as usize].iter().map(Xy::point).collect();
        assert_eq!(found, *expected);
        start = end as usize;
    }
}

#[test]
fn more_pairs_than_share_an_inversion_are_added() {
    let p = points(11, 40);
    let all: Vec<_> = p.iter().cycle().take(5000).copied().collect();
    let one = Scalar::ONE;
    assert_eq!(
        terms_sum(&all, &vec![one; 5000]),
        p.iter().fold(vesta::Point::identity(), |s, p| s + p) * Scalar::from(125)
    );
}

#[test]
fn several_tables_and_sums_share_their_buckets() {
    let (p, s) = (points(12, 20), scalars(12, 20));
    let (one, other) = (Table::new(&p[..12]), Table::new(&p[12..]));
    let sums = Table::sums(
        [&one, &other],
        &mut Adder::default(),
        &[
            &[(0, 0, &s[..12]), (1, 0, &s[12..])],
            &[(1, 3, &s[..2]), (0, 11, &s[2..3])],
            &[],
            &[(0, 4, &[-s[4], s[4]]), (0, 4, &[s[4], -s[4]])],
        ],
    );
    assert_eq!(sums[0], best_multiexp(&s, &p));
    assert_eq!(sums[1], p[15] * s[0] + p[16] * s[1] + p[11] * s[2]);
    assert!(bool::from(sums[2].is_identity() & sums[3].is_identity()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Few points, their multiples and negatives, with few scalars: sums in which everything meets everything.
    #[test]
    fn sums_of_related_points_agree(
        picks in proptest::collection::vec((0usize..3, -3i64..4, 0usize..6), 1..40),
        seed: u64,
    ) {
        let (base, edge) = (points(seed, 3), edges());
        let some = scalars(seed, 2);
        let pool = [some[0], -some[0], some[1], edge[1], edge[2], edge[seed as usize % edge.len()]];
        let of = |n: i64| if n < 0 { -Scalar::from(n.unsigned_abs()) } else { Scalar::from(n as u64) };
        let (points, scalars): (Vec<_>, Vec<_>) = picks
            .iter()
            .filter(|(_, multiple, _)| *multiple != 0)
            .map(|(point, multiple, scalar)| ((base[*point] * of(*multiple)).to_affine(), pool[*scalar]))
            .unzip();
        agrees(&points, &scalars);
    }
}

/// What the tables take in memory. All epochs share them but for their own of 27 points.
#[test]
fn tables_have_the_size_that_is_documented() {
    use crate::proof::setup::{LAGRANGE_TABLE, TABLE};
    assert_eq!((TABLE.bytes(), LAGRANGE_TABLE.bytes()), (263 * 26 * 64, 257 * 26 * 64));
}
