//! The inner-product argument: that a committed polynomial has a value at a place.
//!
//! In each round the stock prover halves the vector of generators, which takes a multiplication for each of them, a quarter of
//! its time. Here the generators stay as they are: generator `i` of round `j` is a sum of the original ones, each with
//! a product of the challenges so far. So `L` and `R` are sums over the originals, for which there are tables.

use ff::Field;
use pasta_curves::arithmetic::VartimeField;
use rand_core::{CryptoRng, Rng};
use zeroize::Zeroizing;

use super::super::setup::{BLINDING, INNER, TABLE};
use super::super::sums::{Adder, Scalar, Table};
use super::super::transcript::{Malformed, Writer};
use super::domain::{N, dot, evaluate, powers};
use super::key::normalized;
use crate::circuit::K;

/// Opens the polynomial with coefficients `p` and blinding `p_blind` at `place`, in `rounds` rounds, at most 8. What is left
/// of the vector after them, `2^(8 - rounds)` scalars, is sent; with 8 rounds the proof is that of `halo2_proofs`.
///
/// # Errors
/// With negligible probability: a commitment that is the identity, or a challenge of zero.
pub(super) fn open<R: Rng + CryptoRng>(
    p: &[Scalar],
    p_blind: Scalar,
    place: Scalar,
    rounds: usize,
    transcript: &mut Writer,
    adder: &mut Adder,
    rng: &mut R,
) -> Result<(), Malformed> {
    let mut s: Zeroizing<Vec<_>> = Zeroizing::new((0..N).map(|_| Scalar::random(&mut *rng)).collect());
    let s_there = evaluate(&s, place);
    s[0] -= s_there;
    let s_blind = Zeroizing::new(Scalar::random(&mut *rng));
    let [commitment] = normalized(&[TABLE.sum(adder, &[(0, 0, &s), (0, BLINDING, &[*s_blind])])]);
    transcript.point(&commitment)?;
    let xi = transcript.challenge();
    let z = transcript.challenge();

    // p' = p + xi s, less its value.
    let mut p: Zeroizing<Vec<_>> = Zeroizing::new(s.iter().zip(p).map(|(s, p)| *s * xi + p).collect());
    let there = evaluate(&p, place);
    p[0] -= there;
    let mut f = Zeroizing::new(*s_blind * xi + p_blind);
    let mut b = powers(place, N);
    // What each original generator is multiplied by in the generator of this round that it is part of.
    let mut factors = vec![Scalar::ONE; N];
    let mut left = Zeroizing::new(vec![Scalar::ZERO; N]);
    let mut right = Zeroizing::new(vec![Scalar::ZERO; N]);
    for round in 0..rounds {
        let half = 1 << (K as usize - round - 1);
        let blinds = Zeroizing::new([Scalar::random(&mut *rng), Scalar::random(&mut *rng)]);
        let inner = Zeroizing::new([dot(&p[half..], &b[..half]) * z, dot(&p[..half], &b[half..]) * z]);
        for (i, factor) in factors.iter().enumerate() {
            let at = i % (2 * half);
            (left[i], right[i]) =
                if at < half { (*factor * p[half + at], Scalar::ZERO) } else { (Scalar::ZERO, *factor * p[at - half]) };
        }
        let sums = Table::sums(
            [&*TABLE],
            adder,
            &[
                &[(0, 0, &left), (0, BLINDING, &blinds[..1]), (0, INNER, &inner[..1])],
                &[(0, 0, &right), (0, BLINDING, &blinds[1..]), (0, INNER, &inner[1..])],
            ],
        );
        let [l, r] = normalized(&[sums[0], sums[1]]);
        transcript.point(&l)?;
        transcript.point(&r)?;
        let u = transcript.challenge();
        let u_inverse = u.invert_vartime().ok_or(Malformed)?;
        let (low, high) = p.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high * u_inverse;
        }
        let (low, high) = b.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high * u;
        }
        for (_, factor) in factors.iter_mut().enumerate().filter(|(i, _)| i & half != 0) {
            *factor *= u;
        }
        *f += blinds[0] * u_inverse + blinds[1] * u;
    }
    for scalar in &p[..N >> rounds] {
        transcript.scalar(scalar);
    }
    transcript.scalar(&f);
    Ok(())
}
