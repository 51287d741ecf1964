//! Buckets of points by digit, and what they weigh.

use group::Group;
use pasta_curves::vesta;
use zeroize::Zeroize;

use super::Xy;
use super::adder::{Adder, make_room};

/// Points by set and digit. A set of buckets is for one sum.
pub(super) struct Buckets {
    window: usize,
    sets: usize,
    /// Bucket and code of each point, in the order of their coming.
    entries: Vec<[u32; 2]>,
    ends: Vec<u32>,
    /// Codes by bucket.
    order: Vec<u32>,
}

impl Drop for Buckets {
    fn drop(&mut self) {
        self.entries.zeroize();
        self.ends.zeroize();
        self.order.zeroize();
    }
}

impl Buckets {
    /// Buckets for digits of `window` bits, with room for `capacity` points.
    pub(super) fn new(window: usize, sets: usize, capacity: usize) -> Self {
        Self {
            window,
            sets,
            entries: Vec::with_capacity(capacity),
            ends: vec![0; sets * Self::stride(window)],
            order: Vec::new(),
        }
    }

    /// Buckets of a set, one of digit 0 included, which stays empty.
    const fn stride(window: usize) -> usize {
        (1 << (window - 1)) + 1
    }

    /// Puts the point that `code` stands for into the bucket of `magnitude`.
    #[inline(always)]
    pub(super) fn put(&mut self, set: usize, magnitude: u32, code: u32) {
        let bucket = (set * Self::stride(self.window)) as u32 + magnitude;
        self.ends[bucket as usize] += 1;
        self.entries.push([bucket, code]);
    }

    /// For each set `sum i B_i`, where `B_i` is the sum of bucket `i`. `load` gives the point that a code stands for. Empties
    /// the buckets.
    #[inline(always)]
    pub(super) fn weigh(&mut self, adder: &mut Adder, load: impl Fn(u32) -> Xy) -> Vec<vesta::Point> {
        let mut total = 0;
        for end in &mut self.ends {
            total += *end;
            *end = total;
        }
        make_room(&mut self.order, total as usize);
        self.order.resize(total as usize, 0);
        // Each bucket is filled from its end, so that its end becomes its start, which is the end of the one before.
        for [bucket, code] in self.entries.iter().rev() {
            let end = &mut self.ends[*bucket as usize];
            *end -= 1;
            self.order[*end as usize] = *code;
        }
        self.ends.rotate_left(1);
        if let Some(last) = self.ends.last_mut() {
            *last = total;
        }
        let order = &self.order;
        adder.add_up(&mut self.ends, |at| load(order[at as usize]));
        let sums = self.weigh_sums(adder);
        self.entries.clear();
        self.ends.fill(0);
        sums
    }

    /// The digit `i = h 2^l + r` is taken apart, so that few weights are left: `sum i B_i = 2^l sum h H_h + sum r R_r`, where
    /// `H_h` and `R_r` are the sums of the buckets with that part.
    fn weigh_sums(&self, adder: &mut Adder) -> Vec<vesta::Point> {
        let (half, stride) = (1 << (self.window - 1), Self::stride(self.window));
        let low_bits = (self.window - 1) / 2;
        let lows = 1 << low_bits;
        let highs = half >> low_bits;
        let groups = lows - 1 + highs;
        let at = |set: usize, digit: usize| {
            let bucket = set * stride + digit;
            let start = if bucket == 0 { 0 } else { self.ends[bucket - 1] };
            (start < self.ends[bucket]).then(|| adder.points()[start as usize])
        };
        let mut points = Vec::with_capacity(2 * self.sets * half);
        let mut ends = Vec::with_capacity(self.sets * groups);
        for set in 0..self.sets {
            for low in 1..lows {
                points.extend((0..highs).filter_map(|high| at(set, high * lows + low)));
                ends.push(points.len() as u32);
            }
            for high in 1..=highs {
                points.extend((high * lows..((high + 1) * lows).min(half + 1)).filter_map(|digit| at(set, digit)));
                ends.push(points.len() as u32);
            }
        }
        adder.add_up(&mut ends, |at| points[at as usize]);
        points.zeroize();
        let group = |index: usize| {
            let start = if index == 0 { 0 } else { ends[index - 1] };
            (start < ends[index]).then(|| adder.points()[start as usize].point())
        };
        (0..self.sets)
            .map(|set| {
                let first = set * groups;
                let mut sum = weighted((0..highs).map(|high| group(first + lows - 1 + high)));
                for _ in 0..low_bits {
                    sum = sum.double();
                }
                sum + weighted((0..lows - 1).map(|low| group(first + low)))
            })
            .collect()
    }
}

/// `sum i P_i` with `i` from 1, as a sum of the sums from the top.
fn weighted(points: impl DoubleEndedIterator<Item = Option<vesta::Affine>>) -> vesta::Point {
    let (mut running, mut total) = (vesta::Point::identity(), vesta::Point::identity());
    for point in points.rev() {
        if let Some(point) = point {
            running += point;
        }
        total += running;
    }
    total
}
