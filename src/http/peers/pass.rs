//! Passing a request on to the replica that has its session.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;

use super::{Peers, base};
use crate::http::hop::{Hop, HopError, Keep, Way};
use crate::http::upstream::end_to_end;
use crate::protocol::{OwnerId, Sender};
use crate::store::Replica;

/// Which sender a request counts for, between replicas only: 32 hexadecimal digits.
const SENDER: HeaderName = HeaderName::from_static("halometer-sender");
/// To get a connection: replicas are near to each other.
const CONNECT: Duration = Duration::from_secs(3);

/// A request, to be passed on as it came.
pub(in crate::http) struct Passing {
    pub(in crate::http) parts: Parts,
    /// The authority that its signature is over.
    pub(in crate::http) authority: String,
    pub(in crate::http) body: Bytes,
    pub(in crate::http) sender: Sender,
    /// The time for all of it, its answer included.
    pub(in crate::http) within: Duration,
}

/// Why there is no answer of the owner's.
#[derive(Debug)]
pub(in crate::http) enum NotPassed {
    /// The owner is no more. Nothing was done.
    Gone,
    /// The owner is not reached, or the book is not read. Nothing was done.
    Unreached,
    /// The connection broke, or the time was up. It may have been served.
    Broken(HopError),
}

impl Peers {
    /// Passes a request on to a replica, and comes back when its answer begins. Dropping this, or the body of the answer, hangs up on
    /// the other replica, as the caller did here.
    pub(in crate::http) async fn pass(&self, owner: &OwnerId, passing: Passing) -> Result<Response, NotPassed> {
        let outcome = self.try_pass(owner, passing).await;
        self.0.counts.passed(outcome.is_ok());
        outcome
    }

    async fn try_pass(&self, owner: &OwnerId, passing: Passing) -> Result<Response, NotPassed> {
        let Passing { parts, authority, body, sender, within } = passing;
        let Some(replica) = self.find(owner).await? else { return Err(NotPassed::Gone) };
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let address = base(&replica.address).and_then(|base| base.place(target)).ok_or(NotPassed::Unreached)?;
        let headers = outgoing(&parts.headers, &authority, sender).ok_or(NotPassed::Unreached)?;
        let hop = self.hop(&replica).ok_or(NotPassed::Unreached)?;
        let answer = match hop.send(address, parts.method, headers, body, Some(within)).await {
            Ok(answer) => answer,
            // It was not sent, so that it can be asked whether the other one still is.
            Err(error) if error.is_unsent() => return Err(self.unreached(owner).await),
            Err(error) => return Err(NotPassed::Broken(error)),
        };
        let (mut parts, body) = answer.into_parts();
        // Which trailers come is said again on the caller's connection.
        let said: Vec<HeaderValue> = parts.headers.get_all(header::TRAILER).iter().cloned().collect();
        parts.headers = end_to_end(&parts.headers);
        said.into_iter().for_each(|names| {
            parts.headers.append(header::TRAILER, names);
        });
        parts.version = http::Version::default();
        parts.extensions = http::Extensions::new();
        Ok(Response::from_parts(parts, Body::new(body)))
    }

    /// The replica of a name, as far as the book knows it.
    async fn find(&self, owner: &OwnerId) -> Result<Option<Replica>, NotPassed> {
        let asked = Instant::now();
        let fresh = asked.checked_sub(self.0.parts.every.saturating_mul(2));
        let roll = self.0.roll.get();
        if let Some(replica) = roll.find(owner)
            && fresh.is_none_or(|fresh| roll.is_newer(fresh))
        {
            return Ok(Some(replica.clone()));
        }
        // It may have come just now.
        self.read(asked).await.map_err(|_| NotPassed::Unreached)?;
        Ok(self.0.roll.get().find(owner).cloned())
    }

    /// What it means that a replica cannot be reached: it is gone if the book says so, or if it has been silent for so long.
    async fn unreached(&self, owner: &OwnerId) -> NotPassed {
        if self.read(Instant::now()).await.is_err() {
            return NotPassed::Unreached;
        }
        let roll = self.0.roll.get();
        match roll.find(owner) {
            Some(replica) if roll.silence(replica) < self.0.parts.silent_seconds => NotPassed::Unreached,
            _ => NotPassed::Gone,
        }
    }

    /// Connections to a replica, which go on only with the very key that the book has for it.
    fn hop(&self, replica: &Replica) -> Option<Hop> {
        let mut hops = self.0.hops.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hop) = hops.get(&replica.key) {
            return Some(hop.clone());
        }
        let tls = self.0.identity.client(replica.key).ok()?;
        // A request that is lost is not sent again by itself: its caller knows better than this replica.
        let hop = Hop::new(Way::Straight, Some(Arc::new(tls)), Keep::Idle, CONNECT, Duration::from_secs(300));
        hops.insert(replica.key, hop.clone());
        Some(hop)
    }
}

/// The headers of a request as the owner gets them. What a caller says of itself in the name of replicas is nobody's word.
fn outgoing(headers: &HeaderMap, authority: &str, sender: Sender) -> Option<HeaderMap> {
    let trailers: Vec<HeaderValue> = headers.get_all(header::TE).iter().cloned().collect();
    let mut headers = end_to_end(headers);
    for name in [header::HOST, header::CONTENT_LENGTH, header::EXPECT, SENDER] {
        headers.remove(name);
    }
    // The owner answers with trailers if the caller takes them.
    trailers.into_iter().for_each(|value| {
        headers.append(header::TE, value);
    });
    headers.insert(header::HOST, HeaderValue::from_str(authority).ok()?);
    headers.insert(SENDER, HeaderValue::from_str(&hex::encode(sender.to_bytes())).ok()?);
    Some(headers)
}

/// Which sender a request counts for that another replica passed on. The header is taken out.
pub(in crate::http) fn sender_of(headers: &mut HeaderMap) -> Sender {
    let said = headers.remove(SENDER);
    let bytes = said.and_then(|said| <[u8; 16]>::try_from(hex::decode(said.as_bytes()).ok()?).ok());
    bytes.map_or(Sender::UNKNOWN, Sender::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_that_a_caller_claims_is_not_passed_on() {
        let here = Sender::of_address([192, 0, 2, 1].into());
        let mut sent = HeaderMap::new();
        for (name, value) in [
            ("halometer-sender", "00000000000000000000000000000000"),
            ("host", "a"),
            ("te", "trailers"),
            ("connection", "x-mine"),
            ("x-mine", "1"),
            ("accept", "*/*"),
        ] {
            sent.append(name, value.parse().unwrap());
        }
        let mut headers = outgoing(&sent, "gateway.example", here).unwrap();
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["accept", "halometer-sender", "host", "te"]);
        assert_eq!(headers["host"], "gateway.example");
        assert_eq!(sender_of(&mut headers), here);
        assert!(!headers.contains_key("halometer-sender"));
        for said in ["", "00", "zz", "000000000000000000000000000000000000"] {
            let mut headers = HeaderMap::from_iter([(SENDER, said.parse().unwrap())]);
            assert_eq!(sender_of(&mut headers), Sender::UNKNOWN, "{said:?}");
        }
    }
}
