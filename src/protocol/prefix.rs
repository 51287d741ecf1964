//! The first bits of a nullifier.

use core::fmt;
use core::str::FromStr;

use halometer_circuits::note::Nullifier;

use super::codec::DecodeError;

/// The first bits of a nullifier's encoding: names a bucket of spent nullifiers, so that a wallet can ask which of its notes are
/// spent without naming one (protocol, section 5, "Journal").
///
/// The encoding is little-endian, so that these are low bits of the number, which are as good as uniform.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    bits: u8,
    value: u16,
}

impl Prefix {
    /// Most bits of a prefix.
    pub const MAX_BITS: u8 = 16;
    /// Most bits that a wallet tells of a nullifier: one in 4,096 has them.
    pub const MAX_TOLD: u8 = 12;
    /// About so many of the spends to come begin like what is asked for, at least, unless there are fewer in all.
    pub const CROWD: u64 = 4_096;
    /// The longest bucket that is answered while more bits may be told.
    pub const MAX_BUCKET: u64 = 1 << 18;
    /// No bits: every nullifier begins with them.
    pub const WHOLE: Self = Self { bits: 0, value: 0 };

    /// The prefix of `bits` bits (0 to 16) with this value, as a number of so many bits, the first bit of the first byte
    /// highest. None for more bits or a larger value.
    pub const fn new(bits: u8, value: u16) -> Option<Self> {
        if bits <= Self::MAX_BITS && (value as u32) < 1 << bits { Some(Self { bits, value }) } else { None }
    }

    /// The prefix of so many bits that a nullifier has. More than 16 bits count as 16.
    pub fn of(nullifier: &Nullifier, bits: u8) -> Self {
        let bits = bits.min(Self::MAX_BITS);
        let [first, second, ..] = nullifier.to_bytes();
        let value = u32::from(u16::from_be_bytes([first, second])) >> (Self::MAX_BITS - bits);
        Self { bits, value: value as u16 }
    }

    /// How many bits to tell of a nullifier that is not spent yet, when a partition holds about `spent` nullifiers and about `to_come`
    /// more will be spent ([`Epoch::spends_to_come`](super::Epoch::spends_to_come)): the most, up to [`MAX_TOLD`](Self::MAX_TOLD),
    /// with which [`CROWD`](Self::CROWD) of those still to come begin like it. But never so few that the bucket is longer than
    /// [`MAX_BUCKET`](Self::MAX_BUCKET), which nobody answers with.
    ///
    /// Why those to come, and not those that are spent: the answering party learns the prefix of a note that will be
    /// spent, and may look for it in later spends. The spent ones are no crowd for it. Why not a fixed number of bits:
    /// two bytes of a partition with a few thousand spends to come would name one of them. The answering party also
    /// says how many are spent, and may say too many: hence the upper bound, which holds whatever is said.
    pub const fn bits_for(spent: u64, to_come: u64) -> u8 {
        let mut bits = 0;
        while bits < Self::MAX_TOLD && (to_come >> (bits + 1) >= Self::CROWD || spent >> bits > Self::MAX_BUCKET) {
            bits += 1;
        }
        bits
    }

    /// Number of bits, 0 to 16.
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Their value, below two to the number of bits.
    pub const fn value(&self) -> u16 {
        self.value
    }

    /// Whether a nullifier begins with it.
    pub fn is_of(&self, nullifier: &Nullifier) -> bool {
        Self::of(nullifier, self.bits) == *self
    }

    /// The least and the greatest 32 bytes that begin with it.
    pub(crate) fn bounds(&self) -> ([u8; 32], [u8; 32]) {
        let free = Self::MAX_BITS - self.bits;
        let low = (u32::from(self.value) << free) as u16;
        let high = low | ((1u32 << free) - 1) as u16;
        let (mut first, mut last) = ([0; 32], [0xff; 32]);
        first[..2].copy_from_slice(&low.to_be_bytes());
        last[..2].copy_from_slice(&high.to_be_bytes());
        (first, last)
    }
}

/// Not which: with a wallet's name or a time beside it in a log it would say more than it should.
impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefix").field("bits", &self.bits).finish_non_exhaustive()
    }
}

/// The number of bits, a slash, and the value in four hexadecimal digits, as in addresses: `12/0a3f`.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:04x}", self.bits, self.value)
    }
}

impl FromStr for Prefix {
    type Err = DecodeError;

    /// Reads what `Display` writes, and nothing else.
    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let read = || {
            let (bits, value) = text.split_once('/')?;
            Self::new(bits.parse().ok()?, u16::from_str_radix(value, 16).ok()?)
        };
        read().filter(|prefix| prefix.to_string() == text).ok_or(DecodeError::Field("prefix"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nullifier(first: u8, second: u8) -> Nullifier {
        let mut bytes = [0; 32];
        (bytes[0], bytes[1]) = (first, second);
        Option::from(Nullifier::from_bytes(&bytes)).unwrap()
    }

    #[test]
    fn a_prefix_is_the_first_bits_and_no_others() {
        let nf = nullifier(0b1010_0101, 0b1100_0011);
        for (bits, value) in [(0, 0), (1, 1), (4, 0b1010), (8, 0xa5), (12, 0xa5c), (16, 0xa5c3), (200, 0xa5c3)] {
            assert_eq!(Prefix::of(&nf, bits).value(), value, "{bits}");
        }
        for bits in 0..=16 {
            let prefix = Prefix::of(&nf, bits);
            let (low, high) = prefix.bounds();
            for other in [nullifier(0, 0), nullifier(0xa5, 0xc2), nf, nullifier(0xa5, 0xc4), nullifier(0xff, 0xff)] {
                let inside = (low..=high).contains(&other.to_bytes());
                assert_eq!(prefix.is_of(&other), inside, "{bits}");
            }
            assert_eq!(prefix.to_string().parse(), Ok(prefix));
        }
        assert_eq!(Prefix::WHOLE.bounds(), ([0; 32], [0xff; 32]));
    }

    #[test]
    fn other_forms_are_refused() {
        assert!(Prefix::new(17, 0).is_none() && Prefix::new(3, 8).is_none() && Prefix::new(0, 1).is_none());
        for text in ["", "3", "3/8", "3/0008", "03/0001", "+3/0001", "3/1", "17/0000", "3/000A", "3/0001/", "-1/0000"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_bucket_has_a_crowd_however_many_there_are() {
        for (spent, bits) in [(0, 0), (4_096, 0), (8_191, 0), (8_192, 1), (1 << 20, 8), (1 << 24, 12), (u64::MAX, 12)] {
            assert_eq!(Prefix::bits_for(spent, spent), bits, "{spent}");
        }
    }

    #[test]
    fn spent_notes_are_no_crowd_for_one_that_is_not() {
        for to_come in 0..Prefix::CROWD * 2 {
            assert_eq!(Prefix::bits_for(1 << 18, to_come), 0, "{to_come}");
        }
        for (to_come, bits) in [(1 << 14, 2), (1 << 13, 1), (1 << 12, 0), (0, 0)] {
            assert_eq!(Prefix::bits_for(1 << 18, to_come), bits, "{to_come}");
        }
        // What is answered is bounded: then no fewer bits are told than that takes.
        assert_eq!(Prefix::bits_for(1 << 20, 0), 2);
    }
}
