//! The prover and the verifier of `halo2_proofs`, to compare ours with (feature `reference`). Not for production: slow.

use std::io;

use ff::{Field, PrimeField};
use group::Curve;
use halo2_proofs::plonk::{self, SingleVerifier, create_proof, keygen_pk, verify_proof};
use halo2_proofs::transcript::{Challenge255, EncodedChallenge, Transcript, TranscriptRead, TranscriptWrite};
use pasta_curves::{pallas, vesta};
use rand_core::{CryptoRng, Rng};

use super::key::{Proof, ProveError, VerifyError, VerifyingKey};
use super::setup::{GENERATORS, Generators, PARAMS};
use super::sums::Scalar;
use super::transcript::{Malformed, Reader, Writer};
use crate::circuit::SpendCircuit;
use crate::hash::hash_to_field;
use crate::spend::{SpendPublic, SpendWitness};

type Challenge = Challenge255<vesta::Affine>;

/// The proving key of `halo2_proofs`.
#[derive(Debug)]
pub struct ReferenceProver {
    key: plonk::ProvingKey<vesta::Affine>,
    circuit: SpendCircuit,
}

impl ReferenceProver {
    /// The proving key that goes with a verifying key.
    pub fn new(key: &VerifyingKey) -> Self {
        let circuit = SpendCircuit::for_key(&key.epoch_key());
        let key = keygen_pk(&PARAMS, key.stock().key().clone(), &circuit).expect("the layout fits, for every key");
        Self { key, circuit }
    }

    /// The bytes of a proof with all eight rounds of the opening, as `create_proof` makes it.
    ///
    /// # Errors
    /// When the charge cannot be paid, or `create_proof` fails. The statement is not checked.
    pub fn prove<R: Rng + CryptoRng>(
        &self,
        public: &SpendPublic,
        witness: &SpendWitness,
        rng: &mut R,
    ) -> Result<Vec<u8>, ProveError> {
        let circuit = self.circuit.with_witness(public, witness)?;
        let mut transcript = StockWriter { writer: Writer::new(public, 4096), instances: 0 };
        let instance = public.instance();
        create_proof(&PARAMS, &self.key, &[circuit], &[&[&instance[..]]], rng, &mut transcript)
            .map_err(ProveError::Prover)?;
        Ok(transcript.writer.into_proof())
    }
}

/// What `verify_proof` says of a proof with all eight rounds.
///
/// # Errors
/// [`VerifyError::Encoding`] when an encoding is bad, [`VerifyError::Invalid`] when it is refused for anything else.
pub fn verify_full(key: &VerifyingKey, public: &SpendPublic, proof: &[u8]) -> Result<(), VerifyError> {
    let mut transcript = StockReader::new(public, proof);
    let instance = public.instance();
    let verdict =
        verify_proof(&PARAMS, key.stock().key(), SingleVerifier::new(&PARAMS), &[&[&instance]], &mut transcript);
    if transcript.malformed {
        return Err(VerifyError::Encoding);
    }
    verdict.ok().filter(|()| transcript.reader.finished()).ok_or(VerifyError::Invalid)
}

/// What `verify_proof` says of a proof, once the rounds are run that it leaves out.
///
/// # Errors
/// Those of [`verify_full`].
pub fn verify(key: &VerifyingKey, public: &SpendPublic, proof: &Proof) -> Result<(), VerifyError> {
    let full = extended(key, public, proof.as_bytes(), Proof::ROUNDS)?;
    verify_full(key, public, &full)
}

/// Runs the rounds of the opening that a proof with `rounds` of them leaves out, so that `verify_proof` can read it. It takes
/// no secret: a proof gives the vector that the missing rounds begin with. See `docs/fast-path.md`.
///
/// # Errors
/// [`VerifyError::Encoding`] when an encoding is bad.
pub fn extended(key: &VerifyingKey, public: &SpendPublic, proof: &[u8], rounds: usize) -> Result<Vec<u8>, VerifyError> {
    extend(key, public, proof, rounds).map_err(|Malformed| VerifyError::Encoding)
}

