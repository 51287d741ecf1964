//! The secret that a proxy shows.

use axum::extract::Request;
use http::{HeaderMap, HeaderName};
use subtle::ConstantTimeEq as _;

/// The header with the secret. Proxies set it; what their callers send under this name never gets here.
pub const SECRET_HEADER: HeaderName = HeaderName::from_static("halometer-secret");

/// Length of the shortest secret, characters.
const SHORTEST: usize = 32;

/// What a proxy and services behind it show in the header [`SECRET_HEADER`], so that nobody else is answered. Only a hash of it is
/// kept.
#[derive(Clone)]
pub struct ProxySecret([u8; 32]);

/// A text is no usable secret. The operator is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret between proxy and gateway has to be at least 32 visible ASCII characters, without spaces")]
pub struct ProxySecretError;

impl core::fmt::Debug for ProxySecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("ProxySecret(..)")
    }
}

impl ProxySecret {
    /// A secret of at least 32 visible ASCII characters, for instance 32 random bytes in hex.
    ///
    /// # Errors
    /// [`ProxySecretError`].
    pub fn new(text: &str) -> Result<Self, ProxySecretError> {
        let usable = text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        usable.then(|| Self(hash(text.as_bytes()))).ok_or(ProxySecretError)
    }

    /// Whether it is shown, once. How long this takes says nothing of how much of it was right.
    pub(super) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(SECRET_HEADER).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        hash(value.as_bytes()).ct_eq(&self.0).into()
    }

    /// The same, and takes it out of the request, so that it gets no further.
    pub(super) fn take(&self, request: &mut Request) -> bool {
        let shown = self.is_shown(request.headers());
        while request.headers_mut().remove(SECRET_HEADER).is_some() {}
        shown
    }
}

fn hash(text: &[u8]) -> [u8; 32] {
    let hash = blake2b_simd::Params::new().hash_length(32).personal(b"halometer:beside").hash(text);
    let mut out = [0; 32];
    out.copy_from_slice(hash.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_itself_is_the_secret() {
        let text = "0123456789abcdef0123456789abcdef";
        let secret = ProxySecret::new(text).unwrap();
        let shown = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SECRET_HEADER, value.parse().unwrap());
            }
            secret.is_shown(&headers)
        };
        assert!(shown(&[text]));
        let longer = format!("{text}0");
        for wrong in [&[][..], &[""], &[&text[1..]], &[&longer], &[text, text], &["x", text], &[text, "x"]] {
            assert!(!shown(wrong), "{wrong:?}");
        }
        for unusable in ["", &text[1..], &format!("{text} "), &format!("{text}\n"), &format!("{text}\u{e9}")] {
            assert!(ProxySecret::new(unusable).is_err(), "{unusable:?}");
        }
        assert_eq!(format!("{secret:?}"), "ProxySecret(..)");
    }
}
