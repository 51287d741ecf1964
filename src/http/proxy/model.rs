//! Which models a request asks, however it says so.

use std::collections::HashSet;

use http::{HeaderMap, HeaderValue, header};
use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::keys::decoded;

/// Parts of a path behind which a model stands.
const IN_PATHS: [&str; 3] = ["models", "deployments", "engines"];
/// The longest field of a form that names a model, bytes.
const LONGEST: usize = 1_024;

/// The models that a request names. None if that cannot be read: services read what is written twice, or in another coding, in one way or
/// another. Empty if it names none.
pub(super) fn named(path: &str, headers: &HeaderMap, body: &[u8]) -> Option<HashSet<String>> {
    let mut models = in_path(path)?;
    if body.is_empty() {
        return Some(models);
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return None;
    }
    let kind = headers.get(header::CONTENT_TYPE).map_or("", |kind| HeaderValue::to_str(kind).unwrap_or("?"));
    let lower = kind.to_ascii_lowercase();
    let (form, pairs) =
        (lower.starts_with("multipart/form-data"), lower.starts_with("application/x-www-form-urlencoded"));
    if form {
        models.extend(in_form(kind, body)?);
    } else if pairs {
        models.extend(in_pairs(body));
    }
    // Some services read bodies as JSON whatever their type says.
    if !(form || pairs) || body.trim_ascii_start().starts_with(b"{") {
        models.extend(serde_json::from_slice::<Named>(body).ok()?.0);
    }
    Some(models)
}

fn in_path(path: &str) -> Option<HashSet<String>> {
    let mut models = HashSet::new();
    let mut parts = path.split('/');
    while let Some(part) = parts.next() {
        if !IN_PATHS.contains(&part.to_ascii_lowercase().as_str()) {
            continue;
        }
        let Some(name) = parts.next().filter(|name| !name.is_empty()) else { continue };
        let name = String::from_utf8(decoded(name)).ok()?;
        models.insert(name.split(':').next().unwrap_or_default().to_owned());
    }
    Some(models)
}

/// The models in a JSON object: members are compared without regard to case, as some languages do, and all that are repeated count.
struct Named(HashSet<String>);

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Named;

            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
                use serde::de::Error as _;
                let mut models = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    let several = name.eq_ignore_ascii_case("models");
                    if !several && !name.eq_ignore_ascii_case("model") {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    match map.next_value::<Value>()? {
                        Value::String(model) => models.extend([model]),
                        Value::Array(all) if several => {
                            for model in all {
                                models.insert(model.as_str().ok_or_else(|| A::Error::custom("no name"))?.to_owned());
                            }
                        }
                        _ => return Err(A::Error::custom("no name")),
                    }
                }
                Ok(Named(models))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}

fn in_pairs(body: &[u8]) -> Vec<String> {
    let pairs = body.split(|byte| *byte == b'&').filter_map(|pair| core::str::from_utf8(pair).ok()?.split_once('='));
    let named = pairs.filter(|(name, _)| decoded(name).eq_ignore_ascii_case(b"model"));
    named.map(|(_, value)| String::from_utf8_lossy(&decoded(&value.replace('+', " "))).into_owned()).collect()
}