fn extend(key: &VerifyingKey, public: &SpendPublic, proof: &[u8], rounds: usize) -> Result<Vec<u8>, Malformed> {
    let mut reader = Reader::new(public, proof);
    let mut writer = Writer::new(public, 4096);
    writer.absorb(&key.stock().representative);
    let points = |reader: &mut Reader<'_>, writer: &mut Writer, count: usize| {
        (0..count).try_for_each(|_| writer.point(&reader.point()?))
    };
    let scalars = |reader: &mut Reader<'_>, writer: &mut Writer, count: usize| {
        (0..count).try_for_each(|_| {
            writer.scalar(&reader.scalar()?);
            Ok(())
        })
    };
    let skip = |writer: &mut Writer, count: usize| {
        (0..count).for_each(|_| {
            writer.challenge();
        })
    };
    points(&mut reader, &mut writer, 8)?;
    skip(&mut writer, 3);
    points(&mut reader, &mut writer, 2)?;
    skip(&mut writer, 1);
    points(&mut reader, &mut writer, 5)?;
    skip(&mut writer, 1);
    scalars(&mut reader, &mut writer, 1 + 15 + 24 + 1 + 3 + 2)?;
    skip(&mut writer, 2);
    points(&mut reader, &mut writer, 1)?;
    let x_3 = writer.challenge();
    scalars(&mut reader, &mut writer, 2)?;
    skip(&mut writer, 1);
    points(&mut reader, &mut writer, 1)?;
    skip(&mut writer, 1);
    let z = writer.challenge();

    // Generators and powers of x_3 as the rounds leave them.
    let (mut generators, mut b) = (PARAMS.get_g(), vec![Scalar::ONE]);
    while b.len() < generators.len() {
        b.push(b[b.len() - 1] * x_3);
    }
    for _ in 0..rounds {
        points(&mut reader, &mut writer, 2)?;
        let u = writer.challenge();
        fold(&mut b, u, |low, high, u| low + high * u);
        fold(&mut generators, u, |low, high, u| (low + high * u).to_affine());
    }
    let mut p = (0..b.len()).map(|_| reader.scalar()).collect::<Result<Vec<_>, _>>()?;
    let mut f = reader.scalar()?;
    if !reader.finished() {
        return Err(Malformed);
    }
    let Generators { w, u: inner, .. } = &*GENERATORS;
    while p.len() > 1 {
        let half = p.len() / 2;
        let cross = |p: &[Scalar], g: &[vesta::Affine], b: &[Scalar], blind: Scalar| {
            let value = p.iter().zip(b).fold(Scalar::ZERO, |sum, (p, b)| sum + *p * b);
            p.iter().zip(g).fold(*inner * (value * z) + *w * blind, |sum, (p, g)| sum + *g * p).to_affine()
        };
        // Blinded by what nobody chooses, so that neither is the identity, whatever the vector is.
        let blind = |side| hash_to_field(b"halometer1-extnd", &[&f.to_repr(), &[half as u8, side]]);
        let (left, right) = (blind(0), blind(1));
        writer.point(&cross(&p[half..], &generators[..half], &b[..half], left))?;
        writer.point(&cross(&p[..half], &generators[half..], &b[half..], right))?;
        let u = writer.challenge();
        let inverse = Option::<Scalar>::from(u.invert()).ok_or(Malformed)?;
        fold(&mut p, inverse, |low, high, u| low + high * u);
        fold(&mut b, u, |low, high, u| low + high * u);
        fold(&mut generators, u, |low, high, u| (low + high * u).to_affine());
        f += left * inverse + right * u;
    }
    writer.scalar(&p[0]);
    writer.scalar(&f);
    Ok(writer.into_proof())
}

/// Folds the upper half of a vector into the lower one.
fn fold<T: Copy>(vector: &mut Vec<T>, u: Scalar, join: impl Fn(T, T, Scalar) -> T) {
    let half = vector.len() / 2;
    for i in 0..half {
        vector[i] = join(vector[i], vector[half + i], u);
    }
    vector.truncate(half);
}

/// Called by `halo2_proofs` for the commitment of the instance, and for nothing else: the points of a proof are read and
/// written. The instance has been absorbed already.
fn pass_instance(instances: &mut u32) -> io::Result<()> {
    *instances += 1;
    if *instances == 1 { Ok(()) } else { Err(io::Error::other("one instance column, one circuit")) }
}

struct StockWriter {
    writer: Writer,
    instances: u32,
}

impl Transcript<vesta::Affine, Challenge> for StockWriter {
    fn squeeze_challenge(&mut self) -> Challenge {
        Challenge::new(&self.writer.challenge_bytes())
    }

    fn common_point(&mut self, _: vesta::Affine) -> io::Result<()> {
        pass_instance(&mut self.instances)
    }

    fn common_scalar(&mut self, scalar: pallas::Base) -> io::Result<()> {
        self.writer.absorb(&scalar);
        Ok(())
    }
}

impl TranscriptWrite<vesta::Affine, Challenge> for StockWriter {
    fn write_point(&mut self, point: vesta::Affine) -> io::Result<()> {
        self.writer.point(&point).map_err(|Malformed| io::Error::other("the identity has no encoding"))
    }

    fn write_scalar(&mut self, scalar: pallas::Base) -> io::Result<()> {
        self.writer.scalar(&scalar);
        Ok(())
    }
}

/// The transcript that `verify_proof` reads.
pub(super) struct StockReader<'a> {
    pub(super) reader: Reader<'a>,
    instances: u32,
    malformed: bool,
}

impl<'a> StockReader<'a> {
    pub(super) fn new(public: &SpendPublic, proof: &'a [u8]) -> Self {
        Self { reader: Reader::new(public, proof), instances: 0, malformed: false }
    }

    fn note<T>(&mut self, result: Result<T, Malformed>) -> io::Result<T> {
        result.map_err(|Malformed| {
            self.malformed = true;
            io::Error::other("a bad encoding")
        })
    }
}

impl Transcript<vesta::Affine, Challenge> for StockReader<'_> {
    fn squeeze_challenge(&mut self) -> Challenge {
        Challenge::new(&self.reader.challenge_bytes())
    }

    fn common_point(&mut self, _: vesta::Affine) -> io::Result<()> {
        pass_instance(&mut self.instances)
    }

    fn common_scalar(&mut self, scalar: pallas::Base) -> io::Result<()> {
        self.reader.absorb(&scalar);
        Ok(())
    }
}

impl TranscriptRead<vesta::Affine, Challenge> for StockReader<'_> {
    fn read_point(&mut self) -> io::Result<vesta::Affine> {
        let point = self.reader.point();
        self.note(point)
    }

    fn read_scalar(&mut self) -> io::Result<pallas::Base> {
        let scalar = self.reader.scalar();
        self.note(scalar)
    }
}
