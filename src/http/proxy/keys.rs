//! Local keys: what lets a program spend some of the wallet's credit, and not all of it.
//!
//! A key is what a client of an API sends anyway, as its bearer token or in `x-api-key`; here it ends. It is 32 random bytes, so that a plain
//! hash of it can be kept: there is nothing to guess. What is kept is not worth stealing.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use blake2b_simd::Params;
use http::{HeaderMap, HeaderName, Method, header};
use rand_core::{CryptoRng, Rng};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::http::pattern::RoutePattern;
use crate::wallet::Budget;

/// What begins a key. Some clients take none that begins otherwise.
const PREFIX: &str = "sk-halometer-";
/// Characters of a key after its beginning: 32 bytes.
const RANDOM: usize = 43;
const PERSONAL: &[u8; 16] = b"halometer1-lkey!";
/// Headers in which clients send their key, besides `Authorization`.
pub(super) const KEY_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
];
/// The longest name of a key, characters.
const LONGEST_NAME: usize = 64;

/// A key, as its user sends it. Shown once, and kept nowhere.
pub struct LocalKey(Zeroizing<String>);

impl core::fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("LocalKey(..)")
    }
}

impl LocalKey {
    /// A new one.
    pub fn generate<R: Rng + CryptoRng>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + RANDOM));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&*bytes, &mut text);
        Self(text)
    }

    /// What its user sends.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.0.as_bytes())
    }
}

/// The hash of a [`LocalKey`]: BLAKE2b-256 of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    fn of(text: &[u8]) -> Self {
        let hash = Params::new().hash_length(32).personal(PERSONAL).hash(text);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.as_bytes());
        Self(bytes)
    }

    /// As it is kept.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// From what was kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// What one key is for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyRule {
    /// The hash of the key.
    pub hash: KeyHash,
    /// Name, caps and end.
    pub budget: Arc<Budget>,
    /// The requests that it may make; all where there is none.
    pub routes: Vec<RoutePattern>,
    /// The models that it may ask; all where there is none. One that ends with `*` is all that begin so.
    pub models: Vec<String>,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl KeyRule {
    /// One that may do all that its budget allows.
    pub fn new(hash: KeyHash, budget: Budget) -> Self {
        Self { hash, budget: Arc::new(budget), routes: Vec::new(), models: Vec::new(), revoked: false }
    }

    /// The same with these [`routes`](Self::routes).
    #[must_use]
    pub fn with_routes(self, routes: Vec<RoutePattern>) -> Self {
        Self { routes, ..self }
    }

    /// The same with these [`models`](Self::models).
    #[must_use]
    pub fn with_models(self, models: Vec<String>) -> Self {
        Self { models, ..self }
    }

    /// The same, taken back or not.
    #[must_use]
    pub fn with_revoked(self, revoked: bool) -> Self {
        Self { revoked, ..self }
    }

    pub(super) fn allows_route(&self, method: &Method, path: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|route| route.matches(method, path))
    }

    pub(super) fn allows_model(&self, model: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(begin) => model.starts_with(begin),
            None => model == pattern,
        };
        self.models.iter().any(fits)
    }
}

/// The keys of a proxy.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<KeyRule>);

/// Why there are no such keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The name is none.
    #[error("`{0}` is no name of a key; choose 1 to {LONGEST_NAME} letters, digits, `.`, `_` and `-`")]
    Name(String),
    /// Two keys have one name, or one hash.
    #[error("the key `{0}` is there twice; names and hashes must differ")]
    Twice(String),
}

impl Keys {
    /// These, each with a name of its own.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn new(rules: Vec<KeyRule>) -> Result<Self, KeysError> {
        for (index, rule) in rules.iter().enumerate() {
            let name = &rule.budget.name;
            if !is_name(name) {
                return Err(KeysError::Name(name.clone()));
            }
            if rules[..index].iter().any(|other| other.budget.name == *name || other.hash == rule.hash) {
                return Err(KeysError::Twice(name.clone()));
            }
        }
        Ok(Self(rules))
    }

    /// All of them.
    pub fn rules(&self) -> &[KeyRule] {
        &self.0
    }

    /// The rule of a key. How long it takes says nothing about which one it is like, or how far.
    fn find(&self, text: &[u8]) -> Option<&KeyRule> {
        let hash = KeyHash::of(text);
        let (mut found, mut at) = (Choice::from(0), 0_u64);
        for (index, rule) in (0_u64..).zip(&self.0) {
            let same = rule.hash.0.ct_eq(&hash.0);
            at.conditional_assign(&index, same);
            found |= same;
        }
        usize::try_from(at).ok().filter(|_| found.into()).and_then(|at| self.0.get(at))
    }

    /// The rule of the key that a request has.
    pub(super) fn of(&self, headers: &HeaderMap) -> Result<&KeyRule, NoKey> {
        let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
            let bytes = value.as_bytes();
            let scheme = bytes.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
            if scheme { bytes[7..].trim_ascii() } else { bytes }
        });
        let others = KEY_HEADERS.into_iter().flat_map(|name| headers.get_all(name)).map(|value| value.as_bytes());
        let mut sent = bearer.chain(others);
        let key = sent.next().ok_or(NoKey::Missing)?;
        if sent.any(|other| other != key) {
            return Err(NoKey::Several);
        }
        let rule = self.find(key).ok_or(NoKey::Unknown)?;
        if rule.revoked { Err(NoKey::Revoked) } else { Ok(rule) }
    }

    /// Whether one of these keys is in bytes that would leave the machine.
    pub(super) fn are_in(&self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == PREFIX.as_bytes()[0]) {
            rest = &rest[at..];
            let key = rest.get(..PREFIX.len() + RANDOM).filter(|key| key.starts_with(PREFIX.as_bytes()));
            if key.is_some_and(|key| self.find(key).is_some()) {
                return true;
            }
            rest = &rest[1..];
        }
        false
    }
}

