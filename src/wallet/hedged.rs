//! Randomness that does not hang on the operating system's alone.

use core::convert::Infallible;

use blake2b_simd::Params;
use rand_core::{CryptoRng, Rng, TryCryptoRng, TryRng};
use zeroize::{Zeroize, Zeroizing};

const SEED: &[u8; 16] = b"halometer1-hedge";
const STREAM: &[u8; 16] = b"halometer1-strea";
const BLOCK: usize = 64;

/// A generator for one proof. Its key is a hash, keyed with a secret that was derived for this very proof, of fresh randomness: what it
/// gives is unknown to others if either of the two is. Two clones of one machine state draw the same fresh randomness, and still
/// nothing that is alike but for the same proof.
///
/// Its stream is BLAKE2b-512 over a counter, keyed with that hash.
pub(super) struct HedgedRng {
    key: Zeroizing<[u8; 64]>,
    counter: u64,
    block: Zeroizing<[u8; BLOCK]>,
    used: usize,
}

impl HedgedRng {
    /// `secret` is unknown to others and of one purpose; `fresh` is asked for 64 bytes.
    pub(super) fn new<R: Rng + CryptoRng>(secret: &[u8; 64], fresh: &mut R) -> Self {
        let mut drawn = Zeroizing::new([0; 64]);
        fresh.fill_bytes(&mut drawn[..]);
        let key = keyed(secret, SEED, &drawn[..]);
        Self { key, counter: 0, block: Zeroizing::new([0; BLOCK]), used: BLOCK }
    }
}

fn keyed(key: &[u8; 64], label: &[u8; 16], data: &[u8]) -> Zeroizing<[u8; 64]> {
    Zeroizing::new(*Params::new().hash_length(64).key(key).personal(label).hash(data).as_array())
}

impl TryRng for HedgedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for byte in out {
            if self.used == BLOCK {
                self.block = keyed(&self.key, STREAM, &self.counter.to_le_bytes());
                self.counter += 1;
                self.used = 0;
            }
            *byte = core::mem::take(&mut self.block[self.used]);
            self.used += 1;
        }
        Ok(())
    }
}

impl TryCryptoRng for HedgedRng {}

impl Drop for HedgedRng {
    fn drop(&mut self) {
        self.counter.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a clone of the machine draws as well.
    struct Same;

    impl TryRng for Same {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            Ok(7)
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            Ok(7)
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
            out.fill(7);
            Ok(())
        }
    }

    impl TryCryptoRng for Same {}

    fn stream(secret: u8, fresh: &mut impl CryptoRng) -> Vec<u8> {
        let mut rng = HedgedRng::new(&[secret; 64], fresh);
        let mut out = vec![0; 1_000];
        rng.fill_bytes(&mut out);
        out
    }

    #[test]
    fn either_of_secret_and_fresh_randomness_is_enough() {
        let first = stream(1, &mut Same);
        assert_eq!(first, stream(1, &mut Same), "the same proof, by a clone: the same");
        assert_ne!(first, stream(2, &mut Same), "another proof, by a clone");
        assert_ne!(first, stream(1, &mut crate::testing::world::rng(3)), "the same proof at another time");
    }

    #[test]
    fn a_stream_does_not_repeat_and_has_one_order() {
        let whole = stream(1, &mut Same);
        assert!(whole.chunks_exact(8).collect::<std::collections::HashSet<_>>().len() == 125);
        let mut rng = HedgedRng::new(&[1; 64], &mut Same);
        let mut parts = Vec::new();
        parts.extend(rng.next_u32().to_le_bytes());
        parts.extend(rng.next_u64().to_le_bytes());
        let mut rest = vec![0; 100];
        rng.fill_bytes(&mut rest);
        parts.extend(rest);
        assert_eq!(parts, whole[..112]);
    }
}
