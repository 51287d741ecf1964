//! From what was counted to what it costs.

use std::sync::Arc;

use super::Metered;
use crate::protocol::{Credits, Tariff};

/// What one spend is priced by: the tariff that its caller agreed to, and its charge.
#[derive(Clone, Debug)]
pub(crate) struct Rates {
    tariff: Option<Arc<Tariff>>,
    quantum: Credits,
    charge: Credits,
    /// A whole answer that costs more than this is withheld.
    ceiling: Credits,
}

impl Rates {
    /// `charge` is a class of the directory, and so a multiple of its quantum.
    pub(crate) fn new(tariff: Option<Tariff>, quantum: Credits, charge: Credits) -> Self {
        Self { tariff: tariff.map(Arc::new), quantum, charge, ceiling: charge }
    }

    /// The same prices under a lower cap.
    pub(crate) fn capped(&self, cap: Credits) -> Self {
        Self { charge: cap, ceiling: cap, ..self.clone() }
    }

    /// The same prices for who has no more than this left of the charge. What the whole charge would have covered is given for it.
    pub(crate) fn left(&self, left: Credits) -> Self {
        Self { charge: left, ..self.clone() }
    }

    /// The most that anything costs.
    pub(crate) fn cap(&self) -> Credits {
        self.charge
    }

    /// The cost, a multiple of the quantum, at most the charge. What the tariff has no price for costs nothing.
    pub(crate) fn cost(&self, metered: &Metered) -> Credits {
        self.price(metered).map_or(self.charge, |price| price.min(self.charge))
    }

    /// Whether this costs more than the charge. What has no price does not.
    pub(crate) fn exceeds(&self, metered: &Metered) -> bool {
        self.price(metered).is_some_and(|price| price > self.charge)
    }

    /// Whether a whole answer at this price is withheld.
    pub(crate) fn withholds(&self, metered: &Metered) -> bool {
        self.price(metered).is_some_and(|price| price > self.ceiling)
    }

    /// Whether the tariff has a price for what was counted.
    pub(crate) fn knows(&self, metered: &Metered) -> bool {
        let priced = |item: &str| self.tariff.as_ref().is_some_and(|tariff| tariff.price(item).is_some());
        match metered {
            Metered::Charge | Metered::Cost(_) => true,
            Metered::Usage(units) => units.iter().all(|(item, _)| priced(item)),
        }
    }

    /// What this costs, however much that is. None for the whole charge.
    pub(crate) fn price(&self, metered: &Metered) -> Option<Credits> {
        match metered {
            Metered::Charge => None,
            Metered::Cost(cost) => Some(cost.round_up(self.quantum).unwrap_or(Credits::from_micro(u64::MAX))),
            Metered::Usage(units) => {
                let units = units.iter().map(|(item, units)| (item.as_str(), *units));
                let cost = self.tariff.as_ref().map_or(Ok(Credits::ZERO), |tariff| tariff.cost(units, self.quantum));
                // The only error is that it does not fit.
                Some(cost.unwrap_or(Credits::from_micro(u64::MAX)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Price, Timestamp, Window};

    fn rates(charge: u64) -> Rates {
        let valid = Window { from: Timestamp::from_seconds(0), until: Timestamp::MAX };
        let price = Price { item: "call".to_owned(), credits: Credits::from_micro(7), per: 1 };
        Rates::new(Tariff::new(valid, vec![price]).ok(), Credits::from_micro(5), Credits::from_micro(charge))
    }

    #[test]
    fn costs_are_multiples_of_the_quantum_up_to_the_charge() {
        let usage = |units| Metered::usage([("call", units)]);
        for (metered, cost, exceeds) in [
            (Metered::NOTHING, 0, false),
            (usage(0), 0, false),
            (usage(1), 10, false),
            (usage(14), 100, false),
            (usage(15), 100, true),
            (usage(u64::MAX), 100, true),
            (Metered::Cost(Credits::from_micro(1)), 5, false),
            (Metered::Cost(Credits::from_micro(101)), 100, true),
            (Metered::Cost(Credits::from_micro(u64::MAX)), 100, true),
            (Metered::Charge, 100, false),
            (Metered::usage([("unknown", 1)]), 0, false),
            (Metered::usage([("unknown", u64::MAX), ("call", 1)]), 10, false),
        ] {
            let rates = rates(100);
            assert_eq!((rates.cost(&metered).micro(), rates.exceeds(&metered)), (cost, exceeds), "{metered:?}");
            assert_eq!(rates.withholds(&metered), exceeds, "{metered:?}");
        }
        // Of a session: what was set aside for the call is all that it may cost; what is left of a charge that would do pays for it.
        for (rates, withheld) in
            [(rates(100).capped(Credits::from_micro(40)), 6), (rates(100).left(Credits::from_micro(40)), 15)]
        {
            assert_eq!(rates.cost(&usage(9)), Credits::from_micro(40));
            assert!(!rates.withholds(&usage(withheld - 1)) && rates.withholds(&usage(withheld)));
        }
        // A tariff that is not known has a price for nothing.
        let unknown = Rates { tariff: None, ..rates(100) };
        assert_eq!((unknown.cost(&usage(1)).micro(), unknown.exceeds(&usage(1))), (0, false));
        assert!(
            !unknown.knows(&usage(1))
                && unknown.knows(&Metered::NOTHING)
                && !rates(9).knows(&Metered::usage([("unknown", 1)]))
        );
        assert_eq!(unknown.cost(&Metered::NOTHING), Credits::ZERO);
    }
}
