//! A price for each byte.

use bytes::Bytes;

use super::{Call, End, Meter, Metered, NotSold, Pricing};

/// Prices by the bytes of the request's body and of the answer's: a unit of an item of the tariff each. (A tariff has a price for so
/// many units, so that it can price kilobytes.) Headers are free, and so are answers that are no success.
#[derive(Clone, Debug, Default)]
pub struct BytePricing {
    request: Option<String>,
    answer: Option<String>,
}

impl BytePricing {
    /// Prices nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Each byte of the request's body is a unit of `item`.
    #[must_use]
    pub fn request(self, item: &str) -> Self {
        Self { request: Some(item.to_owned()), ..self }
    }

    /// Each byte of the answer's body is a unit of `item`.
    #[must_use]
    pub fn answer(self, item: &str) -> Self {
        Self { answer: Some(item.to_owned()), ..self }
    }
}

impl Pricing for BytePricing {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        let counts = (call.body.len() as u64, 0);
        Ok(Box::new(ByteMeter { pricing: self.clone(), counts, free: false }))
    }
}

struct ByteMeter {
    pricing: BytePricing,
    /// Of the request, and of the answer.
    counts: (u64, u64),
    /// Whether the answer is no success.
    free: bool,
}

impl Meter for ByteMeter {
    fn items(&self) -> Metered {
        self.metered()
    }

    fn least(&self) -> Metered {
        self.metered()
    }

    fn head(&mut self, head: &mut http::response::Parts) {
        self.free = !head.status.is_success();
    }

    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self.counts.1 = self.counts.1.saturating_add(chunk.len() as u64);
        chunk
    }

    fn metered(&self) -> Metered {
        if self.free {
            return Metered::NOTHING;
        }
        let BytePricing { request, answer } = &self.pricing;
        let counts = [(request.as_deref(), self.counts.0), (answer.as_deref(), self.counts.1)];
        let mut units: Vec<(String, u64)> = Vec::new();
        for (item, count) in counts.into_iter().filter_map(|(item, count)| Some((item?, count))) {
            // One item for both is counted once.
            match units.iter_mut().find(|(known, _)| known == item) {
                Some((_, units)) => *units = units.saturating_add(count),
                None => units.push((item.to_owned(), count)),
            }
        }
        Metered::Usage(units)
    }

    fn end(&mut self, end: End) -> Metered {
        match end {
            End::Unreached | End::Failed => Metered::NOTHING,
            _ => self.metered(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, Response};

    use super::*;

    fn metered(pricing: &BytePricing, status: Option<u16>, end: End) -> Metered {
        let call =
            Call { method: &Method::POST, target: "/", headers: &HeaderMap::new(), body: &Bytes::from_static(b"abc") };
        let mut meter = pricing.meter(&call).unwrap();
        if let Some(status) = status {
            meter.head(&mut Response::builder().status(status).body(()).unwrap().into_parts().0);
            assert_eq!(meter.chunk(Bytes::from_static(b"12")), "12");
            meter.chunk(Bytes::from_static(b"345"));
        }
        meter.end(end)
    }

    #[test]
    fn bytes_of_both_ways_are_counted_as_far_as_they_came() {
        let both = BytePricing::new().request("in").answer("out");
        let usage = Metered::usage([("in", 3), ("out", 5)]);
        for end in [End::Complete, End::BrokenOff, End::Gone, End::Cancelled, End::CapReached] {
            assert_eq!(metered(&both, Some(200), end), usage, "{end:?}");
            assert_eq!(metered(&both, Some(500), end), Metered::NOTHING, "{end:?}");
        }
        assert_eq!(metered(&both, None, End::Unreached), Metered::NOTHING);
        assert_eq!(metered(&both, None, End::Failed), Metered::NOTHING);
        assert_eq!(metered(&both, Some(200), End::Failed), Metered::NOTHING);
        assert_eq!(metered(&both, None, End::Cancelled), Metered::usage([("in", 3), ("out", 0)]));
        assert_eq!(metered(&BytePricing::new().answer("x"), Some(200), End::Complete), Metered::usage([("x", 5)]));
        let one = BytePricing::new().request("x").answer("x");
        assert_eq!(metered(&one, Some(200), End::Complete), Metered::usage([("x", 8)]));
    }
}
