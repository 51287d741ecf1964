//! Which requests are meant: a method and a pattern of paths.

use std::str::FromStr;

use http::Method;

/// A method and a pattern of paths, as in `GET /v1/models`, `* /images/*` or `POST /v1/**`.
///
/// `*` in the place of the method is any method; `GET` is `HEAD` as well. `*` in the path is any one segment, `*:name` any one that ends with
/// `:name`, and `**`, at its end, any number of segments, none included. Everything else is compared byte by byte.
///
/// Services differ in what they make of `..`, of empty segments and of encoded slashes. So that no path is one thing to the gateway and
/// another to the service, a path with any of them (or with `.`, a backslash, or one of these encoded) matches no pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern {
    method: Option<Method>,
    segments: Vec<Segment>,
    /// Whether it ends with `**`.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Any,
    /// Anything, and this.
    Ending(String),
    Exactly(String),
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a method and a pattern of paths, as `GET /v1/*`")]
pub struct PatternError(String);

impl FromStr for RoutePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = || PatternError(text.to_owned());
        let (method, path) = text.split_once(' ').ok_or_else(error)?;
        let method = match method {
            "*" => None,
            method => Some(Method::from_bytes(method.as_bytes()).map_err(|_| error())?),
        };
        let path = path.strip_prefix('/').ok_or_else(error)?;
        let (path, open) = match path.strip_suffix("**") {
            Some("") => ("", true),
            Some(path) => (path.strip_suffix('/').ok_or_else(error)?, true),
            None => (path, false),
        };
        let mut segments = Vec::new();
        for segment in path.split('/').filter(|_| !(path.is_empty() && open)) {
            segments.push(match segment {
                "*" => Segment::Any,
                text if text.starts_with("*:") && !text[2..].contains(['*', '?', '#', ' ']) => {
                    Segment::Ending(text[1..].to_owned())
                }
                text if text.contains(['*', '?', '#', ' ']) => return Err(error()),
                text => Segment::Exactly(text.to_owned()),
            });
        }
        let plain = |index: usize, segment: &Segment| match segment {
            Segment::Any => true,
            Segment::Ending(text) => is_plain(text) && text.len() > 1,
            // `/` and a trailing slash are empty segments, at the end only.
            Segment::Exactly(text) => is_plain(text) && (!text.is_empty() || (index + 1 == segments.len() && !open)),
        };
        if !segments.iter().enumerate().all(|(index, segment)| plain(index, segment)) {
            return Err(error());
        }
        Ok(Self { method, segments, open })
    }
}

/// As it is parsed.
impl core::fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.method.as_ref().map_or("*", Method::as_str))?;
        f.write_str(" ")?;
        for segment in &self.segments {
            match segment {
                Segment::Any => f.write_str("/*")?,
                Segment::Ending(text) => write!(f, "/*{text}")?,
                Segment::Exactly(text) => write!(f, "/{text}")?,
            }
        }
        if self.open { f.write_str("/**") } else { Ok(()) }
    }
}

impl RoutePattern {
    /// Whether a request is meant, by its method and its path as it was sent.
    pub fn matches(&self, method: &Method, path: &str) -> bool {
        let alike = |own: &Method| own == method || (*own == Method::GET && *method == Method::HEAD);
        let Some(path) = path.strip_prefix('/').filter(|_| self.method.as_ref().is_none_or(alike)) else {
            return false;
        };
        let parts: Vec<&str> = path.split('/').collect();
        let last = parts.len() - 1;
        if !parts.iter().enumerate().all(|(index, part)| is_plain(part) && (!part.is_empty() || index == last)) {
            return false;
        }
        let fits = if self.open { parts.len() >= self.segments.len() } else { parts.len() == self.segments.len() };
        fits && self.segments.iter().zip(parts).all(|(segment, part)| match segment {
            Segment::Any => !part.is_empty(),
            Segment::Ending(text) => part.len() > text.len() && part.ends_with(text.as_str()),
            Segment::Exactly(text) => text == part,
        })
    }
}

/// Whether a path is written in the one way that no reader changes: segments that are not empty, no `.` and `..`, no trailing slash, no
/// parameters of segments, and encoded only what must be, in capitals.
pub(crate) fn is_normal(path: &str) -> bool {
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && is_normal_segment(segment);
    path.strip_prefix('/').is_some_and(|rest| rest.is_empty() || rest.split('/').all(segment))
}

