//! Fuzz target: the native check against the circuit, on spends of any values with any one thing wrong.

use std::cell::Cell;
use std::sync::LazyLock;

use halo2_proofs::dev::MockProver;
use pasta_curves::pallas::Base;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng};

use super::{K, Secrets, SpendCircuit};
use crate::circuit::trace::Trace;
use crate::note::{AccountSecret, ContextHash, NoteSecret, Nullifier, ShareY, ValueCommitment};
use crate::schnorr::{Signature, SigningKey};
use crate::spend::{SpendPublic, SpendWitness, Violation, check};

thread_local! {
    /// The planted fault, which the test alone switches on: the native check passes over the nullifier.
    static PLANTED: Cell<bool> = const { Cell::new(false) };
}

/// Two epochs: a key's table takes as long as all the rest.
static EPOCHS: LazyLock<[(SigningKey, SpendCircuit); 2]> = LazyLock::new(|| {
    [1, 2].map(|seed| {
        let key = SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(seed));
        let circuit = SpendCircuit::for_key(&key.public_key());
        (key, circuit)
    })
});

/// Bytes that choose; zeros after their end.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number, often at an edge.
    fn number(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => 0,
            1 => 1,
            2 => u64::MAX,
            3 => u64::MAX - u64::from(self.byte()),
            4 => 1 << (self.byte() % 64),
            _ => core::array::from_fn::<u8, 8, _>(|_| self.byte()).into_iter().fold(0, |n, b| n << 8 | u64::from(b)),
        }
    }
}

/// Chooses a spend, and what is wrong with it, if anything is; native check and circuit must say the same of it.
///
/// # Panics
/// When they do not.
pub fn native_and_circuit(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut rng = ChaCha20Rng::seed_from_u64(choices.byte().into());
    let (key, circuit) = &EPOCHS[0];
    let (account, note, next_note) =
        (AccountSecret::random(&mut rng), NoteSecret::random(&mut rng), NoteSecret::random(&mut rng));
    let (hidden, refund) = (choices.number(), choices.number());
    let charge = match choices.byte() % 4 {
        0 => choices.number(),
        1 => hidden.saturating_add(refund),
        2 => hidden.wrapping_add(refund).wrapping_add(choices.byte().into()),
        _ => hidden / 2,
    };
    let leaf = account.account_id().commit(&note, hidden).leaf(refund);
    let signature = match choices.byte() % 8 {
        0 => EPOCHS[1].0.sign(&leaf),
        1 => key.sign(&account.account_id().commit(&note, hidden ^ 1).leaf(refund)),
        2 => {
            let mut signature = key.sign(&leaf).to_bytes();
            signature[usize::from(choices.byte()) % Signature::LENGTH] ^= 1 << (choices.byte() % 8);
            Option::from(Signature::from_bytes(&signature)).unwrap_or_else(|| key.sign(&leaf))
        }
        _ => key.sign(&leaf),
    };
    let witness = SpendWitness { account, note, hidden, refund, signature, next_note };
    let context = loop {
        let mut draw = [0; 32];
        rng.fill_bytes(&mut draw);
        if let Some(context) = ContextHash::hash(b"halometer1-fuzz.", &[&draw]) {
            break context;
        }
    };
    // The low 64 bits of v', whatever it is.
    let change = hidden.wrapping_add(refund).wrapping_sub(charge);
    let mut public = SpendPublic {
        context,
        share: witness.account.share(&witness.note, &context),
        nullifier: witness.account.nullifier(&witness.note),
        change: witness.account.account_id().commit(&witness.next_note, change),
        charge,
    };
    let other = witness.next_note.value();
    match choices.byte() % 12 {
        0 => public.nullifier = Nullifier::from_value(other),
        1 => public.share = ShareY::from_value(other),
        2 => public.change = ValueCommitment::from_value(other),
        3 => public.change = witness.account.account_id().commit(&witness.next_note, change.wrapping_add(1)),
        4 => public.charge = charge.wrapping_add(1),
        5 => public.context = ContextHash::from_value(other),
        6 => public.share = witness.account.share(&witness.next_note, &context),
        _ => {}
    }

    let mut verdict = check(&key.public_key(), &public, &witness);
    if PLANTED.get() && verdict == Err(Violation::Nullifier) {
        verdict = Ok(());
    }
    let mut trace = Trace::empty();
    let secrets = Secrets {
        k: witness.account.value(),
        rho: witness.note.value(),
        v: Base::from(hidden),
        r: Base::from(refund),
        next_rho: witness.next_note.value(),
        change: hidden.wrapping_add(refund).wrapping_sub(public.charge),
        signature: &witness.signature,
    };
    circuit.fill_cells(&mut trace, &public, &secrets);
    let prover = MockProver::run(K, &circuit.with_trace(trace), vec![public.instance().to_vec()]);
    let accepted = prover.expect("synthesis").verify().is_ok();
    assert_eq!(verdict.is_ok(), accepted, "the native check says {verdict:?}");
}

/// Spends that hold, and one of each that does not.
pub fn seeds() -> Vec<Vec<u8>> {
    let good = vec![1, 5, 0, 0, 0, 0, 2, 0xfa, 0xf0, 0x80, 5, 0, 0, 0, 0, 0, 6, 0xac, 0xfc, 3, 7, 11];
    let mut seeds: Vec<_> = (0..7).map(|wrong| [&good[..good.len() - 1], &[wrong]].concat()).collect();
    for signature in 0..3 {
        let mut seed = good.clone();
        seed[20] = signature;
        seeds.push(seed);
    }
    seeds.push(good);
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds with some bytes drawn anew.
    fn inputs(rounds: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let seeds = seeds();
        let changed = (0..rounds).map(move |round| {
            let mut input = seeds[round % seeds.len()].clone();
            for _ in 0..1 + rng.next_u64() % 4 {
                let at = rng.next_u64() as usize % input.len();
                input[at] = rng.next_u64() as u8;
            }
            input
        });
        super::seeds().into_iter().chain(changed)
    }

    #[test]
    fn native_check_and_circuit_agree() {
        let seconds = std::env::var("HALOMETER_FUZZ_SECONDS").ok().and_then(|text| text.parse::<u64>().ok());
        let end = std::time::Instant::now() + core::time::Duration::from_secs(seconds.unwrap_or(1));
        for input in inputs(if seconds.is_some() { usize::MAX } else { 120 }) {
            native_and_circuit(&input);
            if std::time::Instant::now() >= end {
                break;
            }
        }
    }

    #[test]
    fn the_planted_fault_is_found() {
        PLANTED.set(true);
        let found = inputs(100).any(|input| std::panic::catch_unwind(|| native_and_circuit(&input)).is_err());
        PLANTED.set(false);
        assert!(found);
    }
}
