//! A fixed price for each route.

use super::{Call, End, Meter, Metered, NotSold, Pricing};
use crate::http::pattern::RoutePattern;

/// A price for each route: one unit of an item of the tariff. The first route that matches counts; what matches none is not for sale.
///
/// The price is for an answer that is a success. What is below the price is no charge to pay it with: such a call is refused as
/// `cap-reached` before the service is asked, and costs nothing.
#[derive(Clone, Debug, Default)]
pub struct FixedPricing(Vec<(RoutePattern, String)>);

impl FixedPricing {
    /// Sells nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sells a route, for one unit of `item`.
    #[must_use]
    pub fn route(mut self, route: RoutePattern, item: &str) -> Self {
        self.0.push((route, item.to_owned()));
        self
    }
}

impl Pricing for FixedPricing {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        let found = self.0.iter().find(|(route, _)| route.matches(call.method, call.path()));
        let (_, item) = found.ok_or(NotSold::Path)?;
        Ok(Box::new(FixedMeter { item: item.clone(), success: true }))
    }
}

struct FixedMeter {
    item: String,
    /// As far as is known.
    success: bool,
}

impl FixedMeter {
    fn price(&self) -> Metered {
        Metered::usage([(self.item.as_str(), 1)])
    }
}

impl Meter for FixedMeter {
    fn items(&self) -> Metered {
        self.price()
    }

    fn least(&self) -> Metered {
        if self.success { self.price() } else { Metered::NOTHING }
    }

    fn most(&self) -> Option<Metered> {
        Some(self.price())
    }

    fn head(&mut self, head: &mut http::response::Parts) {
        self.success = head.status.is_success();
    }

    fn metered(&self) -> Metered {
        self.least()
    }

    fn end(&mut self, end: End) -> Metered {
        match end {
            // Whose fault it is pays.
            End::Unreached | End::Failed | End::BrokenOff => Metered::NOTHING,
            End::Complete | End::Gone | End::Cancelled | End::CapReached => self.least(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method, Response};

    use super::*;

    fn meter(method: Method, path: &str) -> Option<Box<dyn Meter>> {
        let route = |text: &str| text.parse::<RoutePattern>().unwrap();
        let pricing = FixedPricing::new().route(route("POST /images/*"), "image").route(route("GET /**"), "page");
        pricing.meter(&Call { method: &method, target: path, headers: &HeaderMap::new(), body: &Bytes::new() }).ok()
    }

    #[test]
    fn each_route_has_its_item_and_the_rest_is_not_sold() {
        for (method, path, item) in [
            (Method::POST, "/images/cat", Some("image")),
            (Method::GET, "/images/cat", Some("page")),
            (Method::POST, "/images/cat/large", None),
            (Method::POST, "/images/../cat", None),
        ] {
            let least = meter(method, path).map(|meter| meter.least());
            assert_eq!(least, item.map(|item| Metered::usage([(item, 1)])), "{path}");
        }
    }

    #[test]
    fn an_answer_that_is_no_success_or_breaks_off_costs_nothing() {
        let price = Metered::usage([("page", 1)]);
        for (status, end, expected) in [
            (200, End::Complete, &price),
            (200, End::Gone, &price),
            (200, End::Failed, &Metered::NOTHING),
            (200, End::BrokenOff, &Metered::NOTHING),
            (404, End::Complete, &Metered::NOTHING),
            (302, End::Gone, &Metered::NOTHING),
        ] {
            let mut meter = meter(Method::GET, "/").unwrap();
            meter.head(&mut Response::builder().status(status).body(()).unwrap().into_parts().0);
            assert_eq!(meter.end(end), *expected, "{status} {end:?}");
        }
        assert_eq!(meter(Method::GET, "/").unwrap().end(End::Cancelled), price);
    }
}
