//! Which API a client speaks, for errors that it can read.

use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// An API, by the form of its errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// OpenAI's, and what is like none of the others.
    OpenAi,
    Anthropic,
    Gemini,
    Ollama,
    Cohere,
}

/// What there is to say of an error.
pub(super) struct Said {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) fault: &'static str,
    pub(super) credit: &'static str,
    pub(super) cost: Option<String>,
    pub(super) next: &'static str,
}

impl Dialect {
    /// That of a request, by its path, and by headers that only clients of one API send.
    pub(super) fn of(path: &str, headers: &HeaderMap) -> Self {
        let last = path.rsplit('/').next().unwrap_or_default();
        let anthropic = path.ends_with("/messages") || path.contains("/messages/") || path.ends_with("/v1/complete");
        match path {
            _ if headers.contains_key(ANTHROPIC_VERSION) => Self::Anthropic,
            _ if headers.contains_key(GOOGLE_KEY) => Self::Gemini,
            // OpenAI's threads have messages as well.
            _ if anthropic && !path.contains("/threads/") => Self::Anthropic,
            _ if path.contains("/models/") && last.contains(':') => Self::Gemini,
            "/v1/chat" | "/v2/chat" => Self::Cohere,
            path if path.starts_with("/api/") => Self::Ollama,
            _ => Self::OpenAi,
        }
    }

    /// An error as clients of the API expect it. What it says of the credit is beside it, in members that they pass over.
    pub(super) fn say(self, said: &Said) -> Value {
        let Said { status, code, message, fault, credit, cost, next } = said;
        match self {
            Self::OpenAi => json!({ "error": {
                "message": message, "type": openai(*status, code), "param": null, "code": code,
                "fault": fault, "credit": credit, "cost": cost, "next": next,
            } }),
            Self::Anthropic => json!({ "type": "error", "error": {
                "type": anthropic(*status), "message": message, "code": code,
                "fault": fault, "credit": credit, "cost": cost, "next": next,
            } }),
            Self::Gemini => json!({ "error": {
                "code": status.as_u16(), "message": message, "status": google(*status), "reason": code,
                "fault": fault, "credit": credit, "cost": cost, "next": next,
            } }),
            Self::Ollama => json!({
                "error": message, "code": code, "fault": fault, "credit": credit, "cost": cost, "next": next,
            }),
            Self::Cohere => json!({
                "message": message, "code": code, "fault": fault, "credit": credit, "cost": cost, "next": next,
            }),
        }
    }
}

fn openai(status: StatusCode, code: &str) -> &'static str {
    match status.as_u16() {
        402 => "insufficient_quota",
        429 if code == "key_busy" => "rate_limit_error",
        429 => "insufficient_quota",
        ..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

fn anthropic(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        ..=499 => "invalid_request_error",
        503 => "overloaded_error",
        504 => "timeout_error",
        _ => "api_error",
    }
}

fn google(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        402 | 429 => "RESOURCE_EXHAUSTED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        ..=499 => "INVALID_ARGUMENT",
        501 => "UNIMPLEMENTED",
        502..=503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_known_by_its_paths_and_its_own_headers() {
        let none = HeaderMap::new();
        for (path, dialect) in [
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/v1/threads/t_1/messages", Dialect::OpenAi),
            ("/v1/models/gpt-4o", Dialect::OpenAi),
            ("/", Dialect::OpenAi),
            ("/v1/messages", Dialect::Anthropic),
            ("/anthropic/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1beta/models/gemini-2.5-pro:streamGenerateContent", Dialect::Gemini),
            ("/api/chat", Dialect::Ollama),
            ("/v2/chat", Dialect::Cohere),
        ] {
            assert_eq!(Dialect::of(path, &none), dialect, "{path}");
        }
        for (name, dialect) in [(ANTHROPIC_VERSION, Dialect::Anthropic), (GOOGLE_KEY, Dialect::Gemini)] {
            let headers = HeaderMap::from_iter([(name, http::HeaderValue::from_static("x"))]);
            assert_eq!(Dialect::of("/v1/models", &headers), dialect);
        }
    }

    #[test]
    fn every_dialect_has_its_own_form_and_says_the_same() {
        let said = Said {
            status: StatusCode::TOO_MANY_REQUESTS,
            code: "key_day_cap",
            message: "enough".to_owned(),
            fault: "caller",
            credit: "untouched",
            cost: None,
            next: "wait",
        };
        let value = Dialect::OpenAi.say(&said);
        assert_eq!(
            (&value["error"]["type"], &value["error"]["code"]),
            (&"insufficient_quota".into(), &said.code.into())
        );
        let value = Dialect::Anthropic.say(&said);
        assert_eq!((&value["type"], &value["error"]["type"]), (&"error".into(), &"rate_limit_error".into()));
        let value = Dialect::Gemini.say(&said);
        assert_eq!((&value["error"]["code"], &value["error"]["status"]), (&429.into(), &"RESOURCE_EXHAUSTED".into()));
        assert_eq!(Dialect::Ollama.say(&said)["error"], "enough");
        assert_eq!(Dialect::Cohere.say(&said)["message"], "enough");
    }
}