/// The fields of a form that name a model. None if the form cannot be read in one way only.
fn in_form(kind: &str, body: &[u8]) -> Option<Vec<String>> {
    let boundary = kind.split(';').skip(1).find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"'))
    })?;
    if boundary.is_empty() {
        return None;
    }
    let mark = [b"--", boundary.as_bytes()].concat();
    let mut models = Vec::new();
    let mut rest = &body[find(body, &mark)? + mark.len()..];
    while !rest.starts_with(b"--") {
        let part = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n"))?;
        let end = find(part, &mark)?;
        rest = &part[end + mark.len()..];
        let part = &part[..end];
        let (head, value) = match (find(part, b"\r\n\r\n"), find(part, b"\n\n")) {
            (Some(at), other) if other.is_none_or(|other| at < other) => (&part[..at], &part[at + 4..]),
            (_, Some(at)) => (&part[..at], &part[at + 2..]),
            (_, None) => return None,
        };
        let head = core::str::from_utf8(head).ok()?.to_ascii_lowercase();
        let names = head.split([';', '\r', '\n']).filter_map(|part| part.trim().split_once('='));
        let mut names = names.filter(|(name, _)| *name == "name").map(|(_, name)| name.trim_matches('"'));
        if names.any(|name| matches!(name, "model" | "models" | "models[]" | "model[]")) {
            let value = value.strip_suffix(b"\n").unwrap_or(value);
            let value = value.strip_suffix(b"\r").unwrap_or(value);
            models.push(core::str::from_utf8(value).ok().filter(|value| value.len() <= LONGEST)?.to_owned());
        }
    }
    Some(models)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str, kind: &str, body: &str) -> Option<Vec<String>> {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap())]);
        let mut models: Vec<_> = named(path, &headers, body.as_bytes())?.into_iter().collect();
        models.sort();
        Some(models)
    }

    #[test]
    fn a_model_is_seen_however_a_request_names_it() {
        let json = |body: &str| of("/v1/chat/completions", "application/json", body);
        let some = |models: &[&str]| Some(models.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(json(r#"{"model":"a","x":{"model":"b"}}"#), some(&["a"]));
        assert_eq!(json(r#"{"model":"a","model":"b"}"#), some(&["a", "b"]), "the one or the other is read");
        assert_eq!(json(r#"{"model":"a","Model":"b","MODEL":"c"}"#), some(&["a", "b", "c"]));
        assert_eq!(json(r#"{"mod\u0065l":"a"}"#), some(&["a"]));
        assert_eq!(json(r#"{"model":"a","models":["b","c"]}"#), some(&["a", "b", "c"]));
        assert_eq!(json(r#"{"messages":[]}"#), some(&[]));
        for odd in [r#"{"model":7}"#, r#"{"model":["a"]}"#, r#"{"model":"a""#, "[]", "x", r#"{"models":[1]}"#] {
            assert_eq!(json(odd), None, "{odd}");
        }
        assert_eq!(of("/x", "text/plain", r#"{"model":"a"}"#), some(&["a"]), "whatever its type says");
        assert_eq!(of("/v1beta/models/gem:generateContent", "application/json", "{}"), some(&["gem"]));
        assert_eq!(of("/openai/deployments/d%31/chat/completions", "application/json", "{}"), some(&["d1"]));
        assert_eq!(of("/v1/models", "", ""), some(&[]));
        let form = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nmodel\r\n--b\r\n\
                    content-disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--b--\r\n";
        assert_eq!(of("/v1/audio/transcriptions", "multipart/form-data; boundary=b", form), some(&["whisper"]));
        assert_eq!(of("/v1/audio/transcriptions", "multipart/form-data; boundary=c", form), None);
        assert_eq!(of("/v1/audio/transcriptions", "multipart/form-data", form), None);
        let hidden = form.replace("form-data; name=\"model\"", "form-data; filename=\"a\"; name=\"model\"");
        assert_eq!(of("/v1/audio/transcriptions", "multipart/form-data; boundary=b", &hidden), some(&["whisper"]));
        let pairs = |body: &str| of("/x", "application/x-www-form-urlencoded", body);
        assert_eq!(pairs("a=b&mod%65l=c"), some(&["c"]));
        assert_eq!(
            pairs(r#"{"model":"dear","x":"&model=cheap"}"#),
            some(&["cheap\"}", "dear"]),
            "it may be read as JSON"
        );
    }

    #[test]
    fn a_body_in_another_coding_names_nothing_that_is_sure() {
        let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))]);
        assert_eq!(named("/x", &headers, br#"{"model":"a"}"#), None);
        assert_eq!(named("/x", &headers, b""), Some(HashSet::new()));
    }
}
