//! Where a gateway is, and what it asks for.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::http::payment::{Credential, Payload, PaymentChallenge};
use crate::protocol::{ContentDigest, Digest, Directory, GatewayId, Request, RequestError};

/// What a directory says of a gateway, as calls need it.
#[derive(Debug)]
pub(super) struct Terms {
    /// Digest of the directory.
    pub(super) directory: Digest,
    pub(super) challenge: PaymentChallenge,
    /// The directory itself: classes and prices.
    pub(super) listed: Arc<Directory>,
    /// Without a slash at its end.
    pub(super) origin: String,
    /// As session signatures have it.
    pub(super) authority: String,
    /// How long a call may last at most: by then the gateway has settled it.
    pub(super) longest: Duration,
}

/// Why there are none.
#[derive(Debug)]
pub(super) enum NoTerms {
    /// The directory has no such gateway.
    Unknown,
    /// Its origin is no URL.
    Origin(String),
}

impl Terms {
    pub(super) fn of(directory: &Directory, gateway: &GatewayId) -> Result<Self, NoTerms> {
        let origin = directory.gateway(gateway).and_then(|entry| entry.origins.first()).ok_or(NoTerms::Unknown)?;
        let origin = origin.trim_end_matches('/').to_owned();
        let (authority, _) = crate::http::wire::authorities(&origin).ok_or_else(|| NoTerms::Origin(origin.clone()))?;
        let longest = Duration::from_secs(directory.parts().limits.session_seconds.into());
        let challenge = PaymentChallenge::of(directory, gateway);
        let listed = Arc::new(directory.clone());
        Ok(Self { directory: directory.digest(), challenge, listed, origin, authority, longest })
    }

    /// The header that pays.
    pub(super) fn credential(&self, payload: Payload) -> HeaderValue {
        let credential = Credential { challenge: self.challenge.clone(), payload };
        let mut value =
            HeaderValue::from_str(&credential.to_header_value()).expect("base64url and a space are visible ASCII");
        value.set_sensitive(true);
        value
    }

    /// A request without a body to one of the gateway's own paths.
    pub(super) fn request<'a>(&'a self, path: &'a str) -> Result<Request<'a>, RequestError> {
        Request::new(&self.authority, "POST", path, ContentDigest::of(b""))
    }
}