fn is_normal_segment(segment: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut rest = segment.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if unreserved(*first) || b"!$&'()*+,=:@".contains(first) {
            continue;
        }
        let digit = |byte: u8| (byte as char).to_digit(16).filter(|_| !byte.is_ascii_lowercase());
        let (b'%', [high, low, after @ ..]) = (*first, after) else { return false };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return false };
        let byte = (high * 16 + low) as u8;
        if unreserved(byte) || byte.is_ascii_control() || b"/\\;%".contains(&byte) {
            return false;
        }
        rest = after;
    }
    true
}

/// Whether a segment is the same to everybody who reads it.
fn is_plain(segment: &str) -> bool {
    let lower = segment.to_ascii_lowercase();
    let dots = lower.replace("%2e", ".");
    let odd = ["%2f", "%5c", "%00", "%25", "\\", ";"].iter().any(|odd| lower.contains(odd));
    !odd && dots != "." && dots != ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, method: Method, path: &str) -> bool {
        pattern.parse::<RoutePattern>().unwrap().matches(&method, path)
    }

    #[test]
    fn methods_and_segments() {
        for (pattern, path) in [
            ("GET /", "/"),
            ("GET /health", "/health"),
            ("* /health", "/health"),
            ("GET /v1/*", "/v1/models"),
            ("GET /*/models", "/v1/models"),
            ("GET /v1/**", "/v1/a/b/"),
            ("GET /v1/**", "/v1"),
            ("GET /**", "/"),
            ("GET /**", "/a/b"),
            ("GET /a/", "/a/"),
            ("GET /m/*:run", "/m/x:run"),
            ("GET /m/*:run", "/m/x:y:run"),
        ] {
            assert_eq!(pattern.parse::<RoutePattern>().unwrap().to_string(), pattern);
            assert!(matches(pattern, Method::GET, path), "{pattern} {path}");
            assert!(matches(pattern, Method::HEAD, path), "{pattern} {path}");
            assert_eq!(matches(pattern, Method::POST, path), pattern.starts_with('*'));
        }
        for (pattern, path) in [
            ("GET /health", "/health/"),
            ("GET /health", "/Health"),
            ("GET /health", "/healthy"),
            ("GET /v1/*", "/v1/"),
            ("GET /v1/*", "/v1/a/b"),
            ("GET /v1/**", "/v2/a"),
            ("GET /v1/**", "/v1x"),
            ("GET /a/", "/a"),
            ("GET /m/*:run", "/m/:run"),
            ("GET /m/*:run", "/m/run"),
            ("GET /m/*:run", "/m/x:run/y"),
            ("GET /**", "*"),
        ] {
            assert!(!matches(pattern, Method::GET, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_that_others_read_differently_matches_nothing() {
        for path in [
            "/free/../dear",
            "/free/%2e%2E/dear",
            "/free/.%2e/dear",
            "/free/./x",
            "/free//x",
            "//free/x",
            "/free/..%2fdear",
            "/free/x%5c..",
            "/free/..\\dear",
            "/free/%252e%252e/dear",
            "/free/..;/dear",
            "/free/..",
        ] {
            assert!(!matches("GET /free/**", Method::GET, path), "{path}");
            assert!(!matches("* /**", Method::GET, path), "{path}");
        }
    }

    #[test]
    fn one_way_of_writing_a_path_is_normal() {
        for path in [
            "/",
            "/v1/chat/completions",
            "/v1beta/models/gemini-2.5-pro:generateContent",
            "/a/%20x%C3%A9/~b_c",
            "/a@b+c",
        ] {
            assert!(is_normal(path), "{path}");
        }
        for path in [
            "",
            "v1",
            "*",
            "//v1",
            "/v1//chat",
            "/v1/chat/",
            "/v1\\chat",
            "/v1/chat;x=1",
            "/v1/./chat",
            "/v1/../chat",
            "/v1/%2e%2e/chat",
            "/v1/ch%61t",
            "/v1/ch%41t",
            "/v1/a%2Fb",
            "/v1/a%5Cb",
            "/v1/a%3Bb",
            "/v1/a%00b",
            "/v1/a%c3%a9",
            "/v1/a%",
            "/v1/a%2",
            "/v1/a%zz",
            "/v1/a b",
            "/v1/é",
            "/v1/{x}",
        ] {
            assert!(!is_normal(path), "{path}");
        }
    }

    #[test]
    fn what_is_no_pattern() {
        for text in [
            "",
            "GET",
            "/x",
            "GET x",
            "G(T /x",
            "GET /a//b",
            "GET /a*",
            "GET /**/x",
            "GET /x**",
            "GET /../x",
            "GET /x?y",
        ] {
            assert!(text.parse::<RoutePattern>().is_err(), "{text}");
        }
    }
}