/// Why a request has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    Missing,
    /// Different ones.
    Several,
    Unknown,
    Revoked,
}

fn is_name(name: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(plain)
}

/// Text with what is percent-encoded in it decoded, as far as it can be.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| (*byte as char).to_digit(16));
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use rand::rand_core::UnwrapErr;
    use rand::rngs::SysRng;

    use super::*;

    fn new() -> LocalKey {
        LocalKey::generate(&mut UnwrapErr(SysRng))
    }

    fn headers(sent: &[(&str, &str)]) -> HeaderMap {
        let entry = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        sent.iter().map(entry).collect()
    }

    #[test]
    fn a_key_is_found_by_its_hash_wherever_clients_put_it() {
        let (one, other, stranger) = (new(), new(), new());
        let rules = [(&one, "one"), (&other, "other")].map(|(key, name)| KeyRule::new(key.hash(), Budget::new(name)));
        let keys = Keys::new(rules.to_vec()).unwrap();
        let bearer = format!("Bearer {}", one.as_str());
        for sent in [
            &[("authorization", bearer.as_str())][..],
            &[("authorization", &format!("bearer  {}", one.as_str()))],
            &[("x-api-key", one.as_str())],
            &[("api-key", one.as_str())],
            &[("x-goog-api-key", one.as_str())],
            &[("authorization", &bearer), ("x-api-key", one.as_str())],
        ] {
            assert_eq!(keys.of(&headers(sent)).unwrap().budget.name, "one", "{sent:?}");
        }
        for (sent, why) in [
            (&[][..], NoKey::Missing),
            (&[("authorization", bearer.as_str()), ("x-api-key", other.as_str())], NoKey::Several),
            (&[("authorization", &format!("Bearer {}", stranger.as_str()))], NoKey::Unknown),
            (&[("authorization", &bearer[..bearer.len() - 1])], NoKey::Unknown),
            (&[("authorization", "Bearer")], NoKey::Unknown),
            (&[("x-api-key", "")], NoKey::Unknown),
        ] {
            assert_eq!(keys.of(&headers(sent)).unwrap_err(), why, "{sent:?}");
        }
        assert_eq!(one.as_str().len(), PREFIX.len() + RANDOM);
        assert!(!format!("{one:?}{keys:?}").contains(&one.as_str()[PREFIX.len()..]), "no key is printed");
    }

    #[test]
    fn a_key_is_seen_in_whatever_would_leave() {
        let (key, stranger) = (new(), new());
        let keys = Keys::new(vec![KeyRule::new(key.hash(), Budget::new("one"))]).unwrap();
        for text in [format!("/v1/x?key={}&y", key.as_str()), format!("ssk-halosk-{}", key.as_str())] {
            assert!(keys.are_in(text.as_bytes()), "{text}");
        }
        assert!(keys.are_in(&decoded(&format!("/x?key={}", key.as_str().replace('-', "%2d")))));
        for text in [stranger.as_str(), "", "s", "sk-halometer-", &key.as_str()[..50]] {
            assert!(!keys.are_in(text.as_bytes()), "{text}");
        }
        assert_eq!(decoded("a%2Fb%zz%4"), b"a/b%zz%4");
    }

    #[test]
    fn names_are_plain_and_no_two_keys_share_one() {
        let rule = |name: &str| KeyRule::new(new().hash(), Budget::new(name));
        for name in ["", "a b", "a\"b", "\u{e9}", &"x".repeat(65)] {
            assert_eq!(Keys::new(vec![rule(name)]).unwrap_err(), KeysError::Name(name.to_owned()));
        }
        assert_eq!(Keys::new(vec![rule("a"), rule("a")]).unwrap_err(), KeysError::Twice("a".to_owned()));
        assert!(Keys::new(vec![rule("a"), rule("A-1_.b")]).is_ok());
    }

    #[test]
    fn models_are_exact_or_all_that_begin_alike() {
        let rule = KeyRule::new(new().hash(), Budget::new("a")).with_models(vec!["gpt-4o".into(), "mini-*".into()]);
        assert!(rule.allows_model("gpt-4o") && rule.allows_model("mini-") && rule.allows_model("mini-2"));
        assert!(!rule.allows_model("gpt-4o-2") && !rule.allows_model("GPT-4o") && !rule.allows_model("min"));
    }
}
