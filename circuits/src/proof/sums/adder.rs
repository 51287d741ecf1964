//! Adds up many runs of points at once.

use ff::Field;
use pasta_curves::arithmetic::VartimeField;
use pasta_curves::vesta;
use zeroize::Zeroize;

use super::Xy;

/// Pairs that share an inversion, which costs about a hundred multiplications.
const SHARED: usize = 1024;
/// Products that grow side by side, so that none waits for the one before.
const LANES: usize = 4;

/// What a pair that cancels leaves. No point of Vesta has `y = 0`.
const NOTHING: Xy = Xy { x: vesta::Base::ZERO, y: vesta::Base::ZERO };

/// Buffers for sums. They hold points that tell secret scalars, and are wiped on drop and when they grow.
#[derive(Default)]
pub(in crate::proof) struct Adder {
    /// Of each pair the places of both, and the place of its sum.
    pairs: Vec<[u32; 3]>,
    /// Of each pair of a shared inversion: the difference to divide by, and the product of those before it in its lane.
    runs: Vec<[vesta::Base; 2]>,
    /// Pairs of equal or opposite points.
    special: Vec<u32>,
    points: Vec<Xy>,
    spare: Vec<Xy>,
}

impl Drop for Adder {
    fn drop(&mut self) {
        self.pairs.zeroize();
        self.runs.zeroize();
        self.special.zeroize();
        self.points.zeroize();
        self.spare.zeroize();
    }
}

/// Empties `buffer` and gives it room for `count` items, with nothing left behind in memory that is given back.
pub(super) fn make_room<T: Zeroize>(buffer: &mut Vec<T>, count: usize) {
    if buffer.capacity() < count {
        buffer.zeroize();
        *buffer = Vec::with_capacity(count);
    } else {
        buffer.clear();
    }
}

impl Adder {
    /// Adds up runs of points, where run `r` is the points `ends[r - 1]..ends[r]` of those that `load` gives. Leaves the sums
    /// in [`points`](Self::points), one for each run or none, and their ends in `ends`.
    pub(super) fn add_up(&mut self, ends: &mut [u32], load: impl Fn(u32) -> Xy) {
        let mut more = self.round(ends, load);
        while more {
            let source = core::mem::take(&mut self.points);
            self.points = core::mem::take(&mut self.spare);
            more = self.round(ends, |at| source[at as usize]);
            self.spare = source;
        }
    }

    /// What the last [`add_up`](Self::add_up) left.
    pub(super) fn points(&self) -> &[Xy] {
        &self.points
    }

    /// Replaces each two points of a run by their sum. Whether there may be more to add.
    #[inline(always)]
    fn round(&mut self, ends: &mut [u32], load: impl Fn(u32) -> Xy) -> bool {
        let total = ends.last().map_or(0, |end| *end as usize);
        make_room(&mut self.pairs, total / 2);
        make_room(&mut self.points, total.div_ceil(2) + ends.len());
        let (mut start, mut count) = (0, 0);
        for end in ends.iter_mut() {
            let mut at = start;
            while at + 1 < *end {
                self.pairs.push([at, at + 1, count]);
                self.points.push(NOTHING);
                (at, count) = (at + 2, count + 1);
            }
            if at < *end {
                self.points.push(load(at));
                count += 1;
            }
            start = *end;
            *end = count;
        }
        make_room(&mut self.runs, SHARED.min(self.pairs.len()));
        make_room(&mut self.special, SHARED.min(self.pairs.len()));
        let mut cancelled = false;
        for pairs in self.pairs.chunks(SHARED) {
            cancelled |= add_pairs(pairs, &mut self.runs, &mut self.special, &mut self.points, &load);
        }
        if cancelled {
            self.drop_cancelled(ends);
        }
        !self.pairs.is_empty()
    }

    #[cold]
    fn drop_cancelled(&mut self, ends: &mut [u32]) {
        let (mut start, mut kept) = (0, 0);
        for end in ends.iter_mut() {
            for at in start..*end as usize {
                let point = self.points[at];
                if point != NOTHING {
                    self.points[kept] = point;
                    kept += 1;
                }
            }
            start = *end as usize;
            *end = kept as u32;
        }
        self.points.truncate(kept);
    }
}

/// Adds at most [`SHARED`] pairs with one inversion. Whether one of them cancelled.
#[inline(always)]
fn add_pairs(
    pairs: &[[u32; 3]],
    runs: &mut Vec<[vesta::Base; 2]>,
    special: &mut Vec<u32>,
    sums: &mut [Xy],
    load: &impl Fn(u32) -> Xy,
) -> bool {
    runs.clear();
    special.clear();
    let mut products = [vesta::Base::ONE; LANES];
    for (k, [a, b, _]) in pairs.iter().enumerate() {
        let (a, b) = (load(*a), load(*b));
        let mut run = b.x - a.x;
        if run.is_zero_vartime() {
            special.push(k as u32);
            // Not zero: the curve has no point of order two. An opposite pair divides by nothing.
            run = if a.y == b.y { a.y.double() } else { vesta::Base::ONE };
        }
        let product = &mut products[k % LANES];
        runs.push([run, *product]);
        *product *= run;
    }
    let [p0, p1, p2, p3] = products;
    let (p01, p23) = (p0 * p1, p2 * p3);
    let inverse = (p01 * p23).invert_vartime().expect("no factor is zero");
    let (i01, i23) = (inverse * p23, inverse * p01);
    let mut inverses = [i01 * p1, i01 * p0, i23 * p3, i23 * p2];
    let mut cancelled = false;
    for (k, ([run, before], [a, b, sum])) in runs.iter().zip(pairs).enumerate().rev() {
        let inverse = &mut inverses[k % LANES];
        let inverted = *inverse * before;
        *inverse *= run;
        let (a, b) = (load(*a), load(*b));
        let rise = if special.last() == Some(&(k as u32)) {
            special.pop();
            if a.y != b.y {
                cancelled = true;
                continue;
            }
            let square = a.x.square();
            square.double() + square
        } else {
            b.y - a.y
        };
        let slope = rise * inverted;
        let x = slope.square() - a.x - b.x;
        sums[*sum as usize] = Xy { x, y: slope * (a.x - x) - a.y };
    }
    cancelled
}
