//! Values that are checked when they are read.

use std::path::PathBuf;

use halometer::http::pattern::RoutePattern;
use halometer::http::pricing::TokenPricing;
use halometer::http::wire::authorities;
use halometer::protocol::{GatewayId, GatewayKey, RootKey};
use serde::Deserialize;

/// An origin, as callers know the gateway: scheme, host and port, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Origin(String);

impl Origin {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Origin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let error = || format!("`{text}` is no origin: expected http://host, https://host, or either with a port");
        let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(error)?;
        let plain = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) && text.len() <= 255;
        // The form that session signatures are over.
        let known = authorities(&text).is_some_and(|(short, long)| [short, long].contains(&host.to_ascii_lowercase()));
        if plain && known && text.is_ascii() { Ok(Self(text)) } else { Err(error()) }
    }
}

/// A method and a pattern of paths.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Route(pub RoutePattern);

impl TryFrom<String> for Route {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: halometer::http::pattern::PatternError| error.to_string())
    }
}

/// Something that is sold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Sold {
    /// `everything`.
    Everything,
    /// These routes: one that is named, those of a dialect, or by `dialects` those of all that are known.
    Routes(Vec<RoutePattern>),
}

impl TryFrom<String> for Sold {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "everything" {
            return Ok(Self::Everything);
        }
        if text == "dialects" {
            return Ok(Self::Routes(
                TokenPricing::dialects().filter_map(|name| TokenPricing::routes_of(name).ok()).flatten().collect(),
            ));
        }
        if let Ok(routes) = TokenPricing::routes_of(&text) {
            return Ok(Self::Routes(routes));
        }
        let route: RoutePattern = text.parse().map_err(|error: halometer::http::pattern::PatternError| {
            let dialects: Vec<&str> = TokenPricing::dialects().collect();
            format!("{error}, nor `everything`, `dialects`, {}", dialects.join(", "))
        })?;
        Ok(Self::Routes(vec![route]))
    }
}

/// 32 bytes in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HexKey(pub [u8; 32]);

impl TryFrom<String> for HexKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err("expected 64 lower-case hexadecimal digits"),
        }
    }
}

/// An issuer's root key, pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "HexKey")]
pub struct Root(pub RootKey);

impl TryFrom<HexKey> for Root {
    type Error = &'static str;

    fn try_from(bytes: HexKey) -> Result<Self, &'static str> {
        RootKey::from_bytes(&bytes.0).map(Self).ok_or("expected a root key: these 32 bytes are none")
    }
}

/// The key by which a gateway is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "HexKey")]
pub struct PublicKey(pub GatewayKey);

impl TryFrom<HexKey> for PublicKey {
    type Error = &'static str;

    fn try_from(bytes: HexKey) -> Result<Self, &'static str> {
        GatewayKey::from_bytes(&bytes.0).map(Self).ok_or("expected a gateway's public key: these 32 bytes are none")
    }
}

/// The name of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(pub GatewayId);

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse().map(Self).map_err(|_| "expected a gateway's id: 32 lower-case hexadecimal digits")
    }
}

/// Where a secret is. In the file itself it is nowhere: files like that are copied, shown and committed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SecretParts")]
pub enum Secret {
    /// In an environment variable.
    Env(String),
    /// In a file: its first line.
    File(PathBuf),
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "{ env = \"NAME\" } or { file = \"PATH\" }: the secret itself is not to be in this file"
)]
struct SecretParts {
    env: Option<String>,
    file: Option<PathBuf>,
}

impl TryFrom<SecretParts> for Secret {
    type Error = &'static str;

    fn try_from(parts: SecretParts) -> Result<Self, &'static str> {
        match parts {
            SecretParts { env: Some(name), file: None } => Ok(Self::Env(name)),
            SecretParts { env: None, file: Some(path) } => Ok(Self::File(path)),
            _ => Err("expected { env = \"NAME\" } or { file = \"PATH\" }"),
        }
    }
}

/// What opens the sealed keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "UnlockParts")]
pub enum Unlock {
    /// The 32 bytes of a file.
    KeyFile(PathBuf),
    /// A passphrase.
    Passphrase(Secret),
}

impl Default for Unlock {
    fn default() -> Self {
        Self::KeyFile("keys/unlock.key".into())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "one of { key_file = .. }, { passphrase_env = .. }, { passphrase_file = .. }")]
struct UnlockParts {
    key_file: Option<PathBuf>,
    passphrase_env: Option<String>,
    passphrase_file: Option<PathBuf>,
}

impl TryFrom<UnlockParts> for Unlock {
    type Error = &'static str;

    fn try_from(parts: UnlockParts) -> Result<Self, &'static str> {
        match parts {
            UnlockParts { key_file: Some(path), passphrase_env: None, passphrase_file: None } => {
                Ok(Self::KeyFile(path))
            }
            UnlockParts { key_file: None, passphrase_env: Some(name), passphrase_file: None } => {
                Ok(Self::Passphrase(Secret::Env(name)))
            }
            UnlockParts { key_file: None, passphrase_env: None, passphrase_file: Some(path) } => {
                Ok(Self::Passphrase(Secret::File(path)))
            }
            _ => Err("expected one of { key_file = .. }, { passphrase_env = .. }, { passphrase_file = .. }"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_what_session_signatures_are_over() {
        for text in
            ["http://127.0.0.1:8400", "https://API.example.org", "https://api.example.org:8443", "http://[::1]:80"]
        {
            assert!(Origin::try_from(text.to_owned()).is_ok(), "{text}");
        }
        for text in
            ["", "api.example.org", "https://", "https://a/", "https://a/b", "https://u@a", "ftp://a", "https://ä"]
        {
            assert!(Origin::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_sold_is_named_by_route_or_dialect() {
        let sold = |text: &str| Sold::try_from(text.to_owned());
        let routes = |text: &str| match sold(text) {
            Ok(Sold::Routes(routes)) => routes.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(sold("everything"), Ok(Sold::Everything));
        assert_eq!((routes("GET /v1/models"), routes("ollama")), (1, 2));
        assert!(routes("dialects") > 20);
        let error = sold("openai").unwrap_err();
        assert!(error.contains("`openai`") && error.contains("openai-chat"), "{error}");
    }
}
