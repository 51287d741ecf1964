//! Where everything lies: 250 usable rows of 256, absolute rows, one region that starts at row 0.
//!
//! ```text
//! rows      p0 p1 p2 p3: Poseidon lane            z x y lambda: signature chain, then ranges
//! 0..=5     header: what is public, and balance   0..=127   digits of s, most significant first
//! 6..=28    a   = H_line(k, rho)                  128..=191 digits of e
//! 29..=51   nf  = H_nullifier(a, 0)               192       the constant that takes all offsets away
//! 52..=74   N'  = H_note(A, rho')                 193       (x, y) = R
//! 75..=97   C'  = H_value(N', v')
//! 98..=120  A   = H_account(k, 0)
//! 121..=143 N   = H_note(A, rho)
//! 144..=166 C   = H_value(N, v)
//! 167..=189 L   = H_leaf(C, r)
//! 193..=215 ch1 = H_ch1(R.x, L)                   R.x and ch1's first word share row 193
//! 216..=238 ch2 = H_ch2(ch1, H_key(D))            206..=238 ranges, ending in the row where ch2 lands:
//! 239       low 128 bits of ch2                             z: v', x: bits 128..192 of ch2, y: bits 192..255
//! ```

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use super::poseidon;
use crate::hash::Tag;
use crate::spend::SpendPublic;

/// log2 of the number of rows.
pub(crate) const K: u32 = 8;
/// Rows that may be assigned: 256 less five blinding rows and the last row of the permutation argument.
#[cfg(test)]
pub(crate) const USABLE_ROWS: usize = 250;

/// An advice column, by its place in the circuit's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Col {
    P0,
    P1,
    P2,
    P3,
    Z,
    X,
    Y,
    Lambda,
}

impl Col {
    pub(crate) const COUNT: usize = 8;
    pub(crate) const ALL: [Col; Self::COUNT] =
        [Col::P0, Col::P1, Col::P2, Col::P3, Col::Z, Col::X, Col::Y, Col::Lambda];
    pub(crate) const LANE: [Col; 4] = [Col::P0, Col::P1, Col::P2, Col::P3];
    /// The columns that copies join.
    pub(crate) const PERMUTED: [Col; 3] = [Col::P0, Col::P1, Col::Z];

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// An advice cell.
pub(crate) type At = (Col, usize);

/// Header rows. The instance column holds `x, y, nf, C', charge` in rows 0 to 4.
pub(crate) const LINE: usize = 0;
pub(crate) const SHARE: usize = 1;
pub(crate) const NULLIFIER: usize = 2;
pub(crate) const CHANGE: usize = 3;
pub(crate) const BALANCE: usize = 4;
pub(crate) const CHANGE_VALUE: usize = 5;
/// Rows in which `p0` is bound to the instance.
pub(crate) const BOUND: RangeInclusive<usize> = SHARE..=CHANGE;
const HEADER_ROWS: usize = 6;
const _: () = assert!(BALANCE + 1 == SpendPublic::COUNT && CHANGE_VALUE + 1 == HEADER_ROWS);

/// A Poseidon permutation in the lane: its first row, its tag, and whether its second input is the fixed zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) start: usize,
    pub(crate) tag: Tag,
    pub(crate) single: bool,
}

impl Block {
    /// The row whose `p0` holds the hash.
    pub(crate) const fn landing(self) -> usize {
        self.start + poseidon::ROWS - 1
    }

    pub(crate) const fn first_input(self) -> At {
        (Col::P0, self.start)
    }

    pub(crate) const fn second_input(self) -> At {
        (Col::P1, self.start)
    }

    pub(crate) const fn output(self) -> At {
        (Col::P0, self.landing())
    }
}

const fn block(start: usize, tag: Tag, single: bool) -> Block {
    Block { start, tag, single }
}

const fn stacked(i: usize) -> usize {
    HEADER_ROWS + i * poseidon::ROWS
}

pub(crate) const SLOPE: Block = block(stacked(0), Tag::Line, false);
pub(crate) const NULLIFIER_HASH: Block = block(stacked(1), Tag::Nullifier, true);
pub(crate) const NEXT_NOTE: Block = block(stacked(2), Tag::Note, false);
pub(crate) const NEXT_VALUE: Block = block(stacked(3), Tag::Value, false);
pub(crate) const ACCOUNT: Block = block(stacked(4), Tag::Account, true);
pub(crate) const NOTE: Block = block(stacked(5), Tag::Note, false);
pub(crate) const VALUE: Block = block(stacked(6), Tag::Value, false);
pub(crate) const LEAF: Block = block(stacked(7), Tag::Leaf, false);
pub(crate) const CHALLENGE_1: Block = block(CHAIN_END, Tag::Challenge1, false);
/// Its second input is the constant `H_key(D)`, added to the round constant of a word that is fixed to zero.
pub(crate) const CHALLENGE_2: Block = block(CHALLENGE_1.landing() + 1, Tag::Challenge2, true);

