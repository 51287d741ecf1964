//! What an unpaid request is answered with.

use serde::{Deserialize, Serialize};

use super::params::{self, AuthChallenge};
use super::{CURRENCY, INTENT, METHOD, SCHEME, decode, encode};
use crate::protocol::{Directory, GatewayId};

/// A halometer challenge: the parameters of `WWW-Authenticate: Payment`.
///
/// Made from the gateway's id and the signed directory alone, so that it is the same for every caller. A wallet makes the
/// same value itself and refuses a gateway whose challenge differs: it echoes its own, never one that it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentChallenge {
    id: String,
    realm: String,
    request: String,
}

/// The `request` parameter, decoded. Field order is the canonical one (RFC 8785), so that serialising it is canonical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeRequest {
    /// The most that one call can cost here, in micro-credits, as a decimal string: the directory's largest charge class.
    pub amount: String,
    /// The unit of `amount`: [`CURRENCY`](super::CURRENCY).
    pub currency: String,
    /// What halometer adds.
    #[serde(rename = "methodDetails")]
    pub method_details: MethodDetails,
}

/// Names of what a wallet has pinned: it looks them up, it does not learn them here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodDetails {
    /// Digest of the directory, base64url. The directory itself is at `/.well-known/halometer/directory`.
    pub directory: String,
    /// Id of the gateway.
    pub gateway: String,
    /// Id of the issuer (hash of its root key), base64url.
    pub issuer: String,
}

/// Why a response offers no halometer challenge. The server is at fault.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChallengeError {
    /// No challenge of the scheme `Payment` with the method `halometer` is among the header values.
    #[error("the server asks for no payment by halometer")]
    Absent,
    /// There is one, but a parameter is missing, doubled or not what it must be.
    #[error("the server's payment challenge is malformed")]
    Malformed,
}

impl PaymentChallenge {
    /// The challenge of a gateway under a directory. Wallet and gateway make the same.
    pub fn of(directory: &Directory, gateway: &GatewayId) -> Self {
        let most = directory.classes().last().copied().unwrap_or_default();
        let request = ChallengeRequest {
            amount: most.micro().to_string(),
            currency: CURRENCY.to_owned(),
            method_details: MethodDetails {
                directory: encode(directory.digest().as_bytes()),
                gateway: gateway.to_string(),
                issuer: encode(directory.issuer().as_bytes()),
            },
        };
        Self::new(&gateway.to_string(), &request)
    }

    /// The challenge of the protection space `realm`. `realm` is printable ASCII; anything else in it is dropped.
    pub fn new(realm: &str, request: &ChallengeRequest) -> Self {
        let realm: String = realm.chars().filter(|c| matches!(c, ' '..='~')).collect();
        // Serialising strings into memory cannot fail.
        let request = encode(&serde_json::to_vec(request).unwrap_or_default());
        Self { id: bind(&realm, &request), realm, request }
    }

    /// The protection space.
    pub fn realm(&self) -> &str {
        &self.realm
    }

    /// The `id` parameter: 128 bits of a hash of the other parameters.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The decoded `request` parameter.
    ///
    /// # Errors
    /// [`ChallengeError::Malformed`] if it is not base64url of the expected JSON.
    pub fn request(&self) -> Result<ChallengeRequest, ChallengeError> {
        decode(&self.request).and_then(|json| serde_json::from_slice(&json).ok()).ok_or(ChallengeError::Malformed)
    }

    /// The value of the `WWW-Authenticate` header.
    pub fn to_header_value(&self) -> String {
        let mut out = format!("{SCHEME} ");
        for (name, value) in [
            ("id", self.id.as_str()),
            ("realm", &self.realm),
            ("method", METHOD),
            ("intent", INTENT),
            ("request", &self.request),
        ] {
            // `new` and `from_header_values` let only printable ASCII in.
            let _ = params::push_quoted(&mut out, name, value);
        }
        out
    }

    /// Finds the halometer challenge among the values of `WWW-Authenticate`, where other schemes and methods may stand beside it.
    ///
    /// # Errors
    /// [`ChallengeError`]: none is there, or it is malformed.
    pub fn from_header_values<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, ChallengeError> {
        values
            .into_iter()
            .filter_map(params::parse)
            .flatten()
            .find(|c| c.scheme.eq_ignore_ascii_case(SCHEME) && c.param("method") == Some(METHOD))
            .ok_or(ChallengeError::Absent)
            .and_then(|found| Self::from_params(&found).ok_or(ChallengeError::Malformed))
    }

