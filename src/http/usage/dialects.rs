//! The dialects of services that are sold by tokens. This file is all that a new one needs.
//!
//! A [`Dialect`] says which requests are of it, what of a request must be read alike by everybody, and which members of an answer are a
//! model's words. Where the usage stands is one list for all dialects ([`PLACES`]), as services put each other's members beside their
//! own. Members are named by paths: `a.b` is the member `b` of the object `a`, and `a[].b` that of each object in the array `a`.
//!
//! To add a dialect: its routes, its documentation and its words here, a place for its usage if it has one of its own, and its vectors in
//! `src/http/pricing/tokens/vectors.rs`.

/// One dialect.
#[derive(Debug)]
pub(crate) struct Dialect {
    /// Its name, by which it is sold and told in logs.
    pub(crate) name: &'static str,
    /// What is sold: method and pattern of paths.
    pub(crate) routes: &'static [&'static str],
    /// What paths of it end with. The first dialect with such an ending counts.
    pub(crate) endings: &'static [&'static str],
    /// How a request's body is read.
    pub(crate) body: Body,
    /// Whether a stream says its usage only if `stream_options.include_usage` asks for it.
    pub(crate) asks: bool,
    /// Members of a request that must have one of these values, as JSON: with others its usage is never said.
    pub(crate) only: &'static [(&'static str, &'static [&'static str])],
    /// Members that bound an answer's tokens. The largest counts; none if no member bounds them all.
    pub(crate) limits: &'static [&'static str],
    /// Members of a request whose text is part of the prompt, all of it, whatever the service does.
    pub(crate) asked: &'static [&'static str],
    /// The words of an answer: what stops a stream counts these.
    pub(crate) words: &'static [Words],
    /// Members whose strings are said by a model, words or not: what an estimate counts.
    pub(crate) said: &'static [&'static str],
    /// Whether the answer has tokens.
    pub(crate) answers: bool,
    /// Whether the answer is pictures or sound, or such are always asked about: no bytes of it are words.
    pub(crate) media: bool,
}

/// How a request's body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// One JSON object.
    Json,
    /// A form with files. Nothing in it changes where the usage is said.
    Form,
    /// Whatever the service takes.
    Any,
}

/// A text that comes in pieces, one of each event.
#[derive(Debug)]
pub(crate) struct Words {
    /// The value that a member of the event must have for this to be words.
    pub(crate) when: Option<(&'static str, &'static [&'static str])>,
    /// Where the piece is. Of several places the longest counts: services say the same text in more than one.
    pub(crate) at: &'static [&'static str],
}

/// Where a usage stands in an event, or in a whole answer.
#[derive(Debug)]
pub(crate) struct Place {
    /// The object; the event itself if it is empty.
    pub(crate) at: &'static str,
    pub(crate) form: &'static Form,
}

/// How a usage names its numbers. Of several names the first that is there counts.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) input: &'static [&'static str],
    /// Input that `input` does not count.
    pub(crate) input_beside: &'static [&'static str],
    pub(crate) output: &'static [&'static str],
    /// Output that `output` does not count.
    pub(crate) output_beside: &'static [&'static str],
    /// Output that `output` counts with most services, and that is beside it where it is more.
    pub(crate) output_within: &'static [&'static str],
    pub(crate) total: &'static [&'static str],
}

const PROMPT: Form = Form {
    input: &["prompt_tokens"],
    input_beside: &[],
    output: &["completion_tokens"],
    output_beside: &[],
    output_within: &["completion_tokens_details.reasoning_tokens", "reasoning_tokens"],
    total: &["total_tokens"],
};

/// A service that says `input_tokens` does not count in them what it read from a cache, or wrote there, if it says that beside them.
const INPUT: Form = Form {
    input: &["input_tokens"],
    input_beside: &["cache_creation_input_tokens", "cache_read_input_tokens"],
    output: &["output_tokens"],
    output_beside: &[],
    output_within: &["output_tokens_details.reasoning_tokens"],
    total: &["total_tokens"],
};

