//! The Fiat-Shamir transcript, and with it the encoding of a proof.
//!
//! It differs from the stock one of `halo2_proofs` in three ways:
//!
//! * **Points are uncompressed**, 64 bytes `x, y`, little-endian, each below the modulus, on the curve, not the identity. A
//!   point then costs a curve equation to read and not a square root, a quarter of the cost of a proof in a batch.
//! * **The public inputs are absorbed as themselves**, before all else, and not as their commitment. The commitment is a
//!   function of them, so nothing is lost; and the verifier need not compute it, proof by proof (see [`Reader::kappa`]).
//! * **It remembers** the challenges and the last scalars, and whether an encoding was bad.
//!
//! What is absorbed is prefixed with its kind, and the number and order of kinds is fixed by the circuit, so that the
//! absorbed string is injective.

use std::io;

use blake2b_simd::{Params, State};
use ff::{Field, PrimeField};
use group::CurveAffine as _;
use halo2_proofs::transcript::{Challenge255, EncodedChallenge, Transcript, TranscriptRead, TranscriptWrite};
use pasta_curves::arithmetic::CurveAffine;
use pasta_curves::{pallas, vesta};

use super::generators::GeneratorScalars;
use crate::circuit::K;
use crate::spend::SpendPublic;

const PERSONAL: &[u8; 16] = b"halometer1-proof";
const CHALLENGE: u8 = 0;
const POINT: u8 = 1;
const SCALAR: u8 = 2;

/// Bytes of a point in a proof.
pub(super) const POINT_BYTES: usize = 64;
/// Bytes of a scalar in a proof.
pub(super) const SCALAR_BYTES: usize = 32;

/// Scalars of Vesta: the field of the circuit.
type Scalar = pallas::Base;
type Point = vesta::Affine;
type Challenge = Challenge255<Point>;

/// The hash state that prover and verifier share.
struct Sponge {
    state: State,
    /// Instance commitments that were passed by. The circuit has one instance column, and a proof is of one circuit.
    instances: u32,
}

impl Sponge {
    fn new(public: &SpendPublic) -> Self {
        let mut sponge = Self { state: Params::new().hash_length(64).personal(PERSONAL).to_state(), instances: 0 };
        for value in public.instance() {
            sponge.scalar(&value.to_repr());
        }
        sponge
    }

    fn scalar(&mut self, repr: &[u8; SCALAR_BYTES]) {
        self.state.update(&[SCALAR]).update(repr);
    }

    fn point(&mut self, bytes: &[u8; POINT_BYTES]) {
        self.state.update(&[POINT]).update(bytes);
    }

    fn challenge(&mut self) -> Challenge {
        self.state.update(&[CHALLENGE]);
        Challenge::new(self.state.clone().finalize().as_array())
    }

    /// Called by `halo2_proofs` for the commitment of the instance, and for nothing else: the points of a proof are read
    /// and written. The instance has been absorbed already.
    fn common_point(&mut self) -> io::Result<()> {
        self.instances += 1;
        if self.instances == 1 { Ok(()) } else { Err(io::Error::other("one instance column, one circuit")) }
    }
}

fn encode(point: &Point) -> io::Result<[u8; POINT_BYTES]> {
    let (x, y) = Option::from(point.coordinates())
        .map(|c: pasta_curves::arithmetic::Coordinates<Point>| (*c.x(), *c.y()))
        .ok_or_else(|| io::Error::other("the identity has no encoding"))?;
    let mut bytes = [0; POINT_BYTES];
    bytes[..32].copy_from_slice(&x.to_repr());
    bytes[32..].copy_from_slice(&y.to_repr());
    Ok(bytes)
}

fn decode(bytes: &[u8; POINT_BYTES]) -> Option<Point> {
    let (x, y) = bytes.split_at(32);
    let x = Option::from(vesta::Base::from_repr(x.try_into().ok()?))?;
    let y = Option::from(vesta::Base::from_repr(y.try_into().ok()?))?;
    // (0, 0) is how pasta_curves writes the identity, and passes for a point of the curve there.
    Option::from(Point::from_xy(x, y)).filter(|point: &Point| !bool::from(point.is_identity()))
}

/// The prover's side.
pub(super) struct Writer {
    sponge: Sponge,
    proof: Vec<u8>,
}

impl Writer {
    pub(super) fn new(public: &SpendPublic, capacity: usize) -> Self {
        Self { sponge: Sponge::new(public), proof: Vec::with_capacity(capacity) }
    }

    pub(super) fn into_proof(self) -> Vec<u8> {
        self.proof
    }
}

impl Transcript<Point, Challenge> for Writer {
    fn squeeze_challenge(&mut self) -> Challenge {
        self.sponge.challenge()
    }

    fn common_point(&mut self, _: Point) -> io::Result<()> {
        self.sponge.common_point()
    }

    fn common_scalar(&mut self, scalar: Scalar) -> io::Result<()> {
        self.sponge.scalar(&scalar.to_repr());
        Ok(())
    }
}

