//! Fuzz targets without a fuzzer: seeds, and random changes of them, on a stable toolchain.
//!
//! A target is a function of bytes that panics when something that must hold does not. `docs/fuzzing.md` says which there are.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// A function of bytes, and what to begin with.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name, that of the file in `fuzz/fuzz_targets/`.
    pub name: &'static str,
    /// Panics when something that must hold of these bytes does not.
    pub body: fn(&[u8]),
    /// Bytes that mean something.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// How many changed seeds a smoke run tries.
    pub rounds: usize,
}

/// How long a smoke run of one target lasts at most, beyond its seeds.
const LONGEST: Duration = Duration::from_secs(1);
/// Longest input, bytes.
const MAX_LENGTH: usize = 64 << 10;

thread_local! {
    static PLANTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the bodies shall have their fault: each has one, which only its test switches on.
pub fn planted() -> bool {
    PLANTED.get()
}

impl Target {
    /// Runs the seeds and changes of them. `HALOMETER_FUZZ_SECONDS` makes it go on for that long, from `HALOMETER_FUZZ_SEED` or
    /// from the clock.
    ///
    /// # Panics
    /// When an input breaks what must hold; the message has the input.
    pub fn smoke(&self) {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let found = match number("HALOMETER_FUZZ_SECONDS") {
            None => self.search(1, self.rounds, LONGEST),
            Some(seconds) => {
                let clock = || std::time::UNIX_EPOCH.elapsed().map_or(1, |now| now.as_nanos() as u64);
                let seed = number("HALOMETER_FUZZ_SEED").unwrap_or_else(clock);
                self.search(seed, usize::MAX, Duration::from_secs(seconds))
            }
        };
        if let Some(input) = found {
            let digits: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
            panic!("{}: this input breaks what must hold, for the reason above: {digits}", self.name);
        }
    }

    /// Whether a smoke run finds the target's planted fault.
    pub fn finds_planted_fault(&self) -> bool {
        PLANTED.set(true);
        let found = self.search(1, self.rounds.max(2_000), 20 * LONGEST).is_some();
        PLANTED.set(false);
        found
    }

    fn search(&self, seed: u64, rounds: usize, longest: Duration) -> Option<Vec<u8>> {
        let seeds = (self.seeds)();
        assert!(!seeds.is_empty(), "{}: nothing to begin with", self.name);
        let fails = |input: &[u8]| catch_unwind(AssertUnwindSafe(|| (self.body)(input))).is_err();
        if let Some(found) = seeds.iter().find(|input| fails(input)) {
            return Some(found.clone());
        }
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let end = Instant::now() + longest;
        for _ in 0..rounds {
            let input = change(&seeds, &mut rng);
            if fails(&input) {
                return Some(input);
            }
            if Instant::now() >= end {
                break;
            }
        }
        None
    }
}

fn below(rng: &mut ChaCha20Rng, bound: usize) -> usize {
    (rng.next_u64() % bound.max(1) as u64) as usize
}

/// What texts and lengths are made of.
const TOKENS: [&[u8]; 24] = [
    b"\0",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\r",
    b"\n",
    b"\n\n",
    b"\r\n\r\n",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"=",
    b" ",
    b"data: ",
    b"\"usage\":",
    b"null",
    b"-1",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
];

/// A seed with one to four changes, or now and then random bytes.
fn change(seeds: &[Vec<u8>], rng: &mut ChaCha20Rng) -> Vec<u8> {
    let mut input = seeds[below(rng, seeds.len())].clone();
    if below(rng, 64) == 0 {
        input = vec![0; below(rng, 300)];
        rng.fill_bytes(&mut input);
    }
    for _ in 0..=below(rng, 4) {
        let at = below(rng, input.len() + 1);
        let size = 1 << below(rng, 10);
        let length = below(rng, size).min(input.len() - at);
        match below(rng, 10) {
            0 | 1 if at < input.len() => input[at] ^= 1 << below(rng, 8),
            2 if at < input.len() => input[at] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff][below(rng, 7)],
            3 => input.truncate(at),
            4 => drop(input.drain(at..at + length)),
            5 => {
                let piece = input[at..at + length].to_vec();
                input.splice(at..at, piece);
            }
            6 => {
                let other = &seeds[below(rng, seeds.len())];
                let from = below(rng, other.len() + 1);
                let piece = &other[from..(from + length.max(1)).min(other.len())];
                input.splice(at..at + length, piece.iter().copied());
            }
            7 => input[at..at + length].fill(0),
            8 => {
                let end = input.len();
                let at = if below(rng, 2) == 0 { end } else { at };
                let token = TOKENS[below(rng, TOKENS.len())];
                input.splice(at..at, token.iter().copied());
            }
            _ if length >= 8 => {
                let edge = [0, 1, 0xff, u64::from(u32::MAX), u64::MAX, u64::MAX - 1, 1 << 63][below(rng, 7)];
                input[at..at + 8].copy_from_slice(&u64::to_be_bytes(edge));
            }
            _ => input.push(below(rng, 256) as u8),
        }
    }
    input.truncate(MAX_LENGTH);
    input
}