const GEMINI_FORM: Form = Form {
    input: &["promptTokenCount"],
    input_beside: &["toolUsePromptTokenCount"],
    output: &["candidatesTokenCount", "responseTokenCount"],
    output_beside: &["thoughtsTokenCount"],
    output_within: &[],
    total: &["totalTokenCount"],
};

const OLLAMA_FORM: Form = Form {
    input: &["prompt_eval_count"],
    input_beside: &[],
    output: &["eval_count"],
    output_beside: &[],
    output_within: &[],
    total: &[],
};

/// What Cohere bills, or if it does not say, what it read and wrote.
const COHERE_FORM: Form = Form {
    input: &["billed_units.input_tokens", "tokens.input_tokens"],
    input_beside: &[],
    output: &["billed_units.output_tokens", "tokens.output_tokens"],
    output_beside: &[],
    output_within: &[],
    total: &[],
};

/// Every place where a usage stands. `[]` is a choice, whose usage is its own.
pub(crate) const PLACES: &[Place] = &[
    Place { at: "usage", form: &PROMPT },
    Place { at: "usage", form: &INPUT },
    Place { at: "usage", form: &COHERE_FORM },
    Place { at: "choices[].usage", form: &PROMPT },
    Place { at: "x_groq.usage", form: &PROMPT },
    Place { at: "message.usage", form: &INPUT },
    Place { at: "response.usage", form: &INPUT },
    Place { at: "response.usage", form: &PROMPT },
    Place { at: "response.meta", form: &COHERE_FORM },
    Place { at: "meta", form: &COHERE_FORM },
    Place { at: "delta.usage", form: &COHERE_FORM },
    Place { at: "usageMetadata", form: &GEMINI_FORM },
    Place { at: "", form: &OLLAMA_FORM },
];

/// What an over-long answer is searched for: all that [`PLACES`] and errors need of it.
pub(crate) const KEPT: &[&str] = &[
    "usage",
    "x_groq",
    "message.usage",
    "response.usage",
    "response.meta",
    "response.error",
    "meta",
    "delta.usage",
    "usageMetadata",
    "prompt_eval_count",
    "eval_count",
    "error",
    "type",
    "object",
];

/// Beginnings of an answer whose usage says what was read, and not yet what was written.
pub(crate) const STARTS: &[&str] = &["message.usage"];

const fn always(at: &'static [&'static str]) -> Words {
    Words { when: None, at }
}

const CHAT_WORDS: &[Words] = &[
    always(&["choices[].delta.content", "choices[].message.content"]),
    // The same thoughts under one name or another, or under several.
    always(&[
        "choices[].delta.reasoning_content",
        "choices[].delta.reasoning",
        "choices[].message.reasoning_content",
        "choices[].message.reasoning",
    ]),
    always(&["choices[].delta.refusal", "choices[].message.refusal"]),
];
const TEXT_WORDS: &[Words] = &[always(&["choices[].text"])];
const RESPONSES_WORDS: &[Words] = &[Words {
    // Summaries of thoughts are words of another model.
    when: Some(("type", &["response.output_text.delta", "response.refusal.delta", "response.reasoning_text.delta"])),
    at: &["delta"],
}];
const ANTHROPIC_WORDS: &[Words] = &[Words { when: Some(("delta.type", &["text_delta"])), at: &["delta.text"] }];
const OLLAMA_WORDS: &[Words] = &[always(&["message.content", "response"]), always(&["message.thinking", "thinking"])];
const GEMINI_WORDS: &[Words] = &[always(&["candidates[].content.parts[].text"])];
const COHERE_WORDS: &[Words] = &[
    Words { when: Some(("type", &["content-delta"])), at: &["delta.message.content.text"] },
    Words { when: Some(("event_type", &["text-generation"])), at: &["text"] },
];
const TRANSCRIPT_WORDS: &[Words] = &[Words { when: Some(("type", &["transcript.text.delta"])), at: &["delta"] }];

