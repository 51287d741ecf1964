//! A fixed price for each route: of a call, of a picture, or of a second.

use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::Value;

use super::{Call, End, Meter, Metered, NotSold, Pricing};
use crate::http::pattern::RoutePattern;

/// Most pictures that one request may ask for.
const MOST_PICTURES: u64 = 1_024;
/// So many bytes of an answer are looked through for its seconds.
const LOOKED_THROUGH: usize = 1 << 20;
/// Where services say how many seconds of sound or film were worked on: the first that is there counts.
const SECONDS: [&[&str]; 4] = [&["usage", "seconds"], &["duration"], &["seconds"], &["video", "duration"]];

/// A price for each route: units of an item of the tariff. The first route that matches counts; what matches none is not for sale.
///
/// The price is for an answer that is a success. What is below the price is no charge to pay it with: such a call is refused as
/// `cap-reached` before the service is asked, and costs nothing. What is priced by seconds has no price before it is answered: an answer
/// that says no seconds is withheld, at no cost.
#[derive(Clone, Debug, Default)]
pub struct FixedPricing(Vec<(RoutePattern, String, Per)>);

/// What a route's price is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Per {
    /// A call.
    #[default]
    Call,
    /// Each picture that a JSON request asks for by `n`; one if it does not say.
    Picture,
    /// Each second of sound or film, begun ones included, that a JSON answer says was worked on: `usage.seconds`, `duration`,
    /// `seconds`, `video.duration`.
    Second,
}

impl FixedPricing {
    /// Sells nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sells a route, for one unit of `item`.
    #[must_use]
    pub fn route(self, route: RoutePattern, item: &str) -> Self {
        self.route_per(route, item, Per::Call)
    }

    /// Sells a route, for a unit of `item` for each of these.
    #[must_use]
    pub fn route_per(mut self, route: RoutePattern, item: &str, per: Per) -> Self {
        self.0.push((route, item.to_owned(), per));
        self
    }
}

impl Pricing for FixedPricing {
    fn meter(&self, call: &Call<'_>) -> Result<Box<dyn Meter>, NotSold> {
        let found = self.0.iter().find(|(route, ..)| route.matches(call.method, call.path()));
        let (_, item, per) = found.ok_or(NotSold::Path)?;
        let item = item.clone();
        Ok(match per {
            Per::Call => Box::new(FixedMeter { item, units: 1, success: true }),
            Per::Picture => Box::new(FixedMeter { item, units: pictures(call.body)?, success: true }),
            Per::Second => {
                Box::new(SecondMeter { item, answer: Some(Vec::new()), found: None, success: true, over: false })
            }
        })
    }
}

/// How many pictures a request asks for. What readers could read in two ways is refused.
fn pictures(body: &[u8]) -> Result<u64, NotSold> {
    let malformed =
        |what: &str| NotSold::Malformed(format!("{what}: send one JSON object with `n` from 1 to {MOST_PICTURES}"));
    if body.is_empty() {
        return Ok(1);
    }
    // Of a member that comes twice, one reader takes the first and another the last.
    let members: Members = serde_json::from_slice(body).map_err(|_| malformed("the body is no JSON object"))?;
    let mut numbers = members.0.into_iter().filter(|(name, _)| name.eq_ignore_ascii_case("n")).map(|(_, value)| value);
    match (numbers.next(), numbers.next()) {
        (None, _) | (Some(Value::Null), None) => Ok(1),
        (Some(number), None) => {
            let number = number.as_u64().filter(|number| (1..=MOST_PICTURES).contains(number));
            number.ok_or_else(|| malformed("`n` is no such number"))
        }
        _ => Err(malformed("`n` comes twice")),
    }
}