/// All permutations, from top to bottom.
pub(crate) const BLOCKS: [Block; 10] =
    [SLOPE, NULLIFIER_HASH, NEXT_NOTE, NEXT_VALUE, ACCOUNT, NOTE, VALUE, LEAF, CHALLENGE_1, CHALLENGE_2];
const _: () = assert!(LEAF.landing() < CHALLENGE_1.start);

/// Two-bit digits of `s`: 256 bits.
pub(crate) const S_DIGITS: usize = 128;
/// Two-bit digits of `e`: 128 bits, no more and no fewer.
pub(crate) const E_DIGITS: usize = 64;
/// First row of the digits of `e`.
pub(crate) const E_START: usize = S_DIGITS;
/// The row that adds the constant. Here `z` holds `e`.
pub(crate) const CONSTANT: usize = S_DIGITS + E_DIGITS;
/// The row in which `(x, y)` is `R`.
pub(crate) const CHAIN_END: usize = CONSTANT + 1;

/// Two-bit digits of a range: 64 bits.
pub(crate) const RANGE_DIGITS: usize = 32;
/// The row in which the range sums are complete: where the challenge hash lands.
pub(crate) const RANGE_END: usize = CHALLENGE_2.landing();
/// The row in which they are zero.
pub(crate) const RANGE_START: usize = RANGE_END - RANGE_DIGITS;
const _: () = assert!(RANGE_START > CHAIN_END);
/// Low 128 bits of the challenge hash.
pub(crate) const LOW: At = (Col::P1, RANGE_END + 1);

/// All copy constraints: what they carry, from where, to where.
pub(crate) const COPIES: [(&str, At, At); 19] = [
    ("k: line", SLOPE.first_input(), (Col::P1, LINE)),
    ("k: account", SLOPE.first_input(), ACCOUNT.first_input()),
    ("a: nullifier", SLOPE.output(), NULLIFIER_HASH.first_input()),
    ("a: line", SLOPE.output(), (Col::P0, LINE)),
    ("rho", SLOPE.second_input(), NOTE.second_input()),
    ("nf", NULLIFIER_HASH.output(), (Col::P0, NULLIFIER)),
    ("N'", NEXT_NOTE.output(), NEXT_VALUE.first_input()),
    ("v': balance", (Col::P0, CHANGE_VALUE), NEXT_VALUE.second_input()),
    ("v': range", (Col::P0, CHANGE_VALUE), (Col::Z, RANGE_END)),
    ("C'", NEXT_VALUE.output(), (Col::P0, CHANGE)),
    ("A: note", ACCOUNT.output(), NOTE.first_input()),
    ("A: next note", ACCOUNT.output(), NEXT_NOTE.first_input()),
    ("N", NOTE.output(), VALUE.first_input()),
    ("v", VALUE.second_input(), (Col::P0, BALANCE)),
    ("C", VALUE.output(), LEAF.first_input()),
    ("r", LEAF.second_input(), (Col::P1, BALANCE)),
    ("L", LEAF.output(), CHALLENGE_1.second_input()),
    ("ch1", CHALLENGE_1.output(), CHALLENGE_2.first_input()),
    ("e", (Col::Z, CONSTANT), LOW),
];

/// Every advice cell that the circuit assigns. What is not here is read by no gate that is switched on there, or is
/// multiplied by a fixed zero.
pub(crate) static CELLS: LazyLock<Vec<At>> = LazyLock::new(|| {
    let mut cells = vec![
        (Col::P0, LINE),
        (Col::P1, LINE),
        (Col::P0, SHARE),
        (Col::P0, NULLIFIER),
        (Col::P0, CHANGE),
        (Col::P0, BALANCE),
        (Col::P1, BALANCE),
        (Col::P0, CHANGE_VALUE),
        LOW,
    ];
    for block in BLOCKS {
        for row in 0..poseidon::ROWS {
            let width = if poseidon::is_partial_row(row) { 4 } else { 3 };
            cells.extend(Col::LANE[..width].iter().map(|col| (*col, block.start + row)));
        }
    }
    cells.extend((0..=CONSTANT).map(|row| (Col::Lambda, row)));
    cells.extend((0..=CHAIN_END).flat_map(|row| [(Col::Z, row), (Col::X, row), (Col::Y, row)]));
    cells.extend((RANGE_START..=RANGE_END).flat_map(|row| [(Col::Z, row), (Col::X, row), (Col::Y, row)]));
    cells
});

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_cell_has_two_uses_and_all_rows_are_usable() {
        let distinct: HashSet<_> = CELLS.iter().collect();
        assert_eq!(distinct.len(), CELLS.len());
        assert!(CELLS.iter().all(|(_, row)| *row < USABLE_ROWS));
        for (what, from, to) in COPIES {
            assert!(distinct.contains(&from) && distinct.contains(&to), "{what}");
        }
    }
}