const BASE: Dialect = Dialect {
    name: "any",
    routes: &[],
    endings: &[],
    body: Body::Json,
    asks: false,
    only: &[],
    limits: &[],
    asked: &[],
    words: &[],
    said: &["choices[].delta", "choices[].text", "delta"],
    answers: true,
    media: false,
};

/// What is no dialect that is known, and is sold all the same because its operator says so.
pub(crate) static ANY: Dialect = Dialect { body: Body::Any, ..BASE };

/// The dialects that are known. What is sold, if nothing else is said, is their routes.
pub(crate) static DIALECTS: &[Dialect] = &[
    // platform.openai.com/docs/api-reference/chat: "Create chat completion", "The chat completion chunk object". So speak, with members
    // of their own: docs.vllm.ai "OpenAI-Compatible Server" (`continuous_usage_stats`), console.groq.com/docs/api-reference (`x_groq`),
    // docs.x.ai "Chat completions" (reasoning beside `completion_tokens`), platform.moonshot.ai (`choices[].usage`).
    Dialect {
        name: "openai-chat",
        endings: &["/chat/completions"],
        routes: &[
            "POST /v1/chat/completions",
            "POST /openai/v1/chat/completions",
            "POST /v1beta/openai/chat/completions",
        ],
        asks: true,
        limits: &["max_completion_tokens", "max_tokens"],
        asked: &["messages"],
        words: CHAT_WORDS,
        ..BASE
    },
    // platform.openai.com/docs/api-reference/completions
    Dialect {
        name: "openai-completions",
        endings: &["/completions"],
        routes: &["POST /v1/completions", "POST /openai/v1/completions"],
        asks: true,
        limits: &["max_completion_tokens", "max_tokens"],
        asked: &["prompt"],
        words: TEXT_WORDS,
        ..BASE
    },
    // platform.openai.com/docs/api-reference/responses, and "responses-streaming". What is done in the background is told elsewhere.
    Dialect {
        name: "openai-responses",
        endings: &["/responses"],
        routes: &["POST /v1/responses", "POST /openai/v1/responses"],
        only: &[("background", &["false", "null"])],
        asked: &["input", "instructions"],
        words: RESPONSES_WORDS,
        ..BASE
    },
    // platform.openai.com/docs/api-reference/embeddings
    Dialect {
        name: "openai-embeddings",
        endings: &["/embeddings"],
        routes: &["POST /v1/embeddings", "POST /openai/v1/embeddings", "POST /v1beta/openai/embeddings"],
        answers: false,
        ..BASE
    },
    // platform.openai.com/docs/api-reference/images, and "images-streaming": the usage is in the answer, and in `image_*.completed`.
    Dialect {
        name: "openai-images",
        endings: &["/images/generations"],
        routes: &["POST /v1/images/generations"],
        media: true,
        ..BASE
    },
    Dialect {
        name: "openai-image-edits",
        endings: &["/images/edits"],
        routes: &["POST /v1/images/edits"],
        body: Body::Form,
        media: true,
        ..BASE
    },
    // platform.openai.com/docs/api-reference/audio: models that bill tokens say them, in the answer and in `transcript.text.done`.
    Dialect {
        name: "openai-transcriptions",
        endings: &["/audio/transcriptions"],
        routes: &["POST /v1/audio/transcriptions"],
        body: Body::Form,
        words: TRANSCRIPT_WORDS,
        media: true,
        ..BASE
    },
    // The same page: sound alone says no usage, `speech.audio.done` does.
    Dialect {
        name: "openai-speech",
        endings: &["/audio/speech"],
        routes: &["POST /v1/audio/speech"],
        only: &[("stream_format", &["\"sse\""])],
        media: true,
        ..BASE
    },
    // docs.anthropic.com/en/api/messages, and "messages-streaming": `message_start` says what was read, `message_delta` what was written.
    Dialect {
        name: "anthropic-messages",
        endings: &["/messages"],
        routes: &["POST /v1/messages"],
        asked: &["messages", "system"],
        words: ANTHROPIC_WORDS,
        ..BASE
    },
    // docs.ollama.com/api: lines of JSON, unless `stream` is false. A prompt that is remembered or cut is not counted in full.
    Dialect {
        name: "ollama",
        endings: &["/api/chat", "/api/generate"],
        routes: &["POST /api/chat", "POST /api/generate"],
        words: OLLAMA_WORDS,
        said: &["message", "response", "thinking"],
        ..BASE
    },
    // ai.google.dev/api/generate-content: one object, an array of such, or events.
    Dialect {
        name: "gemini",
        endings: &[":generateContent", ":streamGenerateContent"],
        routes: &[
            "POST /v1beta/models/*:generateContent",
            "POST /v1beta/models/*:streamGenerateContent",
            "POST /v1/models/*:generateContent",
            "POST /v1/models/*:streamGenerateContent",
        ],
        words: GEMINI_WORDS,
        said: &["candidates[].content"],
        ..BASE
    },
    // docs.cohere.com/v2/reference/chat-stream, docs.cohere.com/v1/reference/chat-stream: lines of JSON in v1, events in v2.
    Dialect {
        name: "cohere",
        endings: &["/v1/chat", "/v2/chat"],
        routes: &["POST /v1/chat", "POST /v2/chat"],
        words: COHERE_WORDS,
        said: &["delta", "text"],
        ..BASE
    },
];

