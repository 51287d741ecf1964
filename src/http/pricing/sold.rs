//! Another pricing's prices, for some routes only.

use super::{Call, Meter, NotSold, Pricing};
use crate::http::pattern::RoutePattern;

/// Sells some routes at another pricing's prices, and nothing else.
///
/// What is counted in an answer tells what it cost only where answers are of the kind that the pricing is for. By tokens, a service
/// that also takes work now and gives the answer later, at another path (batches, files, background responses), would sell it for the
/// length of a receipt.
pub struct SoldRoutes {
    routes: Vec<RoutePattern>,
    pricing: Box<dyn Pricing>,
}

impl core::fmt::Debug for SoldRoutes {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SoldRoutes").field("routes", &self.routes).finish_non_exhaustive()
    }
}

impl SoldRoutes {
    /// Sells nothing yet.
    pub fn new(pricing: impl Pricing + 'static) -> Self {
        Self::of(Box::new(pricing))
    }

    /// The same, of a pricing that is chosen while the program runs.
    pub fn of(pricing: Box<dyn Pricing>) -> Self {
        Self { routes: Vec::new(), pricing }
    }

    /// Sells a route.
    #[must_use]
    pub fn route(mut self, route: RoutePattern) -> Self {
        self.routes.push(route);
        self
    }
}

impl Pricing for SoldRoutes {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        let sold = self.routes.iter().any(|route| route.matches(call.method, call.path()));
        if sold { self.pricing.meter(call) } else { Err(NotSold::Path) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};

    use super::*;
    use crate::http::pricing::TokenPricing;

    #[test]
    fn only_what_is_named_is_sold_however_a_path_is_written() {
        let sold = ["POST /v1/chat/completions", "POST /v1/embeddings"].map(|route| route.parse().unwrap());
        let pricing = sold.into_iter().fold(SoldRoutes::new(TokenPricing::new()), SoldRoutes::route);
        let sells = |method, target| {
            let call = Call { method: &method, target, headers: &HeaderMap::new(), body: &Bytes::new() };
            pricing.meter(&call).is_ok()
        };
        assert!(sells(Method::POST, "/v1/chat/completions") && sells(Method::POST, "/v1/embeddings?x"));
        for other in [
            "/v1/batches",
            "/v1/chat/completions/",
            "/v1/chat/./completions",
            "/v1/chat/%2e/completions",
            "/v1/chat//completions",
            "/v1/chat\\completions",
            "/v1/chat/completion%73",
            "/v1/x/../chat/completions",
            "/V1/chat/completions",
        ] {
            assert!(!sells(Method::POST, other), "{other}");
        }
        assert!(!sells(Method::GET, "/v1/chat/completions"));
    }
}
