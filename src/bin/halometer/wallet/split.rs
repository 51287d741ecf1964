//! Over how many lanes a payment is spread.

use super::prices::typical;
use halometer::protocol::{Credits, Directory, LANES, Timestamp};

/// How a payment is spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) amounts: [Credits; LANES],
    /// The lanes that have something.
    pub(super) lanes: u64,
    /// The largest class that each of these can pay.
    pub(super) class: Option<Credits>,
    /// The class of a typical call.
    pub(super) usable: Credits,
}

impl Split {
    /// As many lanes as can each pay for a typical call, or where no lane can, for the largest class that one can pay. None if the
    /// directory has no class.
    pub(super) fn choose(paid: Credits, directory: &Directory, now: Timestamp) -> Option<Self> {
        let usable = usable(directory, now)?;
        let best = directory.classes().iter().copied().filter(|class| *class <= paid).max().unwrap_or(paid);
        let each = usable.min(best).micro().max(1);
        Some(Self::over((paid.micro() / each).clamp(1, LANES as u64), paid, directory, usable))
    }

    /// So many lanes.
    pub(super) fn exactly(lanes: u32, paid: Credits, directory: &Directory, now: Timestamp) -> Option<Self> {
        Some(Self::over(u64::from(lanes).clamp(1, LANES as u64), paid, directory, usable(directory, now)?))
    }

    /// As it was asked for before.
    pub(super) fn known(amounts: [Credits; LANES], directory: &Directory, now: Timestamp) -> Option<Self> {
        Some(Self::of(amounts, directory, usable(directory, now)?))
    }

    /// The most lanes of which each can pay a class.
    pub(super) fn most_lanes(paid: Credits, directory: &Directory) -> u64 {
        let least = directory.classes().iter().min().copied().unwrap_or(paid).micro().max(1);
        (paid.micro() / least).clamp(1, LANES as u64)
    }

    fn over(lanes: u64, paid: Credits, directory: &Directory, usable: Credits) -> Self {
        Self::of(spread(paid, lanes, directory.quantum()), directory, usable)
    }

    fn of(amounts: [Credits; LANES], directory: &Directory, usable: Credits) -> Self {
        let used = amounts.iter().filter(|amount| !amount.is_zero());
        let least = used.clone().min().copied().unwrap_or_default();
        let class = directory.classes().iter().copied().filter(|class| *class <= least).max();
        Self { amounts, lanes: used.count() as u64, class, usable }
    }

    /// What its owner should know.
    pub(super) fn warning(&self) -> Option<String> {
        match self.class {
            None => Some(
                "no lane can pay for a call: this is less than the smallest charge class; together with other payments it is gathered"
                    .to_owned(),
            ),
            Some(class) if class < self.usable => Some(format!(
                "a lane can pay class {} and no more, and a typical call needs {}: longer answers may be kept back; bound them, or pay more at a time",
                class.grouped(),
                self.usable.grouped()
            )),
            Some(_) => None,
        }
    }

    /// The lanes in words: `1 x 20,003, 7 x 20,000`.
    pub(super) fn words(&self) -> String {
        let mut groups: Vec<(Credits, u32)> = Vec::new();
        for amount in self.amounts.iter().filter(|amount| !amount.is_zero()) {
            match groups.last_mut() {
                Some((last, count)) if last == amount => *count += 1,
                _ => groups.push((*amount, 1)),
            }
        }
        let groups = groups.iter().map(|(amount, count)| format!("{count} x {}", amount.grouped()));
        groups.collect::<Vec<_>>().join(", ")
    }
}

/// The class of a typical call: the smallest, where the tariff does not tell.
fn usable(directory: &Directory, now: Timestamp) -> Option<Credits> {
    let mut classes = directory.classes().to_vec();
    classes.sort();
    let cost = directory.callers_tariff(now).and_then(|tariff| typical(tariff, directory.quantum()));
    let covering = |cost: Credits| classes.iter().copied().find(|class| *class >= cost);
    cost.map_or(classes.first().copied(), |cost| covering(cost).or(classes.last().copied()))
}

/// Evenly, on the quantum; what does not go up is the first lane's.
fn spread(paid: Credits, lanes: u64, quantum: Credits) -> [Credits; LANES] {
    let quantum = quantum.micro().max(1);
    let each = paid.micro() / lanes / quantum * quantum;
    core::array::from_fn(|lane| {
        Credits::from_micro(match lane as u64 {
            0 => paid.micro() - each * (lanes - 1),
            lane if lane < lanes => each,
            _ => 0,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use halometer::testing::market::{Market, MarketOptions};

    #[test]
    fn credit_is_spread_on_the_quantum_and_none_is_lost() {
        for (paid, lanes, quantum) in [(100, 8, 1), (100, 8, 10), (7, 8, 5), (u64::MAX, 3, 1), (1, 1, 1), (999, 7, 100)]
        {
            let amounts = spread(Credits::from_micro(paid), lanes, Credits::from_micro(quantum));
            assert_eq!(Credits::checked_sum(amounts), Some(Credits::from_micro(paid)));
            assert!(amounts[1..].iter().all(|amount| amount.is_multiple_of(Credits::from_micro(quantum))));
            assert!(amounts[lanes as usize..].iter().all(|amount| amount.is_zero()));
        }
    }

    #[test]
    fn each_lane_can_pay_a_usable_class() {
        use halometer::http::pricing::{INPUT_TOKEN, OUTPUT_TOKEN};
        let mut options =
            MarketOptions::new("http://127.0.0.1:1".to_owned(), 0, &[(INPUT_TOKEN, 2), (OUTPUT_TOKEN, 8)]);
        options.classes = vec![4_000, 16_000, 64_000];
        let market = Market::open(options).unwrap();
        let directory = market.issuer().directory();
        let now = halometer::http::clock::now();
        for (paid, lanes, class) in [
            // The issue's own: a typical call needs 16,000, which this cannot pay at all.
            (9_000, 2, Some(4_000)),
            (4_000, 1, Some(4_000)),
            (3_999, 1, None),
            (1, 1, None),
            (16_000, 1, Some(16_000)),
            (31_999, 1, Some(16_000)),
            (33_000, 2, Some(16_000)),
            (128_000, 8, Some(16_000)),
            (10_000_000, 8, Some(64_000)),
            (u64::MAX, 8, Some(64_000)),
        ] {
            let split = Split::choose(Credits::from_micro(paid), directory, now).unwrap();
            assert_eq!((split.lanes, split.class), (lanes, class.map(Credits::from_micro)), "{paid}");
            assert_eq!(Credits::checked_sum(split.amounts), Some(Credits::from_micro(paid)));
            assert_eq!(split.warning().is_some(), class.is_none_or(|class| class < 16_000), "{paid}");
        }
        let asked = Split::exactly(8, Credits::from_micro(9_000), directory, now).unwrap();
        assert_eq!((asked.class, Split::most_lanes(Credits::from_micro(9_000), directory)), (None, 2));
        assert_eq!(
            Split::choose(Credits::from_micro(160_003), directory, now).unwrap().words(),
            "1 x 20,003, 7 x 20,000"
        );
    }
}