impl TranscriptWrite<Point, Challenge> for Writer {
    fn write_point(&mut self, point: Point) -> io::Result<()> {
        let bytes = encode(&point)?;
        self.sponge.point(&bytes);
        self.proof.extend_from_slice(&bytes);
        Ok(())
    }

    fn write_scalar(&mut self, scalar: Scalar) -> io::Result<()> {
        let bytes = scalar.to_repr();
        self.sponge.scalar(&bytes);
        self.proof.extend_from_slice(&bytes);
        Ok(())
    }
}

/// The verifier's side.
pub(super) struct Reader<'a> {
    sponge: Sponge,
    proof: &'a [u8],
    /// Challenges so far, and the last two scalars: what the equation's remaining terms are made of.
    challenges: Vec<Scalar>,
    scalars: [Scalar; 2],
    malformed: bool,
}

impl<'a> Reader<'a> {
    /// The challenges are `theta, beta, gamma, y, x, x_1, x_2, x_3, x_4, xi, z` and one a round.
    const X_1: usize = 5;
    const X_4: usize = 8;
    const ROUNDS: usize = 11;
    const CHALLENGES: usize = Self::ROUNDS + K as usize;
    /// Commitments that are opened at `x` alone, less one: see [`kappa`](Self::kappa). It changes with the verifying key. With a
    /// wrong value honest proofs are refused, and the inputs are bound to another polynomial than theirs: a test compares with
    /// the stock verifier, which knows no such number.
    const X_1_POWER: u64 = 30;

    pub(super) fn new(public: &SpendPublic, proof: &'a [u8]) -> Self {
        Self {
            sponge: Sponge::new(public),
            proof,
            challenges: Vec::with_capacity(Self::CHALLENGES),
            scalars: [Scalar::ZERO; 2],
            malformed: false,
        }
    }

    /// Whether the proof held an encoding that no honest prover writes.
    pub(super) fn malformed(&self) -> bool {
        self.malformed
    }

    /// Whether all of the proof has been read, and all challenges drawn.
    pub(super) fn finished(&self) -> bool {
        self.proof.is_empty() && self.challenges.len() == Self::CHALLENGES
    }

    /// What the inner-product argument puts on the generators. A proof ends in its scalars `c` and `f`.
    ///
    /// # Panics
    /// Unless [`finished`](Self::finished).
    pub(super) fn generator_scalars(&self) -> GeneratorScalars {
        let rounds = self.challenges[Self::ROUNDS..].try_into().expect("one challenge a round");
        GeneratorScalars::of_argument(rounds, self.scalars[0])
    }

    /// The weight of the instance commitment in the verifier's final equation.
    ///
    /// The equation is that a sum of points is zero, and it is linear in the instance commitment `I`: its multi-opening
    /// batches what is opened at `x` alone with powers of `x_1`, the first queried with the highest, and the instance is
    /// queried first; then the two sets of points with a power of `x_4`, of which this set, the first, gets one. So `I` has
    /// the weight `kappa = x_1^m x_4`, with `m` one less than the number of commitments opened at `x` alone. `verify_proof` is
    /// given an empty instance, for which it computes `I_0 = W`. The true `I` is `sum v_i L_i + W`, so that
    /// `kappa sum v_i L_i` is what the equation lacks: five terms whose points are the same for all proofs, against a
    /// multiplication of its own for each.
    ///
    /// # Panics
    /// Unless [`finished`](Self::finished).
    pub(super) fn kappa(&self) -> Scalar {
        self.challenges[Self::X_1].pow_vartime([Self::X_1_POWER]) * self.challenges[Self::X_4]
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        match self.proof.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.proof = tail;
                Ok(*head)
            }
            None => Err(self.bad("the proof is too short")),
        }
    }

    fn bad(&mut self, what: &'static str) -> io::Error {
        self.malformed = true;
        io::Error::other(what)
    }
}

impl Transcript<Point, Challenge> for Reader<'_> {
    fn squeeze_challenge(&mut self) -> Challenge {
        let challenge = self.sponge.challenge();
        self.challenges.push(challenge.get_scalar());
        challenge
    }

    fn common_point(&mut self, _: Point) -> io::Result<()> {
        self.sponge.common_point()
    }

    fn common_scalar(&mut self, scalar: Scalar) -> io::Result<()> {
        self.sponge.scalar(&scalar.to_repr());
        Ok(())
    }
}

impl TranscriptRead<Point, Challenge> for Reader<'_> {
    fn read_point(&mut self) -> io::Result<Point> {
        let bytes = self.take::<POINT_BYTES>()?;
        self.sponge.point(&bytes);
        decode(&bytes).ok_or_else(|| self.bad("not a point of the curve, canonical and not the identity"))
    }

    fn read_scalar(&mut self) -> io::Result<Scalar> {
        let bytes = self.take::<SCALAR_BYTES>()?;
        self.sponge.scalar(&bytes);
        let scalar = Option::from(Scalar::from_repr(bytes)).ok_or_else(|| self.bad("not a canonical field element"))?;
        self.scalars = [self.scalars[1], scalar];
        Ok(scalar)
    }
}
