//! A price that the service says in a header of its answer.

use http::{HeaderMap, HeaderName};

use super::{Call, End, Meter, Metered, NotSold, Pricing};
use crate::protocol::Credits;

/// Prices by a header of the service's answer, or a trailer, which the caller does not get to see: a whole number, of micro-credits or
/// of units of an item of the tariff. A trailer counts before the header.
///
/// Where the service says nothing usable (no number, more than 64 bits, the header twice), a success costs what is set for it; the charge
/// if nothing is.
#[derive(Clone, Debug)]
pub struct HeaderPricing {
    name: HeaderName,
    item: Option<String>,
    otherwise: Metered,
}

impl HeaderPricing {
    /// The header says micro-credits.
    pub fn credits(name: HeaderName) -> Self {
        Self { name, item: None, otherwise: Metered::Charge }
    }

    /// The header says units of an item of the tariff.
    pub fn units(name: HeaderName, item: &str) -> Self {
        Self { name, item: Some(item.to_owned()), otherwise: Metered::Charge }
    }

    /// What a success costs of which the service says nothing.
    #[must_use]
    pub fn otherwise(self, otherwise: Metered) -> Self {
        Self { otherwise, ..self }
    }

    /// Takes the header out, and reads it.
    fn take(&self, headers: &mut HeaderMap) -> Option<Metered> {
        let mut values = headers.get_all(&self.name).iter();
        let (first, more) = (values.next().and_then(|value| value.to_str().ok()).map(str::to_owned), values.next());
        let single = first.filter(|_| more.is_none());
        while headers.remove(&self.name).is_some() {}
        // `parse` would take a sign.
        let number: u64 = single.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
        Some(match &self.item {
            None => Metered::Cost(Credits::from_micro(number)),
            Some(item) => Metered::usage([(item.as_str(), number)]),
        })
    }
}

impl Pricing for HeaderPricing {
    fn meter(&self, _: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        Ok(Box::new(HeaderMeter { pricing: self.clone(), said: None, answered: None }))
    }
}

struct HeaderMeter {
    pricing: HeaderPricing,
    said: Option<Metered>,
    /// Whether the answer is a success, once there is one.
    answered: Option<bool>,
}

impl Meter for HeaderMeter {
    fn items(&self) -> Metered {
        self.pricing.item.iter().fold(Metered::NOTHING, |_, item| Metered::usage([(item.as_str(), 0)]))
    }

    fn reported(&self) -> Metered {
        self.said.clone().unwrap_or(Metered::NOTHING)
    }

    fn head(&mut self, head: &mut http::response::Parts) {
        self.answered = Some(head.status.is_success());
        self.said = self.pricing.take(&mut head.headers);
    }

    fn trailers(&mut self, trailers: &mut HeaderMap) {
        self.said = self.pricing.take(trailers).or_else(|| self.said.take());
    }

    fn metered(&self) -> Metered {
        self.said.clone().unwrap_or_else(|| match self.answered {
            Some(false) => Metered::NOTHING,
            Some(true) | None => self.pricing.otherwise.clone(),
        })
    }

    fn end(&mut self, end: End) -> Metered {
        match end {
            // Whose fault it is pays.
            End::Unreached | End::Failed => Metered::NOTHING,
            _ => self.metered(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Method, Response};

    use super::*;

    fn meter(pricing: &HeaderPricing) -> Box<dyn Meter> {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        pricing.meter(&Call { method: &Method::GET, target: "/", headers: &headers, body: &body }).unwrap()
    }

    fn price(pricing: &HeaderPricing, status: u16, values: &[&str]) -> Metered {
        let mut head = Response::builder().status(status).body(()).unwrap().into_parts().0;
        for value in values {
            head.headers.append("x-cost", value.parse().unwrap());
        }
        let mut meter = meter(pricing);
        meter.head(&mut head);
        assert!(head.headers.is_empty());
        meter.end(End::Complete)
    }

    #[test]
    fn the_header_says_the_price_and_is_taken_out() {
        let name = HeaderName::from_static("x-cost");
        let credits = HeaderPricing::credits(name.clone());
        assert_eq!(price(&credits, 200, &["12"]), Metered::Cost(Credits::from_micro(12)));
        assert_eq!(price(&HeaderPricing::units(name, "second"), 200, &["12"]), Metered::usage([("second", 12)]));
        for odd in [&[][..], &[""], &["-1"], &["+1"], &["1.5"], &["0x1"], &["1", "1"], &["18446744073709551616"]] {
            assert_eq!(price(&credits, 200, odd), Metered::Charge, "{odd:?}");
            assert_eq!(price(&credits, 500, odd), Metered::NOTHING, "{odd:?}");
            let set = credits.clone().otherwise(Metered::usage([("call", 1)]));
            assert_eq!(price(&set, 200, odd), Metered::usage([("call", 1)]), "{odd:?}");
        }
        // An error may have a price, where the service says one.
        assert_eq!(price(&credits, 500, &["7"]), Metered::Cost(Credits::from_micro(7)));
    }

    #[test]
    fn a_trailer_counts_before_the_header() {
        let pricing = HeaderPricing::credits(HeaderName::from_static("x-cost"));
        let mut meter = meter(&pricing);
        assert_eq!(meter.end(End::Failed), Metered::NOTHING);
        assert_eq!(meter.end(End::Cancelled), Metered::Charge);
        meter.head(&mut Response::builder().header("x-cost", "3").body(()).unwrap().into_parts().0);
        assert_eq!(meter.end(End::Gone), Metered::Cost(Credits::from_micro(3)));
        let mut trailers = HeaderMap::from_iter([(HeaderName::from_static("x-cost"), "5".parse().unwrap())]);
        meter.trailers(&mut trailers);
        assert!(trailers.is_empty());
        assert_eq!(meter.end(End::Complete), Metered::Cost(Credits::from_micro(5)));
        meter.trailers(&mut HeaderMap::new());
        assert_eq!(meter.end(End::Complete), Metered::Cost(Credits::from_micro(5)));
    }
}
