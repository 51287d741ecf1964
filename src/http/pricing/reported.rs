//! A price that the service says within the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{request, response};

use super::{Call, End, Meter, Metered, NotSold, Pricing};

/// Prices by what a service in the same process says: a [`Metered`] in the extensions of its response, or, for what is only known
/// later, a [`Report`] that it finds in the extensions of its request and may set as often as it likes.
///
/// Where it says nothing, a success costs what is set for it; the charge if nothing is. An answer that is no success is free unless the
/// service says otherwise.
#[derive(Clone, Debug)]
pub struct ReportedPricing {
    otherwise: Metered,
}

impl Default for ReportedPricing {
    fn default() -> Self {
        Self { otherwise: Metered::Charge }
    }
}

impl ReportedPricing {
    /// A success of which nothing is said costs the charge.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a success costs of which nothing is said.
    #[must_use]
    pub fn otherwise(self, otherwise: Metered) -> Self {
        Self { otherwise }
    }
}

/// Where a service says what its call has come to so far. It is a request extension; clones are of the same call.
#[derive(Clone, Debug, Default)]
pub struct Report(Arc<Mutex<Option<Metered>>>);

impl Report {
    /// What the call has come to so far, from its beginning on. The last one counts.
    pub fn set(&self, metered: Metered) {
        *self.lock() = Some(metered);
    }

    fn said(&self) -> Option<Metered> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Metered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pricing for ReportedPricing {
    fn meter(&self, _: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        Ok(Box::new(ReportedMeter { otherwise: self.otherwise.clone(), report: Report::default(), answered: None }))
    }
}

struct ReportedMeter {
    otherwise: Metered,
    report: Report,
    /// Whether the answer is a success, once there is one.
    answered: Option<bool>,
}

impl Meter for ReportedMeter {
    fn request(&mut self, head: &mut request::Parts, _: &mut Bytes) {
        head.extensions.insert(self.report.clone());
    }

    fn reported(&self) -> Metered {
        self.least()
    }

    fn least(&self) -> Metered {
        self.report.said().unwrap_or(Metered::NOTHING)
    }

    fn head(&mut self, head: &mut response::Parts) {
        self.answered = Some(head.status.is_success());
        if let Some(metered) = head.extensions.remove::<Metered>() {
            self.report.set(metered);
        }
    }

    fn metered(&self) -> Metered {
        self.report.said().unwrap_or_else(|| match self.answered {
            Some(false) => Metered::NOTHING,
            Some(true) | None => self.otherwise.clone(),
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
    use http::{HeaderMap, Method, Request, Response};

    use super::*;

    #[test]
    fn what_the_service_says_last_counts() {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        let call = Call { method: &Method::GET, target: "/", headers: &headers, body: &body };
        let mut meter = ReportedPricing::new().meter(&call).unwrap();
        assert_eq!((meter.end(End::Failed), meter.end(End::Cancelled)), (Metered::NOTHING, Metered::Charge));
        let mut request = Request::new(()).into_parts().0;
        meter.request(&mut request, &mut Bytes::new());
        let report = request.extensions.remove::<Report>().unwrap();
        let usage = |units| Metered::usage([("x", units)]);
        let mut head = Response::new(()).into_parts().0;
        head.extensions.insert(usage(1));
        meter.head(&mut head);
        assert!(head.extensions.is_empty());
        assert_eq!((meter.metered(), meter.least()), (usage(1), usage(1)));
        report.set(usage(2));
        assert_eq!((meter.metered(), meter.least(), meter.end(End::Gone)), (usage(2), usage(2), usage(2)));
    }

    #[test]
    fn what_nothing_is_said_of_has_a_price() {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        let call = Call { method: &Method::GET, target: "/", headers: &headers, body: &body };
        let otherwise = Metered::usage([("call", 1)]);
        for (status, expected) in [(200, &otherwise), (404, &Metered::NOTHING)] {
            let mut meter = ReportedPricing::new().otherwise(otherwise.clone()).meter(&call).unwrap();
            meter.head(&mut Response::builder().status(status).body(()).unwrap().into_parts().0);
            assert_eq!(meter.end(End::Complete), *expected);
        }
    }
}