    fn from_params(found: &AuthChallenge) -> Option<Self> {
        // The id binds these too, and binds that they are not there. To repeat one of them would mark the caller.
        let absent = |name: &str| !["expires", "digest", "opaque", "header"].contains(&name);
        if found.param("intent") != Some(INTENT) || !found.params.iter().all(|(name, _)| absent(name)) {
            return None;
        }
        let echo = Echo {
            id: found.param("id")?.to_owned(),
            intent: INTENT.to_owned(),
            method: METHOD.to_owned(),
            realm: found.param("realm")?.to_owned(),
            request: found.param("request")?.to_owned(),
        };
        let challenge = Self::from_echo(echo)?;
        let request = challenge.request().ok()?;
        (request.currency == CURRENCY).then_some(challenge)
    }

    pub(super) fn to_echo(&self) -> Echo {
        Echo {
            id: self.id.clone(),
            intent: INTENT.to_owned(),
            method: METHOD.to_owned(),
            realm: self.realm.clone(),
            request: self.request.clone(),
        }
    }

    /// Checks that the echoed parameters belong together. Which directory they speak of is the spend's business, not theirs.
    pub(super) fn from_echo(echo: Echo) -> Option<Self> {
        let printable = echo.realm.chars().all(|c| matches!(c, ' '..='~'));
        let ours = echo.method == METHOD && echo.intent == INTENT;
        let bound = echo.id == bind(&echo.realm, &echo.request);
        (printable && ours && bound).then_some(Self { id: echo.id, realm: echo.realm, request: echo.request })
    }
}

/// The challenge as a credential repeats it.
#[derive(Serialize, Deserialize)]
pub(super) struct Echo {
    id: String,
    intent: String,
    method: String,
    realm: String,
    request: String,
}

/// The id binds the other parameters, in the draft's order of slots. A hash without a key does: there is nothing secret in a
/// challenge, nothing made for one caller, and nothing that an altered one could gain.
fn bind(realm: &str, request: &str) -> String {
    let slots = format!("{realm}|{METHOD}|{INTENT}|{request}|||");
    let hash = blake2b_simd::Params::new().hash_length(16).personal(b"halometer:chall1").hash(slots.as_bytes());
    encode(hash.as_bytes())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As long as one can be.
    pub(in super::super) fn sample() -> PaymentChallenge {
        let gateway = GatewayId::from_bytes([0xab; 16]).to_string();
        PaymentChallenge::new(
            &gateway,
            &ChallengeRequest {
                amount: u64::MAX.to_string(),
                currency: CURRENCY.into(),
                method_details: MethodDetails {
                    directory: encode(&[7; 32]),
                    gateway: gateway.clone(),
                    issuer: encode(&[9; 32]),
                },
            },
        )
    }

    #[test]
    fn what_is_printed_is_read_back_among_others() {
        let challenge = sample();
        let header = challenge.to_header_value();
        assert!(header.len() < 1024);
        let mixed = format!("Basic realm=\"x\", {header}");
        for values in [vec![header.as_str()], vec!["Bearer", &mixed]] {
            assert_eq!(PaymentChallenge::from_header_values(values), Ok(challenge.clone()));
        }
    }

    #[test]
    fn the_same_for_every_caller() {
        assert_eq!(sample(), sample());
    }

    #[test]
    fn an_altered_parameter_no_longer_fits_the_id() {
        let header = sample().to_header_value();
        let altered = header.replace("realm=\"abab", "realm=\"baba");
        assert_ne!(header, altered);
        assert_eq!(PaymentChallenge::from_header_values([altered.as_str()]), Err(ChallengeError::Malformed));
    }

    #[test]
    fn another_method_is_not_ours() {
        let other = r#"Payment id="a", realm="b", method="tempo", intent="charge", request="e30""#;
        assert_eq!(PaymentChallenge::from_header_values([other]), Err(ChallengeError::Absent));
    }

    #[test]
    fn the_request_is_canonical_json() {
        let challenge = sample();
        let json = decode(&challenge.request).unwrap();
        let sorted: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json, serde_json::to_vec(&sorted).unwrap());
    }
}