/// The members of an object in their order, repeated ones included.
struct Members(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> serde::de::Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

struct FixedMeter {
    item: String,
    units: u64,
    /// As far as is known.
    success: bool,
}

impl FixedMeter {
    fn price(&self) -> Metered {
        Metered::usage([(self.item.as_str(), self.units)])
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

/// Looks for the seconds that an answer says.
struct SecondMeter {
    item: String,
    /// What came of it; none where it is longer than what is looked through.
    answer: Option<Vec<u8>>,
    found: Option<u64>,
    success: bool,
    /// Whether all of it came.
    over: bool,
}

impl SecondMeter {
    fn so_far(&self) -> Metered {
        self.found.map_or(Metered::NOTHING, |seconds| Metered::usage([(self.item.as_str(), seconds)]))
    }

    fn look(&mut self) {
        self.over = true;
        let answer = self.answer.take().and_then(|answer| serde_json::from_slice::<Value>(&answer).ok());
        self.found = answer.and_then(|answer| seconds(&answer));
    }
}

/// The seconds that an answer says, begun ones counted.
fn seconds(answer: &Value) -> Option<u64> {
    let said = SECONDS.iter().find_map(|path| path.iter().try_fold(answer, |value, name| value.get(name)));
    let number = match said? {
        Value::Number(number) => number.as_f64(),
        // Some say it as text.
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    // Beyond a year it is no length of anything.
    let number = number.filter(|number: &f64| (0.0..=31_536_000.0).contains(number))?;
    Some(number.ceil() as u64)
}

impl Meter for SecondMeter {
    fn request(&mut self, head: &mut http::request::Parts, _: &mut Bytes) {
        // What is compressed says nothing here.
        head.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }

    fn items(&self) -> Metered {
        Metered::usage([(self.item.as_str(), 0)])
    }

    fn least(&self) -> Metered {
        self.so_far()
    }

    fn reported(&self) -> Metered {
        self.so_far()
    }

    fn head(&mut self, head: &mut http::response::Parts) {
        self.success = head.status.is_success();
        if !self.success {
            self.answer = None;
        }
    }

    fn chunk(&mut self, chunk: Bytes) -> Bytes {
        self.answer = self.answer.take().filter(|answer| answer.len() + chunk.len() <= LOOKED_THROUGH);
        if let Some(answer) = &mut self.answer {
            answer.extend_from_slice(&chunk);
        }
        chunk
    }

    fn unpriced(&self) -> Option<&'static str> {
        let lost = self.success && self.found.is_none() && (self.over || self.answer.is_none());
        lost.then_some("the answer does not say how many seconds it is for")
    }

    fn metered(&self) -> Metered {
        self.so_far()
    }

    fn last_words(&mut self, end: End) -> Option<Bytes> {
        if end != End::Complete {
            return None;
        }
        if self.success {
            self.look();
        }
        Some(Bytes::new())
    }

    fn end(&mut self, end: End) -> Metered {
        match end {
            // Whose fault it is pays.
            End::Unreached | End::Failed | End::BrokenOff => Metered::NOTHING,
            End::Complete | End::CapReached => self.so_far(),
            // What the service worked nobody will ever say.
            End::Gone | End::Cancelled if self.success && self.found.is_none() => Metered::Charge,
            End::Gone | End::Cancelled => self.so_far(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method, Response};

    use super::*;

    fn route(text: &str) -> RoutePattern {
        text.parse().unwrap()
    }

    fn meter_of(pricing: &FixedPricing, method: &Method, path: &str, body: &str) -> Result<Box<dyn Meter>, NotSold> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        pricing.meter(&Call { method, target: path, headers: &HeaderMap::new(), body: &body })
    }

    fn meter(method: Method, path: &str) -> Option<Box<dyn Meter>> {
        let pricing = FixedPricing::new().route(route("POST /images/*"), "image").route(route("GET /**"), "page");
        meter_of(&pricing, &method, path, "").ok()
    }

    fn answered(meter: &mut dyn Meter, status: u16) {
        meter.head(&mut Response::builder().status(status).body(()).unwrap().into_parts().0);
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
            answered(&mut *meter, status);
            assert_eq!(meter.end(end), *expected, "{status} {end:?}");
        }
        assert_eq!(meter(Method::GET, "/").unwrap().end(End::Cancelled), price);
    }

    #[test]
    fn each_picture_that_is_asked_for_is_paid_and_doubt_is_refused() {
        let pricing = FixedPricing::new().route_per(route("POST /v1/images/generations"), "picture", Per::Picture);
        let asked = |body: &str| meter_of(&pricing, &Method::POST, "/v1/images/generations", body);
        for (body, pictures) in [
            ("", 1),
            (r#"{"prompt":"a cat"}"#, 1),
            (r#"{"prompt":"a cat","n":null}"#, 1),
            (r#"{"n":4}"#, 4),
            (r#"{"n":1024}"#, 1_024),
        ] {
            let meter = asked(body).unwrap();
            let price = Metered::usage([("picture", pictures)]);
            assert_eq!((meter.least(), meter.most()), (price.clone(), Some(price)), "{body}");
        }
        for body in [
            r#"{"n":0}"#,
            r#"{"n":-1}"#,
            r#"{"n":"4"}"#,
            r#"{"n":1.5}"#,
            r#"{"n":1e400}"#,
            r#"{"n":1025}"#,
            r#"{"n":1,"n":9}"#,
            r#"{"n":1,"N":9}"#,
            r#"{"\u006e":1,"n":9}"#,
            "[4]",
            "n=4",
            "{",
        ] {
            assert!(matches!(asked(body), Err(NotSold::Malformed(_))), "{body}");
        }
    }

    #[test]
    fn each_second_that_an_answer_says_is_paid_and_none_is_withheld() {
        let pricing = FixedPricing::new().route_per(route("POST /v1/audio/transcriptions"), "second", Per::Second);
        let ended = |status: u16, answer: &str| {
            let mut meter = meter_of(&pricing, &Method::POST, "/v1/audio/transcriptions", "sound").unwrap();
            answered(&mut *meter, status);
            // In whatever pieces it comes.
            for piece in answer.as_bytes().chunks(5) {
                assert_eq!(meter.chunk(Bytes::copy_from_slice(piece)), piece);
                assert_eq!(meter.unpriced(), None);
            }
            meter.last_words(End::Complete).unwrap();
            (meter.unpriced().is_some(), meter.end(End::Complete))
        };
        for (answer, seconds) in [
            (r#"{"text":"hm","usage":{"type":"duration","seconds":9}}"#, 9),
            (r#"{"text":"hm","duration":8.47,"seconds":"4"}"#, 9),
            (r#"{"id":"video_1","seconds":"8"}"#, 8),
            (r#"{"video":{"duration":0}}"#, 0),
        ] {
            assert_eq!(ended(200, answer), (false, Metered::usage([("second", seconds)])), "{answer}");
        }
        for answer in ["", "{}", "RIFF", r#"{"duration":-1}"#, r#"{"duration":"long"}"#, r#"{"duration":1e300}"#] {
            assert_eq!(ended(200, answer), (true, Metered::NOTHING), "{answer}");
        }
        assert_eq!(ended(500, "{}"), (false, Metered::NOTHING));
        // Longer than what is looked through: nothing of it may be passed on for nothing.
        let mut meter = meter_of(&pricing, &Method::POST, "/v1/audio/transcriptions", "").unwrap();
        answered(&mut *meter, 200);
        meter.chunk(Bytes::from(vec![b' '; LOOKED_THROUGH + 1]));
        assert!(meter.unpriced().is_some());
        assert_eq!((meter.end(End::Failed), meter.end(End::Gone)), (Metered::NOTHING, Metered::Charge));
    }
}