impl Dialect {
    /// The dialect of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        DIALECTS.iter().find(|dialect| dialect.name == name)
    }

    /// The dialect of a path that is in normal form, by its end: a service under another prefix is read as what it is.
    pub(crate) fn of(path: &str) -> &'static Self {
        let ends = |dialect: &&Self| dialect.endings.iter().any(|ending| path.ends_with(ending));
        DIALECTS.iter().find(ends).unwrap_or(&ANY)
    }
    /// Whether a path of a dialect is written in another case.
    pub(crate) fn is_misspelt(path: &str) -> bool {
        let lower = path.to_ascii_lowercase();
        let ends = |dialect: &&Self| dialect.endings.iter().any(|end| lower.ends_with(&end.to_ascii_lowercase()));
        DIALECTS.iter().find(ends).is_some_and(|dialect| dialect.name != Self::of(path).name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pattern::RoutePattern;

    #[test]
    fn every_route_is_a_pattern_of_its_own_dialect() {
        for dialect in DIALECTS {
            for route in dialect.routes {
                assert!(route.parse::<RoutePattern>().is_ok(), "{route}");
                let path = route.split_once(' ').unwrap().1.replace('*', "model");
                assert_eq!(Dialect::of(&path).name, dialect.name, "{route}");
            }
            assert!(core::ptr::eq(Dialect::named(dialect.name).unwrap(), dialect));
        }
    }

    #[test]
    fn what_is_searched_for_is_wherever_a_usage_stands() {
        for place in PLACES.iter().filter(|place| !place.at.contains("[]")) {
            let inside = |kept: &&str| place.at == *kept || place.at.starts_with(&format!("{kept}."));
            let numbers = || [place.form.input, place.form.output].concat().iter().all(|name| KEPT.contains(name));
            assert!(KEPT.iter().any(inside) || (place.at.is_empty() && numbers()), "{}", place.at);
        }
    }

    #[test]
    fn another_prefix_is_the_same_dialect_and_another_case_none() {
        assert_eq!(Dialect::of("/openai/deployments/x/chat/completions").name, "openai-chat");
        assert_eq!(Dialect::of("/v1/models").name, "any");
        assert!(Dialect::is_misspelt("/V1/Chat/Completions") && Dialect::is_misspelt("/v1/Chat/completions"));
        assert!(
            !Dialect::is_misspelt("/Team/v1/chat/completions") && Dialect::is_misspelt("/v1/models/x:generatecontent")
        );
        assert!(!Dialect::is_misspelt("/v1/chat/completions") && !Dialect::is_misspelt("/v1/models"));
    }
}
