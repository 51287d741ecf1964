//! What things cost.

use super::bytes::{Digest, digest};
use super::codec::{DecodeError, Reader, is_text, put_count, put_text};
use super::credits::Credits;
use super::time::Window;

/// The price of one metered item: `credits` for every `per` units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Name of the item, 1 to 64 visible ASCII characters, for instance `completion_token`.
    pub item: String,
    /// What `per` units cost.
    pub credits: Credits,
    /// Number of units that cost `credits`, at least 1.
    pub per: u64,
}

/// A price list and the window in which it holds. Its digest is part of every context: the caller and the gateway agree on
/// the tariff before the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tariff {
    valid: Window,
    prices: Vec<Price>,
    digest: Digest,
}

/// Why a tariff is none, or gives no price. The operator of the directory or of the meter is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TariffError {
    /// The window is empty.
    #[error("the tariff's window is empty")]
    Window,
    /// More prices than [`Tariff::MAX_PRICES`].
    #[error("the tariff has more than {} prices", Tariff::MAX_PRICES)]
    TooManyPrices,
    /// A name is empty, too long, not visible ASCII, or occurs twice; or `per` is zero.
    #[error("the price of `{0}` is not well-formed")]
    Price(String),
    /// The cost does not fit 64 bits.
    #[error("the cost does not fit 64 bits")]
    Overflow,
}

impl Tariff {
    /// Most prices in a tariff.
    pub const MAX_PRICES: usize = 256;
    /// Longest name of an item, bytes.
    pub const MAX_NAME: usize = 64;

    /// A tariff; the prices are sorted by name.
    ///
    /// # Errors
    /// [`TariffError::Window`], [`TariffError::TooManyPrices`], [`TariffError::Price`].
    pub fn new(valid: Window, mut prices: Vec<Price>) -> Result<Self, TariffError> {
        prices.sort_by(|a, b| a.item.cmp(&b.item));
        if valid.is_empty() {
            return Err(TariffError::Window);
        }
        if prices.len() > Self::MAX_PRICES {
            return Err(TariffError::TooManyPrices);
        }
        for (i, price) in prices.iter().enumerate() {
            let name = &price.item;
            let twice = i > 0 && prices[i - 1].item == *name;
            if !is_text(name, Self::MAX_NAME) || twice || price.per == 0 {
                return Err(TariffError::Price(name.clone()));
            }
        }
        let mut tariff = Self { valid, prices, digest: Digest::from_bytes([0; 32]) };
        let mut bytes = Vec::new();
        tariff.write(&mut bytes);
        tariff.digest = digest(b"halometer1-tarif", &[&bytes]);
        Ok(tariff)
    }

    /// When it holds.
    pub fn valid(&self) -> Window {
        self.valid
    }

    /// The prices, sorted by name.
    pub fn prices(&self) -> &[Price] {
        &self.prices
    }

    /// What so many units of some items cost: each item rounded up to a micro-credit, the sum to the quantum. An item without a
    /// price costs nothing, as caller and gateway have agreed on none: it is the one rule for settling and for judging.
    ///
    /// # Errors
    /// [`TariffError::Overflow`].
    pub fn cost<'a>(
        &self,
        usage: impl IntoIterator<Item = (&'a str, u64)>,
        quantum: Credits,
    ) -> Result<Credits, TariffError> {
        let mut sum = Credits::ZERO;
        for (item, units) in usage {
            let Some(price) = self.price(item) else { continue };
            let cost = (u128::from(units) * u128::from(price.credits.micro())).div_ceil(u128::from(price.per));
            let cost = u64::try_from(cost).map_err(|_| TariffError::Overflow)?;
            sum = sum.checked_add(Credits::from_micro(cost)).ok_or(TariffError::Overflow)?;
        }
        sum.round_up(quantum).ok_or(TariffError::Overflow)
    }

    /// The price of an item, if it has one.
    pub fn price(&self, item: &str) -> Option<&Price> {
        let found = self.prices.binary_search_by(|price| price.item.as_str().cmp(item));
        found.ok().map(|place| &self.prices[place])
    }

    /// Digest of the tariff, window included.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        self.valid.write(out);
        put_count(out, self.prices.len());
        for price in &self.prices {
            put_text(out, &price.item);
            out.extend_from_slice(&price.credits.micro().to_be_bytes());
            out.extend_from_slice(&price.per.to_be_bytes());
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let valid = Window::read(reader)?;
        let prices = reader.list("prices", Self::MAX_PRICES, |reader| {
            Ok(Price {
                item: reader.text("item", Self::MAX_NAME)?,
                credits: Credits::from_micro(reader.u64()?),
                per: reader.u64()?,
            })
        })?;
        Self::new(valid, prices).map_err(|_| DecodeError::Field("tariff"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Timestamp;

    fn price(item: &str, credits: u64, per: u64) -> Price {
        Price { item: item.to_owned(), credits: Credits::from_micro(credits), per }
    }

    fn always() -> Window {
        Window { from: Timestamp::from_seconds(0), until: Timestamp::MAX }
    }

    #[test]
    fn costs_are_rounded_up_and_checked() {
        let tariff = Tariff::new(always(), vec![price("token", 3, 10), price("call", 7, 1)]).unwrap();
        let quantum = Credits::from_micro(5);
        assert_eq!(tariff.cost([], quantum), Ok(Credits::ZERO));
        // 7 + ceil(33 / 10) = 11, to the next multiple of 5.
        assert_eq!(tariff.cost([("call", 1), ("token", 11)], quantum), Ok(Credits::from_micro(15)));
        assert_eq!(tariff.cost([("image", 1)], quantum), Ok(Credits::ZERO));
        assert_eq!(tariff.cost([("image", u64::MAX), ("call", 1)], quantum), Ok(Credits::from_micro(10)));
        assert_eq!(tariff.cost([("call", u64::MAX)], quantum), Err(TariffError::Overflow));
    }

    #[test]
    fn malformed_price_lists_are_refused() {
        let long = "x".repeat(65);
        for bad in [price("", 1, 1), price("a b", 1, 1), price(&long, 1, 1), price("é", 1, 1), price("a", 1, 0)] {
            assert!(matches!(Tariff::new(always(), vec![bad]), Err(TariffError::Price(_))));
        }
        let twice = vec![price("a", 1, 1), price("a", 2, 1)];
        assert!(matches!(Tariff::new(always(), twice), Err(TariffError::Price(_))));
        let empty = Window { from: Timestamp::MAX, until: Timestamp::MAX };
        assert_eq!(Tariff::new(empty, vec![]), Err(TariffError::Window));
    }
}
