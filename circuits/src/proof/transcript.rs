//! The Fiat-Shamir transcript, and with it the encoding of a proof.
//!
//! It differs from the stock one of `halo2_proofs` in two ways:
//!
//! * **Points are uncompressed**, 64 bytes `x, y`, little-endian, each below the modulus, on the curve, not the identity. A
//!   point then costs a curve equation to read and not a square root, a quarter of the cost of a proof in a batch.
//! * **The public inputs are absorbed as themselves**, before all else, and not as their commitment. The commitment is a
//!   function of them, so nothing is lost; and the verifier need not compute it, proof by proof.
//!
//! What is absorbed is prefixed with its kind, and the number and order of kinds is fixed by the circuit, so that the
//! absorbed string is injective.

use blake2b_simd::{Params, State};
use ff::{FromUniformBytes, PrimeField};
use group::CurveAffine as _;
use pasta_curves::arithmetic::{Coordinates, CurveAffine};
use pasta_curves::{pallas, vesta};

use crate::spend::SpendPublic;

const PERSONAL: &[u8; 16] = b"halometer2-proof";
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

/// An encoding that no honest prover writes: a number that is not canonical, no point of the curve, or the identity, which
/// has none; or too few bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The hash state that prover and verifier share.
struct Sponge(State);

impl Sponge {
    fn new(public: &SpendPublic) -> Self {
        let mut sponge = Self(Params::new().hash_length(64).personal(PERSONAL).to_state());
        for value in public.instance() {
            sponge.scalar(&value.to_repr());
        }
        sponge
    }

    fn scalar(&mut self, repr: &[u8; SCALAR_BYTES]) {
        self.0.update(&[SCALAR]).update(repr);
    }

    fn point(&mut self, bytes: &[u8; POINT_BYTES]) {
        self.0.update(&[POINT]).update(bytes);
    }

    /// The 64 bytes that a challenge is the remainder of.
    fn challenge(&mut self) -> [u8; 64] {
        self.0.update(&[CHALLENGE]);
        *self.0.finalize().as_array()
    }
}

fn encode(point: &Point) -> Result<[u8; POINT_BYTES], Malformed> {
    let coordinates: Coordinates<Point> = Option::from(point.coordinates()).ok_or(Malformed)?;
    if bool::from(point.is_identity()) {
        return Err(Malformed);
    }
    let mut bytes = [0; POINT_BYTES];
    bytes[..32].copy_from_slice(&coordinates.x().to_repr());
    bytes[32..].copy_from_slice(&coordinates.y().to_repr());
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

    /// Absorbs what both sides know.
    pub(super) fn absorb(&mut self, scalar: &Scalar) {
        self.sponge.scalar(&scalar.to_repr());
    }

    pub(super) fn challenge(&mut self) -> Scalar {
        Scalar::from_uniform_bytes(&self.challenge_bytes())
    }

    pub(super) fn challenge_bytes(&mut self) -> [u8; 64] {
        self.sponge.challenge()
    }

    /// Appends a point to the proof.
    ///
    /// # Errors
    /// When it is the identity, which has no encoding.
    pub(super) fn point(&mut self, point: &Point) -> Result<(), Malformed> {
        let bytes = encode(point)?;
        self.sponge.point(&bytes);
        self.proof.extend_from_slice(&bytes);
        Ok(())
    }

    /// Appends a scalar to the proof.
    pub(super) fn scalar(&mut self, scalar: &Scalar) {
        let bytes = scalar.to_repr();
        self.sponge.scalar(&bytes);
        self.proof.extend_from_slice(&bytes);
    }
}

/// The verifier's side.
pub(super) struct Reader<'a> {
    sponge: Sponge,
    proof: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(public: &SpendPublic, proof: &'a [u8]) -> Self {
        Self { sponge: Sponge::new(public), proof }
    }

    /// Whether all of the proof has been read.
    pub(super) fn finished(&self) -> bool {
        self.proof.is_empty()
    }

    /// Absorbs what both sides know.
    pub(super) fn absorb(&mut self, scalar: &Scalar) {
        self.sponge.scalar(&scalar.to_repr());
    }

    pub(super) fn challenge(&mut self) -> Scalar {
        Scalar::from_uniform_bytes(&self.challenge_bytes())
    }

    pub(super) fn challenge_bytes(&mut self) -> [u8; 64] {
        self.sponge.challenge()
    }

    /// The next point of the proof.
    pub(super) fn point(&mut self) -> Result<Point, Malformed> {
        let bytes = self.take::<POINT_BYTES>()?;
        self.sponge.point(&bytes);
        decode(&bytes).ok_or(Malformed)
    }

    /// The next scalar of the proof.
    pub(super) fn scalar(&mut self) -> Result<Scalar, Malformed> {
        let bytes = self.take::<SCALAR_BYTES>()?;
        self.sponge.scalar(&bytes);
        Option::from(Scalar::from_repr(bytes)).ok_or(Malformed)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.proof.split_first_chunk::<N>().ok_or(Malformed)?;
        self.proof = tail;
        Ok(*head)
    }
}
